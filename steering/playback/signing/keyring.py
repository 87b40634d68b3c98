"""The keys as a worker knows them: read again whenever the `keys` file changes, swapped with one assignment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from steering.errors import SnapshotError
from steering.playback.signing.tokens import SigningKey
from steering.state.keys import FILE, read_keys

logger = logging.getLogger("steering.playback")


class Keyring:
    """Holds `keys` by id. Where the file cannot be used, that is logged once, and the last good keys sign on."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.keys: Mapping[str, SigningKey] = {}
        self.seen: tuple[int, ...] | None = None

    def step(self) -> None:
        """Look once, and take over what has changed."""
        seen = self.look()
        if seen == self.seen:
            return
        self.seen = seen
        try:
            found = read_keys(self.state)
        except SnapshotError as error:
            logger.error("%s; the keys from before sign on", error.message)
            return
        self.keys = {name: SigningKey(name, key.secret) for name, key in found.items()}
        logger.info("%d keys: %s", len(found), ", ".join(found))

    def look(self) -> tuple[int, ...] | None:
        """Return what tells one file from another, and whether it may be read; None where there is none."""
        try:
            found = (self.state / FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode
