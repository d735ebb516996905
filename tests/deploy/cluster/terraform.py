"""deploy/terraform. No registry of providers is at hand here, so `terraform validate` can not know the
resources: their arguments are compared with those that the provider documents for 1.67."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import hcl2
import yaml

from .report import ROOT, Skip

FOLDER = ROOT / "deploy/terraform"
META = {"lifecycle", "count", "for_each", "depends_on", "provider"}
# Of the provider's documentation (docs/resources/*.md); `datacenter` is gone since 1.67.
ARGUMENTS = {
    "hcloud_ssh_key": {"name", "public_key", "labels"},
    "hcloud_primary_ip": {
        "type", "name", "location", "auto_delete", "labels", "assignee_id", "assignee_type",
        "delete_protection",
    },
    "hcloud_firewall": {"name", "labels", "rule", "apply_to"},
    "hcloud_server": {
        "name", "server_type", "image", "location", "user_data", "ssh_keys", "public_net",
        "keep_disk", "iso", "rescue", "labels", "backups", "firewall_ids",
        "ignore_remote_firewall_ids", "network", "placement_group_id", "delete_protection",
        "rebuild_protection", "allow_deprecated_images", "shutdown_before_deletion",
    },
}
BLOCKS = {
    ("hcloud_firewall", "rule"): {
        "direction", "protocol", "port", "source_ips", "destination_ips", "description",
    },
    ("hcloud_server", "public_net"): {"ipv4_enabled", "ipv4", "ipv6_enabled", "ipv6"},
}
GOOD = {
    "domain": "relay.example.com",
    "ssh_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBq me@here",
    "ssh_host_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n",
    "ssh_host_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBq zlay",
    "admin_addresses": '["203.0.113.7/32", "2001:db8::/64"]',
    "repository": "https://git.example.com/zlay.git",
}
BAD = [
    ("domain", "https://relay.example.com"),
    ("domain", "relay"),
    ("name", "Zlay"),
    ("location", "mars"),
    ("server_type", "cax41"),
    ("ssh_public_key", GOOD["ssh_host_key"]),
    ("ssh_host_key", "ssh-ed25519 AAAA"),
    ("ssh_host_public_key", "ssh-rsa AAAA"),
    ("admin_addresses", "[]"),
    ("admin_addresses", '["0.0.0.0/0"]'),
    ("admin_addresses", '["203.0.113.7"]'),
    ("repository", "https://me:password@git.example.com/zlay.git"),
    ("repository", "git@example.com:zlay.git"),
    ("k3s_version", "latest"),
    ("rust_version", "stable"),
]


def resources():
    """Every resource of the folder: (type, name, body)."""
    found = []
    for file in sorted(FOLDER.glob("*.tf")):
        for block in hcl2.loads(file.read_text()).get("resource", []):
            for kind, named in block.items():
                for name, body in named.items():
                    if not isinstance(body, dict):
                        continue
                    found.append((kind.strip('"'), name.strip('"'), body))
    return found


def names(body):
    return {key for key in body if not key.startswith("__")}


def arguments():
    problems = []
    found = resources()
    if {kind for kind, _, _ in found} != set(ARGUMENTS):
        problems.append(f"resources of {sorted({kind for kind, _, _ in found})}")
    for kind, name, body in found:
        unknown = names(body) - ARGUMENTS.get(kind, set()) - META
        problems += [f"{kind}.{name} has no argument {x}" for x in sorted(unknown)]
        for (of, block), allowed in BLOCKS.items():
            for inner in body.get(block, []) if of == kind else []:
                unknown = names(inner) - allowed
                problems += [f"{block} of {kind}.{name} has no argument {x}" for x in sorted(unknown)]
    return problems


def nothing_is_destroyed():
    problems = []
    for kind, name, body in resources():
        if kind not in ("hcloud_server", "hcloud_primary_ip"):
            continue
        life = (body.get("lifecycle") or [{}])[0]
        if life.get("prevent_destroy") is not True:
            problems.append(f"{kind}.{name} can be destroyed")
        ignored = set(map(str, life.get("ignore_changes", [])))
        if kind == "hcloud_server":
            for wanted in ("image", "user_data"):
                if not any(wanted == re.sub(r"[${}\"]", "", x) for x in ignored):
                    problems.append(f"a change of {wanted} rebuilds the server")
    return problems


def firewall():
    """Who reaches which port."""
    (rules,) = [body["rule"] for kind, _, body in resources() if kind == "hcloud_firewall"]
    plain = lambda value: re.sub(r"[${}\"]", "", str(value))
    opened = {plain(r.get("port", plain(r["protocol"]))): plain(r["source_ips"]) for r in rules}
    admins, everybody = "var.admin_addresses", "local.everybody"
    wanted = {"22": admins, "6443": admins, "80": everybody, "443": everybody, "icmp": everybody}
    return [] if opened == wanted else [f"{opened} is not {wanted}"]


def terraform(*args, cwd, env=None, check=True):
    if not shutil.which("terraform"):
        raise Skip("terraform is not installed here")
    settings = {**os.environ, "TF_CLI_CONFIG_FILE": "/dev/null", **(env or {})}
    done = subprocess.run(["terraform", *args], cwd=cwd, env=settings, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done


def formatted():
    done = terraform("fmt", "-check", "-diff", "-recursive", cwd=FOLDER, check=False)
    return [done.stdout + done.stderr] if done.returncode else []


def copied(folder):
    """What of the folder needs no provider: the variables with their conditions, and the template."""
    for name in ("variables.tf", "cloud-init.yaml.tftpl"):
        shutil.copy(FOLDER / name, folder)
    call = re.search(r"templatefile\(.*?\n  }\)", (FOLDER / "main.tf").read_text(), re.S).group(0)
    call = call.replace("hcloud_primary_ip.ipv4.ip_address", '"203.0.113.5"')
    output = f"output \"user_data\" {{\n  sensitive = true\n  value = {call}\n}}\n"
    (pathlib.Path(folder) / "main.tf").write_text(output)


def conditions():
    """The conditions of the variables, by terraform itself."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(FOLDER / "variables.tf", folder)
        terraform("init", "-backend=false", cwd=folder)

        def plan(changed):
            env = {f"TF_VAR_{k}": v for k, v in {**GOOD, **changed}.items()}
            return terraform("plan", "-input=false", "-refresh=false", cwd=folder, env=env, check=False)

        done = plan({})
        if done.returncode:
            problems.append(done.stdout + done.stderr)
        for name, value in BAD:
            done = plan({name: value})
            text = done.stdout + done.stderr
            if done.returncode == 0 or "Invalid value for variable" not in text:
                problems.append(f"{name} may be {value}")
    return problems


