"""What docs/{deployment,operations,subscribers}.md name: recipes, routes, variables, files, headings."""

import re

from .manifests import MONITORING, anchors
from .report import ROOT

PAGES = ["deployment.md", "operations.md", "subscribers.md", "examples/README.md"]


def read(page):
    return (ROOT / "docs" / page).read_text()


def recipes():
    text = (ROOT / "justfile").read_text() + (ROOT / "deploy/zlay.just").read_text()
    there = set(re.findall(r"^([a-z][a-z0-9-]*)\b[^:\n]*:(?!=)", text, re.M))
    return [
        f"{page}: just {name}"
        for page in PAGES
        for name in re.findall(r"(?:`|^|\"\$?\(?)(?:sudo )?(?:just|\./bootstrap) ([a-z][a-z0-9-]*)", read(page), re.M)
        if name not in there
    ]


def routes():
    known = (ROOT / "docs/admin.md").read_text()
    named = re.findall(r"\brelay '?((?:hosts|pds|repo|subs|settings|consumers|audit)\b[A-Za-z/]*)", read("operations.md"))
    assert len(named) > 10, named
    return [f"/admin/{path}" for path in named if not re.search(rf"/admin/{path}\b", known)]


def variables():
    known = (ROOT / "README.md").read_text() + (ROOT / ".env.example").read_text()
    return [
        f"{page}: {name}"
        for page in PAGES
        for name in re.findall(r"\b((?:RELAY|ZLAY)_[A-Z_]+[A-Z])\b", read(page))
        if name not in known
    ]


def links():
    problems = []
    for page in PAGES:
        here = (ROOT / "docs" / page).parent
        for target in re.findall(r"\]\(([^)]+)\)", read(page)):
            # metrics.md comes with deploy/monitoring.
            early = target == "metrics.md" and not MONITORING.is_dir()
            if target.startswith("http") or early:
                continue
            path, _, anchor = target.partition("#")
            file = (here / path).resolve() if path else ROOT / "docs" / page
            if not file.exists():
                problems.append(f"{page}: {target} is not there")
            elif anchor and anchor not in anchors(file):
                problems.append(f"{page}: {target} has no such heading")
        for path in re.findall(r"`((?:deploy|docs|tests|src)/[A-Za-z0-9_./-]+)`", read(page)):
            made = path in ("deploy/.state", "deploy/monitoring") or ".terraform" in path or "tfstate" in path
            if not made and not (ROOT / path).exists():
                problems.append(f"{page}: {path} is not there")
    return problems


def checks(report):
    report.check("docs: recipes that they name exist", recipes)
    report.check("docs: admin routes that they name exist", routes)
    report.check("docs: variables that they name exist", variables)
    report.check("docs: links lead somewhere", links)
