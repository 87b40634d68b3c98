"""The base of every service: the objects that all of them use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Self

from steering.control.fill.holdings import HoldingsReported
from steering.control.health.registry import Registry
from steering.control.records.database import Records
from steering.control.services.fleet_on_record import FleetOnRecord
from steering.control.services.hand_over import HandOver
from steering.control.services.run import GiveWay, Run
from steering.model.fleet import Fleet
from steering.settings import Settings


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Concern:
    """One concern of control. `run` runs heavy tasks; `give_way` lets short verbs run between pieces of a long one."""

    settings: Settings
    records: Records
    registry: Registry
    intake: HoldingsReported
    on_record: FleetOnRecord
    hand_over: HandOver
    clock: Callable[[], float]
    run: Run
    give_way: GiveWay

    def __post_init__(self) -> None:
        """Read what this service keeps in memory; most keep nothing."""

    @classmethod
    def of(cls, shared: Concern) -> Self:
        """Return a service of this concern over the objects of another."""
        return cls(**{field.name: getattr(shared, field.name) for field in dataclasses.fields(Concern)})

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.settings.state

    def fleet(self) -> Fleet:
        """Return the fleet on record, numbered."""
        return self.on_record.fleet
