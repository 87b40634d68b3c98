"""The public shape of `hints.pyx`."""

from typing import NamedTuple

PLAYLISTS: dict[str, str]

class Hints(NamedTuple):
    """The hints that a player reports, as far as they can be read; `odd` counts those that cannot.

    `pathways` are those that it used since it asked last, `throughputs` what it measured there in bit/s, None where it
    did not; `player` is its family of players, to which clones are offered; `declared` has the digests of what its
    playlist declares (`pathways.digest_of`); `ip` and `family` as in `/v1/steer`.
    """

    pathways: tuple[str, ...] = ()
    throughputs: tuple[int | None, ...] = ()
    session: str = ""
    player: str = ""
    declared: tuple[str, ...] = ()
    ip: str | None = None
    family: int = 0
    odd: int = 0

def read_player_request(path: bytes, query: bytes) -> tuple[str, str, str, str, Hints]:
    """Return protocol, service, title, the name of the playlist (empty for steering) and hints.

    `path` is raw, below `/v1/hls` or `/v1/dash`; a path of another shape is one of an empty title.
    """
