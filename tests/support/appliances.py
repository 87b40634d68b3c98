"""Appliances for the tests of health: states for the rules that compare them, and a registry over a real file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _fastpath.status_words import IPV4_UP, IPV6_UP
from steering.control.health.alarms import Alarm
from steering.control.health.appliance_state import ApplianceState, Location
from steering.control.health.presenter import describe
from steering.control.health.registry import Registry, StateChange
from steering.control.health.rules import Health, Report, new_record
from steering.model.fleet import Appliance, Cluster, Fleet, Site
from steering.model.route import RouteClass
from steering.settings import Settings
from steering.state.status import StatusFiles, write_status

BOTH = IPV4_UP | IPV6_UP
MUMBAI = [f"c{i}-bom001" for i in range(4)]


def state_of(slot: int, weight: int = 10, capacity_gbps: float = 100.0, **more: Any) -> ApplianceState:
    """Return an appliance that serves, with this weight in its status word."""
    appliance = Appliance(f"c{slot}", "a", f"c{slot}.example", capacity_gbps, slot=slot)
    return ApplianceState(appliance, Location("a", "s"), new_record(0.0), 0.0, status=weight | BOTH, **more)


def make_fleet(**clusters: int) -> Fleet:
    """`bom001=4`: a cluster of four appliances of 100 Gbps, alone at its site."""
    names = [(site, f"c{i}-{site}") for site, count in clusters.items() for i in range(count)]
    return Fleet(
        (),
        tuple(Site(site, "IN", site, 0.0, 0.0) for site in clusters),
        tuple(Cluster(f"{site}-a", site, RouteClass.exchange, number=at) for at, site in enumerate(clusters)),
        tuple(Appliance(name, f"{site}-a", f"{name}.example", 100.0, slot=at) for at, (site, name) in enumerate(names)),
        (),
    )


class Bench:
    """A registry of a fleet over a real file of status words, with a clock that is set by hand."""

    def __init__(self, folder: Path, fleet: Fleet, **settings: Any) -> None:
        self.now = 1000.0
        self.registry = Registry(Settings(**{"load_excess": 0.15} | settings), clock=lambda: self.now)
        self.slots = {appliance.id: appliance.slot for appliance in fleet.appliances}
        self.registry.take_fleet(fleet)
        self.files = StatusFiles(folder)
        self.files.use(write_status(folder, 1, [self.registry.status_words().get(slot, 0) for slot in range(64)]))
        self.registry.files = self.files
        self.changes: list[StateChange] = []
        self.alarms: list[Alarm] = []
        self.registry.listen(self.changes.append)
        self.registry.on_alarm(self.alarms.append)
        self.seq = 0

    def status(self, name: str) -> int:
        """Return the status word in the file."""
        return self.files.word(self.slots[name])

    def report(self, *names: str, health: Health | None = None, monitor: int | None = None) -> list[str]:
        self.seq += 1
        report = Report("b", self.seq, health=health or Health())
        return [self.registry.report(name, report, monitor) for name in names]

    def tick(self, seconds: float = 1.0, **more: object) -> None:
        self.now += seconds
        self.registry.tick(**more)  # type: ignore[arg-type]

    def states(self) -> dict[str, str]:
        return {name: describe(self.registry, name)["state"] for name in self.slots}
