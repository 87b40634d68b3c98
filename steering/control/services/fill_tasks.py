"""The heavy tasks of fill: count plays, and make a plan. They run in a child process, and need numpy there."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from steering.control.fill.launches import read_launches
from steering.control.records.catalogue import TitleRow
from steering.control.records.database import NAME, reading
from steering.control.routes.build import Progress
from steering.control.services.candidate import OverFleet, step
from steering.control.services.catalogue import feed_file
from steering.errors import FeedError, SettingsError
from steering.model.fleet import Fleet
from steering.state.current import Current
from steering.state.plan import PlanFile, PlanMeta
from steering.state.routes import Routes
from steering.state.table import TableFile

if TYPE_CHECKING:
    from steering.control.fill.areas import Area
    from steering.control.fill.forecast import Forecast
    from steering.control.fill.plan import Wanted

AHEAD_S: Final = 7 * 86_400  # that a title is placed before it is available


@dataclasses.dataclass(frozen=True)
class FillGuards:
    """The largest share of all disks that a plan may replace, by which offload and plays may fall; 1 turns one off."""

    replaced: float
    offload: float
    plays: float


@dataclasses.dataclass(frozen=True)
class CountPlays(OverFleet):
    """Count a feed of plays, or use a feed of launches, and write the next file of forecasts."""

    state: Path
    fleet: Fleet
    service: str
    body: bytes
    launches: bool = False

    def __call__(self, progress: Progress) -> dict[str, Any]:
        """Do it; return what was counted."""
        require_numpy()
        from steering.control.fill.forecast import Forecast
        from steering.control.fill.forecast_file import newest_forecasts, read_forecasts, write_forecasts
        from steering.control.fill.plays import read_plays

        newest = newest_forecasts(self.state)
        forecasts = read_forecasts(newest) if newest else {}
        forecast = forecasts.setdefault(self.service, Forecast())
        with feed_file(self.state, "launches" if self.launches else "plays", self.body) as path:
            progress("read the feed")
            if self.launches:
                launches = read_launches(path)
                areas = (area for launch in launches.launches for area in launch.areas)
                forecast.use_areas(areas_with(forecast, areas, self.fleet))
                forecast.use_launches(launches.launches)
                about = {"launches": len(launches.launches), **launches.refused.describe()}
            else:
                plays = read_plays(path, self.service)
                forecast.use_areas(areas_with(forecast, plays.areas, self.fleet))
                scores = forecast.take(plays)
                about = {**plays.describe(), "scores": [dataclasses.asdict(score) for score in scores]}
        progress("write the forecast")
        write_forecasts(self.state, forecasts)
        last = datetime.date.fromordinal(forecast.day).isoformat() if forecast.day else ""
        return {**about, "areas": len(forecast.areas.areas), "titles": len(forecast.titles), "last_day": last}


def require_numpy() -> None:
    """Raise SettingsError where numpy is not installed."""
    try:
        import numpy  # noqa: F401
    except ImportError:
        raise SettingsError("fill plans need numpy", hint="pip install 'steering[fill]'") from None


def areas_with(forecast: Forecast, names: Iterable[str], fleet: Fleet) -> list[Area]:
    """Return the areas of a forecast and new ones, each below the larger one: partner, part of a country, country."""
    from steering.control.fill.areas import WORLD, Area

    partners = {partner.id: partner.country for partner in fleet.partners}
    areas = {area.id: area for area in forecast.areas.areas if area.id != WORLD}
    for name in names:
        if name == WORLD:
            continue
        country = partners.get(name) or name.partition("-")[0]
        if name != country:
            areas.setdefault(country, Area(country))
        areas[name] = Area(name, country if name != country else WORLD)
    return list(areas.values())


@dataclasses.dataclass(frozen=True)
class MakePlan(OverFleet):
    """Make a plan, check it against the guards, and write `plan.<version>`."""

    state: Path
    fleet: Fleet
    version: int
    current: Current
    costs: tuple[float, float, float]
    now: float
    guards: FillGuards
    force: str = ""

    def __call__(self, progress: Progress) -> tuple[PlanMeta, list[str]]:
        """Return the plan in numbers, and the guards that it breaks. Raises FeedError where one refuses it."""
        require_numpy()
        from steering.control.fill.network import Costs, read_network
        from steering.control.fill.plan import Planner, with_own_plays
        from steering.state.plan import write_plan

        with step("read the forecast", progress):
            wanted, day, no_recipe = self.read_wanted()
        before = PlanFile(self.state / self.current.plan) if self.current.plan else None
        with step("read the network", progress):
            table = TableFile(self.state / self.current.table)
            routes = Routes(self.state / self.current.routes)
            network = read_network(table, routes, self.fleet, frozenset(wanted.areas), Costs(*self.costs))
        wanted = with_own_plays(wanted, {viewers.area for viewers in network.viewers})
        planner = Planner(network, self.fleet, wanted, before, lambda text, share: progress(f"{text} {share:.0%}"))
        made = planner.make(self.version, self.now, day, no_recipe)
        broken = broken_guards(made.meta, before.meta if before else None, self.fleet, self.guards)
        if broken and not self.force:
            raise FeedError("; ".join(broken), hint="`steering fill plan --force REASON` uses it all the same")
        with step("write the plan", progress):
            write_plan(self.state, made.meta, made.builder, made.columns)
        return made.meta, broken

    def read_wanted(self) -> tuple[Wanted, int, int]:
        """Return the titles to place with their plays, the day they are for, and how many lack a recipe."""
        import numpy as np

        from steering.control.fill.forecast_file import newest_forecasts, read_forecasts
        from steering.control.fill.plan import Wanted, without_forbidden

        newest = newest_forecasts(self.state)
        if newest is None:
            raise FeedError("no plays were counted yet", hint="steering fill plays SERVICE FILE")
        day = datetime.datetime.fromtimestamp(self.now, datetime.UTC).date().toordinal()
        rows: list[TitleRow] = []
        parts = []
        areas: dict[str, int] = {}
        parents: dict[str, str] = {}
        no_recipe = 0
        for service, forecast in sorted(read_forecasts(newest).items()):
            with reading(self.state / NAME) as records:
                titles = [row for row in records.catalogue.titles(service) if self.is_placed(row)]
                sizes = records.catalogue.recipe_sizes(service)
            placed = [row for row in titles if sizes.get(row.recipe) == row.bytes]
            no_recipe += len(titles) - len(placed)
            forecast.add_titles(row.title for row in placed)
            index = np.array([forecast.titles.index[row.title] for row in placed], np.int64)
            for known in forecast.areas.areas:
                areas.setdefault(known.id, len(areas))
            parents |= {known.id: known.parent for known in forecast.areas.areas}
            parts.append((len(rows), {area: rates[index] for area, rates in forecast.rates(day)}))
            rows += placed
        if not rows:
            raise FeedError(f"no title can be placed; {no_recipe} lack their recipe", hint="steering catalogue put")
        rates = np.zeros((len(areas), len(rows)), np.float32)
        for first, by_area in parts:
            for area, plays in by_area.items():
                rates[areas[area], first : first + len(plays)] = plays
        regions = {number: row.regions.split() for number, row in enumerate(rows) if row.regions}
        without_forbidden(rates, list(areas), regions)
        sizes_of = np.array([row.bytes for row in rows], np.float64)
        keys = [(row.service, row.title) for row in rows]
        return Wanted(keys, sizes_of, [row.recipe for row in rows], list(areas), parents, rates), day, no_recipe

    def is_placed(self, row: TitleRow) -> bool:
        """Return whether a title is to be held: it is available, or will be within AHEAD_S."""
        if row.available_until is not None and row.available_until <= self.now:
            return False
        return row.available_from is None or row.available_from <= self.now + AHEAD_S


def broken_guards(meta: PlanMeta, before: PlanMeta | None, fleet: Fleet, guards: FillGuards) -> list[str]:
    """Return the guards that a plan breaks, each as a sentence."""
    broken = []
    if meta.plays <= 0:
        broken.append("the forecast has no plays at all")
    if before is None:
        return broken
    disks = sum(appliance.disk_bytes for appliance in fleet.appliances)
    replaced = meta.added / disks if disks else 0.0
    if replaced > guards.replaced:
        broken.append(f"the plan replaces {replaced:.1%} of all disks; guard_fill is {guards.replaced:.1%}")
    if meta.offload < before.offload - guards.offload:
        fall = f"from {before.offload:.1%} to {meta.offload:.1%}"
        broken.append(f"the plan's offload falls {fall}; guard_offload is {guards.offload:.1%}")
    if meta.plays < before.plays * (1 - guards.plays):
        broken.append(
            f"the forecast has {meta.plays:.0f} plays a day, the plan before had {before.plays:.0f}; guard_plays is"
            f" {guards.plays:.0%}"
        )
    return broken
