"""Reported holdings: full lists and deltas in, `holdings.<version>` out.

    full, delta, unknown ─> checked by digests ─> changes, in memory ─> built apart, written ─> `current.holdings`

Every title has an index, which it keeps while anyone holds it; the holdings of an appliance are an integer with a bit
for each. Only the changes since the last published file are kept here, the rest is read from that file.

**Digests** (`holdings_rows.py`). A delta names the digest before and the digest after. If either is not ours, nothing
is used and the answer is `resync`: send the full list. So after a lost or doubled report both sides differ at most
until the next delta, and an empty delta checks whether they do.

**Known** holdings are known by appliance and service. An appliance that never sent the full list of a service, or sent
`unknown`, is assumed to be filled on demand: it is offered titles by affinity, and refused none.

**A restart** begins with the file that `current` names, and the digests in it. Changes that were acknowledged and not
yet published are gone: the next delta finds another digest and is answered `resync`. No served holdings are lost, and
they are never newer than the file on disk. A database would make each of 19,000 lists durable at the cost of one more
list.

**Titles** that no appliance holds any more give their index to new ones, and each reporter may bring so many only
(`titles.py`).

`take` may be called from any thread; one lock is between it and the writer's thread, which publishes.
"""

from __future__ import annotations

import bisect
import dataclasses
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from _fastpath.holdings import Holdings
from steering.control.fill.holdings_file import Changes
from steering.control.fill.holdings_rows import (
    MODULUS,
    Delta,
    Digest,
    Full,
    HoldingsRow,
    Member,
    Unknown,
    digest_text,
    unpack_digests,
)
from steering.control.fill.titles import RefusedError, Reporter, Titles, bits_of, indexes_of, packed_of
from steering.errors import SnapshotError
from steering.model.fleet import Appliance, Cluster, Fleet
from steering.model.service import Service
from steering.state.holdings import HoldingsFile

MOST_PENDING: Final = 512 << 20  # bytes of unpublished changes; from half of it on, a publish is due
NOT_A_MEMBER: Final = (-1, -1)


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """The result of the holdings in a report: the services whose full list is needed, and the broken rules."""

    resync: tuple[str, ...] = ()
    error: str = ""


class WrongDigestError(RefusedError):
    """A full list with the digest of another set."""


