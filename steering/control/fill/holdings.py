"""What appliances say they hold: full lists and deltas in, `holdings.<version>` out.

    full, delta, unknown ─> checked by digests ─> what changed, in memory ─> built apart, written ─> `current.holdings`

Every title that anybody ever named has an index, which it keeps; what an appliance holds is an integer with a bit for
each. Only what changed since the last published file is kept here, the rest is read from that file.

**Digests.** Of a set of ids: how many, and the sum modulo 2^64 of the first eight bytes, big-endian, of the SHA-256 of
each. It does not depend on order, and a delta changes it by as much work as the delta has. An appliance names the
digest that its delta starts from and the one it leads to. Where either is not ours, nothing is taken and the answer is
`resync`: the full list, please. So a lost report, or one too many, cannot make the two sides differ for longer than
until the next delta, and a delta of nothing asks whether they do.

**Known** is an appliance by service. One that never sent the full list of a service, or said `unknown`, is filled by
demand, as far as anybody can tell: it is offered titles by affinity, and refused none.

**A restart** begins with the file that `current` names, and the digests in it. What was acknowledged and not yet
published is gone: the next delta, or question, finds another digest and is answered `resync`. Nothing that was served
is lost, and what is served is never newer than what is on disk. SQLite would make each of 19,000 lists durable for
what one more list costs.

**Titles** that nobody holds any more keep their index: it costs a bit in every set, of those that are stored once for
all that are alike. The setting `max_titles` bounds the dictionary, and so what a reporter gone mad can do.

Take from any thread; one lock is between takers and the writer's thread, which publishes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import threading
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from _fastpath.holdings import Holdings, HoldingsBuilder
from steering.control.health.report_format import Delta, Full, HoldingsRow, Unknown
from steering.errors import SnapshotError
from steering.model.fleet import Fleet
from steering.state.holdings import write_holdings
from steering.state.sections import StateFile

MAX_ID: Final = 256  # bytes of UTF-8, as a title has
MAX_SERVICES: Final = 32  # of which an appliance's word is kept, in a file
MOST_PENDING: Final = 512 << 20  # bytes of what changed and is not published; from half of it on, a publish is due
WHOLE: Final = 1 << 64
NONE: Final = (0, 0)

Sum = tuple[int, int]  # how many ids, and the sum of their hashes
Place = tuple[int, int]  # cluster number and slot: an appliance that moves is another one

logger = logging.getLogger("steering.control")


def hash_of(name: str) -> int:
    """Return what an id adds to a digest."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def digest_text(sum_: Sum) -> str:
    """Return a digest as it is written in reports."""
    return f"{sum_[0]}-{sum_[1]:016x}"


