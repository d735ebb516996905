"""deploy/k3s: against Kubernetes' own schemas, and how the objects fit together."""

import functools
import re
import subprocess

import kubernetes_validate
import yaml

from .custom import CUSTOM
from .report import ROOT, Skip

FOLDER = ROOT / "deploy/k3s"
MONITORING = ROOT / "deploy/monitoring"
SCRIPT = ROOT / "deploy/scripts/monitoring.sh"
# That of k3s in deploy/terraform/variables.tf.
KUBERNETES = "1.35"


def files():
    return sorted(FOLDER.glob("*.yaml"))


@functools.cache
def made():
    """The manifests that are made of deploy/monitoring."""
    if not MONITORING.is_dir():
        return ""
    return subprocess.run([SCRIPT], check=True, capture_output=True, text=True).stdout


def objects():
    """Every object, with the file that it is in, read anew."""
    found = [(file, o) for file in files() for o in yaml.safe_load_all(file.read_text())]
    return [(f, o) for f, o in [*found, *((SCRIPT, o) for o in yaml.safe_load_all(made()))] if o]


def of(kind, name, namespace="zlay"):
    found = [
        o for _, o in objects()
        if o["kind"] == kind and o["metadata"]["name"] == name
        and o["metadata"].get("namespace") in (namespace, None)
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {namespace}/{name}"
    return found[0]


def lint():
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable, braces: {max-spaces-inside: 1}}}"
    own = [*files(), *(FOLDER / "values").glob("*.yaml")]
    done = subprocess.run(["yamllint", "-d", rules, *map(str, own)], capture_output=True, text=True)
    return [done.stdout + done.stderr] if done.returncode else []


def schemas():
    problems = []
    for file, o in objects():
        name = f"{file.name}: {o['kind']} {o['metadata']['name']}"
        try:
            if o["apiVersion"] in CUSTOM:
                CUSTOM[o["apiVersion"]](o)
            else:
                kubernetes_validate.validate(o, KUBERNETES, strict=True)
        except Exception as error:  # of many kinds, and the text says it
            problems.append(f"{name}: {getattr(error, 'message', error)}")
    return problems


def the_validator_works():
    """That a wrong object is refused, or the check above would say nothing."""
    problems = []
    deployment = of("Deployment", "relay")
    deployment["spec"]["template"]["spec"]["containers"][0]["resorces"] = {}
    try:
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)
        problems.append("a misspelt field of a Deployment passes")
    except kubernetes_validate.ValidationError:
        pass
    for api, kind, spoil in [
        ("traefik.io/v1alpha1", "Middleware", lambda o: o["spec"].update(ipWhitelist={})),
        ("cert-manager.io/v1", "ClusterIssuer", lambda o: o["spec"]["acme"].pop("server")),
        ("helm.cattle.io/v1", "HelmChartConfig", lambda o: o["spec"].update(valuesContent="a: [")),
        ("monitoring.coreos.com/v1", "ServiceMonitor", lambda o: o["spec"].update(endpoint=[])),
    ]:
        o = next(o for _, o in objects() if o["kind"] == kind)
        spoil(o)
        try:
            CUSTOM[api](o)
            problems.append(f"a wrong {kind} passes")
        except Exception:
            pass
    return problems


def pod_of(o):
    spec = o["spec"]
    if o["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"]


def workloads():
    return [o for _, o in objects() if o["kind"] in ("Deployment", "StatefulSet", "CronJob")]


def restricted():
    """What the level `restricted` of the namespace demands, and a little more."""
    problems = []
    for o in workloads():
        name, spec = o["metadata"]["name"], pod_of(o)["spec"]
        security = spec["securityContext"]
        if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) == 0:
            problems.append(f"{name} may run as root")
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            problems.append(f"{name} has no seccomp profile")
        if spec.get("automountServiceAccountToken") is not False:
            problems.append(f"{name} gets a token of the API")
        if spec.get("enableServiceLinks") is not False:
            problems.append(f"{name} gets variables of Services")
        for c in spec["containers"]:
            own = c["securityContext"]
            if own.get("allowPrivilegeEscalation") is not False or own["capabilities"]["drop"] != ["ALL"]:
                problems.append(f"{name}/{c['name']} has capabilities")
            if own.get("readOnlyRootFilesystem") is not True:
                problems.append(f"{name}/{c['name']} can write its image")
            if "memory" not in c["resources"].get("limits", {}):
                problems.append(f"{name}/{c['name']} has no limit of memory")
            if re.search(r"(:latest|/[^:]*)$", c["image"]):
                problems.append(f"{name}/{c['name']}: {c['image']} is not pinned")
    return problems


