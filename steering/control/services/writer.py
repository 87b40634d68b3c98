"""The one writer of the state folder. Every change to what is served goes through its verbs; reports are plain dicts.

A publish goes feeds -> table -> files -> mapped back and asked -> `current` advanced -> recorded -> old files removed.
Whatever fails before `current` advances leaves what is serving untouched, and the error begins with the step's name.
A override is recorded before it is stored in the words that workers read, so a crash loses neither.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import logging
import string
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar

from steering.control.auth import check_role, make_secret
from steering.control.fill.holdings import HoldingsReported
from steering.control.fill.holdings_file import open_holdings, write_changes
from steering.control.fill.missing import counters_in, missing
from steering.control.health.appliance_state import Maintenance, OverrideOrigin
from steering.control.health.ejection_limits import Limits
from steering.control.health.presenter import suppressed_ejections
from steering.control.health.quality import By, quality
from steering.control.health.registry import Registry
from steering.control.health.rules import Rules, full_weight
from steering.control.health.windows import MOST_OPEN, Window, check_window, in_maintenance
from steering.control.records import fleet_objects as nouns
from steering.control.records.database import NAME, Entry, Override, Pin, Store, Version
from steering.control.routes.bgp.sessions import FILE as BGP_FILE
from steering.control.routes.build import Progress, build_table, quiet
from steering.control.routes.canary import mixed_with_serving
from steering.control.routes.diff import compare, side_of_files, side_of_table
from steering.control.routes.feeds import KINDS, Feed, FeedSource, files_of, kind_of, read_feed
from steering.control.routes.fetch import fetch, is_url
from steering.control.routes.filters import filter_feed
from steering.control.routes.guards import broken_guards, percent
from steering.control.routes.index import RouteIndex
from steering.control.routes.reports import route_report
from steering.control.routes.rpki import read_payloads, validated
from steering.control.routes.traffic import Traffic, read_traffic
from steering.control.services import keys as key_file
from steering.control.services.hand_over import HandOver, Versions, step
from steering.control.services.playlists import Shelf
from steering.errors import FeedError, RequestError, SettingsError, SnapshotError
from steering.model.fleet import UNNUMBERED, Appliance, Fleet
from steering.process.child import Task
from steering.settings import Settings
from steering.state.current import Current
from steering.state.folder import Lock, make_folder, number_of, remove_unfinished, versioned_files
from steering.state.keys import read_keys
from steering.state.routes import Routes
from steering.state.sections import StateFile
from steering.state.status import StatusFiles
from steering.state.table import BuiltTable, read_meta, write_table

LIVE: Final = "bgp"  # who publishes what live sessions say
MAX_WEIGHT: Final = 0xFFFF
HEALTH_SOURCES: Final = ("", "assumed", "reported")
MAX_TOKEN_NAME: Final = 100
MAX_TOKEN_DAYS: Final = 36_500
TOKEN_NAME: Final = frozenset(string.ascii_letters + string.digits + "-_.@")

T = TypeVar("T")

logger = logging.getLogger("steering.control")


class Run(Protocol):
    """How to run heavy work that changes nothing of the writer and returns a small result: here, or `run_gently`."""

    def __call__(self, name: str, task: Task[T], progress: Progress) -> T:
        """Return what the task returns, or raise its SteeringError."""


def run_here(name: str, task: Task[T], progress: Progress) -> T:  # noqa: ARG001
    """Run a task at once."""
    return task(progress)


class Writer:
    """Holds the lock of the state folder from here to `close`. Not to be shared between threads.

    Raises SettingsError where another process holds the lock, or folder or database are not fit to be written.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time, run: Run = run_here) -> None:
        self.settings = settings
        self.run = run
        self.state = settings.state
        self.clock = clock
        self.registry = registry_of(settings)
        self.index: tuple[str, RouteIndex] | None = None
        self.sessions: Callable[[], list[dict[str, Any]]] = list  # of live BGP, where it is followed
        self.holdings = HoldingsReported(settings.max_titles)
        make_folder(self.state)
        self.lock = Lock(self.state)
        try:
            self.store = Store(self.state / NAME)
            try:
                self.adopt()
            except BaseException:
                self.store.close()
                raise
        except BaseException:
            self.lock.release()
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Put what is known on record, close the database and let another process write."""
        with contextlib.suppress(SettingsError):  # a full disk; what it had is what it has
            self.keep_states(self.registry.take_unsaved(every=True))
        self.store.close()
        self.lock.release()

    def adopt(self) -> None:
        """Take over the folder as the last writer left it, also if it was killed: finish what it had acknowledged."""
        remove_unfinished(self.state)
        self.overrides = self.store.overrides()
        self.tokens = self.store.tokens()
        self.take_windows()
        self.take_fleet()
        self.registry.set_maintenance(self.maintenance())  # before the words are stored: no client gets in for a moment
        self.registry.files = StatusFiles(self.state)
        self.hand_over = HandOver(self.state, self.registry.files)
        self.shelf = Shelf(self.state, self.store, self.fleet, self.clock, self.serve_playlists)
        current = self.hand_over.current
        if current and not self.store.fleet_version():
            raise SettingsError(
                f"{self.state}: serves {current.table}, and {NAME} knows of no fleet",
                hint=f"restore {NAME} from a backup, or begin with an empty state folder",
            )
        if current:
            self.store.record_published(number_of(current.table), number_of(current.fleet), current.published_at)
            try:
                self.hand_over.status.use(current.status)
                self.registry.adopt(self.store.states(), self.hand_over.status.word)
                current = self.adopt_holdings(current)
                self.serve_playlists()
                current = self.hand_over.current or current
                if number_of(current.fleet) != self.store.fleet_version():
                    with self.hand_over.undone_on_error() as made:
                        self.switch(self.prepare_fleet(current, made))
            except SnapshotError as error:
                logger.warning("%s; publish again to replace it", error.message)
            self.hand_over.status.clear_except(self.words)
            if (pin := self.store.pin()) and pin.table != number_of(current.table):
                self.set_pin(None)  # a rollback that was killed before it served
        self.remove_old()

    def adopt_holdings(self, current: Current) -> Current:
        """Begin with the holdings that serve; where they are unusable, serve without, and ask for all again."""
        if current.holdings:
            try:
                self.holdings.adopt(self.state / current.holdings)
            except SnapshotError as error:
                logger.warning("%s; every appliance is asked what it holds", error.message)
                return self.switch(dataclasses.replace(current, holdings=""))
        return current

    def take_fleet(self) -> None:
        """Read the fleet on record, and let the word that every slot in use should hold be worked out."""
        self.inventory = self.store.fleet()
        self.appliances = {appliance.id: appliance for appliance in self.inventory.appliances}
        wished = {name: OverrideOrigin(at, who) for name, (at, who) in self.store.wished().items()}
        self.registry.take_fleet(self.inventory, self.overrides, wished)
        self.holdings.use_fleet(self.inventory)

    @property
    def words(self) -> dict[int, int]:
        """The word that every slot in use should hold."""
        return self.registry.status_words()

    def take_windows(self) -> None:
        """Read the maintenance windows that are on or to come; others read them from their threads."""
        now = self.clock()
        self.windows_on_record = {item.id: item for item in self.store.windows(now) if item.is_open(now)}

    def maintenance(self) -> dict[str, Maintenance]:
        """Return the appliances that a window covers now; from any thread."""
        found = in_maintenance(self.windows_on_record.values(), self.inventory, self.clock())
        return {name: Maintenance(window.ends_at, window.why) for name, window in found.items()}

    # ---- verbs

    def fleet(self) -> Fleet:
        """Return the fleet on record, numbered."""
        return self.inventory

    def import_fleet(self, fleet: Fleet, who: str) -> dict[str, Any]:
        """Make a fleet the one on record and, where a table serves, the one served; report what changed.

        Routes are not touched: new clusters serve clients from the next publish on.
        """
        return self.change_fleet(fleet, Entry(self.clock(), who, "import fleet", ""))

    def change_fleet(self, fleet: Fleet, entry: Entry) -> dict[str, Any]:
        """As `import_fleet`, with the entry for the audit log; where it says nothing, what changed is counted."""
        before = self.inventory
        changed = unnumbered(fleet) != unnumbered(before)
        if changed and self.hand_over.current and not fleet.appliances:
            raise FeedError("the fleet has no appliance", hint="nothing was changed; what is serving serves on")
        if changed:
            with self.hand_over.undone_on_error() as made:
                candidate = None
                try:
                    with self.store.change():
                        self.store.replace_fleet(fleet, entry.who, self.clock())
                        self.take_fleet()
                        if entry.before is entry.after is None:
                            entry = dataclasses.replace(entry, after=self.changes_since(before))
                        self.store.note(entry)
                        if current := self.hand_over.current:
                            candidate = self.prepare_fleet(current, made)
                except BaseException:
                    self.take_fleet()
                    raise
                if candidate:
                    self.switch(candidate)
            self.remove_old()
        return {
            "fleet": self.store.fleet_version(),
            "changed": changed,
            **self.changes_since(before),
            "warnings": self.warnings(),
            "serving": self.hand_over.serving(),
        }

    def changes_since(self, before: Fleet) -> dict[str, dict[str, int]]:
        """Return how many of each kind were added, removed and changed since another fleet."""
        return {
            field.name: change_of(getattr(before, field.name), getattr(self.inventory, field.name))
            for field in dataclasses.fields(Fleet)
        }

    def put(
        self, kind: str, name: str, row: dict[str, Any], who: str, if_match: str = "", if_none_match: str = ""
    ) -> dict[str, Any]:
        """Make or replace one object of the fleet, where the caller has seen what it changes; report `made`, `row`."""
        before = nouns.rows_by_id(self.inventory, kind).get(name)
        subject = f"{nouns.SINGULAR[kind]} {name}"
        nouns.require_match(before, if_match, if_none_match, subject)
        fleet = nouns.with_row(self.inventory, kind, name, row)
        after = nouns.find_row(fleet, kind, name)
        report = self.change_fleet(fleet, Entry(self.clock(), who, "put", subject, before, after))
        return {"made": before is None, "row": after, "serving": report["serving"]}

    def delete(self, kind: str, name: str, who: str, if_match: str = "") -> dict[str, Any]:
        """Take one object out of the fleet, where the caller has seen it and nothing points at it."""
        before = nouns.find_row(self.inventory, kind, name)
        subject = f"{nouns.SINGULAR[kind]} {name}"
        nouns.require_match(before, if_match, "", subject)
        fleet = nouns.without_row(self.inventory, kind, name)
        return self.change_fleet(fleet, Entry(self.clock(), who, "delete", subject, before))

    def check(self, sources: Sequence[FeedSource], progress: Progress = quiet) -> dict[str, Any]:
        """Report what publishing these sources would serve, and every refusal that was kept; change nothing."""
        began = time.perf_counter()
        self.require_publishable(sources)

        def build(progress: Progress) -> dict[str, Any]:
            feeds, table = self.build(sources, progress)
            changes = self.compare_with_serving(table, progress)
            return {
                **report_of(feeds, table, refusals=1000),
                "changes": changes,
                "guards": broken_guards([feed for _, feed in feeds], changes, self.settings),
            }

        return {
            **self.run("build the table", build, progress),
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

        `force` is the reason to pass the guards with; a pin is taken away. With `canary`, a share from 0 to 1, only
        that share of the clients that would move do; the table waits beside it for `promote` or `withdraw`, pinned.
        """
        began = time.perf_counter()
        self.require_publishable(sources)
        before_canary = self.require_no_canary(canary) if canary else 0
        # A database restored from a backup is behind the files that were written since.
        written = max((number for _, kind, number in versioned_files(self.state) if kind == "table"), default=0)
        version = self.store.take_version(written)
        versions = [version, self.store.take_version(version)] if canary else [version]
        with self.hand_over.undone_on_error() as made:
            candidate = self.prepare(f"table.{versions[-1]}", f"routes.{versions[-1]}", made, progress)
            made += [f"{kind}.{number}" for kind in ("table", "routes") for number in versions]

            def build(progress: Progress) -> dict[str, Any]:
                feeds, table = self.build(sources, progress)
                changes = self.compare_with_serving(table, progress)
                broken = broken_guards([feed for _, feed in feeds], changes, self.settings)
                if broken and not force:
                    raise FeedError("; ".join(broken), hint="see `steering table check`; --force REASON publishes it")
                with step("write the table", progress):
                    write_table(self.state, version, table)
                if canary:
                    with step("write the canary", progress):
                        table = mixed_with_serving(self.state, before_canary, version, table, canary)
                        write_table(self.state, versions[-1], table)
                self.hand_over.try_out(candidate, table, progress)
                return {**report_of(feeds, table, refusals=20), "changes": changes, "guards": broken}

            report = self.run("build the table", build, progress)
            recorded = [
                {key: value for key, value in source.items() if key not in ("refusals", "warnings")}
                for source in (*report["feeds"], *report["other_sources"])
            ]
            if report["guards"]:
                why = "; ".join([why] * bool(why) + [f"forced, {force}", *report["guards"]])
            pin = None
            if canary:
                pin = Pin(versions[-1], self.clock(), who, f"canary of table {version}, {percent(canary)}")
                why = "; ".join(filter(None, (why, pin.why)))
            for number in versions:
                self.store.record_written(number, self.store.fleet_version(), who, why, recorded, report["counts"])
            before = self.hand_over.serving()
            current = self.switch(candidate, progress)
        for number in versions:
            self.store.record_published(number, number_of(current.fleet), current.published_at)
        if who != LIVE:
            entry = Entry(current.published_at, who, "publish", f"table {versions[-1]}", before, None, why)
            self.note_switch(entry, pin)
        self.remove_old()
        return {
            **report,
            "warnings": self.warnings(),
            "serving": self.hand_over.serving(),
            "seconds": round(time.perf_counter() - began, 3),
        }

    def reload(self, who: str, progress: Progress = quiet) -> dict[str, Any]:
        """Read the sources of the last publish again and publish them, unless a table is pinned."""
        versions = self.store.versions()
        if not versions:
            raise RequestError("nothing was published yet", hint="steering table publish", status=409)
        self.require_unpinned()
        return self.publish(feeds_of(versions[0]), who, f"reload of table {versions[0].table}", progress)

    def follow(self) -> dict[str, Any] | None:
        """Publish what live sessions changed; None where the last publish took none of them, or a table is pinned."""
        versions = self.store.versions()
        sources = feeds_of(versions[0]) if versions else []
        if not any(source.kind == "bgp" for source in sources) or self.store.pin():
            return None
        return self.publish(sources, LIVE)

    def publish_holdings(self) -> dict[str, Any] | None:
        """Publish what appliances said they hold; None where nothing changed, or nothing serves yet."""
        began = time.perf_counter()
        changes = self.holdings.begin() if self.hand_over.current else None
        if changes is None:
            return None
        path = opened = None
        try:
            with self.hand_over.undone_on_error() as made:
                files = versioned_files(self.state)
                version = max((number for _, kind, number in files if kind == "holdings"), default=0) + 1
                path = self.state / f"holdings.{version}"
                made.append(path.name)

                def write(progress: Progress) -> None:
                    with step("write the holdings", progress):
                        write_changes(self.state, version, changes)

                self.run("write the holdings", write, quiet)
                opened = open_holdings(StateFile(path, "holdings"))
                assert self.hand_over.current  # errands, done meanwhile, switch to nothing else
                self.switch(dataclasses.replace(self.hand_over.current, holdings=path.name))
        except BaseException:
            opened = None
            raise
        finally:
            self.holdings.end(path, opened)
        self.remove_old()
        return {
            "holdings": path.name,
            "titles": opened.titles,
            "changed": len(changes.held),
            "serving": self.hand_over.serving(),
            "seconds": round(time.perf_counter() - began, 3),
        }

    def watched(self) -> tuple[list[FeedSource], int]:
        """Return the sources of the last publish, none where a table is pinned, and the version of that publish."""
        versions = self.store.versions()
        if not versions or self.store.pin():
            return [], 0
        return feeds_of(versions[0]), versions[0].table

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
        """Return which canary serves. Raises RequestError 409 where none does."""
        found = self.canary_that_serves()
        if found is None:
            raise RequestError("no canary serves", hint="steering table publish --canary PERCENT", status=409)
        return found

    def canary_that_serves(self) -> dict[str, Any] | None:
        """Return which tables the canary that serves stands between, None where none does."""
        current = self.hand_over.current
        found = read_meta(self.state / current.table).get("canary") if current else None
        return dict(found) if found else None

    def serve_again(self, version: int, who: str, why: str, what: str, pin: Pin | None) -> dict[str, Any]:
        """Serve a kept table, and pin it or not."""
        began = time.perf_counter()
        self.require_kept(version)
        before = self.hand_over.serving()
        old_pin = self.store.pin()
        with self.hand_over.undone_on_error() as made:
            candidate = self.prepare(f"table.{version}", f"routes.{version}", made)
            self.hand_over.try_out(candidate)
            # On record before it serves: were we killed between, no reload would undo what was asked for.
            self.set_pin(pin)
            try:
                current = self.switch(candidate)
            except BaseException:
                self.set_pin(old_pin)
                raise
        self.note_switch(Entry(current.published_at, who, what, f"table {version}", before, None, why), pin)
        self.remove_old()
        return {"serving": self.hand_over.serving(), "before": before, "seconds": round(time.perf_counter() - began, 3)}

    def pin(self, who: str, why: str = "") -> dict[str, Any]:
        """Keep the table that serves: no reload replaces it until it is unpinned, or another is published by hand."""
        serving = self.hand_over.serving()
        if serving is None:
            raise RequestError("nothing was published yet", hint="steering table publish", status=409)
        now = self.clock()
        with self.store.change():
            self.store.set_pin(Pin(serving["table"], now, who, why))
            self.store.note(Entry(now, who, "pin", f"table {serving['table']}", why=why))
        return {"pinned": serving["table"]}

    def unpin(self, who: str) -> dict[str, Any]:
        """Let reloads publish again."""
        pin = self.store.pin()
        if pin:
            with self.store.change():
                self.store.set_pin(None)
                self.store.note(Entry(self.clock(), who, "unpin", f"table {pin.table}"))
        return {"pinned": None}

    def diff(self, before: int, after: int, examples: int = 20) -> dict[str, Any]:
        """Report what one kept table changes beside another, by the names of the fleet of now."""
        for version in (before, after):
            self.require_kept(version)

        def build(progress: Progress) -> dict[str, Any]:
            with step("compare", progress):
                sides = [side_of_files(self.state, version) for version in (before, after)]
                return compare(sides[0], sides[1], self.inventory, examples, self.traffic())

        return self.run("compare the tables", build, quiet)

    def tables(self) -> list[dict[str, Any]]:
        """Return every version ever published, newest first; `kept` ones still have their files."""
        current, pin = self.hand_over.current, self.store.pin()
        return [
            {
                **dataclasses.asdict(version),
                "serving": current is not None and version.table == number_of(current.table),
                "pinned": pin is not None and version.table == pin.table,
                "kept": (self.state / f"table.{version.table}").exists(),
            }
            for version in self.store.versions()
        ]

    def table(self, version: int) -> dict[str, Any]:
        """Return what is on record of a published version."""
        for row in self.tables():
            if row["table"] == version:
                return row
        raise RequestError(
            f"table {version}: none of this version was ever published", hint="steering table list", status=404
        )

    def routes(self, prefix: str) -> dict[str, Any]:
        """Return the routes of a prefix in the table that serves, of what covers it, and what lies inside it."""
        current = self.hand_over.current
        if current is None:
            raise RequestError("nothing was published yet", hint="steering table publish", status=409)
        if self.index is None or self.index[0] != current.routes:
            self.index = current.routes, RouteIndex(Routes(self.state / current.routes))
        found = self.index[1].about(prefix)
        names = {cluster.number: cluster.id for cluster in self.inventory.clusters}
        for route in (*found["exact"], *found["covering"]):
            route["cluster"] = names.get(route["cluster"], f"#{route['cluster']}")
        return {**found, "serving": self.hand_over.serving()}

    def route_report(self, partner: str = "") -> dict[str, Any]:
        """Return what could be mended in the routes that serve, of one partner or all."""
        current = self.hand_over.current
        if current is None:
            raise RequestError("nothing was published yet", hint="steering table publish", status=409)
        fleet, path, heard = self.inventory, self.state / current.routes, self.registry.routes_heard()
        return self.run("look at the routes", lambda _: route_report(Routes(path), fleet, heard, partner), quiet)

    def missing(self, partner: str = "", count: int = 1000) -> list[dict[str, Any]]:
        """Return the titles that clusters were asked for and do not hold, most asked first, of one partner or all."""
        return missing(counters_in(self.state), self.inventory, self.holdings.is_held, partner, count)

    def quality(self, by: By = "partner", partner: str = "", count: int = 1000) -> list[dict[str, Any]]:
        """Return how playback goes by what players report, where it hurts most first, of one partner or all."""
        return quality(counters_in(self.state), self.inventory, by, partner, count)

    def wished(self) -> list[dict[str, Any]]:
        """Return the overrides on record that are for appliances of the fleet, ordered by id."""
        return [
            {"appliance": name, **dataclasses.asdict(override)}
            for name, override in sorted(self.overrides.items())
            if name in self.appliances and override != Override()
        ]

    def drain(self, ids: Sequence[str], who: str) -> dict[str, Any]:
        """Let appliances take no new clients, from the next request on."""
        return self.override(ids, who, enabled=False)

    def enable(self, ids: Sequence[str], who: str) -> dict[str, Any]:
        """Let drained appliances serve again."""
        return self.override(ids, who, enabled=True)

    def weight(self, ids: Sequence[str], value: int | None, who: str) -> dict[str, Any]:
        """Set the weight of appliances, or with None go back to that of their capacity."""
        return self.override(ids, who, weight=value)

    def set_health_source(self, ids: Sequence[str], health_source: str, who: str) -> dict[str, Any]:
        """HealthSourceRequest appliances at their capacity (`assumed`), by their reports (`reported`), or as the setting says."""
        return self.override(ids, who, health_source=health_source)

    def override(self, ids: Sequence[str], who: str, **changes: Any) -> dict[str, Any]:
        """Change `enabled`, `weight` or `health_source` of appliances, all or none: on record first, then in the words."""
        if not ids:
            raise RequestError("name at least one appliance")
        weight = changes.get("weight")
        if weight is not None and not 0 <= weight <= MAX_WEIGHT:
            raise RequestError.of_parameter("weight", str(weight), f"a number from 0 to {MAX_WEIGHT}, or auto")
        if changes.get("health_source", "") not in HEALTH_SOURCES:
            raise RequestError.of_parameter(
                "health_source", changes["health_source"], "assumed, reported, or empty: as the setting says"
            )
        appliances = [self.appliance(name) for name in dict.fromkeys(ids)]
        overrides = {
            appliance.id: dataclasses.replace(self.overrides.get(appliance.id, Override()), **changes)
            for appliance in appliances
        }
        nothing = Override()
        before = {name: dataclasses.asdict(self.overrides.get(name, nothing)) for name in overrides}
        after = {name: dataclasses.asdict(override) for name, override in overrides.items()}
        now = self.clock()
        with self.store.change():
            self.store.set_overrides(overrides, who, now)
            self.store.note(Entry(now, who, "override", " ".join(overrides)[:200], before, after))
        self.overrides = self.overrides | overrides
        self.registry.set_overrides(overrides, OverrideOrigin(now, who))
        return {
            "appliances": [
                {
                    "appliance": item.id,
                    "enabled": overrides[item.id].enabled,
                    "weight": full_weight(item, overrides[item.id]),
                    "set": overrides[item.id].weight is not None,
                    "health_source": overrides[item.id].health_source,
                }
                for item in appliances
            ],
            "serving": self.hand_over.serving(),
        }

    def add_window(
        self, kind: str, subject: str, begins_at: float | None, ends_at: float, who: str, why: str
    ) -> dict[str, Any]:
        """Plan maintenance of an appliance, a cluster or a site; None begins it now. It begins and ends by itself."""
        now = self.clock()
        begins_at = now if begins_at is None else begins_at
        check_window(kind, subject, begins_at, ends_at, self.inventory, now)
        same = [item for item in self.windows_on_record.values() if (item.kind, item.subject) == (kind, subject)]
        if sum(item.is_open(now) for item in same) >= MOST_OPEN:
            raise RequestError(f"{kind} {subject}: has {MOST_OPEN} windows already", hint="cancel some", status=409)
        window = Window(0, kind, subject, begins_at, ends_at, now, who, why)
        with self.store.change():
            window = dataclasses.replace(window, id=self.store.add_window(window))
            self.store.note(Entry(now, who, "add window", f"{kind} {subject}", None, window.describe(now), why))
        self.take_windows()
        return window.describe(now)

    def cancel_window(self, number: int, who: str, why: str = "") -> dict[str, Any]:
        """Cancel a window that is to come, or end one early that is on."""
        now = self.clock()
        window = self.window(number)
        if not window.is_open(now):
            raise RequestError(f"window {number}: is {window.state(now)} already", status=409)
        after = dataclasses.replace(window, cancelled_at=now)
        with self.store.change():
            self.store.cancel_window(number, now)
            self.store.note(
                Entry(
                    *(now, who, "cancel window", f"{window.kind} {window.subject}"),
                    *(window.describe(now), after.describe(now), why),
                )
            )
        self.take_windows()
        return after.describe(now)

    def windows(self, ended: bool = False) -> list[dict[str, Any]]:
        """Return the windows that are on or to come, the first to begin first; with `ended`, all there ever were."""
        now = self.clock()
        found = self.store.windows() if ended else [w for w in self.windows_on_record.values() if w.is_open(now)]
        return [window.describe(now) for window in sorted(found, key=lambda window: (window.begins_at, window.id))]

    def window(self, number: int) -> Window:
        """Return a window on record. Raises RequestError 404."""
        for window in self.store.windows():
            if window.id == number:
                return window
        raise no_window(number)

    def held(self) -> list[dict[str, Any]]:
        """Return the appliances whose ejection is suppressed by a limit: they seem to be down and keep serving."""
        return sorted(suppressed_ejections(self.registry), key=lambda row: str(row["appliance"]))

    def release(self, who: str, why: str = "") -> dict[str, Any]:
        """Release the suppressed ejections: an operator confirms that the appliances are down."""
        names = self.registry.release_ejections()
        if names:
            with self.store.change():
                subject = f"{len(names)} appliances"
                self.store.note(Entry(self.clock(), who, "release ejections", subject, after=names[:1000], why=why))
        return {"released": names}

    def keep_states(self, states: dict[str, str]) -> None:
        """Put on record what is known of appliances."""
        with self.store.change():
            self.store.set_states(states)

    def make_token(self, role: str, name: str, who: str, days: float | None = None) -> dict[str, Any]:
        """Make a token for a role; its text is in this report, and nowhere else ever again."""
        check_role(role)
        if not set(name) <= TOKEN_NAME or len(name) > MAX_TOKEN_NAME:
            raise RequestError.of_parameter("name", name, f"at most {MAX_TOKEN_NAME} letters, digits, and -_.@")
        if days is not None and not 0 < days <= MAX_TOKEN_DAYS:
            raise RequestError.of_parameter("days", str(days), f"more than 0 and at most {MAX_TOKEN_DAYS}")
        kind, _, subject = role.partition(":")
        if subject:
            nouns.find_row(self.inventory, f"{kind}s", subject)
        secret, sha256 = make_secret()
        now = self.clock()
        expires_at = None if days is None else now + 86_400 * days
        with self.store.change():
            number = self.store.add_token(role, name, sha256, who, now, expires_at)
            self.store.note(Entry(now, who, "make token", f"token {number}", None, {"role": role, "name": name}))
        self.tokens = self.store.tokens()
        return {"id": number, "role": role, "name": name, "token": f"steering-{number}-{secret}"}

    def make_tokens(self, roles: Sequence[str], name: str, who: str) -> list[str]:
        """Make a token of one name for each role, all or none; return their texts, in the same order."""
        for role in roles:
            check_role(role)
        now = self.clock()
        texts = []
        with self.store.change():
            for role in roles:
                secret, sha256 = make_secret()
                texts.append(f"steering-{self.store.add_token(role, name, sha256, who, now, None)}-{secret}")
            self.store.note(Entry(now, who, "make tokens", f"{len(roles)} tokens", None, {"name": name}))
        self.tokens = self.store.tokens()
        return texts

    def list_tokens(self) -> list[dict[str, Any]]:
        """Return every token ever made, without what opens a door."""
        now = self.clock()
        return [
            {
                "id": token.id,
                "role": token.role,
                "name": token.name,
                "good": token.is_good(now),
                "made_at": token.made_at,
                "who": token.who,
                "expires_at": token.expires_at,
                "revoked_at": token.revoked_at,
            }
            for token in self.tokens.values()
        ]

    def revoke_token(self, number: int, who: str) -> dict[str, Any]:
        """Let a token open no door any more, from the next request on."""
        token = self.tokens.get(number)
        if token is None:
            raise RequestError(f"token {number}: there is none of this id", status=404)
        now = self.clock()
        with self.store.change():
            self.store.revoke_token(number, now)
            if token.revoked_at is None:
                self.store.note(Entry(now, who, "revoke token", f"token {number}", {"role": token.role}))
        self.tokens = self.store.tokens()
        return {"id": number, "role": token.role, "name": token.name}

    def make_key(self, name: str, who: str, secret: str = "") -> dict[str, Any]:
        """Make a key to sign URLs with. A secret that is made here is in this report, and else in the `keys` file."""
        now = self.clock()
        with self.store.change():
            self.store.note(Entry(now, who, "make key", f"key {name[:64]}", None, {"given": bool(secret)}))
            return key_file.make_key(self.state, name, now, secret)

    def list_keys(self) -> list[dict[str, Any]]:
        """Return every key, without its secret, and what it signs."""
        return key_file.list_keys(self.state, self.inventory.services)

    def retire_key(self, name: str, who: str) -> dict[str, Any]:
        """Take a key away that no service names any more."""
        with self.store.change():
            report = key_file.retire_key(self.state, name, self.inventory.services)
            self.store.note(Entry(self.clock(), who, "retire key", f"key {name}", {"made_at": report["made_at"]}))
        return report

    def audit(self, count: int = 100, below: int | None = None) -> list[dict[str, Any]]:
        """Return the newest entries of the audit log, newest first; `below` a number, to read on."""
        return self.store.audit(count, below)

    # ---- how

    def appliance(self, name: str) -> Appliance:
        """Return an appliance of the fleet; RequestError 404 names the id, and the nearest one there is."""
        try:
            return self.appliances[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.appliances, 1)
            raise RequestError(
                f"appliance {name!r}: the fleet has none of this id",
                hint=f"did you mean {near[0]}?" if near else "",
                status=404,
                parameter="appliance",
                value=name[:64],
                rule="the id of an appliance of the fleet",
            ) from None

    def require_publishable(self, sources: Sequence[FeedSource]) -> None:
        """Raise RequestError where there is nothing to publish, or nobody to steer to."""
        if not sources:
            raise RequestError("name at least one source to publish")
        if not self.inventory.clusters:
            raise RequestError(
                "the fleet is empty; there is nobody to steer to",
                hint="steering fleet import FILE, or steering fleet synth --import",
                status=409,
            )

    def build(
        self, sources: Sequence[FeedSource], progress: Progress
    ) -> tuple[list[tuple[FeedSource, Feed]], BuiltTable]:
        """Read the sources and build their table in memory. Changes nothing of this object."""
        feeds = []
        located = [found for source in sources for found in self.located(source, progress)]
        for source in located:
            with step(f"read {source.path or 'the shipped table of the Internet'}", progress):
                feeds.append(filter_feed(read_feed(source, self.inventory), self.inventory, self.settings))
        payloads = None
        if self.settings.rpki:
            with step(f"read {self.settings.rpki}", progress):
                payloads = read_payloads(self.settings.rpki)
            feeds = [validated(feed, payloads) for feed in feeds]
        with step("build the table", quiet):
            table = build_table(
                feeds, self.inventory, self.settings, progress, payloads.describe() if payloads else None
            )
            if not table.counts["routes_v4"] + table.counts["routes_v6"]:
                raise FeedError("no feed has a route")
        return list(zip(located, feeds, strict=True)), table

    def located(self, source: FeedSource, progress: Progress) -> list[FeedSource]:
        """Return the files that a source leads to: the copy of a URL, those of a folder, live routes."""
        if source.kind == "bgp":
            return [FeedSource("bgp", str(self.state / BGP_FILE), "bgp")]
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
                copy = fetch(source.path, self.state, self.settings.fetch_mb << 20).path
            return [FeedSource(source.kind, str(copy), source.path)]
        return [source]

    def require_no_canary(self, share: float) -> int:
        """Return the table that serves and that a canary can stand beside. Raises RequestError."""
        if not 0 < share < 1:
            raise RequestError.of_parameter("canary", str(share), "a share of clients, more than 0 and less than 1")
        current = self.hand_over.current
        if current is None:
            raise RequestError("nothing was published yet", hint="publish without a canary first", status=409)
        if self.canary_that_serves():
            raise RequestError("a canary serves already", hint="steering table promote, or withdraw", status=409)
        return number_of(current.table)

    def require_unpinned(self) -> None:
        """Raise RequestError 409 where a table is pinned."""
        if pin := self.store.pin():
            ends = (
                "promote, or steering table withdraw"
                if self.canary_that_serves()
                else "unpin, or steering table publish"
            )
            raise RequestError(
                f"table {pin.table} is pinned by {pin.who}: {pin.why or 'no reason given'}",
                hint=f"steering table {ends}",
                status=409,
            )

    def require_kept(self, version: int) -> None:
        """Raise RequestError 404 for a table that was never published, 409 where its files are gone."""
        if not self.table(version)["kept"]:
            raise RequestError(
                f"table {version}: its files were removed", hint="the setting retain keeps more", status=409
            )

    def compare_with_serving(self, table: BuiltTable, progress: Progress) -> dict[str, Any] | None:
        """Return what a table would change; None where nothing serves, or what serves cannot be read."""
        current = self.hand_over.current
        if current is None:
            return None
        with step("compare with what serves", progress):
            try:
                before = side_of_files(self.state, number_of(current.table))
            except SnapshotError as error:
                logger.warning("%s: nothing to compare with", error.message)
                return None
            return compare(before, side_of_table(table), self.inventory, traffic=self.traffic())

    def traffic(self) -> Traffic | None:
        """Return where the traffic is, if a file says so."""
        return read_traffic(self.settings.traffic) if self.settings.traffic else None

    def set_pin(self, pin: Pin | None) -> None:
        """Put a pin, or that there is none, on record."""
        with self.store.change():
            self.store.set_pin(pin)

    def note_switch(self, entry: Entry, pin: Pin | None) -> None:
        """Note what serves now, and what is pinned from here on."""
        with self.store.change():
            self.store.set_pin(pin)
            self.store.note(dataclasses.replace(entry, after=self.hand_over.serving()))

    def prepare(self, table_name: str, routes_name: str, made: list[str], progress: Progress = quiet) -> Current:
        """Prepare to serve a table with the fleet on record."""
        playlists = self.prepare_playlists(made)
        versions = Versions(table_name, routes_name, self.inventory, self.store.fleet_version(), self.words, playlists)
        return self.hand_over.prepare(versions, made, progress)

    def prepare_fleet(self, current: Current, made: list[str]) -> Current:
        """Prepare to serve the fleet on record with the table that serves, and try it out."""
        candidate = self.prepare(current.table, current.routes, made)
        self.hand_over.try_out(candidate)
        return candidate

    def prepare_playlists(self, made: list[str]) -> str:
        """Return the file that has the playlists on record, written where it is not there yet; empty for none."""
        current, digest = self.hand_over.current, self.shelf.digest()
        if not digest:
            return ""
        if current and current.playlists and self.shelf.is_written(current.playlists, digest):
            return current.playlists
        with step("write the playlists", quiet):
            version = self.store.next_generation(current.generation if current else 0)
            made.append(f"playlists.{version}")
            return self.shelf.write(version, digest)

    def serve_playlists(self) -> None:
        """Serve the playlists on record; before the first publish they wait for it."""
        if (current := self.hand_over.current) is None:
            return
        with self.hand_over.undone_on_error() as made:
            name = self.prepare_playlists(made)
            if name == current.playlists:
                return
            candidate = dataclasses.replace(current, playlists=name)
            self.hand_over.try_out(candidate)
            self.switch(candidate)
        self.remove_old()

    def switch(self, candidate: Current, progress: Progress = quiet) -> Current:
        """Serve what was prepared."""
        return self.hand_over.switch(candidate, self.words, self.store, self.clock(), progress)

    def remove_old(self) -> None:
        """Keep the files of the newest published tables, as many as the setting `retain` says.

        Of those that followed live routes the newest counts, and beside it one an hour is kept.
        """
        kept, gone = kept_versions(self.store.versions(), self.settings.retain)
        serving = self.hand_over.serving()
        gone = [version for version in gone if serving is None or version.table != serving["table"]]
        if gone:
            self.store.forget(version.table for version in gone)
        self.hand_over.remove_old(kept)

    def warnings(self) -> list[str]:
        """Return what an operator would want to know about the fleet on record."""
        name = self.settings.default_service
        found = []
        if all(service.id != name for service in self.inventory.services):
            found.append(
                f"the fleet has no service {name!r}: requests that name no service are refused"
                " (setting default_service)"
            )
        try:
            return found + key_file.warnings_of(read_keys(self.state), self.inventory.services)
        except SnapshotError as error:
            return [*found, error.message]


