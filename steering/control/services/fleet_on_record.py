"""The fleet on record, as every service reads it, from any thread."""

from __future__ import annotations

import bisect
import difflib
from typing import Final

from steering.control.fill.holdings import HoldingsReported
from steering.control.health.appliance_state import OverrideOrigin
from steering.control.health.registry import Registry
from steering.control.records.database import Records
from steering.errors import RequestError
from steering.model.fleet import Appliance, Fleet

NEAR: Final = 100


class FleetOnRecord:
    """The fleet that the database holds. `load` also hands it to the health registry and to the holdings."""

    def __init__(self, records: Records, registry: Registry, intake: HoldingsReported) -> None:
        self.records = records
        self.registry = registry
        self.intake = intake
        self.load()

    def load(self) -> None:
        """Read the fleet again after a change, and let the status word of every slot be computed."""
        self.fleet = self.records.fleet.read()
        self.by_id = {appliance.id: appliance for appliance in self.fleet.appliances}
        origins = {name: OverrideOrigin(at, who) for name, (at, who) in self.records.overrides.origins().items()}
        self.registry.take_fleet(self.fleet, self.records.overrides.all(), origins)
        self.intake.use_fleet(self.fleet)

    def current(self) -> Fleet:
        """Return the fleet, numbered."""
        return self.fleet

    def version(self) -> int:
        """Return the fleet's version, 0 where none was imported."""
        return self.records.fleet.version()

    def has(self, name: str) -> bool:
        """Return whether the fleet has an appliance of this id."""
        return name in self.by_id

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
