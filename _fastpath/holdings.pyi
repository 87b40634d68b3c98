"""The public interface of `holdings.pyx`."""

from collections.abc import Mapping

from typing_extensions import Buffer

MAX_SERVICES: int
"""How many services may have holdings in one file."""

MAX_PROBES: int
"""How many entries of the index a search reads at most."""

class Holdings:
    """Which appliance holds which title, from the sections of a holdings file, which may be mapped. Frozen.

    Raises ValueError naming the fault if a section points outside another.
    """

    titles: int
    clusters: int
    """One more than the highest number of a cluster that may have members here."""
    services: tuple[str, ...]
    def __init__(self, sections: Mapping[str, Buffer]) -> None: ...
    @property
    def nbytes(self) -> int:
        """The size of all sections in bytes."""

    def index_of(self, key: int) -> int | None:
        """Return the index of a title by its content key, None for a title that was never reported."""

    def title(self, index: int) -> tuple[str, str]:
        """Return (service, id) of a title. Raises IndexError."""

    def service_bit(self, service: str) -> int:
        """Return the bit of a service in the members' services, 0 for a service without reported holdings."""

    def members(self, cluster: int) -> list[tuple[int, frozenset[str]]]:
        """Return (slot, services with reported holdings) of a cluster's members, by slot; empty for an unknown one."""

    def bitmap(self, cluster: int, slot: int) -> bytes | None:
        """Return what a member holds, a bit a title by index, lowest first; None if that is not known."""

    def bitmaps(self, cluster: int) -> dict[int, bytes | None]:
        """Return what `bitmap` returns for each slot of a cluster; {} for a cluster beyond those of the file."""

    def held_titles(self) -> bytes:
        """Return the titles that anyone holds, a bit each by index, lowest first; takes 0.1 s for a large fleet."""

    def holders(self, cluster: int, index: int) -> list[int]:
        """Return the slots of a cluster's members that hold a title."""
