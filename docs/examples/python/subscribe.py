"""A subscriber of an AT Protocol relay: python subscribe.py wss://relay.example.com cursor.txt"""

import json
import random
import sys
import time
from pathlib import Path

import libipld
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

FRAME_BYTES_MAX = 5_000_000
SAVE_EVERY_SECONDS = 1.0
BACKOFF_SECONDS_MAX = 64.0


class Fatal(Exception):
    """Coming back would not mend this."""


class Subscriber:
    def __init__(self, relay: str, file: Path):
        self.url = relay + "/xrpc/com.atproto.sync.subscribeRepos"
        self.file = file
        # The seq of the last event that was dealt with; None: begin with what happens now.
        self.cursor = int(file.read_text()) if file.exists() else None
        self.saved_at = 0.0

    def save(self):
        """Whole or not at all: a half-written cursor would be another one."""
        if self.cursor is not None:
            part = self.file.with_suffix(".part")
            part.write_text(str(self.cursor))
            part.replace(self.file)
        self.saved_at = time.monotonic()

    def run(self):
        backoff = 0.5
        while True:
            before = self.cursor
            try:
                self.connection()
            except ConnectionClosed as end:
                print(f"closed: {end}", file=sys.stderr)
            except InvalidStatus as answer:
                # 429: too many subscriptions of this address. 502 to 504: the proxy has no relay now.
                if answer.response.status_code == 400:
                    raise Fatal(answer.response.body) from answer
                print(f"refused: {answer}", file=sys.stderr)
            except (OSError, TimeoutError) as error:
                print(f"not connected: {error}", file=sys.stderr)
            if self.cursor != before:
                backoff = 0.5
                self.save()
            time.sleep(backoff * random.uniform(0.5, 1))
            backoff = min(backoff * 2, BACKOFF_SECONDS_MAX)

    def connection(self):
        url = self.url if self.cursor is None else f"{self.url}?cursor={self.cursor}"
        # It pings every 20 seconds, and gives up where no pong comes.
        with connect(url, max_size=FRAME_BYTES_MAX, compression=None) as socket:
            for frame in socket:
                self.frame(frame)
            # 1001: the relay stops, and mostly comes back.
            print(f"closed: {socket.close_code} {socket.close_reason}", file=sys.stderr)

    def frame(self, frame: bytes):
        """Two DAG-CBOR items: what it is, and what it says."""
        header, body = libipld.decode_dag_cbor_multi(frame)
        if header["op"] == -1:
            # After ConsumerTooSlow the cursor is still good; after FutureCursor it is another relay's.
            if body["error"] == "FutureCursor":
                raise Fatal(f"{body['error']}: {body.get('message')}")
            print(f"error: {body}", file=sys.stderr)
            return
        if header["t"] == "#info":
            print(f"info: {body}", file=sys.stderr)  # OutdatedCursor: events are missing
            return
        try:
            self.event(header["t"], body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # One event that this program does not understand must not stop it for ever.
            print(f"{body['seq']}: {error!r}", file=sys.stderr)
        self.cursor = body["seq"]
        if time.monotonic() - self.saved_at > SAVE_EVERY_SECONDS:
            self.save()

    def event(self, kind: str, body: dict):
        line = {"seq": body["seq"], "type": kind, "did": body.get("repo") or body.get("did")}
        if kind == "#commit":
            _, blocks = libipld.decode_car(body["blocks"])
            line["ops"] = [
                [op["action"], op["path"], blocks[op["cid"]].get("$type") if op["cid"] else None]
                for op in body["ops"]
            ]
        elif kind == "#account":
            line["active"] = body["active"]
        print(json.dumps(line, separators=(",", ":")), flush=True)


if __name__ == "__main__":
    subscriber = Subscriber(sys.argv[1], Path(sys.argv[2]))
    try:
        subscriber.run()
    except Fatal as error:
        sys.exit(f"fatal: {error}")
    except KeyboardInterrupt:
        subscriber.save()
