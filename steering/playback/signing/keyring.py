"""A worker's keys: read again when the `keys` file changes, and swapped by one assignment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from steering.errors import SnapshotError
from steering.playback.signing.tokens import SigningKey
from steering.state.keys import FILE, read_keys

logger = logging.getLogger("steering.playback")


class Keyring:
    """Holds `keys` by id. A file that cannot be used is logged once, and the last good keys go on signing."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.keys: Mapping[str, SigningKey] = {}
        self.seen: tuple[int, ...] | None = None

    def step(self) -> None:
        """Look at the file once, and read it if it has changed."""
        seen = self.look()
        if seen == self.seen:
            return
        self.seen = seen
        try:
            keys = read_keys(self.state)
        except SnapshotError as error:
            logger.error("%s; the old keys go on signing", error.message)
            return
        self.keys = {name: SigningKey(name, key.secret) for name, key in keys.items()}
        logger.info("%d keys: %s", len(keys), ", ".join(keys))

    def look(self) -> tuple[int, ...] | None:
        """Return a value that changes with the file or its mode, None where there is none."""
        try:
            status = (self.state / FILE).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode
