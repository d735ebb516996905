"""Programs that only write down how they were called.

A folder of them goes to the front of PATH. Each call is a line of JSON: program, arguments, what came on
standard input, and which variables with secrets it could see. Programs that scripts use for text are
written down too, and then do their work."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys

FAKED = ["terraform", "ssh", "kubectl", "helm", "curl", "buildah", "k3s", "cargo"]
WATCHED = ["base64", "sed", "cut", "grep", "awk", "mkdir", "mv", "date", "du", "cat", "sleep"]

PROGRAM = r'''#!{python} -SE
import json, os, select, subprocess, sys
name = os.path.basename(sys.argv[0])
real = {real}
call = {{"program": name, "args": sys.argv[1:]}}
if real:
    call["watched"] = True
else:
    call["env"] = sorted(k for k in os.environ if k.startswith(("TF_VAR_", "HCLOUD_")))
    # `bash -s` and `exec -i` and `-f -` read; others have the terminal.
    words = sys.argv[1:]
    reads = "-s" in words or "-i" in words or words[-2:] == ["-f", "-"]
    call["stdin"] = sys.stdin.read() if reads else None
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(json.dumps(call) + "\n")
if real:
    os.execv(real, [name, *sys.argv[1:]])
line = " ".join([name, *sys.argv[1:]])
for text, answer in json.loads(os.environ["FAKE_ANSWERS"]):
    if text in line:
        if isinstance(answer, int):
            print(f"{{name}} fails on purpose", file=sys.stderr)
            sys.exit(answer)
        sys.stdout.write(answer)
        break
'''

ANSWERS = [
    ["output -raw ipv4", "203.0.113.5"],
    ["cat /etc/rancher/k3s/k3s.yaml", "apiVersion: v1\nclusters:\n- cluster:\n    server: https://127.0.0.1:6443\n"],
    ["metadata.resourceVersion", "7"],
    ["pg_restore --list", "; a dump\n1; 0 16385 TABLE DATA public hosts relay\n"],
    ["pg_dump", "PGDMP and so on"],
]


class Stage:
    """A folder to work in, with fakes, settings and a log."""

    def __init__(self, folder, settings, answers=(), programs=tuple(FAKED)):
        self.folder = pathlib.Path(folder)
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        self.log = self.folder / "calls"
        self.log.touch()
        self.settings = settings
        self.answers = [*answers, *ANSWERS]
        for name in programs:
            self.fake(name, None)
        for name in WATCHED:
            self.fake(name, shutil.which(name))

    def fake(self, name, real):
        file = self.bin / name
        file.write_text(PROGRAM.format(python=sys.executable, real=repr(real)))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def run(self, command, cwd, stdin="", **more):
        env = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "FAKE_LOG": str(self.log),
            "FAKE_ANSWERS": json.dumps(self.answers),
            "ZLAY_ENV_FILE": "/dev/null",
            **self.settings,
            **more,
        }
        return subprocess.run(
            list(map(str, command)), cwd=cwd, env=env, input=stdin, capture_output=True, text=True
        )

    def calls(self, watched=False):
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [c for c in lines if watched or not c.get("watched")]

    def lines(self):
        """Every call of a fake, as it was typed."""
        return [" ".join([c["program"], *c["args"]]) for c in self.calls()]
