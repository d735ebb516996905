"""Schemas, as far as we use them, of the custom resources that k3s, Traefik, cert-manager and the
Prometheus operator publish. A field that is not here is refused."""

import jsonschema
import yaml

TEXT = {"type": "string", "minLength": 1}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w|y))+$"}


def fields(required=(), **properties):
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def array(items):
    return {"type": "array", "items": items, "minItems": 1}


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA = fields(["name"], name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
LABELS = fields([], matchLabels=TEXTS)


def kind(api, name, spec):
    return fields(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": api},
        kind={"const": name},
        metadata=METADATA,
        spec=spec,
    )


SOLVER = fields(["http01"], http01=fields(["ingress"], ingress=fields([], ingressClassName=TEXT)))
ISSUER = kind(
    "cert-manager.io/v1",
    "ClusterIssuer",
    fields(
        ["acme"],
        acme=fields(
            ["server", "privateKeySecretRef", "solvers"],
            server={"type": "string", "pattern": "^https://"},
            email=TEXT,
            privateKeySecretRef=fields(["name"], name=TEXT),
            solvers=array(SOLVER),
        ),
    ),
)
MIDDLEWARE = kind(
    "traefik.io/v1alpha1",
    "Middleware",
    {
        **fields(
            [],
            ipAllowList=fields(["sourceRange"], sourceRange=array({"type": "string", "pattern": "/"})),
            redirectScheme=fields(["scheme"], scheme=TEXT, permanent={"type": "boolean"}),
        ),
        "minProperties": 1,
        "maxProperties": 1,
    },
)
CHART = kind("helm.cattle.io/v1", "HelmChartConfig", fields([], valuesContent=TEXT))
MONITOR = kind(
    "monitoring.coreos.com/v1",
    "ServiceMonitor",
    fields(
        ["selector", "endpoints"],
        jobLabel=TEXT,
        selector=LABELS,
        endpoints=array(
            fields(["port"], port=TEXT, path=TEXT, interval=DURATION, scrapeTimeout=DURATION)
        ),
    ),
)
RULE = {
    "type": "object",
    "properties": {
        "alert": TEXT,
        "record": TEXT,
        "expr": {"type": ["string", "integer"]},
        "for": DURATION,
        "keep_firing_for": DURATION,
        "labels": TEXTS,
        "annotations": TEXTS,
    },
    "required": ["expr"],
    "additionalProperties": False,
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
}
RULES = kind(
    "monitoring.coreos.com/v1",
    "PrometheusRule",
    fields(["groups"], groups=array(fields(["name", "rules"], name=TEXT, interval=DURATION, rules=array(RULE)))),
)


def check(*schemas):
    by_kind = {s["properties"]["kind"]["const"]: s for s in schemas}

    def validate(o):
        jsonschema.validate(o, by_kind[o["kind"]])
        if o["kind"] == "HelmChartConfig":
            values = yaml.safe_load(o["spec"]["valuesContent"])
            if not isinstance(values, dict):
                raise ValueError("valuesContent is no YAML object")

    return validate


CUSTOM = {
    "cert-manager.io/v1": check(ISSUER),
    "traefik.io/v1alpha1": check(MIDDLEWARE),
    "helm.cattle.io/v1": check(CHART),
    "monitoring.coreos.com/v1": check(MONITOR, RULES),
}
