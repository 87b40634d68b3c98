"""The registry: what control knows of every appliance now, and the status words that follow.

    reports, overrides, fleets ─> ApplianceState ─> status word ─> `status.<epoch>`, read by every pick
    tick: silence ─> the players' witness ─> ejection limits ─> pressures ─> ramps ─> load balancer ─> player signal
          ─> alarms ─> listeners

Reports arrive in the event loop's thread, overrides and fleets in the writer's: one lock is between them, held for
microseconds. Reports and overrides change a status word at once. Inference, ramps and load follow once a tick, and
listeners are called after it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from _fastpath.status_words import DISABLED, OVER_LIMIT, pressure_in
from steering.control.health import player_signal as players
from steering.control.health import rules as health
from steering.control.health.alarms import Alarm, changed_alarms, find_alarms
from steering.control.health.appliance_state import (
    NO_OVERRIDE,
    OUT,
    PACED,
    WEIGHT,
    ApplianceState,
    Maintenance,
    OverrideOrigin,
    is_out,
    name_of,
)
from steering.control.health.ejection_limits import EjectionLimiter
from steering.control.health.load_balancer import LoadBalancer
from steering.control.health.members import Members
from steering.control.health.pressure import Pressures
from steering.control.health.rules import HealthRecord, Report
from steering.control.records.overrides import Override
from steering.errors import RequestError
from steering.model.fleet import Appliance, Cluster, Fleet
from steering.model.route import RoutesHeard
from steering.settings import Settings
from steering.state.status import StatusFiles

Overrides = Mapping[str, tuple[Override, OverrideOrigin | None]]  # by id, each with who set it last

SAVED_AT_ONCE: Final = 1000  # records: some 5 ms
MOVED_AT_ONCE: Final = 500  # ramps in one tick: some 10 ms
TOLD_AT_ONCE: Final = 500  # changes that listeners are called for in one tick
NO_OVERRIDES: Final[Overrides] = MappingProxyType({})


@dataclasses.dataclass(frozen=True, slots=True)
class StateChange:
    """A change of an appliance's state; `why` may be empty."""

    at: float
    appliance: str
    before: str
    after: str
    why: str


