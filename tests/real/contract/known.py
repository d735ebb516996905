"""What schemathesis has to know of the network that the relay serves, and what it was answered."""

import atexit
import collections
import itertools
import json
import os
import re

import schemathesis

KNOWN = json.loads(os.environ["ZLAY_KNOWN"])
ANSWERS = collections.defaultdict(lambda: {"seen": collections.Counter()})
ADDRESSES = itertools.count(1)
CRAWLS = "requestCrawl", "notifyOfUpdate", "adminRequestCrawl", "adminRequestCrawlToo"
LISTS = "listRepos", "listHosts", "listReposByCollection"
NOBODY = ["localhost:1", "nobody.invalid"]
# Beyond it a number is none to who reads it as a double.
DOUBLE_MAX = 2**1023
patterns = {}


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Accounts and hosts that are there are examples, and one that is not, so that some answers are 404."""
    schemas = raw_schema["components"]["schemas"]
    schemas["Did"]["examples"] = KNOWN["dids"] + ["did:web:nobody.invalid"]
    schemas["HostAddress"]["examples"] = KNOWN["hosts"] + ["nobody.invalid"]
    schemas["Hostname"]["examples"] = KNOWN["hosts"] + ["nobody.invalid"]
    schemas["Nsid"]["examples"] = KNOWN["collections"]
    for name in "Did", "HostAddress":
        patterns[name] = re.compile(schemas[name]["pattern"].removesuffix("$") + r"\Z")


@schemathesis.hook
def filter_query(context, query):
    """Of a parameter that is there twice the first counts, and an empty one is as good as none."""
    many = (value for value in (query or {}).values() if isinstance(value, (list, dict)))
    return not any("" in list(value)[:1] for value in many)


@schemathesis.hook
def filter_body(context, body):
    return not holds_too_much(body)


def holds_too_much(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return any(map(holds_too_much, value))
    return isinstance(value, (int, float)) and abs(value) > DOUBLE_MAX


@schemathesis.hook
def before_call(context, case, kwargs):
    # Each case is somebody else, as behind a proxy: the probes with wrong passwords would lock one address
    # out, and ten requests to crawl a minute are soon over.
    number = next(ADDRESSES)
    case.headers["X-Forwarded-For"] = f"198.18.{number >> 8 & 255}.{number & 255}"
    for part in case.query, case.body, case.path_parameters:
        if isinstance(part, dict):
            place(operation_of(case), part, number)
    case.body = whole(case.body)


@schemathesis.hook
def after_call(context, case, response):
    operation = operation_of(case)
    ANSWERS[operation]["seen"][response.status_code] += 1
    ANSWERS[operation]["described"] = list(case.operation.definition.raw["responses"])


@atexit.register
def tell():
    with open(os.environ["ZLAY_ANSWERS"], "w", encoding="utf-8") as file:
        json.dump(ANSWERS, file)


def operation_of(case):
    return case.operation.definition.raw["operationId"]


def place(operation, part, choice):
    """Puts what is there in the place of every second good name that was made up."""
    for name in "host", "hostname", "name":
        if not is_a("HostAddress", part.get(name)):
            continue
        if operation in CRAWLS:
            # The relay asks a host whether it is one: nobody else's machine is to be asked.
            part[name] = pick(KNOWN["hosts"] + NOBODY, choice)
        elif choice % 2:
            part[name] = pick(KNOWN["hosts"], choice)
    if is_a("Did", part.get("did")) and choice % 2:
        part["did"] = pick(KNOWN["dids"], choice)
    if operation in LISTS and str(part.get("cursor", "")).isdigit():
        # Only what was given out is taken, of a collection that there is.
        part["cursor"] = "1"
        if "collection" in part:
            part["collection"] = KNOWN["collections"][0]
    if operation == "banDomain" and part.get("domain") == "localhost":
        # Every host that is there is below it.
        part["domain"] = "example.com"


def pick(names, choice):
    return names[choice // 2 % len(names)]


def is_a(name, value):
    return isinstance(value, str) and patterns[name].match(value.strip())


def whole(value):
    """Whole numbers without a fraction, where Python would write 1.0."""
    if isinstance(value, dict):
        return {name: whole(item) for name, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value
