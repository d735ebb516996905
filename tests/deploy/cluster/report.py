"""One line a check."""

import os
import pathlib
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[3]


class Skip(Exception):
    """This check needs what this machine does not have; the text says what."""


class Report:
    """Runs checks and counts how they end."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, name, body, *args):
        """A check fails where it raises, or gives back a list with something in it."""
        try:
            problems = body(*args) or []
        except Skip as reason:
            self.skipped += 1
            print(f"skip  {name}: {reason}", flush=True)
            return
        except Exception:  # a check must not take the others with it
            problems = [traceback.format_exc()]
        if problems:
            self.failed += 1
            print(f"FAIL  {name}", flush=True)
            for problem in problems:
                print("      " + str(problem).rstrip().replace("\n", "\n      "), flush=True)
        else:
            self.passed += 1
            print(f"ok    {name}", flush=True)
            # Where tests/deploy/run counts.
            with open(os.environ.get("ZLAY_CHECK_RESULTS", os.devnull), "a") as results:
                results.write("ok\n")

    def summary(self):
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {self.failed} failed{skipped}")
        return self.failed == 0
