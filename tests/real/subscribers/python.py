"""The Python library `atproto`: its firehose client, its models, its CAR reader."""

import json
import logging
import sys

from atproto import CAR, FirehoseSubscribeReposClient, models, parse_subscribe_repos_message

logging.disable(logging.CRITICAL)  # it logs every connection that ends; the lines below say it all
client = FirehoseSubscribeReposClient(base_uri=f"{sys.argv[1]}/xrpc")


def say(**line):
    print(json.dumps(line), flush=True)


def on_message(frame):
    message = parse_subscribe_repos_message(frame)
    line = {"seq": message.seq, "did": getattr(message, "repo", None) or message.did}
    # Without this, it reconnects with the cursor that it was first given.
    client.update_params({"cursor": message.seq})
    if isinstance(message, models.ComAtprotoSyncSubscribeRepos.Commit):
        car = CAR.from_bytes(message.blocks)
        if message.commit not in car.blocks:
            say(error=f"{message.seq}: the commit is not in its blocks")
        for op in message.ops:
            if op.action != "delete" and op.cid not in car.blocks:
                say(error=f"{message.seq}: {op.path} is not in the blocks")
        say(**line, type="#commit", ops=len(message.ops))
    elif isinstance(message, models.ComAtprotoSyncSubscribeRepos.Sync):
        CAR.from_bytes(message.blocks)
        say(**line, type="#sync")
    elif isinstance(message, models.ComAtprotoSyncSubscribeRepos.Identity):
        say(**line, type="#identity")
    elif isinstance(message, models.ComAtprotoSyncSubscribeRepos.Account):
        say(**line, type="#account")
    else:
        say(error=f"unexpected {type(message).__name__}")


def on_error(error):
    say(error=f"{type(error).__name__}: {error}")


client.start(on_message, on_error)
