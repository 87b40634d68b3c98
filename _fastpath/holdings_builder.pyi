"""The public interface of `holdings_builder.pyx`."""

from array import array
from collections.abc import Collection, Mapping, Sequence

from _fastpath.holdings import Holdings

class HoldingsBuilder:
    """Builds a holdings file: `set_cluster` or `keep_cluster` once for each cluster, then `sections`.

    Titles of `base` keep their index; `titles`, as (service, id), follow them. `renamed` are other titles in the places
    of titles that nobody holds, by index. `doubts` has 0, 1 or 2 by index, 0 beyond it: anyone can choose ids with
    equal keys, and of those the first of the least doubt is in force. Use it from one thread; it releases the GIL for
    long work. Raises ValueError naming the fault.
    """

    titles: int
    def __init__(
        self,
        base: Holdings | None,
        titles: Sequence[tuple[str, str]],
        renamed: Mapping[int, tuple[str, str]] | None = None,
        doubts: bytes = b"",
    ) -> None: ...
    def set_cluster(
        self,
        number: int,
        slots: Sequence[int],
        known: Sequence[Collection[str]],
        bitmaps: Sequence[bytes | None],
    ) -> None:
        """Set the members of a cluster: slots ascending, and for each the services that it reports, and a bitmap.

        A bitmap has a bit a title by index, lowest first; a short one holds none of the rest. The holdings of a member
        that reports no service, or has None for a bitmap, are not known.
        """

    def keep_cluster(self, number: int) -> None:
        """Copy a cluster unchanged from the base."""

    def sections(self) -> dict[str, bytes | bytearray | array[int]]:
        """Return the sections for `Holdings` and a state file. Nothing can be set afterwards."""
