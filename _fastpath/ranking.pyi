"""The public shape of `ranking.pyx`."""

import struct
from collections.abc import Sequence

from typing_extensions import Buffer

from _fastpath.counters import Counters
from _fastpath.holdings import Holdings
from _fastpath.lpm import PrefixTable
from _fastpath.service import Service
from _fastpath.status_words import StatusWords

FALLBACK: int
RANK: int  # the bits of the rank in a rank word
PRICE: int  # the unit of the price in a rank word, of which the fallback's has MOST_PRESSURE
MAX_PICKS: int
MAX_SESSION: int
MAX_TITLE: int
ZONE: struct.Struct
CLUSTER: struct.Struct
APPLIANCE: struct.Struct
SITE: struct.Struct

def cost(key: int, slot: int) -> int:
    """Return what the appliance in a slot draws for a key: -log2(u) with 32 fractional bits. Lower is better."""

class Trace:
    """The candidates and keys of one answer, filled by the renderer that is given it.

    `candidates` are (appliance, rank, word, reason or "-", position among the picks or None, whether it holds the
    title, None where its holdings are unknown). With `by_price`, because a cluster that was reached is under pressure,
    they are all of the ranking, otherwise those that were reached.
    """

    candidates: list[tuple[int, int, int, str, int | None, bool | None]]
    title_key: int
    """Ranks the appliances with unknown holdings."""
    session_key: int
    """Ranks the appliances that hold the title."""
    content_key: int
    fan_out: int
    failed_open: bool
    by_price: bool
    def __init__(self) -> None: ...

class Picker:
    """Picks appliances from the records of a table file and a fleet file; see `ranking.pyx` for the rules.

    Appliances are numbers: positions in the fleet file. Raises ValueError where a record points outside the others.
    """

    table: PrefixTable
    status: StatusWords
    holdings: Holdings | None
    def __init__(
        self,
        table: PrefixTable,
        zones: Buffer,
        ranking_entries: Buffer,
        clusters: Buffer,
        appliances: Buffer,
        sites: Buffer,
        text: Buffer,
        status: StatusWords,
        holdings: Holdings | None = None,
    ) -> None: ...
    def slot_of(self, id: str) -> int:
        """Return the slot of an appliance by its id, -1 for none; it walks over all."""

    def picks(
        self,
        address: str | bytes,
        title: str,
        service: Service,
        n: int,
        family: int,
        session: str = "",
        trace: Trace | None = None,
        counters: Counters | None = None,
        failed: Sequence[str] = (),
    ) -> list[tuple[int, int, int, float]]:
        """Return the picks as (appliance, site, rank, draw), best first, and count them; `trace` is filled.

        `failed` are the ids or hosts of appliances that the player could not play from, at most 8.

        `family` 0 is the address's own. Within a rank the lowest draw comes first. Raises ValueError for a wrong
        address, title or n.
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
