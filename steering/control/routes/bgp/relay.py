"""A helper process of the BGP speaker: copies its JSON lines to the Unix socket of the control process.

The speaker starts it and writes to its standard input. When control closes the socket, it asks the speaker to stop.
It runs as a script, so it imports nothing of the project.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys


def relay(path: str) -> None:
    """Copy standard input to a socket until either ends."""
    with socket.socket(socket.AF_UNIX) as control, selectors.DefaultSelector() as selector:
        try:
            control.connect(path)
            selector.register(0, selectors.EVENT_READ)
            selector.register(control, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if control in ready:
                    break  # control sends nothing: the socket is closed
                data = os.read(0, 1 << 16)
                if not data:
                    return
                control.sendall(data)
        except OSError:
            pass
    print("shutdown", flush=True)


if __name__ == "__main__":
    relay(sys.argv[1])
