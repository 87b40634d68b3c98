"""Puts tokens into answers: one for all targets, made with the keys and the clock of the moment."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from steering.model import Service
from steering.playback.keyring import Keyring
from steering.playback.signing import Signing, token_for
from steering.snapshot import Snapshot

PLACE: Final = b"{token}"  # braces in titles are escaped, so that it is nowhere else in an answer

logger = logging.getLogger("steering.playback")


class Signer:
    """Signs the answers of one worker."""

    def __init__(self, keyring: Keyring, clock: Callable[[], float] = time.time) -> None:
        self.keyring = keyring
        self.clock = clock
        self.snapshot: Snapshot | None = None
        self.signings: Mapping[str, Signing] = {}
        self.unsigned: set[str] = set()  # services without a key, which are logged once

    def signed(self, body: bytes, snapshot: Snapshot, service: str, title: str, packed: bytes) -> bytes:
        """Return an answer with its tokens; the fallback alone where there is no key to sign with."""
        if snapshot is not self.snapshot:
            self.take(snapshot)
        signing = self.signings.get(service)
        if signing is None:
            return body
        token = token_for(signing, self.keyring.keys, signing.path_of(title), packed, self.clock())
        if token is None:
            if service not in self.unsigned:
                logger.error("service %s: none of its keys is there; answered with its fallback alone", service)
                self.unsigned.add(service)
            return fallback_alone(body, snapshot.services_on_record[service], title)
        self.unsigned.discard(service)
        return body.replace(PLACE, token.encode())

    def take(self, snapshot: Snapshot) -> None:
        """Note how the services of a snapshot are signed."""
        found = {name: signing_of(row) for name, row in snapshot.services_on_record.items() if row.get("token")}
        self.signings = {name: signing for name, signing in found.items() if signing}
        self.snapshot = snapshot


def signing_of(row: Mapping[str, Any]) -> Signing | None:
    """Return how a service of a fleet file is signed."""
    names = ("id", "url", "fallback", "token", "token_ttl_s", "token_bind", "token_covers")
    known = {name: row[name] for name in names if name in row}
    return Signing.of(Service(**known, keys=tuple(row["keys"])))


def fallback_alone(body: bytes, row: Mapping[str, Any], title: str) -> bytes:
    """Return an answer with no target but the service's fallback, which is not signed."""
    url = row["fallback"].replace("{title}", quote(title, safe=""))
    answer = {**json.loads(body), "targets": [{"url": url, "fallback": True}]}
    answer.pop("fail_open", None)
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()