def steady_clock() -> Callable[[], float]:
    """Return a clock in seconds since the epoch that never jumps when the system's time is set."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


class Registry:
    """The states of all appliances of the fleet. Every method may be called from any thread."""

    def __init__(self, settings: Settings, clock: Callable[[], float] | None = None) -> None:
        self.settings = settings
        self.clock = clock or steady_clock()
        self.lock = threading.RLock()
        self.files: StatusFiles | None = None
        self.members = Members()
        self.states, self.by_slot, self.clusters = self.members.states, self.members.by_slot, self.members.clusters
        self.limiter = EjectionLimiter(settings, self.members)
        self.balancer = LoadBalancer(settings.load_excess, self.by_slot, self.clusters)
        self.pressures = Pressures(settings, self.clusters)
        self.in_maintenance: set[str] = set()
        self.off_target: set[str] = set()  # their ramp is not at its target, or viewers are held back
        self.unsaved: set[str] = set()  # their record is newer than the database's
        self.pending: list[StateChange] = []
        self.raised: dict[tuple[str, str], Alarm] = {}
        self.ticked_at: float | None = None
        self.turn = 0  # of the ramps, where very many move
        self.counted_at = -math.inf  # requests by title
        self.listeners: list[Callable[[StateChange], None]] = []
        self.alarm_listeners: list[Callable[[Alarm], None]] = []
        self.source_alarms: dict[tuple[str, str], Alarm] = {}  # of the last publish; replaced as a whole

    # ---- fleet and overrides

    def take_fleet(self, fleet: Fleet, overrides: Overrides = NO_OVERRIDES) -> None:
        """Use a new fleet and all overrides; appliances that stay keep their state."""
        clusters = {cluster.id: cluster for cluster in fleet.clusters}
        with self.lock:
            self.take([(appliance, clusters[appliance.cluster]) for appliance in fleet.appliances], overrides)
            self.drop_absent({appliance.id for appliance in fleet.appliances}, len(self.states))

    def take(self, appliances: Iterable[tuple[Appliance, Cluster]], overrides: Overrides) -> None:
        """Use new and changed appliances, each with its cluster, and their overrides; a known one keeps its state."""
        now = self.clock()
        with self.lock:
            for appliance, cluster in appliances:
                state = self.members.place(appliance, cluster, now)
                state.override, state.overridden = overrides.get(state.id, (NO_OVERRIDE, None))
                self._refresh(state, now)

    def drop_absent(self, names: Container[str], most: int) -> list[str]:
        """Forget appliances whose ids are not among these, so many at most, and return them.

        Their status words become 0: no weight and no family.
        """
        with self.lock:
            absent = self.members.absent(names)[:most]
            for name in absent:
                state = self.members.remove(name)
                self.limiter.forget(name)
                self.off_target.discard(name)
                self.unsaved.discard(name)
                if self.files:
                    self.files.set_words({state.appliance.slot: 0})
        return absent

    def adopt(self, records: Mapping[str, str], status_at: Callable[[int], int]) -> None:
        """Start from the records in the database and the status words that serve.

        Silence counts from now on: an appliance that reported before has all its time to report again.
        """
        now = self.clock()
        with self.lock:
            for name, state in self.states.items():
                status = status_at(state.appliance.slot)
                if name in records:
                    state.record = read_record(records[name], now)
                    if status and (full := health.full_weight(state.appliance, state.override)):
                        state.record = msgspec.structs.replace(
                            state.record, ramp=min((status & WEIGHT) / full, 1.0), returned=health.returned_by(status)
                        )
                        self.off_target.add(name)
                state.ejected = bool(status & OUT) and health.is_suspect(state.record, state.override, self.settings)
                state.overloaded = bool(status & OVER_LIMIT)
                state.pressure = pressure_in(status)
                state.status = status  # so that only an appliance that was out has a slow start
                self._refresh(state, now)
            self.pending.clear()

    def status_words(self) -> dict[int, int]:
        with self.lock:
            return {slot: state.status for slot, state in self.by_slot.items()}

    def store_words(self) -> None:
        """Store the status word of every appliance in the status files."""
        with self.lock:
            if self.files:
                self.files.set_words(self.status_words())

    def set_overrides(self, overrides: Mapping[str, Override], overridden: OverrideOrigin) -> None:
        """Use overrides that are in the database."""
        now = self.clock()
        with self.lock:
            for name, override in overrides.items():
                if state := self.states.get(name):
                    state.override, state.overridden = override, overridden
                    self.pressures.note(state)
                    self._refresh(state, now, f"overridden by {overridden.who}")

    def set_maintenance(self, maintenance: Mapping[str, Maintenance]) -> None:
        """Begin and end maintenance: these appliances, by id, are in a window, and no others."""
        now = self.clock()
        with self.lock:
            for name in maintenance.keys() | self.in_maintenance:
                state, window = self.states.get(name), maintenance.get(name)
                if state and window != state.maintenance:
                    state.maintenance = window
                    self._refresh(state, now)
            self.in_maintenance = set(maintenance)

    # ---- reports and observations

    def report(self, name: str, report: Report, monitor: int | None = None, now: float | None = None) -> str:
        """Use a report, the appliance's own or that of a monitor, by its token; return accepted, repeated or late.

        Raises RequestError 404 if the fleet has no such appliance.
        """
        now = self.clock() if now is None else now
        with self.lock:
            state = self.find(name)
            if monitor is not None:
                state.record, verdict = health.heard_from(state.record, report, monitor)
                if report.health and verdict == "accepted":
                    self.observe(name, report.health.state != "failed", f"a monitor: {report.health.why}", now)
                return verdict
            verdict = health.verdict_of(state.record, report)
            if verdict == "accepted":
                before, capacity_gbps = state.record, state.appliance.capacity_gbps
                state.record = health.with_report(before, report, capacity_gbps, now, self.settings)
                self.pressures.note(state)
                state.busy = (state.health.throughput_gbps or 0.0) / capacity_gbps
                self.limiter.note_sign(state, now)
                if not before.reports or before.boot != report.boot:
                    self.unsaved.add(name)
                self._refresh(state, now)
            return verdict

    def observe(self, name: str, ok: bool, why: str, now: float | None = None, family: int = 0) -> None:
        """Use an observation of the checker or a monitor. Unknown names are ignored."""
        now = self.clock() if now is None else now
        with self.lock:
            if state := self.states.get(name):
                state.record = health.with_observation(state.record, ok, why, now, self.settings, family)
                self.limiter.note_sign(state, now)
                self._refresh(state, now)

    def release_ejections(self) -> list[str]:
        """Release all suppressed ejections, which happen at the next tick; return the ids of their appliances."""
        with self.lock:
            return self.limiter.release()

    def find(self, name: str) -> ApplianceState:
        """Return an appliance's state. Raises RequestError 404."""
        try:
            return self.states[name]
        except KeyError:
            raise RequestError.of_parameter("appliance", name, "the id of an appliance of the fleet", 404) from None

    def is_reported(self, name: str) -> bool:
        """Return whether the health source of an appliance is its reports. Raises RequestError 404."""
        with self.lock:
            state = self.find(name)
            return health.is_reported(state.record, state.override, self.settings)

    def routes_heard(self) -> dict[str, Mapping[int, RoutesHeard]]:
        """Return the routes that each appliance reports to hear, by id and family."""
        with self.lock:
            return {name: state.record.routes for name, state in self.states.items() if state.record.routes}

    def take_unsaved(self, every: bool = False) -> dict[str, str]:
        """Return records to save, by id: some of those that changed, or with `every` all of appliances that reported.

        The others that changed are returned by later calls: many change when operators drain many.
        """
        with self.lock:
            if every:
                names = {name for name, state in self.states.items() if state.record.reports}
            else:
                names = set(itertools.islice(self.unsaved, SAVED_AT_ONCE))
            self.unsaved -= names
            return {name: write_record(self.states[name].record) for name in names if name in self.states}

    # ---- status words

    def _refresh(self, state: ApplianceState, now: float, why: str = "") -> None:
        """Make an appliance's status word and name anew, and store the word; the caller has the lock."""
        name = state.id
        self.limiter.note(state, health.is_suspect(state.record, state.override, self.settings), now)
        status = self._status_of(state)
        if health.is_reported(state.record, state.override, self.settings):
            if state.out and not is_out(status):
                state.record = health.with_slow_start(state.record)
                status = self._status_of(state)
            target = health.target_of(state.record, state.appliance.capacity_gbps, self.settings)
            if state.record.ramp != target:
                self.off_target.add(name)
        if state.status & ~status & DISABLED:
            state.record = health.with_slow_return(state.record)
            status = self._status_of(state)
        if state.record.returned < 1.0:
            self.off_target.add(name)
        if status != state.status:
            if self.files:
                self.files.set_words({state.appliance.slot: status})
            if (status ^ state.status) & ~PACED:
                self.unsaved.add(name)
                self.pressures.look_at(state)
            state.status = status
        new_name, reason = name_of(state, self.settings)
        if new_name != state.name:
            if state.name:
                self.pending.append(StateChange(now, name, state.name, new_name, why or reason))
            state.name, state.changed_at = new_name, now
        state.why = reason

    def _status_of(self, state: ApplianceState) -> int:
        """Return the status word that follows from overrides, record, inference and load."""
        return health.status_of(
            state.appliance,
            state.override,
            state.record,
            self.settings,
            enabled=state.maintenance is None,
            ejected=state.ejected,
            overloaded=state.overloaded,
            load_factor=state.load_factor * state.player_factor,
            pressure=state.pressure,
        )

    # ---- the tick

    def tick(
        self,
        answers: Mapping[int, int] | None = None,
        asked: Mapping[int, int] | None = None,
        attested: Mapping[int, int] | None = None,
        failing: Mapping[int, int] | None = None,
        maintenance: Mapping[str, Maintenance] | None = None,
    ) -> None:
        """Do what is due once a tick, then call the listeners; of very many changes some are for the next ticks.

        All counts are of all workers since the last tick: `answers` by the slot that they named first, `asked` the
        requests by content key, `attested` and `failing` the attested reports by slot.
        `maintenance` are the open windows by appliance.
        """
        now = self.clock()
        with self.lock:
            elapsed_s = 0.0 if self.ticked_at is None else max(now - self.ticked_at, 0.0)
            self.ticked_at = now
            self.set_maintenance(maintenance or {})
            self._mark_stale(now)
            self.limiter.count_players(attested or {}, failing or {})
            for state in self.limiter.update(now):
                self._refresh(state, now)
            for state in self.pressures.update():
                self._refresh(state, now)
            self._move_ramps(now, elapsed_s)
            for state in self.balancer.compare(answers or {}, elapsed_s):
                self._refresh(state, now)
            if self.settings.player_signal:
                for state in players.update_factors(
                    self.clusters, attested or {}, failing or {}, self.settings, elapsed_s
                ):
                    self._refresh(state, now)
            self.count_requests(asked or {})
            self.store_words()
            changes, self.pending = self.pending[:TOLD_AT_ONCE], self.pending[TOLD_AT_ONCE:]
            current = find_alarms(self.states, self.clusters, self.limiter.suspect, now) | self.source_alarms
            alarms = changed_alarms(self.raised, current, now)
            self.raised = {key: self.raised.get(key, alarm) for key, alarm in current.items()}
        for change in changes:
            for take_change in self.listeners:
                take_change(change)
        for alarm in alarms:
            for take_alarm in self.alarm_listeners:
                take_alarm(alarm)

    def count_requests(self, asked: Mapping[int, int]) -> None:
        """Count the requests by content key since the last call, and fan hot titles out at once."""
        now = self.clock()
        with self.lock:
            elapsed_s, self.counted_at = max(now - self.counted_at, 0.0), now
            if self.balancer.fan_out(asked, elapsed_s) and self.files:
                self.files.set_hot(self.balancer.fan_outs)

    def _mark_stale(self, now: float) -> None:
        """Mark appliances stale that were silent for too long; the caller has the lock."""
        stale_s = self.settings.stale_s
        for state in self.states.values():
            record = state.record
            if record.reported_at is not None and now - record.reported_at > stale_s and record.fresh.holds:
                state.record = health.with_silence(record, now, self.settings)
                self._refresh(state, now)

    def _move_ramps(self, now: float, elapsed_s: float) -> None:
        """Move each ramp that is not at its target by one step; the caller has the lock.

        Of very many, as when operators enable many at once, some have their turn in each tick.
        """
        turns = 1 + len(self.off_target) // MOVED_AT_ONCE
        self.turn = (self.turn + 1) % turns
        for state in [self.states[name] for name in self.off_target]:
            if state.appliance.slot % turns != self.turn:
                continue
            capacity_gbps, due_s = state.appliance.capacity_gbps, elapsed_s * turns
            stepped = health.with_step(state.record, capacity_gbps, due_s, self.settings, is_short=state.is_short)
            if stepped is state.record:
                self.off_target.discard(state.id)
            else:
                state.record = stepped
                self._refresh(state, now)

    # ---- alarms and listeners

    def alarms(self) -> list[Alarm]:
        with self.lock:
            return list(self.raised.values())

    def listen(self, callback: Callable[[StateChange], None]) -> None:
        """Call back for every change of a state, from the thread that ticks."""
        self.listeners.append(callback)

    def on_alarm(self, callback: Callable[[Alarm], None]) -> None:
        """Call back for every alarm that is raised or resolved, from the thread that ticks."""
        self.alarm_listeners.append(callback)


def write_record(record: HealthRecord) -> str:
    return msgspec.json.encode(record).decode()


def read_record(text: str, now: float) -> HealthRecord:
    """Return a record from its JSON; an unreadable one is as a new one.

    An appliance that was not stale has from now on all its time to report again.
    """
    try:
        record = msgspec.json.decode(text, type=HealthRecord)
    except msgspec.MsgspecError:
        return health.new_record(now)
    return msgspec.structs.replace(record, reported_at=now if record.fresh.holds else None)