def no_window(number: int) -> RequestError:
    """Return the error for a window that is not there, or that is not the caller's to know of."""
    return RequestError(f"window {number}: there is none of this id", status=404)


def registry_of(settings: Settings) -> Registry:
    """Return an empty registry with the rules and limits of the settings."""
    rules = Rules(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(Rules)})
    limits = Limits(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(Limits)})
    return Registry(rules, limits, settings.load_excess, player_signal=settings.player_signal)


def report_of(feeds: Sequence[tuple[FeedSource, Feed]], table: BuiltTable, refusals: int) -> dict[str, Any]:
    """Return what was read and built; `refusals` is how many of each feed's are shown."""
    return {
        "feeds": [
            {
                "kind": source.kind,
                "path": source.path,
                "named": source.named,
                **feed.describe(),
                "refusals": [
                    {"row": item.row, "value": item.value, "rule": item.rule} for item in feed.refusals[:refusals]
                ],
            }
            for source, feed in feeds
        ],
        "other_sources": table.other_sources,
        "counts": table.counts,
        "duplicates": table.duplicates,
        "conflicts": list(table.conflicts[:refusals]),
    }


def feeds_of(version: Version) -> list[FeedSource]:
    """Return the feeds that a version was made from, as they were named, to be read again."""
    found = []
    for item in version.sources:
        named = item.get("named", "")
        if item["kind"] not in KINDS:
            continue
        if item["kind"] == "bgp" or not named:
            found.append(FeedSource(item["kind"], "" if named else item["path"]))
        else:
            found.append(FeedSource(item["kind"] if is_url(named) else "folder", named))
    return list(dict.fromkeys(found))


