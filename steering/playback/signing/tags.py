"""Session tags: by one a report of a player is known to come from a viewer whom we sent somewhere, and from where.

    tag-1~1767225600~Zk3xQv0d~<code>      key, expiry, viewer, HMAC-SHA256 of "tag" key expiry network viewer

They are made as the tokens of `signing` are, with keys that no appliance has: those of the `keys` file whose ids begin
with `tag-`. The newest makes tags, all of them are believed, so a key is changed as any other is. `viewer` is a keyed
hash of service and session, or where there is none the network; nobody else can tell a session from it.

Sessions cost nothing, and addresses do: whoever begins a thousand sessions in one network, a /24 or a /48, is a few
voices still.
"""

from __future__ import annotations

import hmac
import math
import re
from collections.abc import Mapping
from typing import Final

from steering.playback.signing.tokens import ANYBODY, STEP_S, SigningKey, network_of
from steering.state.keys import TAG_KEYS

TAG_TTL_S: Final = 6 * 3600
VOICES: Final = 4  # of a network
TAG: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})~([1-9][0-9]{0,11})~([A-Za-z0-9_-]{8})~([A-Za-z0-9_-]{24})")
PARAMETER: Final = re.compile(rb"(?:^|&)tag=([A-Za-z0-9~_-]{1,128})(?:&|$)")


def tag_for(keys: Mapping[str, SigningKey], service: str, session: str, client: bytes, now: float) -> str:
    """Return a tag for a session, or without one for the network, of a packed address; empty without a key."""
    key = next((keys[name] for name in reversed(list(keys)) if name.startswith(TAG_KEYS)), None)
    if key is None:
        return ""
    expiry = math.ceil((now + TAG_TTL_S) / STEP_S) * STEP_S
    network = network_of(client)
    hashed = key.code(b"viewer", 0, ANYBODY, f"{service}\n".encode() + (session.encode() or network))[:8]
    return f"{key.id}~{expiry}~{hashed}~{key.code(b'tag', expiry, network, hashed.encode())}"


def read_tag(query: bytes) -> str:
    """Return the tag in a raw query string, empty where there is none."""
    found = PARAMETER.search(query)
    return found[1].decode() if found else ""


def voice_of(tag: str, keys: Mapping[str, SigningKey], client: bytes, now: float) -> bytes | None:
    """Return whose voice a tag is at a packed address, one of a network's few; None where it is worthless."""
    found = TAG.fullmatch(tag)
    key = keys.get(found[1]) if found and found[1].startswith(TAG_KEYS) else None
    if not found or key is None:
        return None
    network, expiry = network_of(client), int(found[2])
    wanted = key.code(b"tag", expiry, network, found[3].encode())
    if not hmac.compare_digest(wanted, found[4]) or now > expiry:
        return None
    return network + bytes([ord(found[3][0]) % VOICES])
