"""The dry run of every recipe, as `just` runs it, compared with tests/deploy/dry-run."""

import os
import re
import shutil
import subprocess

from .report import ROOT, Skip
from .scripts import SECRETS, SETTINGS

FOLDER = ROOT / "tests/deploy/dry-run"
ARGUMENTS = {
    "zlay-restore": ["backups/zlay.dump"],
    "zlay-rollback": ["0123456789ab"],
    "zlay-ssh": ["uptime"],
    "zlay-hosts-seed": ["relay1.us-east.bsky.network"],
}


def recipes():
    text = (ROOT / "deploy/zlay.just").read_text()
    return re.findall(r"^(zlay-[a-z-]+) \*args:", text, re.M)


def dry_run(name):
    if not shutil.which("just"):
        raise Skip("just is not installed here")
    # Nothing is there but what every machine has: a dry run needs no terraform, no kubectl, no .env.
    env = {"PATH": f"{os.path.dirname(shutil.which('just'))}:/usr/bin:/bin", "HOME": "/nonexistent",
           "XDG_CACHE_HOME": "/nonexistent", "CARGO_TARGET_DIR": "/nonexistent", "ZLAY_ENV_FILE": "/dev/null", **SETTINGS}
    done = subprocess.run(
        ["just", name, "--dry-run", *ARGUMENTS.get(name, [])], cwd=ROOT, env=env, capture_output=True, text=True
    )
    return done


def check(name, update):
    done = dry_run(name)
    problems = [f"exit code {done.returncode}: {done.stderr}"] if done.returncode else []
    problems += [f"{n} is printed" for n, v in SECRETS.items() if v in done.stdout + done.stderr]
    file = FOLDER / f"{name}.txt"
    if update:
        file.write_text(done.stdout)
    wanted = file.read_text() if file.exists() else ""
    if done.stdout != wanted:
        problems.append(f"{file.relative_to(ROOT)} says otherwise (tests/deploy/cluster.sh --update):\n{done.stdout}")
    return problems


def all_have_one():
    names = {f"{name}.txt" for name in recipes()}
    there = {f.name for f in FOLDER.glob("*.txt")}
    return [f"{x} is on one side only" for x in sorted(names ^ there)]


def checks(report, update):
    for name in recipes():
        report.check(f"dry run: {name}", check, name, update)
    report.check("dry run: every recipe has one", all_have_one)
