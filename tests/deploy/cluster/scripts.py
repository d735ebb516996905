"""deploy/scripts, with programs that only write down how they were called."""

import base64
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile

import yaml

from .fakes import Stage
from .report import ROOT

FOLDER = ROOT / "deploy/scripts"
SECRETS = {
    "HCLOUD_TOKEN": "hcloud-token-0123456789",
    "ZLAY_ADMIN_PASSWORD": "the admin's \"password\" $HOME `id` \\",
    "ZLAY_POSTGRES_PASSWORD": "post/gres'p@ss:w%rd é",
    "ZLAY_GRAFANA_PASSWORD": "grafana-password-1",
}
PLAIN = {
    "ZLAY_DOMAIN": "relay.zlay.example",
    "LETSENCRYPT_EMAIL": "ops@zlay.example",
    "ZLAY_ADMIN_ADDRESSES": "203.0.113.7/32,2001:db8::/64",
    "ZLAY_REPOSITORY": "https://git.example.com/zlay.git",
    "ZLAY_YES": "1",
}
SETTINGS = {**SECRETS, **PLAIN}
NEEDS = {
    "infra": ["HCLOUD_TOKEN", "ZLAY_DOMAIN", "ZLAY_ADMIN_ADDRESSES", "ZLAY_REPOSITORY"],
    "kubeconfig": ["ZLAY_DOMAIN"],
    "deploy": ["ZLAY_DOMAIN", "LETSENCRYPT_EMAIL", "ZLAY_ADMIN_PASSWORD", "ZLAY_POSTGRES_PASSWORD"],
    "publish-remote": ["ZLAY_DOMAIN"],
    "status": ["ZLAY_DOMAIN"],
    "health": ["ZLAY_DOMAIN"],
}
KUBE = "kubectl --kubeconfig deploy/.state/kubeconfig"
APPLY = f"{KUBE} apply --server-side --force-conflicts --field-manager=zlay -f -"


def shellcheck():
    files = sorted(FOLDER.rglob("*.sh")) + [ROOT / "tests/deploy/cluster.sh"]
    done = subprocess.run(
        ["shellcheck", "-x", *[str(f.relative_to(ROOT)) for f in files]], cwd=ROOT, capture_output=True, text=True
    )
    return [done.stdout + done.stderr] if done.returncode else []


class Checkout(Stage):
    """A copy of deploy/, so that nothing is written into the real one."""

    def __init__(self, folder, settings=None, **more):
        super().__init__(folder, SETTINGS if settings is None else settings, **more)
        self.root = self.folder / "zlay"
        self.root.mkdir()
        shutil.copytree(
            ROOT / "deploy", self.root / "deploy", ignore=shutil.ignore_patterns(".state", ".terraform", "*.tfstate*")
        )
        self.state = self.root / "deploy/.state"

    def script(self, name, *args, kubeconfig=True, **more):
        if kubeconfig and name not in ("infra", "kubeconfig"):
            self.state.mkdir(exist_ok=True)
            (self.state / "kubeconfig").touch()
        return self.run([self.root / f"deploy/scripts/{name}.sh", *args], self.root, **more)


def staged(body, **more):
    def check():
        with tempfile.TemporaryDirectory() as folder:
            return body(Checkout(folder, **more))

    return check


