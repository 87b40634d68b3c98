"""The fleet on record, and the numbers of partners, clusters and appliances (slots), which are never given twice."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from steering.control.records.rows import insert, upsert
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Service

T = TypeVar("T")

# Partner number 0 means none; the other numbers index arrays.
FIRST_NUMBER: Final = {"partner": 1, "cluster": 0, "appliance": 0}
# The order in which rows are added: a row points at rows of earlier tables alone.
KINDS: Final = ("partners", "sites", "clusters", "appliances", "services")
# Columns that are JSON, and fields that have no column: they are in the table `numbers`.
LISTS: Final = frozenset({"asns", "allowed_asns", "countries", "peers", "addresses"})
NUMBERS: Final = frozenset({"number", "slot"})


class FleetRepository:
    """The tables `partners`, `sites`, `clusters`, `appliances`, `services`, `numbers` and `fleets`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

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
        partner, cluster, slot = self.numbers("partner"), self.numbers("cluster"), self.numbers("appliance")
        return Fleet(
            partners=self.items("partners", lambda row: Partner(number=partner[row["id"]], **row)),
            sites=self.items("sites", lambda row: Site(**row)),
            clusters=self.items("clusters", lambda row: cluster_of(row, cluster[row["id"]])),
            appliances=self.items("appliances", lambda row: appliance_of(row, slot[row["id"]])),
            services=self.items("services", lambda row: msgspec.json.decode(row["fields"], type=Service)),
        )

    def items(self, kind: str, make: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
        """Return the objects of one table, ordered by id."""
        rows = self.connection.execute(f"SELECT * FROM {kind} ORDER BY id")  # noqa: S608
        return tuple(make(fields_of(row)) for row in rows)


def row_of(item: Partner | Site | Cluster | Appliance | Service) -> dict[str, Any]:
    """Return an object as the row of its table."""
    if isinstance(item, Service):
        return {"id": item.id, "fields": msgspec.json.encode(item).decode()}
    return {
        name: json.dumps(value) if name in LISTS else value
        for name in columns_of(type(item))
        for value in [getattr(item, name)]
    }


def columns_of(kind: type[Any]) -> list[str]:
    """Return the columns of a kind of object."""
    return [field.name for field in dataclasses.fields(kind) if field.name not in NUMBERS]


def fields_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its lists as tuples."""
    return {name: tuple(json.loads(row[name])) if name in LISTS else row[name] for name in row.keys()}  # noqa: SIM118


def cluster_of(row: Mapping[str, Any], number: int) -> Cluster:
    """Return a row of the table `clusters` as a cluster."""
    typed = {"route_class": RouteClass(row["route_class"]), "accepts_off_net": bool(row["accepts_off_net"])}
    return Cluster(**{**row, **typed, "number": number})


def appliance_of(row: Mapping[str, Any], slot: int) -> Appliance:
    """Return a row of the table `appliances` as an appliance."""
    return Appliance(**{**row, "ipv4": bool(row["ipv4"]), "ipv6": bool(row["ipv6"]), "slot": slot})
