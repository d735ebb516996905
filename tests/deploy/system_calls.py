"""What a unit forbids and a relay does all the same.

system_calls.py UNIT STRACE_LOG

Reads SystemCallFilter= and RestrictAddressFamilies= of a unit, and the output of `strace -f -C`; names
every system call and every family of sockets that the unit would not have allowed. Fails for any.
"""

import re
import subprocess
import sys


def group(name, seen=frozenset()):
    """The system calls of a group, and of the groups in it."""
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout
    calls = set()
    for line in text.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@") and word not in seen:
            calls |= group(word, seen | {word})
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


def values(unit, key):
    return [line.split("=", 1)[1].strip() for line in unit if line.startswith(key + "=")]


def calls_of(words):
    calls = set()
    for word in words.split():
        calls |= group(word) if word.startswith("@") else {word}
    return calls


unit_path, log_path = sys.argv[1:]
with open(unit_path, encoding="utf-8") as file:
    unit = file.read().splitlines()
with open(log_path, encoding="utf-8", errors="replace") as file:
    log = file.read().splitlines()

# What systemd itself allows beside every list, so that a service can begin at all.
allowed = calls_of("@default execve exit exit_group rt_sigreturn sigreturn")
for words in values(unit, "SystemCallFilter"):
    if words.startswith("~"):
        allowed -= calls_of(words[1:])
    else:
        allowed |= calls_of(words)

# The summary's lines end with the call: "  0.01    0.000004           4         1           flock".
summary = log[next(n for n, line in enumerate(log) if line.startswith("% time")) :]
used = {line.split()[-1] for line in summary if re.match(r"\s*\d+\.\d+\s+\d", line)} - {"total"}
families = set(re.findall(r"\bsocket(?:pair)?\((AF_\w+)", "\n".join(log)))

wrong = sorted(used - allowed)
wrong += sorted(families - set(" ".join(values(unit, "RestrictAddressFamilies")).split()))
if len(used) < 30 or "AF_INET" not in families:
    sys.exit(f"this is no log of a relay: {sorted(used)}, {sorted(families)}")
if wrong:
    sys.exit("the unit forbids what the relay does: " + " ".join(wrong))
print(len(used), "system calls,", *sorted(families))
