"""Has the Python library `atproto` ask a relay: a JSON list of calls comes in, a list of what it got goes out.

Its answers are models, which check the types of what is in them. See ../lib/clients.mjs.
"""

import hashlib
import json
import re
import sys

from atproto import Client
from atproto.exceptions import RequestErrorBase

sync = Client(base_url=f"{sys.argv[1]}/xrpc").com.atproto.sync


def answer(method, params, all=None):
    ask = getattr(sync, re.sub("([A-Z])", lambda letter: "_" + letter[0].lower(), method))
    data = ask(params)
    if isinstance(data, bytes):
        return {"sha256": hashlib.sha256(data).hexdigest()}
    if all is None:
        return {"data": plain(data)}
    items, pages = plain(data)[all], 1
    while data.cursor:
        data = ask({**params, "cursor": data.cursor})
        items += plain(data)[all]
        pages += 1
    return {"items": items, "pages": pages}


def plain(data):
    # A procedure without output is answered with true.
    if data is True:
        return None
    text = data.model_dump_json(by_alias=True, exclude_none=True)
    return json.loads(text, object_hook=untyped)


def untyped(fields):
    """Without the $type that the models of the library add."""
    fields.pop("$type", None)
    return fields


def refusal(error):
    response = error.response
    return {"error": response.content.error, "status": response.status_code}


results = []
for call in json.load(sys.stdin):
    try:
        results.append(answer(**call))
    except RequestErrorBase as error:
        results.append(refusal(error))
print(json.dumps(results))
