"""The holdings file, built from the last one and the changes since."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from _fastpath.holdings import Holdings
from _fastpath.holdings_builder import HoldingsBuilder
from steering.control.fill.holdings_rows import Digest, Member, pack_digests, unpack_digests
from steering.control.fill.titles import Title, packed_of
from steering.state.holdings import HoldingsFile, write_holdings

PART: Final = 500  # appliances


@dataclasses.dataclass(frozen=True)
class Changes:
    """The input of a new file: the file before, the titles since then, those that took the index of a title that nobody
    holds, who alone brought each title, what changed, all digests, all members.
    """

    base: Path | None
    titles: tuple[Title, ...]
    renamed: Mapping[int, Title]
    by_appliance: bytes
    by_partner: bytes
    held: Mapping[Member, int]
    digests: Mapping[Member, Mapping[str, Digest]]
    members: Mapping[int, Sequence[int]]

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields for the child process that writes the file, in packed parts: no thread waits for long."""
        rows = [(*member, packed_of(bits, bits.bit_length())) for member, bits in self.held.items()]
        held = [msgspec.msgpack.encode(rows[first : first + PART]) for first in range(0, len(rows), PART)]
        return {**self.__dict__, "held": held, "digests": pack_digests(self.digests)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        held = {}
        for part in state["held"]:
            for cluster, slot, packed in msgspec.msgpack.decode(part, type=list[tuple[int, int, bytes]]):
                held[cluster, slot] = int.from_bytes(packed, "little")
        self.__dict__.update(state, held=held, digests=unpack_digests(state["digests"]))


def write_changes(state: Path, version: int, changes: Changes) -> Path:
    """Build and write `holdings.<version>` and return its path. Slow; changes nothing else."""
    base = HoldingsFile(changes.base).holdings if changes.base else None
    builder = HoldingsBuilder(base, changes.titles, changes.renamed, doubts_of(changes))
    touched = {cluster for cluster, _ in changes.held}
    digests = {}
    for cluster, slots in changes.members.items():
        known = {slot: by_service for slot in slots if (by_service := changes.digests.get((cluster, slot)))}
        digests.update({(cluster, slot): by_service for slot, by_service in known.items()})
        services = {slot: frozenset(by_service) for slot, by_service in known.items()}
        before = base.members(cluster) if base else []
        if before and cluster not in touched and dict(before) == services:
            builder.keep_cluster(cluster)
        elif known:
            bitmaps = [bitmap_of(changes, base, (cluster, slot)) for slot in known]
            builder.set_cluster(cluster, list(known), list(services.values()), bitmaps)
    for_control = {
        "digests": pack_digests(digests),
        "by_appliance": changes.by_appliance,
        "by_partner": changes.by_partner,
    }
    return state / write_holdings(state, version, builder, for_control)


def doubts_of(changes: Changes) -> bytes:
    """Return a doubt for each title: 0 where several appliances and partners report it, 1 for one of either, 2 for one.

    An id whose key is that of another title, which one appliance can invent, does not hide the holders of that.
    """
    alone = zip(array("Q", changes.by_appliance), array("Q", changes.by_partner), strict=True)
    return bytes((appliance != 0) + (partner != 0) for appliance, partner in alone)


def bitmap_of(changes: Changes, base: Holdings | None, member: Member) -> bytes:
    """Return the holdings of an appliance as the builder takes them."""
    bits = changes.held.get(member)
    if bits is None:
        return (base.bitmap(*member) if base else None) or b""
    return packed_of(bits, bits.bit_length())
