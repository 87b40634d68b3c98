"""Follows the state folder: maps the files that `current` names when it changes, and swaps the snapshot by assignment.

A thread of its own does the work, so requests are answered from the old snapshot meanwhile. A file that cannot be used
is logged and refused; the old snapshot serves on, and the same `current` is tried again after RETRY_S.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from steering.decision.snapshot import Snapshot
from steering.errors import SnapshotError
from steering.playback.signing.signer import Keyring, Signer
from steering.state.folder import stamp_of

RETRY_S: Final = 2.0

logger = logging.getLogger("steering.playback")


class Follower:
    """Holds the snapshot that answers are made from: None until the first is mapped.

    `take` is called with each new snapshot, `refuse` when the files cannot be used.
    """

    def __init__(
        self,
        state: Path,
        poll_s: float,
        clock: Callable[[], float] = time.monotonic,
        take: Callable[[Snapshot], None] = lambda _: None,
        refuse: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = state
        self.poll_s = poll_s
        self.clock = clock
        self.take = take
        self.refuse = refuse
        self.snapshot: Snapshot | None = None
        self.keyring = Keyring(state)
        self.signer = Signer(self.keyring)
        self.error: SnapshotError | None = None
        self.seen: tuple[int, ...] | None = ()  # equals no file: the first step always maps
        self.retry_at = 0.0
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None

    def step(self) -> None:
        """Look at `current` once, and map its files if it has changed."""
        self.keyring.step()
        seen = stamp_of(self.state / "current")
        if seen == self.seen and (self.error is None or self.clock() < self.retry_at):
            return
        self.seen = seen
        try:
            snapshot = Snapshot.map(self.state, self.snapshot, self.signer)
        except SnapshotError as error:
            if self.error is None or error.message != self.error.message:
                serving = f"table {self.snapshot.table_version} serves on" if self.snapshot else "nothing is served"
                logger.error("%s; %s", error.message, serving)
            self.error = error
            self.refuse()
            self.retry_at = self.clock() + RETRY_S
            return
        self.snapshot = snapshot
        self.take(snapshot)
        self.error = None
        logger.info(
            "serving table %d, fleet %d, generation %d",
            snapshot.table_version,
            snapshot.fleet_version,
            snapshot.current.generation,
        )

    def start(self) -> None:
        """Map what is published now, then follow in a thread."""
        self.step()
        self.thread = threading.Thread(target=self.follow, name="follow", daemon=True)
        self.thread.start()

    def follow(self) -> None:
        """Step every `poll_s` until `stop`."""
        while not self.stopping.wait(self.poll_s):
            self.step()

    def stop(self) -> None:
        """End the thread."""
        self.stopping.set()
        if self.thread is not None:
            self.thread.join()
