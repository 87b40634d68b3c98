"""Tables: checked, published, rolled back, pinned, compared and listed.

A publish goes feeds -> table -> files -> mapped back and asked -> `current` advanced -> recorded -> old files removed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steering.control.health.alarms import Alarm
from steering.control.records.audit import Entry
from steering.control.records.rows import Rows
from steering.control.records.versions import Pin
from steering.control.routes.build import Progress, quiet
from steering.control.routes.feeds import FeedSource
from steering.control.routes.guards import percent
from steering.control.routes.reports import about_prefix
from steering.control.services import tasks
from steering.control.services.concern import Concern
from steering.control.services.fleet import warnings_of
from steering.control.services.hand_over import LIVE
from steering.control.services.published_tables import PublishedTables, nothing_published, sources_of
from steering.errors import RequestError
from steering.state.routes import Routes
from steering.state.sections import written_by_us


class Tables(Concern):
    """`control.tables`."""

    def __post_init__(self) -> None:
        self.published = PublishedTables(self.state, self.records, self.hand_over)
        self.mapped: tuple[Path, Routes] | None = None  # the routes that a prefix was looked up in last
        if latest := self.records.versions.latest():
            self.registry.source_alarms = alarms_of(latest.sources, self.clock())

    # ---- publish

    def check(self, sources: Sequence[FeedSource], progress: Progress = quiet) -> dict[str, Any]:
        """Report what publishing these sources would serve, and every refusal that was kept; change nothing."""
        began = time.perf_counter()
        sources = in_order(sources)
        self.require_publishable(sources)
        task = tasks.Check(self.settings, self.fleet(), sources, self.published.serving_table())
        return {
            **self.run("build the table", task, progress),
            "serving": self.hand_over.serving(),
            "seconds": round(time.perf_counter() - began, 3),
        }

    def publish(
        self,
        sources: Sequence[FeedSource],
        who: str,
        why: str = "",
        progress: Progress = quiet,
        force: str = "",
        canary: float = 0.0,
    ) -> dict[str, Any]:
        """Make the table of these sources the one being served, and report it.

        Sources that give the table that serves already change nothing: `unchanged`. `force` is the reason to publish
        nevertheless, and past the guards; a pin is removed. With `canary`, a share from 0 to 1, only that share of the
        clients that would move do; the table waits beside it for `promote` or `withdraw`, pinned.
        """
        began = time.perf_counter()
        sources = in_order(sources)
        self.require_publishable(sources)
        before_canary = self.published.require_no_canary(canary) if canary else 0
        versions = self.published.take_versions(2 if canary else 1)
        served = versions[-1]
        with self.hand_over.undone_on_error() as made:
            candidate = self.hand_over.prepare(f"table.{served}", f"routes.{served}", made)
            made += [f"{kind}.{number}" for kind in ("table", "routes") for number in versions]
            inputs = (self.settings, self.fleet(), sources, self.published.serving_table())
            unless = None if canary or force else self.published.served_from(sources)
            task = tasks.Publish(*inputs, candidate, versions, before_canary, canary, force, unless)
            report = self.run("build the table", task, progress)
            self.registry.source_alarms = alarms_of(report["other_sources"], self.clock())
            if report["unchanged"]:
                self.published.give_back(versions)
                return self.published_report(report, began)
            if report["guards"]:
                why = "; ".join([why] * bool(why) + [f"forced, {force}", *report["guards"]])
            pin = None
            if canary:
                pin = Pin(served, self.clock(), who, f"canary of table {versions[0]}, {percent(canary)}")
                why = "; ".join(filter(None, (why, pin.why)))
            self.published.record_written(versions, report, who, why)
            before = self.hand_over.serving()
            current = self.hand_over.switch(candidate.current, progress)
        after = self.hand_over.serving()
        entry = Entry(current.published_at, who, "publish", f"table {served}", before, after, why)
        self.published.record_published(versions, current, pin, None if who == LIVE else entry)
        self.hand_over.remove_old()
        return self.published_report(report, began)

    def reload(self, who: str, progress: Progress = quiet) -> dict[str, Any]:
        """Read the sources of the last publish again and publish them, unless a table is pinned."""
        latest = self.records.versions.latest()
        if not latest:
            raise nothing_published()
        self.published.require_unpinned()
        return self.publish(sources_of(latest), who, f"reload of table {latest.table}", progress)

    def publish_live(self) -> dict[str, Any] | None:
        """Publish the changes of live sessions; None where the last publish took none of them, or a table is pinned."""
        sources, _ = self.sources()
        if not any(source.kind == "bgp" for source in sources):
            return None
        return self.publish(sources, LIVE)

    def sources(self) -> tuple[list[FeedSource], int]:
        """Return the sources of the last publish, none where a table is pinned, and the version of that publish."""
        latest = self.records.versions.latest()
        if not latest or self.records.pins.get():
            return [], 0
        return sources_of(latest), latest.table

    # ---- serve a table that was published before

    def rollback(self, version: int, who: str, why: str = "") -> dict[str, Any]:
        """Serve a kept table again, as it was written, with the fleet of now; pin it against reloads."""
        return self.serve_again(version, who, why, "rollback", Pin(version, self.clock(), who, why or "rolled back"))

    def promote(self, who: str, why: str = "") -> dict[str, Any]:
        """Serve all clients with the table whose canary serves."""
        return self.serve_again(self.canary()["after"], who, why, "promote", None)

    def withdraw(self, who: str, why: str = "") -> dict[str, Any]:
        """Serve all clients with the table that served before the canary, and pin it."""
        version = self.canary()["before"]
        pin = Pin(version, self.clock(), who, why or "a canary was withdrawn")
        return self.serve_again(version, who, why, "withdraw", pin)

    def canary(self) -> dict[str, Any]:
        """Return the versions `before` and `after` of the canary that serves. Raises RequestError 409 without one."""
        canary = self.published.find_canary()
        if canary is None:
            raise RequestError("no canary serves", hint="steering table publish --canary PERCENT", status=409)
        return canary

    def pin(self, who: str, why: str = "") -> dict[str, Any]:
        """Keep the table that serves: no reload replaces it until it is unpinned, or another is published by hand."""
        table = self.published.require_serving()
        now = self.clock()
        with self.records.transaction() as transaction:
            transaction.pins.set(Pin(table, now, who, why))
            transaction.audit.add(Entry(now, who, "pin", f"table {table}", why=why))
        return {"pinned": table}

    def unpin(self, who: str) -> dict[str, Any]:
        if pin := self.records.pins.get():
            with self.records.transaction() as transaction:
                transaction.pins.set(None)
                transaction.audit.add(Entry(self.clock(), who, "unpin", f"table {pin.table}"))
        return {"pinned": None}

    # ---- look

    def diff(self, before: int, after: int, examples: int = 20) -> dict[str, Any]:
        """Report what one kept table changes beside another, by the names of the fleet of now."""
        for version in (before, after):
            self.published.require_kept(version)
        task = tasks.Diff(self.settings, self.fleet(), before, after, examples)
        return self.run("compare the tables", task, quiet)

    def list(self) -> Rows:
        """Return every version ever published, newest first; `kept` ones still have their files."""
        return self.published.list()

    def get(self, version: int) -> dict[str, Any]:
        """Return what is on record of a published version. Raises RequestError 404."""
        return self.published.get(version)

    def routes(self, prefix: str) -> dict[str, Any]:
        """Return the routes of a prefix in the table that serves, of what covers it, and what lies inside it."""
        self.published.require_serving()
        path = self.routes_path()
        if self.mapped is None or self.mapped[0] != path:
            self.mapped = path, Routes(path)
        with written_by_us(path.name):
            report = about_prefix(self.mapped[1], prefix)
        names = {cluster.number: cluster.id for cluster in self.fleet().clusters}
        for route in (*report["exact"], *report["covering"]):
            route["cluster"] = names.get(route["cluster"], f"#{route['cluster']}")
        return {**report, "serving": self.hand_over.serving()}

    def route_report(self, partner: str = "") -> dict[str, Any]:
        """Return what could be mended in the routes that serve, of one partner or all."""
        self.published.require_serving()
        heard = {name: dict(routes) for name, routes in self.registry.routes_heard().items()}
        task = tasks.ReportRoutes(self.routes_path(), self.fleet(), heard, partner)
        return self.run("look at the routes", task, quiet)

    # ---- inside

    def published_report(self, report: dict[str, Any], began: float) -> dict[str, Any]:
        """Return the report of a publish with what serves now."""
        return {
            **report,
            "warnings": [*warnings_of(self.settings, self.fleet()), *warnings_of_skipped(report["feeds"])],
            "serving": self.hand_over.serving(),
            "seconds": round(time.perf_counter() - began, 3),
        }

    def routes_path(self) -> Path:
        assert self.hand_over.current is not None
        return self.state / self.hand_over.current.routes

    def serve_again(self, version: int, who: str, why: str, what: str, pin: Pin | None) -> dict[str, Any]:
        """Serve a kept table, and pin it or not."""
        began = time.perf_counter()
        self.published.require_kept(version)
        before = self.hand_over.serving()
        with self.hand_over.undone_on_error() as made:
            candidate = self.hand_over.prepare(f"table.{version}", f"routes.{version}", made)
            self.hand_over.complete(candidate)
            old_pin = self.records.pins.get()
            # The pin is on record before the table serves: after a kill in between, no reload undoes the rollback.
            self.published.set_pin(pin)
            try:
                current = self.hand_over.switch(candidate.current)
            except BaseException:
                self.published.set_pin(old_pin)
                raise
        after = self.hand_over.serving()
        entry = Entry(current.published_at, who, what, f"table {version}", before, after, why)
        self.published.record_published((), current, pin, entry)
        self.hand_over.remove_old()
        return {"serving": after, "before": before, "seconds": round(time.perf_counter() - began, 3)}

    def require_publishable(self, sources: Sequence[FeedSource]) -> None:
        """Raise RequestError where there is nothing to publish, or no appliance to steer to."""
        if not sources:
            raise RequestError("name at least one source to publish")
        if not self.fleet().clusters:
            raise RequestError(
                "the fleet is empty; there is nobody to steer to",
                hint="steering fleet import FILE, or steering fleet synth --import",
                status=409,
            )


def in_order(sources: Sequence[FeedSource]) -> list[FeedSource]:
    """Return sources in one order, each once: a table does not depend on the order in which they are named."""
    return sorted({*sources}, key=lambda source: (source.kind, source.path, source.named))


def alarms_of(sources: Sequence[Mapping[str, Any]], now: float) -> dict[tuple[str, str], Alarm]:
    """Return an alarm for each source of a publish that could not be used."""
    texts = {row["path"]: f"{row['kind']} {row['path']}: {row['problem']}" for row in sources if "problem" in row}
    return {("source", path): Alarm(now, "source", path, text) for path, text in texts.items()}


def warnings_of_skipped(feeds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each kind of records that a feed's reader skipped."""
    return [
        f"{feed['feed']}: {count} {what} are skipped; they hold no routes of a table dump"
        for feed in feeds
        for what, count in feed["skipped"].items()
    ]
