"""The public shape of `fast_path.pyx`."""

from array import array
from collections.abc import Mapping

from _fastpath.client import Trust
from _fastpath.counters import Counters
from _fastpath.ranking import Picker
from _fastpath.service import Service
from _fastpath.steering_manifest import Manifest

MAX_HEAD: int

class Peer:
    """The other end of a connection: its packed address (an IPv4-mapped one as IPv4), and whether it is trusted."""

    trusted: bool
    def __init__(self, packed: bytes, trusted: bool) -> None: ...

class FastPath:
    """Answers the frequent requests of one worker. For one thread, except `serve`, which any thread may call.

    `forwarded` names the header that trusted peers may use. Answers are counted in `counters`. One steering request
    in `sample_every` (0: none), and every one for a title whose key (`key_of`) is among `keys`, is left to FastAPI,
    which asks `is_sampled` and records it. So is one in `cmcd_sample` (0: none) of those that bring CMCD, about which
    it asks `is_cmcd_drawn`.
    """

    header: bytes
    """The name of the header that trusted peers may use."""
    end: int
    """The offset in its data at which the last answered request ends."""
    second: int
    """The time that the owner's clock shows."""

    def __init__(
        self,
        trust: Trust,
        forwarded: str,
        counters: Counters | None = None,
        sample_every: int = 0,
        keys: array[int] | None = None,
        cmcd_sample: int = 0,
    ) -> None: ...
    def set_date(self, date: bytes) -> None:
        """Put a date (RFC 9110, 5.6.7) in the answers from now on."""

    def serve(
        self,
        picker: Picker | None,
        services: Mapping[str, Service],
        default_service: str,
        manifests: Mapping[str, Manifest] | None = None,
    ) -> None:
        """Answer from these from now on; None where nothing is published yet.

        Players of services that have no manifest are left to FastAPI.
        """

    def is_sampled(self) -> bool:
        """Return whether the request at hand is a sample: left as one by the fast path, or one in `sample_every`."""

    def is_cmcd_drawn(self) -> bool:
        """Return whether the request at hand, which brings CMCD, is drawn: left as one, or one in `cmcd_sample`."""

    def answer(self, data: bytes, at: int, peer: Peer, shed: bool = False) -> bytes | None:
        """Return the whole answer to the request that begins at an offset of the data, and note where it ends.

        None where FastAPI answers: the request is not one for the fast path, or not complete. With `shed`, the answer
        is the service's fallback alone, a player's has a long TTL, and both announce that the connection closes.
        """

    def read_playback(self, data: bytes, at: int, peer: Peer) -> tuple[int, bytes | None] | None:
        """Return where the body of a playback request begins, and its Accept-Encoding; None where FastAPI answers.

        Note its client, and in `end` where its body ends; the data may end before.
        """

    def answer_playback(self, data: bytes, start: int) -> bytes | None:
        """Return the body of the answer to the playback request that was read last, and count its targets.

        Its own body begins at an offset of the data, and ends at `end`. None where FastAPI answers.
        """

    def close_playback(self, body: bytes, is_gzip: bool) -> bytes:
        """Return the whole answer to the playback request that was read last, and count it."""