def cloud_init_package():
    """Debian's cloud-init, unpacked: installed, it would take this machine for a new one at its next start."""
    folder = pathlib.Path(sys.prefix) / "cloud-init"
    modules = folder / "usr/lib/python3/dist-packages"
    if not modules.is_dir():
        if not shutil.which("apt-get"):
            raise Skip("there is no apt-get to fetch cloud-init with")
        with tempfile.TemporaryDirectory() as work:
            os.chmod(work, 0o755)
            download = ["apt-get", "download", "-qq", "cloud-init"]
            if subprocess.run(download, cwd=work, capture_output=True).returncode:
                subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
                subprocess.run(download, cwd=work, capture_output=True, check=True)
            (package,) = pathlib.Path(work).glob("*.deb")
            subprocess.run(["dpkg", "-x", package, folder], check=True)
    return str(modules)


def cloud_init():
    """What the server is told, rendered by terraform and looked at."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        copied(folder)
        key = pathlib.Path(folder) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        changed = {
            "ssh_host_key": key.read_text(),
            "ssh_host_public_key": key.with_suffix(".pub").read_text(),
        }
        env = {f"TF_VAR_{k}": v for k, v in {**GOOD, **changed}.items()}
        terraform("init", "-backend=false", cwd=folder)
        terraform("apply", "-auto-approve", "-input=false", cwd=folder, env=env)
        text = terraform("output", "-json", cwd=folder).stdout
        text = json.loads(text)["user_data"]["value"]
        data = yaml.safe_load(text)
        if data["ssh_keys"]["ed25519_private"] != changed["ssh_host_key"]:
            problems.append("the host key is not the one that was made")
        files = {f["path"]: f for f in data["write_files"]}
        k3s = yaml.safe_load(files["/etc/rancher/k3s/config.yaml"]["content"])
        if k3s["tls-san"] != [GOOD["domain"], "203.0.113.5"]:
            problems.append(f"tls-san is {k3s['tls-san']}")
        limits = [a for a in k3s["kubelet-arg"] if a.startswith("pod-max-pids=")]
        if limits != ["pod-max-pids=32768"]:
            problems.append("no limit of processes that thousands of threads fit in")
        script = files["/usr/local/sbin/zlay-prepare"]["content"]
        if f"git clone '{GOOD['repository']}' /opt/zlay" not in script:
            problems.append("the sources are not cloned")
        if "INSTALL_K3S_VERSION='v1." not in script:
            problems.append("k3s has no version")
        linted = subprocess.run(
            ["shellcheck", "--shell=bash", "-"], input=script, text=True, capture_output=True
        )
        if linted.returncode:
            problems.append(linted.stdout)
        if len(text.encode()) > 32 * 1024:
            problems.append("user data are 32 KiB at most")
        (pathlib.Path(folder) / "user-data.yaml").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "cloudinit.config.schema", "-c", f"{folder}/user-data.yaml"],
            env={**os.environ, "PYTHONPATH": cloud_init_package()}, capture_output=True, text=True,
        )
        if done.returncode or "Valid" not in done.stdout:
            problems.append(done.stdout + done.stderr)
    return problems


def checks(report):
    report.check("terraform: formatted", formatted)
    report.check("terraform: arguments that the provider has", arguments)
    report.check("terraform: server and address can not be destroyed", nothing_is_destroyed)
    report.check("terraform: the firewall opens five things", firewall)
    report.check("terraform: variables refuse what is wrong", conditions)
    report.check("cloud-init: valid, and what it should be", cloud_init)
