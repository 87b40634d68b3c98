"""The heavy tasks of control: build a table, compare two, look at routes.

A task runs in a child process, so that the memory it takes goes with the child. It is a frozen object that is pickled
on its way there; it changes nothing in this process, and its result is small.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from steering.control.feed_files import listed
from steering.control.routes.bgp.sessions import FILE as BGP_FILE
from steering.control.routes.build import Progress, build_table, quiet
from steering.control.routes.canary import mixed_with_serving
from steering.control.routes.diff import compare, side_of
from steering.control.routes.feeds import Feed, FeedSource, files_of, kind_of, read_feed
from steering.control.routes.fetch import fetch, is_url
from steering.control.routes.filters import filter_feed
from steering.control.routes.guards import broken_guards
from steering.control.routes.reports import route_report
from steering.control.routes.rpki import read_payloads, validated
from steering.control.routes.side_inputs import SideInputs
from steering.control.routes.traffic import Traffic, read_traffic
from steering.control.services.candidate import Candidate, OverFleet, step, try_out
from steering.errors import FeedError, SnapshotError
from steering.model.fleet import Fleet
from steering.model.route import RoutesHeard
from steering.settings import Settings
from steering.state.current import Current
from steering.state.folder import number_of
from steering.state.routes import Routes
from steering.state.sections import written_by_us
from steering.state.table import BuiltTable, is_written, read_table, write_table

SHOWN_BY_CHECK: Final = 1000  # refusals of each feed in a report
SHOWN_BY_PUBLISH: Final = 20

Feeds = list[tuple[FeedSource, Feed]]
Heard = dict[str, dict[int, RoutesHeard]]  # by appliance and family

logger = logging.getLogger("steering.control")


@dataclasses.dataclass(frozen=True)
class Check(OverFleet):
    """Report what publishing these sources would serve, and every refusal that was kept; change nothing."""

    settings: Settings
    fleet: Fleet
    sources: Sequence[FeedSource]
    serving: int | None  # the version of the table that serves

    def __call__(self, progress: Progress) -> dict[str, Any]:
        """Build the table and compare it with what serves."""
        side = SideInputs(self.settings.state)
        feeds, table, changes = self.build(progress, side)
        guards = broken_guards([feed for _, feed in feeds], changes, self.settings)
        return {**report_of(feeds, table, SHOWN_BY_CHECK, side), "changes": changes, "guards": guards}

    def build(self, progress: Progress, side: SideInputs) -> tuple[Feeds, BuiltTable, dict[str, Any] | None]:
        """Return the feeds, their table, and what it changes."""
        feeds, table = build(self.settings, self.fleet, self.sources, progress, side)
        return feeds, table, changes_of(self.settings, self.fleet, self.serving, table, progress, side)


@dataclasses.dataclass(frozen=True)
class Publish(Check):
    """Write the table of these sources, and of a canary a second one; prove what the candidate would serve."""

    candidate: Candidate
    versions: Sequence[int]  # one, or of a canary two: the whole table, and the mixed one that serves
    before_canary: int
    canary: float
    force: str
    unless: Current | None = None  # what serves: where it holds this very table, nothing is written

    def __call__(self, progress: Progress) -> dict[str, Any]:
        """Build, write and prove. Raises FeedError where a guard refuses it."""
        state = self.settings.state
        side = SideInputs(state)
        feeds, table, changes = self.build(progress, side)
        if self.is_unchanged(table, changes, progress):
            side.keep()
            report = report_of(feeds, table, SHOWN_BY_PUBLISH, side)
            return {**report, "changes": changes, "guards": [], "unchanged": True}
        broken = broken_guards([feed for _, feed in feeds], changes, self.settings)
        if broken and not self.force:
            raise FeedError("; ".join(broken), hint="see `steering table check`; --force REASON publishes it")
        with step("write the table", progress):
            write_table(state, self.versions[0], table)
        if self.canary:
            with step("write the canary", progress):
                table = mixed_with_serving(state, self.before_canary, self.versions[0], table, self.canary)
                write_table(state, self.versions[1], table)
        self.candidate.write_files(state, self.fleet, progress)
        try_out(state, self.candidate.current, table, progress=progress)
        side.keep()
        report = report_of(feeds, table, SHOWN_BY_PUBLISH, side)
        return {**report, "changes": changes, "guards": broken, "unchanged": False}

    def is_unchanged(self, table: BuiltTable, changes: dict[str, Any] | None, progress: Progress) -> bool:
        """Return whether what serves is whole and holds this very table."""
        if self.unless is None or changes is None:
            return False
        prefixes = changes["prefixes"].values()
        if any(family[verb] for family in prefixes for verb in ("added", "removed", "changed")):
            return False
        try:
            try_out(self.settings.state, self.unless, progress=progress)
            return is_written(self.settings.state, number_of(self.unless.table), table)
        except SnapshotError:
            return False


@dataclasses.dataclass(frozen=True)
class Diff(OverFleet):
    """Report what one written table changes beside another."""

    settings: Settings
    fleet: Fleet
    before: int
    after: int
    examples: int

    def __call__(self, progress: Progress) -> dict[str, Any]:
        """Map both tables and compare them."""
        with step("compare", progress):
            traffic = traffic_of(self.settings, SideInputs(self.settings.state))
            with written_by_us(f"a file of table {self.before} or {self.after}"):
                before, after = (
                    side_of(read_table(self.settings.state, version), version) for version in (self.before, self.after)
                )
                return compare(before, after, self.fleet, self.examples, traffic)


@dataclasses.dataclass(frozen=True)
class ReportRoutes(OverFleet):
    """Report what could be mended in the routes that serve, of one partner or all."""

    path: Path
    fleet: Fleet
    heard: Heard
    partner: str

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "heard": msgspec.msgpack.encode(self.heard)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "heard": msgspec.msgpack.decode(state["heard"], type=Heard)})

    def __call__(self, progress: Progress) -> dict[str, Any]:
        """Look at every route."""
        with step("look at the routes", progress), written_by_us(self.path.name):
            return route_report(Routes(self.path), self.fleet, self.heard, self.partner)


def build(
    settings: Settings, fleet: Fleet, sources: Sequence[FeedSource], progress: Progress, side: SideInputs
) -> tuple[Feeds, BuiltTable]:
    """Read the sources and return their feeds and the table of them, in memory."""
    feeds = []
    located = [file for source in sources for file in locate(settings, source, progress)]
    for source in located:
        with step(f"read {source.path or 'the shipped table of the Internet'}", progress):
            feeds.append(filter_feed(read_feed(source, fleet), fleet, settings))
    payloads = None
    if settings.rpki:
        with step(f"read {settings.rpki}", progress):
            payloads = side.read("rpki", settings.rpki, read_payloads)
        if payloads:
            feeds = [validated(feed, payloads) for feed in feeds]
    with step("build the table", quiet):
        table = build_table(feeds, fleet, settings, progress, payloads.describe() if payloads else None, side.read)
        if not table.counts["routes_v4"] + table.counts["routes_v6"]:
            raise FeedError("no feed has a route")
    return list(zip(located, feeds, strict=True)), table


def locate(settings: Settings, source: FeedSource, progress: Progress) -> list[FeedSource]:
    """Return the files of a source: the copy of a URL, those of a folder, the live routes."""
    if source.kind == "bgp":
        return [FeedSource("bgp", str(settings.state / BGP_FILE), "bgp")]
    if source.kind == "folder":
        try:
            files = files_of(Path(source.path))
        except OSError as error:
            raise FeedError(f"{source.path}: {error.strerror}") from error
        if not files:
            raise FeedError(f"{source.path}: has no file")
        return [FeedSource(kind_of(file), str(file), source.path) for file in files]
    if is_url(source.path):
        with step(f"fetch {source.path}", progress):
            alive = functools.partial(progress, f"fetch {source.path}")
            copy = fetch(source.path, settings.state, settings.fetch_mb << 20, alive).path
        return [FeedSource(source.kind, str(copy), source.path)]
    return [source]


def changes_of(
    settings: Settings, fleet: Fleet, serving: int | None, table: BuiltTable, progress: Progress, side: SideInputs
) -> dict[str, Any] | None:
    """Return what a table would change; None where no table serves, or the one that serves is unreadable."""
    if serving is None:
        return None
    with step("compare with what serves", progress):
        traffic, after = traffic_of(settings, side), side_of(table)
        try:
            with written_by_us(f"a file of table {serving}"):
                return compare(side_of(read_table(settings.state, serving), serving), after, fleet, traffic=traffic)
        except SnapshotError as error:
            logger.warning("%s: nothing to compare with", error.message)
            return None


def traffic_of(settings: Settings, side: SideInputs) -> Traffic | None:
    """Return where the traffic is, if a file says so."""
    return side.read("traffic", settings.traffic, read_traffic) if settings.traffic else None


def report_of(feeds: Feeds, table: BuiltTable, refusals: int, side: SideInputs) -> dict[str, Any]:
    """Return what was read and built, with so many refusals of each feed."""
    return {
        "feeds": [
            {
                "kind": source.kind,
                "path": source.path,
                "named": source.named,
                **feed.describe(),
                "refusals": listed(feed.refusals[:refusals]),
            }
            for source, feed in feeds
        ],
        "other_sources": [*table.other_sources, *side.problems],
        "counts": table.counts,
        "duplicates": table.duplicates,
        "conflicts": list(table.conflicts[:refusals]),
    }