class HoldingsReported:
    """The holdings that appliances reported. See the module for the rules."""

    def __init__(self, titles: Titles) -> None:
        self.titles = titles
        self.lock = threading.Lock()
        self.member_of: dict[str, Member] = {}
        self.reporters: dict[str, Reporter] = {}
        self.members: dict[int, list[int]] = {}
        self.services: frozenset[str] = frozenset()
        self.path: Path | None = None
        self.base: Holdings | None = None
        self.clear()

    def clear(self) -> None:
        """Forget all holdings and titles."""
        self.titles.clear()
        self.digests: dict[Member, dict[str, Digest]] = {}
        self.changed: dict[Member, int] = {}
        self.publishing: Mapping[Member, int] = {}

    def use_fleet(self, fleet: Fleet) -> None:
        """Use the appliances and services of a new fleet."""
        clusters = {cluster.id: cluster for cluster in fleet.clusters}
        self.take_appliances([(appliance, clusters[appliance.cluster]) for appliance in fleet.appliances])
        self.drop(self.member_of.keys() - {appliance.id for appliance in fleet.appliances})
        self.use_services(fleet.services)

    def use_services(self, services: Iterable[Service]) -> None:
        """Take holdings of these services only."""
        self.services = frozenset(service.id for service in services)

    def take_appliances(self, appliances: Iterable[tuple[Appliance, Cluster]]) -> None:
        """Use new and changed appliances, each with its cluster."""
        with self.lock:
            for appliance, cluster in appliances:
                member, before = (cluster.number, appliance.slot), self.member_of.get(appliance.id)
                self.reporters[appliance.id] = Reporter(appliance.id, cluster.partner or "")
                if member != before:
                    if before:
                        self.forget(before)
                    self.member_of[appliance.id] = member
                    bisect.insort(self.members.setdefault(cluster.number, []), appliance.slot)

    def drop(self, names: Iterable[str]) -> None:
        """Forget appliances that left the fleet."""
        with self.lock:
            for name in names:
                del self.reporters[name]
                self.forget(self.member_of.pop(name))

    def forget(self, member: Member) -> None:
        """Forget what left the fleet or its cluster; should it return, its holdings are not known."""
        cluster, slot = member
        self.members[cluster].remove(slot)
        if not self.members[cluster]:
            del self.members[cluster]
        self.digests.pop(member, None)
        self.changed.pop(member, None)

    def drop_absent(self) -> None:
        """Forget what a file holds of appliances that left the fleet or their cluster."""
        present = set(self.member_of.values())
        self.digests = {member: digests for member, digests in self.digests.items() if member in present}

    def adopt(self, path: Path) -> None:
        """Begin with a published file. Raises SnapshotError if it is unusable."""
        file = HoldingsFile(path)
        base = file.holdings
        try:
            digests = unpack_digests(file.sections.get("digests", b""))
            titles = [base.title(index) for index in range(base.titles)]
            held = int.from_bytes(base.held_titles(), "little")
            with self.lock:
                self.clear()
                self.path, self.base, self.digests = path, base, digests
                self.titles.begin(titles, file.sections.get("by_appliance", b""), file.sections.get("by_partner", b""))
                self.titles.set_held(held, base.titles)
                self.drop_absent()
        except (ValueError, msgspec.DecodeError) as error:
            raise SnapshotError(f"{path.name}: {error}") from error

    # ---- reports

    def is_unchanged(self, name: str, rows: Sequence[HoldingsRow]) -> bool:
        """Return whether all rows are empty deltas whose digest is ours, so that there is nothing to take."""
        digests = self.digests.get(self.member_of.get(name, NOT_A_MEMBER))
        return digests is not None and all(
            isinstance(row, Delta)
            and not row.add
            and not row.remove
            and row.base == row.digest
            and (ours := digests.get(row.service)) is not None
            and digest_text(ours) == row.base
            for row in rows
        )

    def take(self, name: str, rows: Sequence[HoldingsRow]) -> Taken:
        """Use the holdings in an appliance's report, service by service."""
        resync: list[str] = []
        errors: list[str] = []
        with self.lock:
            member = self.member_of.get(name)
            if member is None:
                return Taken(error=f"appliance = {name!r}: it has left the fleet")
            reporter = self.reporters[name]
            for number, row in enumerate(rows):
                try:
                    if not self.take_row(member, reporter, row) and row.service not in resync:
                        resync.append(row.service)
                except WrongDigestError as error:
                    resync.append(row.service)
                    errors.append(f"holdings[{number}].{error}")
                except RefusedError as error:
                    errors.append(f"holdings[{number}].{error}")
        return Taken(tuple(resync), "; ".join(errors))

    def take_row(self, member: Member, reporter: Reporter, row: HoldingsRow) -> bool:
        """Use the row of one service; return False if the full list is needed. Raises RefusedError."""
        if row.service not in self.services:
            raise RefusedError(f"service = {row.service!r}: the fleet has no such service")
        if isinstance(row, Unknown):
            self.keep(member, row.service, self.bits(member) & ~self.titles.mask(row.service), None)
            return True
        pending = len(self.changed) + len(self.publishing)
        if member not in self.changed and (pending + 1) * len(self.titles) > 8 * MOST_PENDING:
            return False  # a publish is due and will make room
        if isinstance(row, Full):
            return self.take_full(member, reporter, row)
        return self.take_delta(member, reporter, row)

    def take_full(self, member: Member, reporter: Reporter, row: Full) -> bool:
        """Use a full list. Raises WrongDigestError, RefusedError."""
        index = self.titles.of(row.service)
        names = set(row.full)
        known = [number for number in map(index.get, names) if number is not None]
        fresh = [name for name in names if name not in index] if len(known) < len(names) else []
        fresh_hashes = self.titles.check_new(reporter, row.service, fresh, "full", known)
        digest = len(names), (sum(map(self.titles.hashes.__getitem__, known)) + sum(fresh_hashes)) % MODULUS
        if digest_text(digest) != row.digest:
            raise WrongDigestError(f"digest = {row.digest!r}: the list's is {digest_text(digest)!r}")
        self.titles.confirm(reporter, known)
        held = [*known, *self.titles.add(reporter, row.service, fresh, fresh_hashes)]
        others = self.bits(member) & ~self.titles.mask(row.service)
        self.keep(member, row.service, others | bits_of(held, len(self.titles)), digest)
        return True

    def take_delta(self, member: Member, reporter: Reporter, row: Delta) -> bool:
        """Use a delta whose digests are ours before and after; a delta that was used already changes nothing."""
        before = self.digests.get(member, {}).get(row.service)
        if before is None:
            return False
        if digest_text(before) == row.digest:
            return True
        if digest_text(before) != row.base:
            return False
        index = self.titles.of(row.service)
        bits = self.bits(member)
        packed = packed_of(bits, len(self.titles))
        add = set(row.add)
        fresh = [name for name in add if name not in index]
        gained = [index[name] for name in add if name in index and not has(packed, index[name])]
        lost = [index[name] for name in {*row.remove} - add if name in index and has(packed, index[name])]
        fresh_hashes = self.titles.check_new(reporter, row.service, fresh, "add", gained)
        change = sum(map(self.titles.hashes.__getitem__, gained)) + sum(fresh_hashes)
        change -= sum(map(self.titles.hashes.__getitem__, lost))
        after = before[0] + len(gained) + len(fresh) - len(lost), (before[1] + change) % MODULUS
        if digest_text(after) != row.digest:
            return False
        self.titles.confirm(reporter, gained)
        gained += self.titles.add(reporter, row.service, fresh, fresh_hashes)
        size = len(self.titles)
        self.keep(member, row.service, (bits | bits_of(gained, size)) & ~bits_of(lost, size), after)
        return True

    def is_held(self, cluster: int, key: int) -> bool:
        """Return whether an appliance of a cluster holds a title, by its content key and the file that serves."""
        base = self.base
        index = base.index_of(key) if base else None
        return base is not None and index is not None and bool(base.holders(cluster, index))

    # ---- sets and titles

    def bits(self, member: Member) -> int:
        """Return the known holdings of an appliance, a bit for each title's index."""
        for changes in (self.changed, self.publishing):
            if (bits := changes.get(member)) is not None:
                return bits
        packed = self.base.bitmap(*member) if self.base and member in self.digests else None
        return int.from_bytes(packed, "little") if packed else 0

    def holders(self, cluster: int, index: int) -> list[int]:
        """Return the slots of a cluster's appliances that hold a title; no other title is looked at."""
        base = self.base
        published = set(base.holders(cluster, index)) if base and index < base.titles else set()
        holders = []
        for slot in self.members.get(cluster, ()):
            member = (cluster, slot)
            bits = self.changed.get(member, self.publishing.get(member))
            is_held = bits >> index & 1 if bits is not None else slot in published and member in self.digests
            holders += [slot] * bool(is_held)
        return holders

    def keep(self, member: Member, service: str, bits: int, digest: Digest | None) -> None:
        """Store the holdings of an appliance, with the digest of one service; None if that became unknown."""
        before = self.digests.get(member, {})
        if (service in before) == (digest is not None) and bits == self.bits(member):
            return
        others = {name: other for name, other in before.items() if name != service}
        self.digests[member] = {**others, service: digest} if digest else others
        self.changed[member] = bits

    # ---- publishing, in the writer's thread

    @property
    def is_pressing(self) -> bool:
        """Whether so much has changed that a publish should not wait."""
        return len(self.changed) * len(self.titles) > 4 * MOST_PENDING

    def begin(self) -> Changes | None:
        """Return the input of a new file, or None if nothing changed. `end` must follow."""
        with self.lock:
            if not self.changed:
                return None
            self.publishing, self.changed = self.changed, {}
            published = self.base.titles if self.base else 0
            titles, renamed = self.titles.begin_publish(published)
            by_appliance, by_partner = self.titles.by_appliance.alone.tobytes(), self.titles.by_partner.alone.tobytes()
            digests = dict(self.digests)
            return Changes(self.path, titles, renamed, by_appliance, by_partner, self.publishing, digests, self.members)

    def end(self, path: Path | None, holdings: Holdings | None, held_titles: bytes = b"") -> None:
        """Read from a new file from now on; None if it failed, and the changes wait for the next one.

        `held_titles` are the file's: they take a tenth of a second, and the process that wrote it has them.
        """
        held = int.from_bytes(held_titles, "little")
        with self.lock:
            self.titles.end_publish(holdings is not None)
            if holdings:
                self.path, self.base = path, holdings
                for bits in self.changed.values():
                    held |= bits
                self.titles.set_held(held, holdings.titles)
            else:
                self.changed = {**self.publishing, **self.changed}
            self.publishing = {}


# ---- sets of title indexes, as integers with a bit for each


def ids_of(reported: HoldingsReported, member: Member, service: str) -> list[str]:
    """Return the ids of what an appliance holds of a service."""
    with reported.lock:
        names, bits = reported.titles.names, reported.bits(member) & reported.titles.mask(service)
        return [names[index][1] for index in indexes_of(bits)]


def has(packed: bytes, index: int) -> bool:
    """Return whether a bit is set."""
    return bool(packed[index >> 3] >> (index & 7) & 1)
