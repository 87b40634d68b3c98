"""The fleet on record, and the numbers of partners, clusters and appliances (slots), which are never given twice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from steering.control.records.rows import Repository, insert, upsert
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.service import Service

T = TypeVar("T")

# Partner number 0 means none; the other numbers index arrays.
FIRST_NUMBER: Final = {"partner": 1, "cluster": 0, "appliance": 0}
# The order in which rows are added: a row points at rows of earlier tables alone.
KINDS: Final = ("partners", "sites", "clusters", "appliances", "services")
# Columns that are JSON, and fields that have no column: they are in the table `numbers`.
LISTS: Final = frozenset({"asns", "allowed_asns", "countries", "peers", "addresses"})
NUMBERS: Final = frozenset({"number", "slot"})


class FleetRepository(Repository):
    """The tables `partners`, `sites`, `clusters`, `appliances`, `services`, `numbers` and `fleets`."""

    def version(self) -> int:
        """Return the number of the latest fleet, 0 where none was imported."""
        return int(self.connection.execute("SELECT coalesce(max(version), 0) FROM fleets").fetchone()[0])

    def replace(self, fleet: Fleet, who: str, now: float) -> int:
        """Make a fleet the one on record by writing only the rows that differ, and return its version.

        An object keeps its number; a new one gets the next, in the order of ids.
        """
        self.give_numbers("partner", (item.id for item in fleet.partners))
        self.give_numbers("cluster", (item.id for item in fleet.clusters))
        self.give_numbers("appliance", (item.id for item in fleet.appliances))
        removed: dict[str, set[str]] = {}
        for kind in KINDS:
            before = {row["id"]: dict(row) for row in self.connection.execute(f"SELECT * FROM {kind}")}  # noqa: S608
            after = {item.id: row_of(item) for item in getattr(fleet, kind)}
            removed[kind] = before.keys() - after.keys()
            upsert(self.connection, kind, ("id",), (row for name, row in after.items() if row != before.get(name)))
        for kind in reversed(KINDS):
            self.connection.executemany(
                f"DELETE FROM {kind} WHERE id = ?",  # noqa: S608
                ((name,) for name in removed[kind]),
            )
        return insert(self.connection, "fleets", {"imported_at": now, "who": who})

    def give_numbers(self, kind: str, ids: Iterable[str]) -> None:
        """Give each id of a kind a number, if it never had one."""
        known = self.numbers(kind)
        first = max(known.values(), default=FIRST_NUMBER[kind] - 1) + 1
        self.connection.executemany(
            "INSERT INTO numbers (kind, id, number) VALUES (?, ?, ?)",
            ((kind, name, number) for number, name in enumerate(sorted(set(ids) - known.keys()), first)),
        )

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


def row_of(item: Partner | Site | Cluster | Appliance | Service) -> dict[str, Any]:
    """Return an object as the row of its table."""
    if isinstance(item, Service):
        return {"id": item.id, "fields": msgspec.json.encode(item).decode()}
    fields = [field.name for field in dataclasses.fields(item) if field.name not in NUMBERS]
    return {name: json.dumps(getattr(item, name)) if name in LISTS else getattr(item, name) for name in fields}
