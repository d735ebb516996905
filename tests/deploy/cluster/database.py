"""zlay-backup, zlay-restore and the database's password on a real Postgres: what `kubectl exec` would run in the
pod runs here."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from .report import ROOT, Skip
from .scripts import SECRETS, Checkout

SCHEMA = ROOT / "src/control/migrations/0001_first.sql"
KUBECTL = """#!/bin/bash
# Everything but exec is somebody else's.
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in *.spec.replicas*) echo 1 ;; exec) run=1 ;; esac
  shift
done
[ -n "${run-}" ] || { cat >/dev/null; exit 0; }
shift
exec "$@"
"""


def programs():
    folders = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda f: float(f.parent.name))
    if not folders:
        raise Skip("Postgres is not installed here")
    return folders[-1]


@contextlib.contextmanager
def postgres(folder):
    """A server on a socket in `folder`; the variables with which programs find it."""
    binaries = programs()
    as_user = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(name, *args):
        done = subprocess.run(
            [*as_user, binaries / name, *args], cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    data = f"{folder}/data"
    run("initdb", "-D", data, "-A", "trust", "-U", "relay", "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    run("pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
    try:
        yield {"PGHOST": str(folder), "PATH": f"{binaries}:{os.environ['PATH']}"}
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def sql(found, text, database="zlay", **more):
    done = subprocess.run(
        ["psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-U", "relay", "-d", database, "-c", text],
        env={**os.environ, **found, **more}, capture_output=True, text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def there_and_back():
    problems = []
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(dir="/tmp") as server, tempfile.TemporaryDirectory() as folder:
        os.chmod(server, 0o700)
        with postgres(server) as found:
            subprocess.run(["createdb", "-U", "relay", "zlay"], env={**os.environ, **found}, check=True)
            sql(found, SCHEMA.read_text())
            sql(found, "INSERT INTO domain_bans VALUES ('bad.example.com', now())")
            sql(found, "INSERT INTO store (id, next_host) SELECT 7, 5 WHERE NOT EXISTS (SELECT FROM store)")
            stage = Checkout(folder, programs=("terraform", "ssh", "helm", "curl"))
            kubectl = stage.bin / "kubectl"
            kubectl.write_text(KUBECTL)
            kubectl.chmod(0o755)
            settings = {**found, "PATH": f"{stage.bin}:{found['PATH']}"}
            before = state(found)
            done = stage.script("backup", "a.dump", **settings)
            problems += [done.stderr] if done.returncode else []
            sql(found, "DELETE FROM domain_bans; UPDATE store SET next_host = 99")
            after = state(found)

            done = stage.script("restore", "a.dump", "drill", **settings)
            if done.returncode or "hosts: 0" not in done.stdout:
                problems.append(f"drill: {done.stdout}{done.stderr}")
            if state(found) != after or "drill" in sql(found, "SELECT string_agg(datname, ' ') FROM pg_database"):
                problems.append("a drill leaves something")

            (stage.root / "half.dump").write_bytes((stage.root / "a.dump").read_bytes()[:-4000])
            done = stage.script("restore", "half.dump", **settings)
            if done.returncode == 0 or state(found) != after:
                problems.append("half a dump changes something")

            done = stage.script("restore", "a.dump", **settings)
            problems += [done.stderr] if done.returncode else []
            bans, store, tables = state(found)
            if (bans, tables) != (before[0], before[2]):
                problems.append(f"{state(found)} is not {before}")
            if int(store) != int(before[1]) + 10000:
                problems.append(f"the next host is {store}")

            problems += password(stage, settings, found, server)
    return problems


def state(found):
    return (
        sql(found, "SELECT coalesce(string_agg(domain_bans::text, ' '), '') FROM domain_bans"),
        sql(found, "SELECT next_host FROM store"),
        sql(found, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
    )


def password(stage, settings, found, server):
    """The password of .env is the one that the database takes after zlay-deploy."""
    done = stage.script("deploy", **settings)
    if done.returncode:
        return [f"deploy: {done.stderr}"]
    problems = []
    hba = pathlib.Path(server) / "data/pg_hba.conf"
    open_to_all = hba.read_text()
    hba.write_text("local all all scram-sha-256\n")
    binaries = programs()
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    subprocess.run([*as_user, binaries / "pg_ctl", "-D", f"{server}/data", "reload"], cwd="/", capture_output=True, check=True)
    try:
        if sql(found, "SELECT 1", PGPASSWORD=SECRETS["ZLAY_POSTGRES_PASSWORD"]) != "1":
            problems.append("no answer")
        try:
            sql(found, "SELECT 1", PGPASSWORD="another")
            problems.append("another password is taken, so this shows nothing")
        except RuntimeError:
            pass
    finally:
        hba.write_text(open_to_all)
    return problems


def checks(report):
    report.check("database: dump, drill, restore and password on a real Postgres", there_and_back)