def digest_of(names: Iterable[str]) -> str:
    """Return the digest of a set of ids."""
    every = set(names)
    return digest_text((len(every), sum(map(hash_of, every)) % WHOLE))


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What became of the holdings in a report: the services whose full list is wanted, and what was wrong."""

    resync: tuple[str, ...] = ()
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """What a new file is made of: the one before, titles new since then, what changed, every digest, who there is."""

    base: Path | None
    titles: tuple[tuple[str, str], ...]
    held: Mapping[Place, int]
    sums: Mapping[Place, Mapping[str, Sum]]
    members: Mapping[int, Sequence[int]]


class RefusedError(Exception):
    """A list that cannot be taken, and why."""


class WrongDigestError(RefusedError):
    """A full list that is not the set its digest is of."""


class HoldingsReported:
    """What appliances said they hold. See the module for the rules."""

    def __init__(self, max_titles: int) -> None:
        self.max_titles = max_titles
        self.lock = threading.Lock()
        self.places: dict[str, Place] = {}
        self.members: dict[int, list[int]] = {}
        self.services: frozenset[str] = frozenset()
        self.path: Path | None = None
        self.base: Holdings | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing is known of anybody."""
        self.titles: list[tuple[str, str]] = []
        self.hashes = array("Q")
        self.index: dict[str, dict[str, int]] = {}
        self.masks: dict[str, int] = {}
        self.sums: dict[Place, dict[str, Sum]] = {}
        self.changed: dict[Place, int] = {}
        self.publishing: Mapping[Place, int] = {}

    def use_fleet(self, fleet: Fleet) -> None:
        """Take over who there is."""
        numbers = {cluster.id: cluster.number for cluster in fleet.clusters}
        members = defaultdict(list)
        places = {}
        for appliance in fleet.appliances:
            number = numbers[appliance.cluster]
            places[appliance.id] = number, appliance.slot
            members[number].append(appliance.slot)
        with self.lock:
            self.places = places
            self.members = {number: sorted(slots) for number, slots in members.items()}
            self.services = frozenset(service.id for service in fleet.services)
            self.drop_absent()

    def drop_absent(self) -> None:
        """Forget who is not, or no longer where it was: should it return, it is unknown."""
        there = set(self.places.values())
        self.sums = {place: sums for place, sums in self.sums.items() if place in there}
        self.changed = {place: bits for place, bits in self.changed.items() if place in there}

    def adopt(self, path: Path) -> None:
        """Begin with a published file. Raises SnapshotError where it is unusable."""
        file = StateFile(path, "holdings")
        base = open_holdings(file)
        try:
            sums = read_sums(file.sections.get("digests", b""))
            titles = [base.title(index) for index in range(base.titles)]
        except (ValueError, msgspec.DecodeError) as error:
            raise SnapshotError(f"{path.name}: {error}") from error
        with self.lock:
            self.forget()
            self.path, self.base, self.sums = path, base, sums
            self.add_titles(titles, [hash_of(name) for _, name in titles])
            self.drop_absent()

    # ---- what is said

    def agree(self, name: str, said: Sequence[HoldingsRow]) -> bool:
        """Tell whether all that is said is that nothing changed, and that is so."""
        sums = self.sums.get(self.places.get(name, (-1, -1)))
        return sums is not None and all(
            isinstance(one, Delta)
            and not one.add
            and not one.remove
            and one.base == one.digest
            and (found := sums.get(one.service)) is not None
            and digest_text(found) == one.base
            for one in said
        )

    def take(self, name: str, said: Sequence[HoldingsRow]) -> Taken:
        """Take what an appliance says of its holdings, service by service."""
        resync: list[str] = []
        errors: list[str] = []
        with self.lock:
            place = self.places.get(name)
            if place is None:
                return Taken(error=f"appliance = {name!r}: it has left the fleet")
            for number, one in enumerate(said):
                try:
                    if not self.take_one(place, one) and one.service not in resync:
                        resync.append(one.service)
                except WrongDigestError as error:
                    resync.append(one.service)
                    errors.append(f"holdings[{number}].{error}")
                except RefusedError as error:
                    errors.append(f"holdings[{number}].{error}")
        return Taken(tuple(resync), "; ".join(errors))

    def take_one(self, place: Place, said: HoldingsRow) -> bool:
        """Take what is said of one service; False where the full list is wanted. Raises RefusedError."""
        if said.service not in self.services:
            raise RefusedError(f"service = {said.service!r}: the fleet has no such service")
        if isinstance(said, Unknown):
            self.keep(place, said.service, self.bits(place) & ~self.masks.get(said.service, 0), None)
            return True
        pending = len(self.changed) + len(self.publishing)
        if place not in self.changed and (pending + 1) * len(self.titles) > 8 * MOST_PENDING:
            return False  # a publish is due, and makes room
        return self.take_full(place, said) if isinstance(said, Full) else self.take_delta(place, said)

    def take_full(self, place: Place, said: Full) -> bool:
        """Take a full list, where its digest is right."""
        known = self.index.get(said.service, {})
        names = set(said.full)
        old = [index for index in map(known.get, names) if index is not None]
        fresh = [name for name in names if name not in known] if len(old) < len(names) else []
        fresh_hashes = self.check_fresh(said.service, fresh, "full")
        total = (sum(map(self.hashes.__getitem__, old)) + sum(fresh_hashes)) % WHOLE
        if digest_text((len(names), total)) != said.digest:
            raise WrongDigestError(f"digest = {said.digest!r}: the list's is {digest_text((len(names), total))!r}")
        held = [*old, *self.add_titles([(said.service, name) for name in fresh], fresh_hashes)]
        others = self.bits(place) & ~self.masks.get(said.service, 0)
        self.keep(place, said.service, others | bits_of(held, len(self.titles)), (len(names), total))
        return True

    def take_delta(self, place: Place, said: Delta) -> bool:
        """Take a delta that starts from what we have and leads to what it says; one taken already is taken again."""
        before = self.sums.get(place, {}).get(said.service)
        if before is None:
            return False
        if digest_text(before) == said.digest:
            return True
        if digest_text(before) != said.base:
            return False
        known = self.index.get(said.service, {})
        bits = self.bits(place)
        packed = packed_of(bits, len(self.titles))
        add = set(said.add)
        fresh = [name for name in add if name not in known]
        more = [known[name] for name in add if name in known and not has(packed, known[name])]
        less = [known[name] for name in {*said.remove} - add if name in known and has(packed, known[name])]
        fresh_hashes = self.check_fresh(said.service, fresh, "add")
        gained = sum(map(self.hashes.__getitem__, more)) + sum(fresh_hashes)
        lost = sum(map(self.hashes.__getitem__, less))
        after = before[0] + len(more) + len(fresh) - len(less), (before[1] + gained - lost) % WHOLE
        if digest_text(after) != said.digest:
            return False
        more += self.add_titles([(said.service, name) for name in fresh], fresh_hashes)
        size = len(self.titles)
        self.keep(place, said.service, (bits | bits_of(more, size)) & ~bits_of(less, size), after)
        return True

    def is_held(self, cluster: int, key: int) -> bool:
        """Tell by a content key whether anybody in a cluster holds a title, by the file that serves."""
        base = self.base
        index = base.index_of(key) if base else None
        return base is not None and index is not None and bool(base.holders(cluster, index))

    # ---- how

    def bits(self, place: Place) -> int:
        """Return what an appliance is known to hold, a bit for each title's index."""
        if (found := self.changed.get(place)) is not None or (found := self.publishing.get(place)) is not None:
            return found
        packed = self.base.bitmap(*place) if self.base and place in self.sums else None
        return int.from_bytes(packed, "little") if packed else 0

    def keep(self, place: Place, service: str, bits: int, sum_: Sum | None) -> None:
        """Keep what an appliance holds now, with the digest of one service; None where that became unknown."""
        before = self.sums.get(place, {})
        if (service in before) == (sum_ is not None) and bits == self.bits(place):
            return
        others = {name: found for name, found in before.items() if name != service}
        self.sums[place] = {**others, service: sum_} if sum_ else others
        self.changed[place] = bits

    def check_fresh(self, service: str, names: Sequence[str], field: str) -> list[int]:
        """Return the hashes of ids never heard of. Raises RefusedError for what cannot be a title's, or is too much."""
        for name in names:
            if not 1 <= len(name) <= MAX_ID or len(name.encode()) > MAX_ID or name in (".", ".."):
                raise RefusedError(f"{field} = {name[:64]!r}: 1 to {MAX_ID} bytes of UTF-8, and not . or ..")
        if len(self.titles) + len(names) > self.max_titles:
            rule = f"more than {self.max_titles} titles in all (setting max_titles)"
            raise RefusedError(f"{field} = {len(names)} new ids: {rule}")
        if service not in self.index and len(self.index) >= MAX_SERVICES:
            raise RefusedError(f"service = {service!r}: holdings of at most {MAX_SERVICES} services are kept")
        return [hash_of(name) for name in names]

    def add_titles(self, titles: Sequence[tuple[str, str]], hashes: Sequence[int]) -> range:
        """Give new titles the next indexes, and return those."""
        first = len(self.titles)
        fresh: dict[str, list[int]] = defaultdict(list)
        for index, (service, name) in enumerate(titles, first):
            self.index.setdefault(service, {})[name] = index
            fresh[service].append(index)
        self.titles += titles
        self.hashes.extend(hashes)
        for service, indexes in fresh.items():
            self.masks[service] = self.masks.get(service, 0) | bits_of(indexes, len(self.titles))
        return range(first, len(self.titles))

    # ---- publishing, in the writer's thread

    @property
    def is_pressing(self) -> bool:
        """Whether so much has changed that a publish should not wait."""
        return len(self.changed) * len(self.titles) > 4 * MOST_PENDING

    def begin(self) -> Changes | None:
        """Return what to build a new file from; None where nothing changed. `end` must follow."""
        with self.lock:
            if not self.changed:
                return None
            self.publishing, self.changed = self.changed, {}
            published = self.base.titles if self.base else 0
            titles = tuple(self.titles[published:])
            return Changes(self.path, titles, self.publishing, dict(self.sums), self.members)

    def end(self, path: Path | None, found: Holdings | None) -> None:
        """Read from a new file from now on; None where none came of it, and what changed waits for the next."""
        with self.lock:
            if found:
                self.path, self.base = path, found
            else:
                self.changed = {**self.publishing, **self.changed}
            self.publishing = {}


