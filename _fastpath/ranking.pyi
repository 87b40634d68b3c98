"""The public shape of `ranking.pyx`."""

import struct
from array import array
from collections.abc import Callable, Iterable, Mapping

from typing_extensions import Buffer

from _fastpath.counters import Counters
from _fastpath.holdings import Holdings
from _fastpath.lpm import PrefixTable

DISABLED: int
NO_HEADROOM: int
UNHEALTHY: int
STALE: int
OVER_LIMIT: int
IPV4_UP: int
IPV6_UP: int
FALLBACK: int
MAX_PICKS: int
MAX_TITLE: int
MAX_HOT: int
MAX_FAN_OUT: int
MAX_FILES: int
ZONE: struct.Struct
CLUSTER: struct.Struct
APPLIANCE: struct.Struct

def key_of(title: str) -> int:
    """Return the 64-bit key that a title is ranked by."""

def content_key_of(service: str, title: str) -> int:
    """Return the 64-bit key that holdings, heat and misses know a service's title by; never 0."""

def viewer_of(session: str, packed: bytes) -> int:
    """Return the number of a viewer: of a session, or where it is empty, of a packed address's /24 or /48."""

def ttl_of(ttl_s: int, jitter_s: int, title: str, viewer: int) -> int:
    """Return seconds, `ttl_s` more or less by up to `jitter_s`, always the same for a title and a viewer's number.

    Raises ValueError where `jitter_s` is not less than `ttl_s`.
    """

def cost(key: int, slot: int) -> int:
    """Return what the appliance in a slot draws for a key: -log2(u) with 32 fractional bits. Lower is better."""

class StatusWords:
    """The words of all appliance slots, and the fan_outs of hot titles, in a mapped file: one process stores, many read.

    Raises OSError, or ValueError naming the file and what is wrong with it.
    """

    slots: int
    writable: bool
    has_hot_table: bool
    """False for a file of the format before: nothing is hot."""

    def __init__(self, path: str, writable: bool = False) -> None: ...
    @staticmethod
    def image(words: array[int]) -> bytes:
        """Return the bytes of a weights file that begins with these words."""

    def word(self, slot: int) -> int:
        """Return a slot's word."""

    def set_word(self, slot: int, word: int) -> None:
        """Store a slot's word; every process that maps the file reads it at its next pick."""

    def set_hot(self, fan_outs: Mapping[int, int]) -> None:
        """Make these the hot titles, MAX_HOT at most: by content key, over how many orders each is fan_out.

        While it is done, a reader may miss a title for a moment.
        """

    def hot(self) -> dict[int, int]:
        """Return the fan_outs of hot titles by content key."""

Sign = Callable[[bytes, int, int], bytes | None]

class Service:
    """A service's URL parts, made ready to be joined. `regions` are the region numbers it may use; None is all.

    Answers live `ttl_s`, more or less by `jitter_s`, as `ttl_of` says.

    `holdings` are those of the picker that it is used with.

    With `sign`, the URL has `{token}`, before or behind the title. It is called once an answer, with the escaped title
    and the client's family and upper 32 or 64 bits, and returns what stands there in all URLs; None, where there is no
    key, makes the answer the fallback alone. Without, `{token}` stays as it is.

    `client_regions` are where the fast_path may answer, countries (`IN`) and parts of them (`IN-MH`); none is everywhere.

    `n` is for an answer that asks for no number. With `covers_service`, a token is for all titles of the service.
    `fleet` and `held` are the versions of fleet and holdings, told in answers for many files. With `by_file`, holdings
    are of single files.

    With `tag`, answers for many files have a session tag. It is called once an answer, with the session, maybe empty,
    and the client's family and upper 32 or 64 bits; None, where there is no key, leaves it out.
    """

    id: str
    sign: Sign | None
    everywhere: bool
    n: int
    def __init__(
        self,
        id: str,
        url: str,
        fallback: str,
        ttl_s: int,
        table: int,
        regions: Iterable[int] | None = None,
        holdings: Holdings | None = None,
        fail_open: bool = False,
        sign: Sign | None = None,
        client_regions: Iterable[str] = (),
        n: int = 3,
        covers_service: bool = False,
        fleet: int = 0,
        held: int | None = None,
        by_file: bool = False,
        tag: Sign | None = None,
        jitter_s: int = 0,
    ) -> None: ...

class Trace:
    """Why an answer is what it is: `Picker.answer` fills it.

    `candidates` are those looked at: (appliance, rank, word, reason or "-", place among the picks, whether it holds the
    title, None where it is not known what it holds).
    """

    candidates: list[tuple[int, int, int, str, int | None, bool | None]]
    title_key: int
    """What ranked those of whom it is not known what they hold."""
    session_key: int
    """What ranked those that hold it."""
    content_key: int
    fan_out: int
    failed_open: bool
    def __init__(self) -> None: ...

class Picker:
    """Chooses appliances from the records of a table file and a fleet file; see `ranking.pyx` for the rules.

    Raises ValueError where a record points outside the others.
    """

    table: PrefixTable
    weights: StatusWords
    holdings: Holdings | None
    def __init__(
        self,
        table: PrefixTable,
        zones: Buffer,
        ranking_entries: Buffer,
        clusters: Buffer,
        appliances: Buffer,
        text: Buffer,
        weights: StatusWords,
        holdings: Holdings | None = None,
    ) -> None: ...
    def answer(
        self,
        address: str | bytes,
        title: str,
        service: Service,
        n: int,
        family: int,
        session: str = "",
        trace: Trace | None = None,
        counters: Counters | None = None,
        body: bool = True,
    ) -> bytes:
        """Return the answer as compact JSON, or for who needs only the trace none, and count it. `family` 0 is the
        address's own.

        Raises ValueError for what is no address, title or n.
        """

    def picks_of_keys(
        self,
        address: str | bytes,
        title_key: int,
        session_key: int,
        content: int,
        service: Service,
        n: int,
        family: int,
    ) -> list[tuple[int, int]]:
        """Return the picks for the keys of a `Trace` as (appliance, rank), best first."""

    def picks(
        self, address: str | bytes, titles: list[str], service: Service, n: int, family: int, session: str = ""
    ) -> list[list[tuple[int, int]]]:
        """Return, for each title, its picks as (appliance, rank), best first."""

    def playback(
        self,
        address: str | bytes,
        files: list[str],
        service: Service,
        n: int,
        family: int,
        session: str = "",
        title: str = "",
        counters: Counters | None = None,
    ) -> bytes:
        """Return an answer for many files as compact JSON, and count it: each server once, and for each file its picks.

        With `title`, they are ranked once, as the title that they are of is; else each file is a title. The files are
        distinct, 1 to MAX_FILES. Raises ValueError.
        """
