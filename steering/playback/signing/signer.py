"""Makes the tokens of a worker's answers with the current keys and time: one token for all URLs of an answer.

The keys are read again when the `keys` file changes, and swapped by one assignment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from steering.errors import SnapshotError
from steering.model.service import Service
from steering.playback.signing.tags import tag_for
from steering.playback.signing.tokens import Signing, SigningKey, token_for
from steering.state.folder import stamp_of
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
        seen = stamp_of(self.state / FILE)
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


class Signer:
    """Signs for one worker. The keys are looked up for each answer, so new keys sign from the next answer on."""

    def __init__(self, keyring: Keyring, clock: Callable[[], float] = time.time) -> None:
        self.keyring = keyring
        self.clock = clock
        self.keyless: set[str] = set()  # services without a key, which are logged once

    def sign_of(self, service: Service) -> Callable[[bytes, int, int], bytes | None] | None:
        """Return what makes the tokens of a service, None where its URLs are not signed."""
        signing = Signing.of(service)
        if signing is None:
            return None

        def sign(title: bytes, family: int, upper: int) -> bytes | None:
            client = packed_of(family, upper)
            token = token_for(signing, self.keyring.keys, signing.path_of(title.decode()), client, self.clock())
            self.note(service.id, token is None)
            return token.encode() if token else None

        return sign

    def sign_below(self, service: Service, host: str, path: str, packed: bytes) -> str | None:  # noqa: ARG002
        """Return the token of a folder of a service, None where the service has no key."""
        signing = Signing.of(service)
        token = token_for(signing, self.keyring.keys, path, packed, self.clock()) if signing else None
        self.note(service.id, token is None)
        return token

    def tag_of(self, service: str) -> Callable[[bytes, int, int], bytes | None]:
        """Return a function that makes the tags of a service's sessions; it returns None without a key for tags."""

        def tag(session: bytes, family: int, upper: int) -> bytes | None:
            if not self.keyring.keys:
                return None
            return self.tag(service, session.decode(), packed_of(family, upper)).encode() or None

        return tag

    def tag(self, service: str, session: str, packed: bytes) -> str:
        """Return a tag for a session, which may be empty; empty where there is no key for tags."""
        return tag_for(self.keyring.keys, service, session, packed, self.clock())

    def note(self, service: str, is_keyless: bool) -> None:
        """Log once that a service cannot sign, and again only after it could."""
        if is_keyless != (service in self.keyless):
            if is_keyless:
                logger.error(
                    "service %s: none of its keys is in the keys file; its answers name the fallback alone", service
                )
                self.keyless.add(service)
            else:
                self.keyless.discard(service)


def packed_of(family: int, upper: int) -> bytes:
    """Return a client's packed address from its upper 32 or 64 bits; the lower half of an IPv6 address is 0."""
    return upper.to_bytes(4, "big") if family == 4 else upper.to_bytes(8, "big") + bytes(8)