def write_changes(state: Path, version: int, changes: Changes) -> Path:
    """Build and write `holdings.<version>`, map it back, and return its path. Heavy; changes nothing else."""
    base = open_holdings(StateFile(changes.base, "holdings")) if changes.base else None
    builder = HoldingsBuilder(base, changes.titles)
    touched = {cluster for cluster, _ in changes.held}
    sums = {}
    for cluster, slots in changes.members.items():
        known = {slot: found for slot in slots if (found := changes.sums.get((cluster, slot)))}
        sums.update({(cluster, slot): found for slot, found in known.items()})
        services = {slot: frozenset(found) for slot, found in known.items()}
        before = base.members(cluster) if base else []
        if before and cluster not in touched and dict(before) == services:
            builder.keep_cluster(cluster)
        elif known:
            bitmaps = [bitmap_of(changes, base, (cluster, slot)) for slot in known]
            builder.set_cluster(cluster, list(known), list(services.values()), bitmaps)
    path = state / write_holdings(state, version, builder, pack_sums(sums))
    open_holdings(StateFile(path, "holdings"))
    return path


def bitmap_of(changes: Changes, base: Holdings | None, place: Place) -> bytes:
    """Return what an appliance holds, as the builder takes it."""
    bits = changes.held.get(place)
    if bits is None:
        return (base.bitmap(*place) if base else None) or b""
    return bits.to_bytes(-(-bits.bit_length() // 8), "little")


def open_holdings(file: StateFile) -> Holdings:
    """Return the holdings in a mapped file. Raises SnapshotError."""
    try:
        return Holdings(file.sections)
    except ValueError as error:
        raise SnapshotError(f"{file.path.name}: {error}") from error


def pack_sums(sums: Mapping[Place, Mapping[str, Sum]]) -> bytes:
    """Return digests as bytes."""
    return msgspec.msgpack.encode([(*place, found) for place, found in sums.items()])


def read_sums(packed: bytes | memoryview) -> dict[Place, dict[str, Sum]]:
    """Return the digests that `pack_sums` packed, none of nothing."""
    rows = msgspec.msgpack.decode(packed, type=list[tuple[int, int, dict[str, Sum]]]) if packed else []
    return {(cluster, slot): sums for cluster, slot, sums in rows}


def bits_of(indexes: Iterable[int], size: int) -> int:
    """Return an integer with these bits set, of so many; in steps of C, one an index."""
    digits = bytearray(b"0") * size
    for index in indexes:
        digits[~index] = 49
    return int(digits, 2) if size else 0


def packed_of(bits: int, size: int) -> bytes:
    """Return bits as bytes, lowest first."""
    return bits.to_bytes(-(-size // 8), "little")


def has(packed: bytes, index: int) -> bool:
    """Tell whether a bit is set."""
    return bool(packed[index >> 3] >> (index & 7) & 1)
