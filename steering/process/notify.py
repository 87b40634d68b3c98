"""What the service manager is told, as sd_notify(3) has it: ready, reloading, stopping, and a line for people.

Where NOTIFY_SOCKET does not say whom to tell, nothing is done; where telling fails, that is logged and no more.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Final

TIMEOUT_S: Final = 1.0

logger = logging.getLogger("steering.notify")


def ready(status: str) -> None:
    """Tell that start-up, or a reload, is over; `status` is shown to who asks how the service is."""
    send("READY=1", f"STATUS={status}")


def reloading() -> None:
    """Tell that a reload has begun; `ready` ends it."""
    send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """Tell that the end has begun."""
    send("STOPPING=1")


def send(*assignments: str) -> None:
    """Send assignments in one datagram to the socket that NOTIFY_SOCKET names: a path, or `@` and an abstract name."""
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(TIMEOUT_S)
            sender.sendto("\n".join(assignments).encode(), f"\0{name[1:]}" if name.startswith("@") else name)
    except OSError as error:
        logger.warning("NOTIFY_SOCKET=%s was not told %s: %s", name, assignments[0], error.strerror or error)
