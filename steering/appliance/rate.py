"""How fast and how much the appliance may fetch: token buckets, and the bytes of a window."""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec
from msgspec import Struct

from steering.appliance.manifest import GIGABIT, Window

BURST_S: Final = 0.05  # unused rate of this time may be caught up


class Bucket:
    """A rate in bytes a second. It reads no clock: the caller waits for the seconds that `take` returns."""

    def __init__(self, gbps: float) -> None:
        self.rate = gbps * GIGABIT
        self.paid_until = 0.0

    def set_rate(self, gbps: float) -> None:
        self.rate = gbps * GIGABIT

    def take(self, amount: int, now: float) -> float:
        """Count bytes that arrived, and return for how long no more may be taken."""
        self.paid_until = max(self.paid_until, now - BURST_S) + amount / max(self.rate, 1.0)
        return max(self.paid_until - now, 0.0)


class Spent(Struct):
    """The bytes that were fetched in the window that began at `begin`."""

    begin: float = 0.0
    bytes: int = 0


class WindowBudget:
    """The bytes fetched in the window that is open. `saved` is what `packed` returned before a restart."""

    def __init__(self, saved: bytes = b"") -> None:
        self.spent = Spent()
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            self.spent = msgspec.json.decode(saved, type=Spent)

    def enter(self, window: Window | None) -> None:
        """Begin to count anew if another window is open."""
        if window is not None and window.begin != self.spent.begin:
            self.spent = Spent(window.begin)

    def allows(self, window: Window, amount: int) -> bool:
        return self.spent.bytes + amount <= window.bytes

    def add(self, amount: int) -> None:
        self.spent.bytes += amount

    def packed(self) -> bytes:
        return msgspec.json.encode(self.spent)