def expect(stage, done, wanted):
    problems = []
    if done.returncode:
        problems.append(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
    if stage.lines() != wanted:
        got = "\n".join(stage.lines())
        problems.append("calls:\n" + got + "\nbut should be:\n" + "\n".join(wanted))
    return problems + leaks(stage, done)


def leaks(stage, done):
    """No part of a secret is in any argument, nor in what is printed."""
    problems = []
    values = {n: v for n, v in SECRETS.items() if stage.settings.get(n)}
    key = stage.folder / "zlay/deploy/.state/host_key"
    if key.exists():
        values["the host key"] = key.read_text().splitlines()[1]
    for name, value in values.items():
        forms = {value, base64.b64encode(value.encode()).decode(), value.replace("'", "''")}
        for call in stage.calls(watched=True):
            if any(form in arg for form in forms for arg in call["args"]):
                problems.append(f"{name} is an argument of {call['program']}")
        if any(form in done.stdout + done.stderr for form in forms):
            problems.append(f"{name} is printed")
    return problems


def missing_variables(stage):
    problems = []
    for name, needed in NEEDS.items():
        done = stage.script(name)
        if done.returncode != 2 or f"not set: {' '.join(needed)}\n" not in done.stderr:
            problems.append(f"{name}: exit code {done.returncode}, {done.stderr}")
    if stage.lines():
        problems.append(f"called: {stage.lines()}")
    return problems


def wrong_values(stage):
    problems = []
    for name, value in {
        "ZLAY_DOMAIN": "relay.example.com/x",
        "LETSENCRYPT_EMAIL": "nobody",
        "ZLAY_ISSUER": "mine",
        "ZLAY_RETENTION_BYTES": "12 G; id",
        "ZLAY_ADMIN_ALLOW": "everybody",
        "ZLAY_ADMIN_PASSWORD": "short",
    }.items():
        done = stage.script("deploy", **{name: value})
        if done.returncode != 1 or name not in done.stderr:
            problems.append(f"{name}={value}: exit code {done.returncode}, {done.stderr}")
    if stage.lines():
        problems.append(f"called: {stage.lines()}")
    return problems


def env_file(stage):
    """.env is read as it is, and the environment goes before it."""
    file = stage.folder / "env"
    file.write_text(
        "# a comment\n\n"
        "ZLAY_DOMAIN=from.file.example\nLETSENCRYPT_EMAIL='ops@zlay.example'\n"
        f"ZLAY_ADMIN_PASSWORD={SECRETS['ZLAY_ADMIN_PASSWORD']}\n"
        f"ZLAY_POSTGRES_PASSWORD={SECRETS['ZLAY_POSTGRES_PASSWORD']}"
    )
    stage.settings = {"ZLAY_ENV_FILE": str(file), "LETSENCRYPT_EMAIL": "environment@zlay.example"}
    done = stage.script("deploy")
    problems = [] if done.returncode == 0 else [done.stderr]
    given = "".join(c["stdin"] or "" for c in stage.calls())
    for text in ("from.file.example", "environment@zlay.example"):
        if text not in given:
            problems.append(f"{text} is not in what was applied")
    (secret,) = [o for o in applied(stage) if o["metadata"]["name"] == "relay" and o["kind"] == "Secret"]
    if base64.b64decode(secret["data"]["RELAY_ADMIN_PASSWORD"]).decode() != SECRETS["ZLAY_ADMIN_PASSWORD"]:
        problems.append("the password was changed on its way")
    file.write_text("ZLAY_DOMAIN from\n")
    stage.settings = {"ZLAY_ENV_FILE": str(file)}
    done = stage.script("deploy")
    if done.returncode != 1 or "not NAME=VALUE" not in done.stderr:
        problems.append(f"a line without = passes: {done.stderr}")
    return problems


def applied(stage):
    found = []
    for call in stage.calls():
        if " ".join([call["program"], *call["args"]]) == APPLY:
            found += [o for o in yaml.safe_load_all(call["stdin"]) if o]
    return found


INFRA = [
    "terraform -chdir=deploy/terraform apply -input=false -auto-approve",
    "terraform -chdir=deploy/terraform output -raw ipv4",
]
SSH = (
    "ssh -o UserKnownHostsFile=deploy/.state/known_hosts -o StrictHostKeyChecking=yes"
    " -o HostKeyAlgorithms=ssh-ed25519 -o ConnectTimeout=10 -o ServerAliveInterval=30 root@203.0.113.5"
)


def infra(stage):
    key = stage.folder / ".ssh/id_ed25519.pub"
    key.parent.mkdir()
    key.write_text("ssh-ed25519 AAAA me@here\n")
    wanted = [
        *INFRA,
        f"{SSH} true",
        f"{SSH} cloud-init status --wait >/dev/null; test -e /var/lib/zlay-prepared",
    ]
    done = stage.script("infra")
    problems = expect(stage, done, wanted)
    seen = set(stage.calls()[0]["env"])
    for name in ("domain", "admin_addresses", "repository", "ssh_public_key", "ssh_host_key", "ssh_host_public_key"):
        if f"TF_VAR_{name}" not in seen:
            problems.append(f"terraform is not told {name}")
    host_key = stage.state / "host_key"
    if stat.S_IMODE(host_key.stat().st_mode) != 0o600:
        problems.append("others can read the host key")
    public = host_key.with_suffix(".pub").read_text().split()
    if (stage.state / "known_hosts").read_text().split() != ["203.0.113.5", *public[:2]]:
        problems.append("known_hosts is not the key that was made")
    before = host_key.read_bytes()
    stage.script("infra")
    if host_key.read_bytes() != before:
        problems.append("a second run makes another key")
    return problems


def kubeconfig(stage):
    done = stage.script("kubeconfig")
    wanted = [INFRA[1], f"{SSH} cat /etc/rancher/k3s/k3s.yaml", f"{KUBE} get nodes -o wide"]
    problems = expect(stage, done, wanted)
    file = stage.state / "kubeconfig"
    if "server: https://203.0.113.5:6443" not in file.read_text():
        problems.append("the kubeconfig leads to this machine")
    if stat.S_IMODE(file.stat().st_mode) != 0o600:
        problems.append("others can read the kubeconfig")
    return problems


CHARTS = [
    "helm --kubeconfig deploy/.state/kubeconfig upgrade --install cert-manager cert-manager"
    " --repo https://charts.jetstack.io --version v1.21.2 --namespace cert-manager"
    " --values deploy/k3s/values/cert-manager.yaml --wait --timeout 10m",
    "helm --kubeconfig deploy/.state/kubeconfig upgrade --install monitoring kube-prometheus-stack"
    " --repo https://prometheus-community.github.io/helm-charts --version 93.9.0 --namespace monitoring"
    " --values deploy/k3s/values/kube-prometheus-stack.yaml --wait --timeout 10m",
]


def deployment(rolled):
    version = "-n zlay -o jsonpath={.metadata.resourceVersion}"
    return [
        *[APPLY] * 4,
        CHARTS[0],
        *[APPLY] * 3,
        f"{KUBE} rollout status statefulset/postgres -n zlay --timeout=10m",
        f"{KUBE} exec -i -n zlay postgres-0 -- psql -q -v ON_ERROR_STOP=1 -U relay -d zlay",
        APPLY,
        f"{KUBE} get configmap relay {version}",
        f"{KUBE} get secret relay {version}",
        f"{KUBE} get deployment relay -n zlay --ignore-not-found"
        " -o jsonpath={.spec.template.spec.containers[0].image}",
        APPLY,
        *[f"{KUBE} rollout status deployment/relay -n zlay --timeout=10m"] * rolled,
        *[APPLY] * 2,
        CHARTS[1],
        *[APPLY] * 2,
    ]


def first_deploy(stage):
    problems = expect(stage, stage.script("deploy"), deployment(rolled=0))
    relay = next(o for o in applied(stage) if o["kind"] == "Deployment")
    if relay["spec"]["replicas"] != 0:
        problems.append("a relay without an image is started")
    secrets = {
        o["metadata"]["name"]: {k: base64.b64decode(v).decode() for k, v in o["data"].items()}
        for o in applied(stage) if o["kind"] == "Secret"
    }
    wanted = {
        "postgres": {"POSTGRES_PASSWORD": SECRETS["ZLAY_POSTGRES_PASSWORD"]},
        "relay": {
            "RELAY_ADMIN_PASSWORD": SECRETS["ZLAY_ADMIN_PASSWORD"],
            "DATABASE_URL": "postgres://relay:post%2Fgres%27p%40ss%3Aw%25rd%20%C3%A9@postgres/zlay?sslmode=disable",
        },
        "grafana-admin": {"admin-user": "admin", "admin-password": SECRETS["ZLAY_GRAFANA_PASSWORD"]},
    }
    if secrets != wanted:
        problems.append(f"secrets are {secrets}")
    (sql,) = [c["stdin"] for c in stage.calls() if "psql" in c["args"]]
    if not sql.endswith("ALTER ROLE relay PASSWORD 'post/gres''p@ss:w%rd é';\n"):
        problems.append(f"the database is told {sql}")
    text = "".join(c["stdin"] or "" for c in stage.calls())
    for example in ("relay.example.com", "operator@example.com"):
        if example in text:
            problems.append(f"{example} was applied")
    return problems


def later_deploy(stage):
    done = stage.script(
        "deploy", ZLAY_ISSUER="letsencrypt-staging", ZLAY_ADMIN_ALLOW="203.0.113.7/32,2001:db8::/64",
        ZLAY_RETENTION_BYTES="120G", ZLAY_RETENTION_HOURS="24",
    )
    problems = expect(stage, done, deployment(rolled=1))
    found = {(o["kind"], o["metadata"]["name"]): o for o in applied(stage)}
    relay = found["Deployment", "relay"]["spec"]
    facts = {
        "image": relay["template"]["spec"]["containers"][0]["image"],
        "replicas": relay["replicas"],
        "settings": relay["template"]["metadata"]["annotations"]["zlay/settings-version"],
        "issuer": found["Ingress", "relay"]["metadata"]["annotations"]["cert-manager.io/cluster-issuer"],
        "host": found["Ingress", "relay"]["spec"]["rules"][0]["host"],
        "allowed": found["Middleware", "operators"]["spec"]["ipAllowList"]["sourceRange"],
        "bytes": found["ConfigMap", "relay"]["data"]["RELAY_RETENTION_BYTES"],
        "hours": found["ConfigMap", "relay"]["data"]["RELAY_RETENTION_HOURS"],
        "issuers": {n for k, n in found if k == "ClusterIssuer"},
    }
    wanted = {
        "image": "localhost/zlay:0123456789ab",
        "replicas": 1,
        "settings": "7-7",
        "issuer": "letsencrypt-staging",
        "host": "relay.zlay.example",
        "allowed": ["203.0.113.7/32", "2001:db8::/64"],
        "bytes": "120G",
        "hours": "24",
        "issuers": {"letsencrypt-staging", "letsencrypt-production"},
    }
    return problems + [f"{k} is {facts[k]}" for k in wanted if facts[k] != wanted[k]]


def failing_deploy(stage):
    """Each step that fails stops the rest, and says what to do."""
    problems = []
    full = deployment(rolled=0)
    for text, at in [("helm --kubeconfig deploy/.state/kubeconfig upgrade --install cert-manager", 5),
                     ("rollout status statefulset/postgres", 9), ("psql", 10),
                     ("kube-prometheus-stack", len(full) - 2)]:
        stage.log.write_text("")
        stage.answers = [[text, 3]]
        done = stage.script("deploy")
        if done.returncode == 0 or stage.lines() != full[:at]:
            problems.append(f"{text}: exit code {done.returncode}, {len(stage.lines())} calls, not {at}")
        for words in ("failed (exit code 3): ", "what to do: "):
            if words not in done.stderr:
                problems.append(f"{text}: {done.stderr}")
        problems += leaks(stage, done)
    return problems


def no_kubeconfig(stage):
    done = stage.script("deploy", kubeconfig=False)
    good = done.returncode == 1 and "zlay-kubeconfig" in done.stderr and not stage.lines()
    return [] if good else [done.stderr]


def publish_remote(stage):
    done = stage.script("publish-remote")
    problems = expect(stage, done, [INFRA[1], f"{SSH} bash -s --"])
    if stage.calls()[1]["stdin"] != (FOLDER / "on-server/publish.sh").read_text():
        problems.append("another script is sent")
    return problems


def rollback(stage):
    status = f"{KUBE} rollout status deployment/relay -n zlay --timeout=10m"
    problems = expect(stage, stage.script("rollback"), [f"{KUBE} rollout undo deployment/relay -n zlay", status])
    stage.log.write_text("")
    wanted = [
        INFRA[1],
        f"{SSH} k3s ctr images ls -q | grep -Fx localhost/zlay:0123456789ab",
        f"{KUBE} set image deployment/relay relay=localhost/zlay:0123456789ab -n zlay",
        status,
    ]
    problems += expect(stage, stage.script("rollback", "0123456789ab"), wanted)
    stage.log.write_text("")
    stage.answers.insert(0, ["ctr images ls", 1])
    done = stage.script("rollback", "0123456789ab")
    if done.returncode == 0 or stage.lines() != wanted[:2]:
        problems.append("an image that is not there is rolled out")
    for bad in ("latest", "0123456789ab; id", "../x"):
        if stage.script("rollback", bad).returncode != 1:
            problems.append(f"{bad} passes as a commit")
    return problems


def backup(stage):
    execute = f"{KUBE} exec -i -n zlay postgres-0 --"
    wanted = [f"{execute} pg_dump --format=custom --no-owner -U relay -d zlay", f"{execute} pg_restore --list"]
    problems = expect(stage, stage.script("backup"), wanted)
    files = list((stage.root / "backups").iterdir())
    if len(files) != 1 or files[0].read_text() != "PGDMP and so on" or files[0].suffix != ".dump":
        problems.append(f"{files}")
    elif stat.S_IMODE(files[0].stat().st_mode) != 0o600:
        problems.append("others can read the dump")
    if stage.calls()[1]["stdin"] != "PGDMP and so on":
        problems.append("another dump is read than was written")
    stage.answers.insert(0, ["pg_restore --list", 1])
    done = stage.script("backup", "again.dump")
    if done.returncode == 0 or (stage.root / "again.dump").exists():
        problems.append("a dump that can not be read has the name of a good one")
    done = stage.script("backup", str(files[0]))
    if done.returncode == 0 or "already" not in done.stderr:
        problems.append("a dump is overwritten")
    return problems


def restore(stage):
    (stage.root / "a.dump").write_text("PGDMP")
    execute = f"{KUBE} exec -i -n zlay postgres-0 --"
    put_back = f"{execute} pg_restore --clean --if-exists --no-owner --single-transaction --exit-on-error -U relay -d"
    wanted = [
        f"{execute} pg_restore --list",
        f"{KUBE} get deployment relay -n zlay -o jsonpath={{.spec.replicas}}",
        f"{KUBE} scale deployment/relay --replicas=0 -n zlay",
        f"{KUBE} wait --for=delete pod -l app.kubernetes.io/name=relay -n zlay --timeout=2m",
        f"{put_back} zlay",
        f"{execute} psql -q -v ON_ERROR_STOP=1 -U relay -d zlay -c UPDATE store SET next_host = next_host + 10000",
        f"{KUBE} scale deployment/relay --replicas=1 -n zlay",
        f"{KUBE} rollout status deployment/relay -n zlay --timeout=10m",
    ]
    problems = expect(stage, stage.script("restore", "a.dump"), wanted)
    if stage.calls()[4]["stdin"] != "PGDMP":
        problems.append("the dump is not what is restored")
    stage.log.write_text("")
    done = stage.script("restore", "a.dump", ZLAY_YES="", stdin="no\n")
    if done.returncode == 0 or stage.lines() != wanted[:1]:
        problems.append("it restores without being told to")
    stage.log.write_text("")
    stage.answers.insert(0, ["--single-transaction", 1])
    done = stage.script("restore", "a.dump")
    if done.returncode == 0 or stage.lines() != wanted[:5] or "--replicas=1" not in done.stderr:
        problems.append(f"a restore that fails: {stage.lines()}, {done.stderr}")
    stage.log.write_text("")
    stage.answers[0] = ["jsonpath={.spec.replicas}", "0"]
    problems += expect(stage, stage.script("restore", "a.dump"), wanted[:6])
    stage.log.write_text("")
    stage.answers.pop(0)
    done = stage.script("restore", "a.dump", "drill")
    if done.returncode or any("-d zlay" in line or "scale" in line for line in stage.lines()):
        problems.append(f"a drill: {stage.lines()}, {done.stderr}")
    if f"{put_back} drill" not in stage.lines():
        problems.append("a drill restores nothing")
    return problems


def others(stage):
    problems = []
    proxy = "/api/v1/namespaces/zlay/services/relay-internal:internal/proxy"
    for name, args, wanted in [
        ("server-ip", [], [INFRA[1]]),
        ("ssh", ["uptime"], [INFRA[1], f"{SSH} uptime"]),
        ("logs", [], [f"{KUBE} logs deployment/relay -n zlay --follow --tail=100"]),
        ("logs", ["--previous"], [f"{KUBE} logs deployment/relay -n zlay --previous"]),
        ("hosts-seed", [], [f"{KUBE} exec -n zlay deployment/relay -c relay -- zlay hosts pull --from bsky.network"]),
        ("health", [], [
            f"{KUBE} get --raw {proxy}/healthz", f"{KUBE} get --raw {proxy}/readyz",
            "curl -sS --fail-with-body --max-time 10 https://relay.zlay.example/xrpc/_health",
        ]),
        ("forward", ["admin"], [f"{KUBE} port-forward -n zlay service/relay-internal 3001:3001"]),
        ("forward", ["grafana"], [f"{KUBE} port-forward -n monitoring service/monitoring-grafana 3002:80"]),
        ("init", [], ["terraform -chdir=deploy/terraform init -input=false"]),
    ]:
        stage.log.write_text("")
        problems += expect(stage, stage.script(name, *args), wanted)
    stage.answers.insert(0, ["proxy/readyz", 1])
    stage.log.write_text("")
    done = stage.script("health")
    if done.returncode == 0 or "what to do: " not in done.stderr or len(stage.lines()) != 2:
        problems.append("a relay that is not ready is well")
    return problems


def missing_programs(stage):
    for name in ("helm", "kubectl"):
        (stage.bin / name).unlink()
    path = f"{stage.bin}:/nowhere"
    for name in ("bash", "dirname", "env"):
        (stage.bin / name).symlink_to(shutil.which(name))
    done = stage.script("deploy", PATH=path)
    good = done.returncode == 1 and "not installed here: kubectl helm" in done.stderr and not stage.lines()
    return [] if good else [done.stderr]


def example_lists_all():
    """Every variable that a script reads is in .env.example, and no other."""
    text = "".join(f.read_text() for f in FOLDER.glob("*.sh"))
    used = set(re.findall(r"\b(ZLAY_[A-Z_]+|HCLOUD_TOKEN|LETSENCRYPT_EMAIL)\b", text)) - {"ZLAY_ENV_FILE"}
    listed = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    return [f"{x} is in one only" for x in sorted(used ^ listed)]


def versions():
    """The charts' versions are said once; Kubernetes' is that of k3s."""
    variables = (ROOT / "deploy/terraform/variables.tf").read_text()
    from .manifests import KUBERNETES

    return [] if f'"v{KUBERNETES}.' in variables else ["another Kubernetes is validated than is installed"]


def checks(report):
    report.check("scripts: shellcheck", shellcheck)
    report.check("scripts: .env.example lists every variable", example_lists_all)
    report.check("scripts: one version of Kubernetes", versions)
    report.check("scripts: missing variables are named before anything starts", staged(missing_variables, settings={}))
    report.check("scripts: missing programs are named before anything starts", staged(missing_programs))
    report.check("scripts: wrong values are refused before anything starts", staged(wrong_values))
    report.check("scripts: .env is read as it is", staged(env_file))
    report.check("scripts: zlay-infra", staged(infra))
    report.check("scripts: zlay-kubeconfig", staged(kubeconfig))
    report.check("scripts: zlay-deploy, the first time", staged(first_deploy))
    running = [["get deployment relay", "localhost/zlay:0123456789ab"]]
    report.check("scripts: zlay-deploy, later", staged(later_deploy, answers=running))
    report.check("scripts: zlay-deploy stops where a step fails", staged(failing_deploy))
    report.check("scripts: zlay-deploy without a kubeconfig", staged(no_kubeconfig))
    report.check("scripts: zlay-publish-remote", staged(publish_remote))
    report.check("scripts: zlay-rollback", staged(rollback))
    report.check("scripts: zlay-backup", staged(backup))
    one = [["jsonpath={.spec.replicas}", "1"]]
    report.check("scripts: zlay-restore", staged(restore, answers=one))
    report.check("scripts: the small ones", staged(others))
