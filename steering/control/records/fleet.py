"""The fleet on record, and the numbers of partners, clusters and appliances (slots), which are never given twice.

A fleet is changed by the objects that differ, in packed parts of at most PART objects. One transaction notes the parts
with the row of `fleets`; then each goes into the tables in a transaction of its own. So none takes long, and a change
is made as a whole or not at all:

    note the parts and their version: the change is on record  ──>  settle, settle, settle
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec

from steering.control.records.documents import KINDS, FleetObject
from steering.control.records.rows import Repository, insert, upsert
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.service import Service

T = TypeVar("T")

PART: Final = 250  # objects; a transaction of as many takes some 5 ms
# The attribute that the database numbers, and the first number. Partner number 0 means none; the others index arrays.
NUMBERED: Final = {"partners": ("number", 1), "clusters": ("number", 0), "appliances": ("slot", 0)}
# Columns that are JSON, and fields that have no column: they are in the table `numbers`.
LISTS: Final = frozenset({"asns", "allowed_asns", "countries", "peers", "addresses"})
NUMBERS: Final = frozenset({"number", "slot"})


@dataclasses.dataclass(frozen=True, slots=True)
class FleetPart:
    """Some objects of one kind by which a fleet differs from the one on record: new or changed ones, or ids that go."""

    kind: str
    objects: tuple[FleetObject, ...] = ()
    removed: tuple[str, ...] = ()

    def pack(self) -> bytes:
        return msgspec.msgpack.encode((self.kind, self.objects, self.removed))

    @classmethod
    def unpack(cls, packed: bytes) -> FleetPart:
        kind, objects, removed = msgspec.msgpack.decode(packed, type=tuple[str, msgspec.Raw, tuple[str, ...]])
        return cls(kind, msgspec.msgpack.decode(objects, type=tuple[KINDS[kind][0], ...]), removed)  # type: ignore[misc]


class FleetRepository(Repository):
    """The tables `partners`, `sites`, `clusters`, `appliances`, `services`, `numbers`, `fleets` and `fleet_parts`."""

    def version(self) -> int:
        """Return the number of the latest fleet, 0 where none was imported."""
        return int(self.connection.execute("SELECT coalesce(max(version), 0) FROM fleets").fetchone()[0])

    def note(self, parts: Sequence[bytes], who: str, now: float) -> int:
        """Note the packed parts of a change, which are on record with it, and return the new version."""
        version = insert(self.connection, "fleets", {"version": self.version() + 1, "imported_at": now, "who": who})
        self.connection.executemany("INSERT INTO fleet_parts (content) VALUES (?)", ((part,) for part in parts))
        return version

    def first_note(self) -> tuple[int, FleetPart] | None:
        """Return number and content of the first part that is not in its table yet."""
        row = self.connection.execute("SELECT * FROM fleet_parts ORDER BY number LIMIT 1").fetchone()
        return (row["number"], FleetPart.unpack(row["content"])) if row else None

    def settle(self, number: int, part: FleetPart) -> None:
        """Write a noted part into its table, and the numbers that its objects have for the first time."""
        upsert(self.connection, part.kind, ("id",), map(row_of, part.objects))
        if part.kind in NUMBERED:
            name, kind = NUMBERED[part.kind][0], part.kind.removesuffix("s")
            self.connection.executemany(
                "INSERT OR IGNORE INTO numbers (kind, id, number) VALUES (?, ?, ?)",
                ((kind, item.id, getattr(item, name)) for item in part.objects),
            )
        self.connection.executemany(
            f"DELETE FROM {part.kind} WHERE id = ?",  # noqa: S608
            ((name,) for name in part.removed),
        )
        self.connection.execute("DELETE FROM fleet_parts WHERE number = ?", (number,))

    # ---- reads

    def numbers(self, kind: str) -> dict[str, int]:
        """Return the numbers ever given to a kind, by id."""
        rows = self.connection.execute("SELECT id, number FROM numbers WHERE kind = ?", (kind,))
        return {row["id"]: row["number"] for row in rows}

    def read(self) -> Fleet:
        """Return the fleet on record, numbered, each tuple ordered by id."""
        return Fleet(
            partners=self.items("partners", Partner, number=self.numbers("partner")),
            sites=self.items("sites", Site),
            clusters=self.items("clusters", Cluster, number=self.numbers("cluster")),
            appliances=self.items("appliances", Appliance, slot=self.numbers("appliance")),
            services=tuple(
                msgspec.json.decode(row["fields"], type=Service)
                for row in self.connection.execute("SELECT fields FROM services ORDER BY id")
            ),
        )

    def items(self, kind: str, make: type[T], **numbers: Mapping[str, int]) -> tuple[T, ...]:
        """Return the objects of one table, ordered by id, each with its number in the attribute of that name."""
        rows = self.connection.execute(f"SELECT * FROM {kind} ORDER BY id")  # noqa: S608
        return tuple(
            msgspec.convert(
                {name: json.loads(row[name]) if name in LISTS else row[name] for name in row.keys()}  # noqa: SIM118
                | {name: by_id[row["id"]] for name, by_id in numbers.items()},
                make,
                strict=False,  # SQLite has no booleans
            )
            for row in rows
        )


def row_of(item: FleetObject) -> dict[str, Any]:
    """Return an object as the row of its table."""
    if isinstance(item, Service):
        return {"id": item.id, "fields": msgspec.json.encode(item).decode()}
    fields = [field.name for field in dataclasses.fields(item) if field.name not in NUMBERS]
    return {name: json.dumps(getattr(item, name)) if name in LISTS else getattr(item, name) for name in fields}


# ---- what makes one fleet another


def numbered(fleet: Fleet, numbers: Callable[[str], Mapping[str, int]]) -> Fleet:
    """Return a fleet with its numbers, ordered by id; `numbers` returns all that a kind was ever given.

    An object keeps its number; a new one gets the next, in the order of ids.
    """
    kinds: dict[str, tuple[Any, ...]] = {}
    for kind in KINDS:
        items = sorted(getattr(fleet, kind), key=attrgetter("id"))
        if kind in NUMBERED:
            name, first = NUMBERED[kind]
            known = numbers(kind.removesuffix("s"))
            new = (item.id for item in items if item.id not in known)
            given = {**known, **dict(zip(new, itertools.count(max(known.values(), default=first - 1) + 1)))}
            items = [dataclasses.replace(item, **{name: given[item.id]}) for item in items]
        kinds[kind] = tuple(items)
    return Fleet(**kinds)


def parts_between(before: Fleet, after: Fleet) -> Iterator[FleetPart]:
    """Yield the parts that make one numbered fleet another, in an order in which no row ever points nowhere.

    KINDS are in that order: a row points at rows of earlier kinds alone.
    """
    removed: list[tuple[str, list[str]]] = []
    for kind in KINDS:
        old = {item.id: item for item in getattr(before, kind)}
        new = {item.id: item for item in getattr(after, kind)}
        changed = [item for name, item in new.items() if item != old.get(name)]
        for first in range(0, len(changed), PART):
            yield FleetPart(kind, objects=tuple(changed[first : first + PART]))
        removed.append((kind, sorted(old.keys() - new.keys())))
    for kind, names in reversed(removed):
        for first in range(0, len(names), PART):
            yield FleetPart(kind, removed=tuple(names[first : first + PART]))


def with_parts(fleet: Fleet, parts: Sequence[FleetPart]) -> Fleet:
    """Return what a fleet becomes by these parts."""
    changed: dict[str, tuple[Any, ...]] = {}
    for kind in {part.kind for part in parts}:
        items = {item.id: item for item in getattr(fleet, kind)}
        for part in parts:
            if part.kind == kind:
                items.update((item.id, item) for item in part.objects)
                for name in part.removed:
                    del items[name]
        changed[kind] = tuple(sorted(items.values(), key=attrgetter("id")))
    return dataclasses.replace(fleet, **changed)
