"""The public shape of `body.pyx`."""

from typing import NamedTuple

MAX_BODY: int
MEMBERS: dict[str, str]
"""The rule of each member of a body."""

class PlaybackRequest(NamedTuple):
    """The members of a body; `n` 0 is the service's number, `family` 0 the client's own.

    `device` is a JSON object, as written, which comes in the place of files. `failed` are the ids or hosts of
    appliances that the player could not play from.
    """

    title: str
    service: str
    session: str
    files: list[str]
    device: bytes | None
    n: int
    family: int
    ip: str | None
    failed: tuple[str, ...]

def read_playback_body(body: bytes) -> PlaybackRequest:
    """Return the members of a body. Raises Refusal naming the one that is wrong, or `body`."""
