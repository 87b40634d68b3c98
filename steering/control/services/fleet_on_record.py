"""The fleet on record, as every service reads it, from any thread."""

from __future__ import annotations

import bisect
import dataclasses
import difflib
from collections.abc import Sequence
from typing import Final

from steering.control.fill.holdings import HoldingsReported
from steering.control.health.appliance_state import OverrideOrigin
from steering.control.health.registry import Registry
from steering.control.records.audit import Entry
from steering.control.records.database import Records
from steering.control.records.fleet import FleetPart, with_parts
from steering.control.records.overrides import Override
from steering.control.services.run import GiveWay, in_pieces
from steering.errors import RequestError
from steering.model.fleet import Appliance, Fleet

NEAR: Final = 100
AT_ONCE: Final = 200  # appliances that the registry takes before it gives way: some 3 ms


@dataclasses.dataclass(eq=False, repr=False)
class FleetOnRecord:
    """The fleet that the database holds. What changes is handed on to the health registry and to the holdings."""

    records: Records
    registry: Registry
    intake: HoldingsReported
    give_way: GiveWay

    def __post_init__(self) -> None:
        self.settle()
        self.use(self.records.fleet.read())
        self.registry.take_fleet(self.fleet, self.overrides_of())
        self.intake.use_fleet(self.fleet)

    def use(self, fleet: Fleet) -> None:
        """Make a fleet the one that services read."""
        self.fleet = fleet
        self.by_id = {appliance.id: appliance for appliance in fleet.appliances}
        self.clusters = {cluster.id: cluster for cluster in fleet.clusters}

    def change(self, packed: Sequence[bytes], entry: Entry) -> None:
        """Make a change of the fleet, as `PrepareFleet` worked it out: on record first, as a whole, then in memory.

        `drop_absent` follows, once no worker is given the appliances that left, and `settle`.
        """
        parts = [FleetPart.unpack(part) for (part,) in in_pieces(packed, 1, self.give_way)]
        fleet = with_parts(self.fleet, parts)
        self.give_way()
        with self.records.transaction() as transaction:
            transaction.fleet.note(packed, entry.who, entry.at)
            transaction.audit.add(entry)
        self.use(fleet)
        self.give_way()
        self.intake.use_services(fleet.services)
        changed = {item.id for part in parts if part.kind == "appliances" for item in part.objects}
        moved = {item.id for part in parts if part.kind == "clusters" for item in part.objects}
        arriving = [item for item in fleet.appliances if item.id in changed or item.cluster in moved]
        self.give_way()
        for some in in_pieces(arriving, AT_ONCE, self.give_way):
            placed = [(appliance, self.clusters[appliance.cluster]) for appliance in some]
            self.registry.take(placed, self.overrides_of([appliance.id for appliance in some]))
            self.intake.take_appliances(placed)

    def drop_absent(self) -> None:
        """Let the registry and the holdings forget the appliances that are not of the fleet any more."""
        while names := self.registry.drop_absent(self.by_id, AT_ONCE):
            self.intake.drop(names)
            self.give_way()

    def settle(self) -> None:
        """Put the rows of a change in their tables. What a failure leaves, the next change or start does."""
        while note := self.records.fleet.first_note():
            self.give_way()
            with self.records.transaction() as transaction:
                transaction.fleet.settle(*note)

    def overrides_of(self, names: Sequence[str] | None = None) -> dict[str, tuple[Override, OverrideOrigin]]:
        """Return the overrides on record of these appliances, or all, and who set them."""
        return {
            name: (override, OverrideOrigin(at, who)) for name, override, at, who in self.records.overrides.of(names)
        }

    def version(self) -> int:
        """Return the fleet's version, 0 where none was imported."""
        return self.records.fleet.version()

    def has(self, name: str) -> bool:
        """Return whether the fleet has an appliance of this id."""
        return name in self.by_id

    def partner_of(self, kind: str, name: str) -> str | None:
        """Return the partner of an appliance, a cluster or a partner, by the fleet of now; None where it has none."""
        if kind == "partners":
            return name
        if kind == "appliances":
            appliance = self.by_id.get(name)
            name = appliance.cluster if appliance else ""
        cluster = self.clusters.get(name)
        return cluster.partner if cluster else None

    def appliance(self, name: str) -> Appliance:
        """Return an appliance. Raises RequestError 404 with the id, and the nearest id that exists."""
        try:
            return self.by_id[name]
        except KeyError:
            ids = sorted(self.by_id)  # only ids around it are compared: all 19,000 would take half a second
            index = bisect.bisect(ids, name)
            near = difflib.get_close_matches(name[:63], ids[max(index - NEAR, 0) : index + NEAR], 1)
            raise RequestError(
                f"appliance {name!r}: the fleet has none of this id",
                hint=f"did you mean {near[0]}?" if near else "",
                status=404,
                parameter="appliance",
                value=name[:64],
                rule="the id of an appliance of the fleet",
            ) from None
