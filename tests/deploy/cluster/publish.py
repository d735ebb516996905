"""The part of zlay-publish-remote that runs on the server, on a real git repository."""

import os
import subprocess
import tempfile

from .fakes import Stage
from .report import ROOT

SCRIPT = ROOT / "deploy/scripts/on-server/publish.sh"
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
ROLLOUT = [
    "k3s kubectl set image deployment/relay relay=localhost/zlay:{0} -n zlay",
    "k3s kubectl annotate deployment/relay kubernetes.io/change-cause={0} --overwrite -n zlay",
    "k3s kubectl scale deployment/relay --replicas=1 -n zlay",
    "k3s kubectl rollout status deployment/relay -n zlay --timeout=10m",
]
CARGO = "cargo build --locked --release --bin zlay"


def git(cwd, *args):
    done = subprocess.run([*GIT, *args], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Server(Stage):
    """An origin with a commit, a clone of it, and a store of images that is a file."""

    def __init__(self, folder):
        super().__init__(folder, {}, programs=("buildah",))
        self.origin = self.folder / "origin"
        self.origin.mkdir()
        git(self.origin, "init", "-q", "-b", "main")
        self.commit_file("one")
        self.clone = self.folder / "clone"
        git(self.folder, "clone", "-q", str(self.origin), str(self.clone))
        self.images = self.folder / "images"
        self.images.touch()
        self.target = self.folder / "target"
        self.settings = {
            "ZLAY_SOURCE": str(self.clone),
            "CARGO_TARGET_DIR": str(self.target),
            "IMAGES": str(self.images),
        }
        # cargo makes a file, buildah an archive with the image's name in it, and k3s lists what it was given.
        self.program("cargo", 'mkdir -p "$CARGO_TARGET_DIR/release"; echo "$RUSTFLAGS" >"$CARGO_TARGET_DIR/release/zlay"')
        self.program("buildah", 'case $1 in bud) test -s "${!#}/zlay" ;; push) for last; do :; done; rest=${last#docker-archive:}; echo "${rest#*:}" >"${rest%%:*}" ;; esac')
        self.program("k3s", 'case "$*" in "ctr images ls -q") cat "$IMAGES" ;; "ctr images import "*) cat "$4" >>"$IMAGES" ;; "ctr images rm "*) sed -i "\\|^$4\\$|d" "$IMAGES" ;; esac')

    def program(self, name, body):
        """A fake that also does something."""
        file = self.bin / name
        file.unlink(missing_ok=True)
        log = "printf '%s\\n' \"" + name + " $*\" >>\"$FAKE_LOG\""
        fail = 'case "' + name + ' $*" in *"${FAIL:-nothing}"*) echo "fails on purpose" >&2; exit 9 ;; esac'
        # It reads what it can get, as a program might.
        file.write_text(f"#!/bin/bash\nset -eu\ncat >/dev/null\n{log}\n{fail}\n{body}\n")
        file.chmod(0o755)

    def commit_file(self, text):
        (self.origin / "file").write_text(text)
        (self.origin / "Dockerfile.runtime").write_text("FROM scratch\n")
        git(self.origin, "add", "-A")
        git(self.origin, "commit", "-q", "-m", text)
        return git(self.origin, "rev-parse", "--short=12", "HEAD")

    def publish(self, **more):
        self.log.write_text("")
        return self.run(["bash", "-s", "--"], self.folder, stdin=SCRIPT.read_text(), **more)

    def said(self):
        return [line for line in self.log.read_text().splitlines() if not line.startswith("{")]


def served(body):
    def check():
        with tempfile.TemporaryDirectory() as folder:
            return body(Server(folder))

    return check


def builds(server, commit, done):
    """Whether the newest commit was built, imported and rolled out, in this order."""
    said = [line for line in server.said() if not line.startswith("buildah rmi")]
    work = next((l.split()[-1] for l in said if l.startswith("buildah bud")), "?")
    wanted = [
        "k3s ctr images ls -q",
        CARGO,
        f"buildah bud --quiet --format docker --file Dockerfile.runtime --tag localhost/zlay:{commit}"
        f" --build-arg COMMIT={commit} {work}",
        f"buildah push --quiet localhost/zlay:{commit} docker-archive:{work}/image.tar:localhost/zlay:{commit}",
        f"k3s ctr images import {work}/image.tar",
        "k3s ctr images ls -q",
        *[line.format(commit) for line in ROLLOUT],
        "k3s ctr images ls -q",
    ]
    problems = []
    if done.returncode or said[: len(wanted)] != wanted:
        problems.append("\n".join([*said, done.stdout, done.stderr, "but should be", *wanted]))
    if os.path.exists(work):
        problems.append(f"{work} is left")
    return problems


def newest_commit(server):
    commit = server.commit_file("two")
    done = server.publish()
    problems = builds(server, commit, done)
    if git(server.clone, "rev-parse", "--short=12", "HEAD") != commit:
        problems.append("the clone is not at the newest commit")
    if "-C target-cpu=native" not in (server.target / "release/zlay").read_text():
        problems.append("not built for this processor")
    done = server.publish()
    if done.returncode or CARGO in server.said() or server.said()[1:5] != [l.format(commit) for l in ROLLOUT]:
        problems.append("what is there already is built again: " + "\n".join(server.said()))
    return problems


def not_fast_forward(server):
    (server.clone / "file").write_text("here")
    git(server.clone, "commit", "-q", "-a", "-m", "here")
    server.commit_file("there")
    done = server.publish()
    return [] if done.returncode and not server.said() else ["histories that differ are built"]


def own_changes(server):
    server.commit_file("two")
    (server.clone / "file").write_text("changed")
    done = server.publish()
    good = done.returncode == 1 and "changes of its own" in done.stderr and not server.said()
    return [] if good else [done.stderr]


def failures(server):
    problems = []
    for text, last in [
        ("cargo build", CARGO),
        ("buildah bud", "buildah bud"),
        ("buildah push", "buildah push"),
        ("images import", "k3s ctr images import"),
    ]:
        done = server.publish(FAIL=text)
        if done.returncode == 0 or not server.said()[-1].startswith(last):
            problems.append(f"{text} fails and it goes on: {server.said()}")
        if any("kubectl" in line for line in server.said()):
            problems.append(f"{text} fails, and the cluster is changed")
    done = server.publish(FAIL="rollout status")
    if done.returncode == 0 or any("images rm" in line for line in server.said()):
        problems.append("a roll-out that fails is taken for a good one")
    return problems


def tidies_up(server):
    problems = []
    commits = [git(server.origin, "rev-parse", "--short=12", "HEAD")]
    server.publish()
    for n in range(6):
        commits.append(server.commit_file(f"commit {n}"))
        done = server.publish()
        problems += [done.stderr] if done.returncode else []
    left = set(server.images.read_text().split())
    wanted = {f"localhost/zlay:{c}" for c in commits[-5:]}
    if left != wanted:
        problems.append(f"{left} is left, not {wanted}")
    return problems


def checks(report):
    report.check("publish: the newest commit is built, imported and rolled out", served(newest_commit))
    report.check("publish: a clone that can not follow is left alone", served(not_fast_forward))
    report.check("publish: a clone with changes is left alone", served(own_changes))
    report.check("publish: a failing step stops the rest", served(failures))
    report.check("publish: five images stay", served(tidies_up))
