"""The public shape of `lpm.pyx`."""

from typing_extensions import Buffer

from _fastpath.intervals import Intervals

KERNEL: str
"""Which lookups this process runs: `popcnt+avx2` or `portable`. STEERING_PORTABLE=1 asks for the latter."""

class PrefixTable:
    """Maps an address to its zone. Frozen, position-independent, safe from any thread."""

    def __init__(self, block: Buffer) -> None:
        """Read a table in place from a block that `block` gave, in memory or mapped. It is held while the table lives.

        Raises ValueError for a block of another format or byte order, or with an offset that leads outside it.
        """

    @staticmethod
    def build(v4: Intervals, v6: Intervals, zones: int) -> PrefixTable:
        """Return the table of both families' intervals (`rib.sweep`), whose values are below `zones`.

        Both edges of every interval are looked up before it is returned. Raises ValueError for intervals out of order.
        """

    @property
    def zones(self) -> int:
        """How many zones there are."""

    @property
    def nbytes(self) -> int:
        """How long the block is."""

    def block(self) -> bytes:
        """Return the block, to be written to a file."""

    def verify(self, v4: Intervals, v6: Intervals) -> None:
        """Look up both edges of every interval; RuntimeError names one that the table disagrees with."""

    def lookup(self, address: str | bytes, /) -> int:
        """Return the zone that the address falls in; 0, the default zone, where no route covers it.

        Text is parsed as RFC 4291 or dotted quad; bytes are packed, 4 or 16, network order.
        Raises ValueError naming the text when it is no IPv4 or IPv6 address.
        """

    def lookup_many(self, addresses: Buffer, zones: Buffer, family: int) -> None:
        """Write the zone of each address to `zones`, an aligned writable buffer of as many 32-bit numbers.

        `addresses` are packed in network order, 4 or 16 bytes each by `family`. The GIL is released meanwhile.
        Raises ValueError where the lengths do not fit each other.
        """
