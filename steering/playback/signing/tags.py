"""Session tags: with one, a player's report is attested: it comes from a viewer whom we steered, in a known network.

    tag-1~1767225600~Zk3xQv0d~<code>      key, expiry, viewer, HMAC-SHA256 of "tag" key expiry network viewer

Tags are made as the tokens of `tokens.py` are, with keys that no appliance has: those of the `keys` file whose ids
begin with `tag-`. The newest key makes tags and all of them verify tags, so a key is changed as any other. `viewer` is
a keyed hash of the service and the session, or without a session of the network; it does not reveal the session.

Sessions cost nothing, addresses do: however many sessions begin in one network, a /24 or a /48, its viewers count as at
most VIEWERS_PER_NETWORK.
"""

from __future__ import annotations

import hmac
import math
import re
from collections.abc import Mapping
from typing import Final

from steering.playback.signing.tokens import ANY_CLIENT, STEP_S, SigningKey, network_of
from steering.state.keys import TAG_KEYS

TAG_TTL_S: Final = 6 * 3600
VIEWERS_PER_NETWORK: Final = 4
TAG: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})~([1-9][0-9]{0,11})~([A-Za-z0-9_-]{8})~([A-Za-z0-9_-]{24})")
PARAMETER: Final = re.compile(rb"(?:^|&)tag=([A-Za-z0-9~_-]{1,128})(?:&|$)")


def tag_for(keys: Mapping[str, SigningKey], service: str, session: str, client: bytes, now: float) -> str:
    """Return a tag for a session, or without one for the network, of a packed address; empty without a key."""
    key = next((keys[name] for name in reversed(list(keys)) if name.startswith(TAG_KEYS)), None)
    if key is None:
        return ""
    expiry = math.ceil((now + TAG_TTL_S) / STEP_S) * STEP_S
    network = network_of(client)
    hashed = key.code(b"viewer", 0, ANY_CLIENT, f"{service}\n".encode() + (session.encode() or network))[:8]
    return f"{key.id}~{expiry}~{hashed}~{key.code(b'tag', expiry, network, hashed.encode())}"


def read_tag(query: bytes) -> str:
    """Return the tag in a raw query string, empty where there is none."""
    match = PARAMETER.search(query)
    return match[1].decode() if match else ""


def attested_viewer(tag: str, keys: Mapping[str, SigningKey], client: bytes, now: float) -> bytes | None:
    """Return the viewer that a tag attests at a packed address, one of its network's few; None for an invalid tag."""
    match = TAG.fullmatch(tag)
    key = keys.get(match[1]) if match and match[1].startswith(TAG_KEYS) else None
    if not match or key is None:
        return None
    network, expiry = network_of(client), int(match[2])
    wanted = key.code(b"tag", expiry, network, match[3].encode())
    if not hmac.compare_digest(wanted, match[4]) or now > expiry:
        return None
    return network + bytes([ord(match[3][0]) % VIEWERS_PER_NETWORK])