def kept_versions(versions: Sequence[Version], retain: int) -> tuple[list[Version], list[Version]]:
    """Return which versions, newest first, keep their files, and which live ones are not even remembered."""
    kept: list[Version] = []
    gone: list[Version] = []
    hours: set[int] = set()
    by_hand = 0
    for version in versions:
        if version.who != LIVE:
            by_hand += 1
            kept += [version] * (by_hand <= retain)
        elif (hour := int(version.published_at // 3600)) not in hours:
            hours.add(hour)
            kept += [version] * (len(hours) <= retain)
        else:
            gone.append(version)
    return kept, gone


def change_of(before: Sequence[Any], after: Sequence[Any]) -> dict[str, int]:
    """Return how many nouns there are now, and how many were added, removed and changed."""
    old, new = {item.id: item for item in before}, {item.id: item for item in after}
    return {
        "count": len(new),
        "added": len(new.keys() - old.keys()),
        "removed": len(old.keys() - new.keys()),
        "changed": sum(old[name] != new[name] for name in new.keys() & old.keys()),
    }


def unnumbered(fleet: Fleet) -> Fleet:
    """Return the fleet without the store's numbers, to be compared."""
    return dataclasses.replace(
        fleet,
        partners=tuple(dataclasses.replace(item, number=UNNUMBERED) for item in fleet.partners),
        clusters=tuple(dataclasses.replace(item, number=UNNUMBERED) for item in fleet.clusters),
        appliances=tuple(dataclasses.replace(item, slot=UNNUMBERED) for item in fleet.appliances),
    )