def selectors():
    """Services and policies select pods that exist; ports and volumes by names that exist."""
    problems = []
    pods = [(o["metadata"]["name"], pod_of(o)) for o in workloads()]
    matching = lambda labels: [
        p for _, p in pods if labels.items() <= p["metadata"]["labels"].items()
    ]
    ports = lambda p: {x["name"] for c in p["spec"]["containers"] for x in c.get("ports", [])}
    for _, o in objects():
        name = f"{o['kind']} {o['metadata']['name']}"
        if o["kind"] == "Service":
            chosen = matching(o["spec"]["selector"])
            if len(chosen) != 1:
                problems.append(f"{name} selects {len(chosen)} workloads")
            for port in o["spec"]["ports"]:
                if chosen and port["targetPort"] not in ports(chosen[0]):
                    problems.append(f"{name}: no port {port['targetPort']}")
        if o["kind"] == "NetworkPolicy":
            chosen = o["spec"]["podSelector"].get("matchLabels", {})
            if "acme.cert-manager.io/http01-solver" not in chosen and not matching(chosen):
                problems.append(f"{name} selects nothing")
        if o["kind"] == "Ingress":
            for path in o["spec"]["rules"][0]["http"]["paths"]:
                service = path["backend"]["service"]
                target = of("Service", service["name"])
                if service["port"]["name"] not in {p["name"] for p in target["spec"]["ports"]}:
                    problems.append(f"{name}: no port {service['port']['name']}")
            wanted = o["metadata"]["annotations"].get("traefik.ingress.kubernetes.io/router.middlewares")
            if wanted:
                of("Middleware", re.fullmatch(r"zlay-(.+)@kubernetescrd", wanted).group(1))
        if o["kind"] == "ServiceMonitor":
            labels = o["spec"]["selector"]["matchLabels"]
            services = [
                s for _, s in objects()
                if s["kind"] == "Service" and labels.items() <= s["metadata"]["labels"].items()
            ]
            if len(services) != 1:
                problems.append(f"{name} selects {len(services)} services")
            elif o["spec"]["endpoints"][0]["port"] not in {p["name"] for p in services[0]["spec"]["ports"]}:
                problems.append(f"{name}: no such port")
    for name, p in pods:
        volumes = {v["name"]: v for v in p["spec"].get("volumes", [])}
        claims = {
            t["metadata"]["name"]
            for o in workloads() if o["metadata"]["name"] == name
            for t in o["spec"].get("volumeClaimTemplates", [])
        }
        for c in p["spec"]["containers"]:
            for mount in c["volumeMounts"]:
                if mount["name"] not in volumes and mount["name"] not in claims:
                    problems.append(f"{name}: no volume {mount['name']}")
        for v in volumes.values():
            if "persistentVolumeClaim" in v:
                of("PersistentVolumeClaim", v["persistentVolumeClaim"]["claimName"])
    return problems


