"""The public shape of `fast_path.pyx`."""

from array import array
from collections.abc import Iterable, Mapping, Sequence

from _fastpath.counters import Counters
from _fastpath.ranking import Picker, Service
from _fastpath.steering_manifest import Manifest

MAX_HEAD: int

class Peer:
    """Who is at the other end of a connection: a packed address (an IPv4-mapped one as IPv4), and if it is trusted."""

    trusted: bool
    def __init__(self, packed: bytes, trusted: bool) -> None: ...

class FastPath:
    """Answers the hot requests of one worker. For one thread but for `serve`, which any may call.

    `networks` are the trusted ones as (bytes an address, number, mask); `forwarded` names the header they may use.
    What is answered is counted in `counters`. One steering request in `sample_every` (0: none), and those for a title
    whose key (`pick.key_of`) is among `keys`, are left to the other door, which asks `is_sampled` and records them.
    So is one in `cmcd_sample` (0: none) of those that bring CMCD, about which it asks `is_cmcd_drawn`.
    """

    end: int
    """Where the request that was answered last ends in its data."""
    second: int
    """What its owner's clock shows."""

    def __init__(
        self,
        networks: Sequence[tuple[int, int, int]],
        forwarded: str,
        counters: Counters | None = None,
        sample_every: int = 0,
        keys: array[int] | None = None,
        cmcd_sample: int = 0,
    ) -> None: ...
    def set_date(self, date: bytes) -> None:
        """Put a date (RFC 9110, 5.6.7) in the answers from here on."""

    def serve(
        self,
        picker: Picker | None,
        services: Mapping[str, Service],
        default_service: str,
        manifests: Iterable[Manifest] = (),
    ) -> None:
        """Make answers from here on from these; None for nothing published yet.

        Players of services that have no manifest are left to the other door.
        """

    def is_sampled(self) -> bool:
        """Tell whether the request at hand is a sample: one that the fast_path left as such, or one in `sample_every`."""

    def is_cmcd_drawn(self) -> bool:
        """Tell whether the request at hand, which brings CMCD, is drawn: left as such, or one in `cmcd_sample`."""

    def answer(self, data: bytes, at: int, peer: Peer, shed: bool = False) -> bytes | None:
        """Return the whole answer to the request that begins at a place of the data, and note where it ends.

        None is "not mine": the request is not one for the fast_path, or not all there. With `shed`, the answer is the
        service's fallback alone, and says that the connection will be closed.
        """

    def read_playback(self, data: bytes, at: int, peer: Peer) -> tuple[int, bytes | None] | None:
        """Return where the body of a playback request begins, and its Accept-Encoding; None: "not mine".

        Note in `end` where its body ends, which may not be all there, and who asks.
        """

    def answer_playback(self, data: bytes, start: int) -> bytes | None:
        """Return the body of the answer to the playback request that was read last, and count its targets.

        Its own body begins at a place of the data, and ends at `end`. None: what it says is "not mine".
        """

    def close_playback(self, body: bytes, is_gzip: bool) -> bytes:
        """Return the whole answer to the playback request that was read last, and count it."""
