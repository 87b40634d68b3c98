"""The public shape of `pick.pyx`."""

import struct
from array import array
from collections.abc import Iterable

from typing_extensions import Buffer

from _fastpath.counters import Counters
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
ZONE: struct.Struct
CLUSTER: struct.Struct
APPLIANCE: struct.Struct

def key_of(title: str) -> int:
    """Return the 64-bit key that a title is ranked by."""

def cost(key: int, slot: int) -> int:
    """Return what the appliance in a slot draws for a key: -log2(u) with 32 fractional bits. Lower is better."""

class Weights:
    """The words of all appliance slots in a mapped file, which one process stores to and many read.

    Raises OSError, or ValueError naming the file and what is wrong with it.
    """

    slots: int
    writable: bool
    def __init__(self, path: str, writable: bool = False) -> None: ...
    @staticmethod
    def image(words: array[int]) -> bytes:
        """Return the bytes of a weights file that begins with these words."""

    def word(self, slot: int) -> int:
        """Return a slot's word."""

    def set_word(self, slot: int, word: int) -> None:
        """Store a slot's word; every process that maps the file reads it at its next pick."""

class Service:
    """A service's URL parts, made ready to be joined. `regions` are the region numbers it may use; None is all."""

    id: str
    def __init__(
        self, id: str, url: str, fallback: str, ttl_s: int, table: int, regions: Iterable[int] | None = None
    ) -> None: ...

class Picker:
    """Chooses appliances from the records of a table file and a fleet file; see `pick.pyx` for the rules.

    Raises ValueError where a record points outside the others.
    """

    table: PrefixTable
    weights: Weights
    def __init__(
        self,
        table: PrefixTable,
        zones: Buffer,
        rungs: Buffer,
        clusters: Buffer,
        appliances: Buffer,
        text: Buffer,
        weights: Weights,
    ) -> None: ...
    def count_in(self, counters: Counters) -> None:
        """Count from here on who is passed over and why, and who comes first in what `answer` returns."""

    def answer(
        self,
        address: str | bytes,
        title: str,
        service: Service,
        n: int,
        family: int,
        trace: list[tuple[int, int, int, str, int | None]] | None = None,
    ) -> bytes:
        """Return the answer as compact JSON. `family` 0 is the address's own.

        Each candidate looked at is added to `trace`: (appliance, rank, word, reason or "-", place among the picks).
        Raises ValueError for what is no address, title or n.
        """

    def picks_of_key(
        self, address: str | bytes, key: int, service: Service, n: int, family: int
    ) -> list[tuple[int, int]]:
        """Return the picks for the key of a title as (appliance, rank), best first."""

    def picks(
        self, address: str | bytes, titles: list[str], service: Service, n: int, family: int
    ) -> list[list[tuple[int, int]]]:
        """Return, for each title, its picks as (appliance, rank), best first."""
