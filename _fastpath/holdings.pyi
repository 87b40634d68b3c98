"""The public shape of `holdings.pyx`."""

from array import array
from collections.abc import Collection, Mapping, Sequence

from typing_extensions import Buffer

MAX_SERVICES: int
"""How many services may have holdings in one file."""

class Holdings:
    """Which appliance holds which title, from the sections of a holdings file, which may be mapped. Frozen.

    Raises ValueError naming what is wrong where a section points outside another.
    """

    titles: int
    clusters: int
    """One more than the highest number of a cluster that may have members here."""
    services: tuple[str, ...]
    def __init__(self, sections: Mapping[str, Buffer]) -> None: ...
    @property
    def nbytes(self) -> int:
        """How many bytes its sections have."""

    def index_of(self, key: int) -> int | None:
        """Return the index of a title by its content key, None for one that nobody reported."""

    def title(self, index: int) -> tuple[str, str]:
        """Return (service, id) of a title. Raises IndexError."""

    def service_bit(self, service: str) -> int:
        """Return the bit that a service has in the members' services, 0 for one that nobody reports holdings of."""

    def members(self, cluster: int) -> list[tuple[int, frozenset[str]]]:
        """Return (slot, services whose holdings it reports) of a cluster's members, by slot; none for one unknown."""

    def bitmap(self, cluster: int, slot: int) -> bytes | None:
        """Return what a member holds, a bit a title, by index and from the lowest; None where that is not known."""

    def holders(self, cluster: int, index: int) -> list[int]:
        """Return the slots of a cluster's members that hold a title."""

class HoldingsBuilder:
    """Makes a holdings file: `set_cluster` or `keep_cluster` for each cluster, once, then `sections`.

    Titles of `base` keep their index; `titles`, as (service, id), follow them. What is done to it must be done by one
    thread; others go on meanwhile. Raises ValueError naming what cannot be taken.
    """

    titles: int
    def __init__(self, base: Holdings | None, titles: Sequence[tuple[str, str]]) -> None: ...
    def set_cluster(
        self,
        number: int,
        slots: Sequence[int],
        known: Sequence[Collection[str]],
        bitmaps: Sequence[bytes | None],
    ) -> None:
        """Say who is in a cluster and holds what: slots ascending, and for each the services it reports, and a bitmap.

        A bitmap has a bit a title, by index and from the lowest bit; one that is short holds none of the rest. A member
        that reports no service, or has None for a bitmap, is one whose holdings are not known.
        """

    def keep_cluster(self, number: int) -> None:
        """Take a cluster over from the base as it is."""

    def sections(self) -> dict[str, bytes | bytearray | array[int]]:
        """Return what `Holdings` and a state file take. Nothing can be set after it."""
