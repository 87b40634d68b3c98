"""The speaker's helper process: carries its JSON lines to the Unix socket of the control process.

The speaker starts it and writes to its standard input. When control is gone, it tells the speaker to end.
Run as a script, so that it costs no import of the project.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys


def relay(path: str) -> None:
    """Carry standard input to a socket until either ends."""
    with socket.socket(socket.AF_UNIX) as door, selectors.DefaultSelector() as selector:
        try:
            door.connect(path)
            selector.register(0, selectors.EVENT_READ)
            selector.register(door, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if door in ready:
                    break  # control says nothing; this is its end
                data = os.read(0, 1 << 16)
                if not data:
                    return
                door.sendall(data)
        except OSError:
            pass
    print("shutdown", flush=True)


if __name__ == "__main__":
    relay(sys.argv[1])
