"""Notifications for the service manager, as in sd_notify(3): ready, reloading, stopping, and a status line for people.

Without NOTIFY_SOCKET nothing is sent. A notification that cannot be sent is logged, and the service goes on.
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
    """Report that start-up, or a reload, is over; `systemctl status` shows the status line."""
    send("READY=1", f"STATUS={status}")


def reloading() -> None:
    """Report that a reload has begun; `ready` ends it."""
    send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """Report that the service has begun to stop."""
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
        logger.warning("NOTIFY_SOCKET=%s did not receive %s: %s", name, assignments[0], error.strerror or error)