def relay():
    """What a relay needs of its Deployment, and that its variables are known to the program."""
    problems = []
    o = of("Deployment", "relay")
    spec, template = o["spec"], o["spec"]["template"]["spec"]
    (c,) = template["containers"]
    if spec["strategy"] != {"type": "Recreate"} or spec["replicas"] > 1:
        problems.append("there could be two")
    if template["terminationGracePeriodSeconds"] < 45:
        problems.append("killed before it has stopped: STOP_TIMEOUT is 30 s")
    paths = {k: c[k]["httpGet"]["path"] for k in ("startupProbe", "livenessProbe", "readinessProbe")}
    if paths != {"startupProbe": "/readyz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}:
        problems.append(f"probes at {paths}")
    if any(c[k]["httpGet"]["port"] != "internal" for k in paths):
        problems.append("probes on the public port")
    numbers = {p["name"]: p["containerPort"] for p in c["ports"]}
    config = of("ConfigMap", "relay")["data"]
    text = (ROOT / "README.md").read_text()
    for name in config:
        if f"| `{name}` |" not in text:
            problems.append(f"{name} is no variable of zlay")
    if numbers != {"http": 3000, "internal": 3001} or {"RELAY_PORT", "RELAY_METRICS_PORT"} & config.keys():
        problems.append("ports that are not the program's own")
    claim = of("PersistentVolumeClaim", "relay-data")["spec"]["resources"]["requests"]["storage"]
    if int(config["RELAY_RETENTION_BYTES"].rstrip("G")) > 0.7 * int(claim.rstrip("Gi")):
        problems.append("events would fill the claim")
    if config["RELAY_DATA_DIR"] not in {m["mountPath"] for m in c["volumeMounts"]}:
        problems.append("data outside the claim")
    if c["imagePullPolicy"] != "Never" or not c["image"].startswith("localhost/"):
        problems.append("an image that would be looked for in a registry")
    return problems


def what_is_public():
    """Nothing leads from outside to metrics, probes and /admin."""
    problems = []
    for _, o in objects():
        if o["kind"] == "Ingress":
            for path in o["spec"]["rules"][0]["http"]["paths"]:
                if path["backend"]["service"]["name"] != "relay":
                    problems.append(f"{o['metadata']['name']} leads to {path['backend']['service']['name']}")
        if o["kind"] == "Service" and o["spec"].get("type", "ClusterIP") != "ClusterIP":
            problems.append(f"Service {o['metadata']['name']} is a {o['spec']['type']}")
    admin = of("Ingress", "relay-admin")
    if admin["spec"]["rules"][0]["http"]["paths"][0]["path"] != "/admin":
        problems.append("/admin is public")
    if of("Middleware", "operators")["spec"]["ipAllowList"]["sourceRange"] != ["127.0.0.1/32"]:
        problems.append("/admin is public")
    inside = [
        rule for rule in of("NetworkPolicy", "relay")["spec"]["ingress"]
        if any(p["port"] == "internal" for p in rule["ports"])
    ]
    if len(inside) != 1 or "monitoring" not in str(inside[0]["from"]):
        problems.append("the internal port is open to others than Prometheus")
    return problems


def traefik():
    values = yaml.safe_load(of("HelmChartConfig", "traefik", "kube-system")["spec"]["valuesContent"])
    problems = []
    arguments = dict(a.removeprefix("--").split("=", 1) for a in values["additionalArguments"])
    timeouts = "entryPoints.websecure.transport.respondingTimeouts"
    if arguments.get(f"{timeouts}.readTimeout") != "0s" or arguments.get(f"{timeouts}.writeTimeout") != "0s":
        problems.append("websockets are cut")
    if values["ports"]["websecure"]["hostPort"] != 443 or values["ports"]["web"]["hostPort"] != 80:
        problems.append("Traefik is not at the host's ports")
    if values["updateStrategy"]["rollingUpdate"] != {"maxSurge": 0, "maxUnavailable": 1}:
        problems.append("a new Traefik waits for the ports of the old one for ever")
    if any("forwardedHeaders" in a for a in arguments):
        problems.append("strangers may say who they are")
    return problems


# What the charts document (values.yaml of cert-manager v1.21 and kube-prometheus-stack 93).
VALUES = {
    "cert-manager.yaml": {"crds", "resources", "webhook", "cainjector"},
    "kube-prometheus-stack.yaml": {
        "fullnameOverride", "kubeControllerManager", "kubeScheduler", "kubeProxy", "kubeEtcd",
        "prometheus", "alertmanager", "grafana", "prometheusOperator", "kube-state-metrics",
        "prometheus-node-exporter",
    },
}


def values():
    problems = []
    for name, known in VALUES.items():
        data = yaml.safe_load((FOLDER / "values" / name).read_text())
        problems += [f"{name}: {key}?" for key in data.keys() - known]
    stack = yaml.safe_load((FOLDER / "values/kube-prometheus-stack.yaml").read_text())
    spec = stack["prometheus"]["prometheusSpec"]
    for selector in ("serviceMonitor", "podMonitor", "rule"):
        if spec[f"{selector}SelectorNilUsesHelmValues"] is not False:
            problems.append(f"{selector}s of our own are not seen")
    for part in ("kubeControllerManager", "kubeScheduler", "kubeProxy", "kubeEtcd"):
        if stack[part] != {"enabled": False}:
            problems.append(f"{part} is scraped, and is not there in k3s")
    if stack["grafana"]["sidecar"]["dashboards"]["label"] != "grafana_dashboard":
        problems.append("dashboards are not found")
    return problems


def anchors(page):
    """The headings of a page of docs/, as links name them."""
    file = ROOT / "docs" / page
    found = re.findall(r"^#+ (.+)$", file.read_text(), re.M) if file.exists() else []
    return {re.sub(r"[^a-z0-9 _-]", "", a.lower()).replace(" ", "-") for a in found}


def monitoring():
    """The rules arrive as they are, and every alert is explained and has something to do."""
    if not MONITORING.is_dir():
        raise Skip("there is no deploy/monitoring")
    problems = []
    rules = of("PrometheusRule", "relay")["spec"]["groups"]
    wanted = []
    for file in sorted(MONITORING.glob("*.y*ml")):
        wanted += yaml.safe_load(file.read_text()).get("groups", [])
    if not wanted or rules != wanted:
        problems.append("the rules are not those of deploy/monitoring")
    shown = of("ConfigMap", "relay-dashboards")
    boards = {f.name: f.read_text() for f in MONITORING.glob("*.json")}
    if not boards or shown["data"] != boards or shown["metadata"]["labels"].get("grafana_dashboard") != "1":
        problems.append("the dashboards are not those of deploy/monitoring, or Grafana would not find them")
    for group in rules:
        for rule in group["rules"]:
            link = rule.get("annotations", {}).get("runbook_url", "")
            if "alert" not in rule:
                continue
            page, _, anchor = link.rpartition("/")[2].partition("#")
            if not anchor or anchor not in anchors(page):
                problems.append(f"{rule['alert']}: {link} leads nowhere")
            if rule["alert"].lower() not in anchors("operations.md"):
                problems.append(f"operations.md does not say what to do about {rule['alert']}")
    return problems


def checks(report):
    report.check("k3s: yamllint", lint)
    report.check("k3s: every object fits its schema", schemas)
    report.check("k3s: wrong objects do not", the_validator_works)
    report.check("k3s: pods have no rights that they do not need", restricted)
    report.check("k3s: selectors, ports and volumes meet", selectors)
    report.check("k3s: the relay's Deployment", relay)
    report.check("k3s: metrics, probes and /admin are not public", what_is_public)
    report.check("k3s: Traefik keeps websockets and addresses", traefik)
    report.check("k3s: values of charts", values)
    report.check("k3s: rules and dashboards are those of deploy/monitoring", monitoring)
