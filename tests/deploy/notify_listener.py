"""A service manager's end of sd_notify: writes every line that it is told into a file.

notify_listener.py SOCKET FILE
"""

import os
import socket
import sys

path, out = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(path)
# The one who talks is another user.
os.chmod(path, 0o777)
with open(out, "a", buffering=1, encoding="utf-8") as said:
    while True:
        said.write(listener.recv(4096).decode() + "\n")
