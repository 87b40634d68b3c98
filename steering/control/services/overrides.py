"""What operators set for appliances. An override is on record before it is in the status words that workers read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from steering.control.health.appliance_state import OverrideOrigin
from steering.control.health.rules import full_weight
from steering.control.records.audit import Entry
from steering.control.records.overrides import Override
from steering.control.records.rows import Rows
from steering.control.services.concern import Concern
from steering.errors import RequestError
from steering.model.fleet import Appliance

MAX_WEIGHT: Final = 0xFFFF
HEALTH_SOURCES: Final = ("", "assumed", "reported")
NONE: Final = Override()


class Overrides(Concern):
    """`control.overrides`."""

    def __post_init__(self) -> None:
        self.known = self.records.overrides.all()  # replaced as a whole: other threads read it

    def list(self) -> Rows:
        """Return the overrides of the fleet's appliances, ordered by id."""
        return [
            {"appliance": name, **dataclasses.asdict(override)}
            for name, override in sorted(self.known.items())
            if self.on_record.has(name) and override != NONE
        ]

    def drain(self, ids: Sequence[str], who: str) -> dict[str, Any]:
        """Let appliances take no new clients, from the next request on."""
        return self.change(ids, who, enabled=False)

    def enable(self, ids: Sequence[str], who: str) -> dict[str, Any]:
        """Let drained appliances serve again."""
        return self.change(ids, who, enabled=True)

    def weight(self, ids: Sequence[str], value: int | None, who: str) -> dict[str, Any]:
        """Set the weight of appliances; None is the weight of their capacity."""
        return self.change(ids, who, weight=value)

    def set_health_source(self, ids: Sequence[str], health_source: str, who: str) -> dict[str, Any]:
        """Set `assumed` (at capacity), `reported` (by their reports), or empty, which follows the setting."""
        return self.change(ids, who, health_source=health_source)

    def appliances(self, ids: Sequence[str], changes: dict[str, Any]) -> Sequence[Appliance]:
        """Return the appliances, each once. Raises RequestError for an unknown one, and for a change that is none."""
        check(ids, changes)
        return [self.on_record.appliance(name) for name in dict.fromkeys(ids)]

    def change(self, ids: Sequence[str], who: str, **changes: Any) -> dict[str, Any]:
        """Change `enabled`, `weight` or `health_source` of appliances, all or none: on record, then in the words."""
        appliances = self.appliances(ids, changes)
        before = {item.id: self.known.get(item.id, NONE) for item in appliances}
        after = {name: dataclasses.replace(override, **changes) for name, override in before.items()}
        now = self.clock()
        with self.records.transaction() as transaction:
            transaction.overrides.set(after, who, now)
            transaction.audit.add(Entry(now, who, "override", " ".join(after)[:200], before, after))
        self.known = self.known | after
        self.registry.set_overrides(after, OverrideOrigin(now, who))
        return {
            "appliances": [
                {
                    "appliance": item.id,
                    "enabled": after[item.id].enabled,
                    "weight": full_weight(item, after[item.id]),
                    "set": after[item.id].weight is not None,
                    "health_source": after[item.id].health_source,
                }
                for item in appliances
            ],
            "serving": self.hand_over.serving(),
        }


def check(ids: Sequence[str], changes: dict[str, Any]) -> None:
    """Raise RequestError for a change that there cannot be."""
    if not ids:
        raise RequestError("name at least one appliance")
    weight = changes.get("weight")
    if weight is not None and not 0 <= weight <= MAX_WEIGHT:
        raise RequestError.of_parameter("weight", str(weight), f"a number from 0 to {MAX_WEIGHT}, or auto")
    source = changes.get("health_source", "")
    if source not in HEALTH_SOURCES:
        raise RequestError.of_parameter("health_source", source, "assumed, reported, or empty: as the setting says")
