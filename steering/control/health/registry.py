"""What is known of every appliance at this moment, and the word in `weights` that follows from it.

Reports come in the door's thread, overrides and fleets in the writer's: one lock is between them, held for microseconds.
What people override and what an appliance says of itself changes its word at once. The rest is done once a tick: silence,
the ejection_limits radius, levels that move by a step, loads compared with shares (of a large fleet in turns), hits spread. Who
listens is told after it.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from _fastpath.ranking import DISABLED, IPV4_UP, IPV6_UP, NO_HEADROOM, OVER_LIMIT, STALE, UNHEALTHY
from steering.control.health import ejection_limits as ejection_limits
from steering.control.health import load
from steering.control.health import player_signal as signal
from steering.control.health import rules as health
from steering.control.health.ejection_limits import Limits, Place
from steering.control.health.player_signal import Told
from steering.control.health.rules import Condition, Report, Rules, Vital
from steering.control.records.database import Override
from steering.errors import RequestError
from steering.model.fleet import Appliance, Fleet
from steering.state.status import StatusFiles

NOBODY: Final = Override()
WEIGHT: Final = 0xFFFF
OUT: Final = UNHEALTHY | STALE
FAMILIES: Final = IPV4_UP | IPV6_UP
COMPARED_AT_ONCE: Final = 5000  # appliances whose loads are compared in one tick: about 15 ms


@dataclasses.dataclass(frozen=True, slots=True)
class StateChange:
    """An appliance went from one state to another; `why` may be empty."""

    at: float
    appliance: str
    before: str
    after: str
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Alarm:
    """Something a person should look at, raised or over: `kind` is held, cluster_down or players."""

    at: float
    kind: str
    subject: str
    text: str
    resolved: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Maintenance:
    """A window that an appliance is in: its end, and why."""

    until: float
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class OverrideOrigin:
    """Who wished something of an appliance, and when."""

    at: float
    who: str


class Entry:
    """One appliance: who it is, what is wished and known of it, and what follows."""

    __slots__ = (
        "appliance",
        "busy",
        "changed_at",
        "failing",
        "held",
        "kept",
        "label",
        "maintenance",
        "out",
        "over",
        "override",
        "place",
        "requests",
        "steady",
        "trim",
        "trimmed",
        "vital",
        "voices",
        "why",
        "wished",
        "word",
    )

    def __init__(self, appliance: Appliance, place: Place, now: float) -> None:
        self.appliance = appliance
        self.place = place
        self.override = NOBODY
        self.wished: OverrideOrigin | None = None
        self.vital = health.unheard(now)
        self.maintenance: Maintenance | None = None
        self.out = False  # what is inferred of it acts
        self.held = ""  # what is inferred of it may not act: fleet, or its cluster
        self.over = False
        self.requests = 0.0
        self.steady = 0.0  # faded more slowly
        self.trim = 1.0  # the share of its weight that it should keep, so that it has its share of the load
        self.trimmed = 1.0  # as it is in the word
        self.voices = 0.0  # viewers whose word counts, faded, and how many of them fail
        self.failing = 0.0
        self.kept = 1.0  # the share of its weight that their word leaves it
        self.busy = 0.0  # what it says it delivers, as a share of its capacity
        self.word = 0
        self.label = ""
        self.why = ""
        self.changed_at = now


def steady_clock() -> Callable[[], float]:
    """Return a clock that tells seconds since the epoch as of now, and never jumps when somebody sets the time."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


class Vitals:
    """All appliances of the fleet on record. Every method may be called from any thread."""

    def __init__(
        self,
        rules: Rules | None = None,
        limits: Limits | None = None,
        excess: float = 0.15,
        clock: Callable[[], float] | None = None,
        player_signal: float = 0.0,
    ) -> None:
        self.rules = rules or Rules()
        self.limits = limits or Limits()
        self.excess = excess
        self.player_signal = player_signal
        self.clock = clock or steady_clock()
        self.lock = threading.RLock()
        self.files: StatusFiles | None = None
        self.entries: dict[str, Entry] = {}
        self.by_slot: dict[int, Entry] = {}
        self.clusters: dict[str, list[Entry]] = {}
        self.sizes = ejection_limits.Sizes(0, {}, {})
        self.in_maintenance: set[str] = set()
        self.restless: set[str] = set()  # their level is not where it should be
        self.suspect: dict[str, float] = {}  # since when something inferred speaks against them, in that order
        self.recent: dict[str, float] = {}  # taken out by inference, and when
        self.released: set[str] = set()  # suspect, and to go whatever the limits say
        self.dirty: set[str] = set()  # what is known of them is not on record
        self.pending: list[StateChange] = []
        self.raised: dict[tuple[str, str], Alarm] = {}
        self.heat: dict[int, float] = {}
        self.hot: dict[int, int] = {}
        self.total = 0.0
        self.waited_s = [0.0]  # since clusters were compared, by turn
        self.turn = 0
        self.ticked_at: float | None = None
        self.listeners: list[Callable[[StateChange], None]] = []
        self.alarm_listeners: list[Callable[[Alarm], None]] = []

    # ---- who there is

    def take_fleet(self, fleet: Fleet, overrides: Mapping[str, Override], wished: Mapping[str, OverrideOrigin]) -> None:
        """Take over a fleet and all overrides; what is known of those who stay is kept."""
        now = self.clock()
        sites = {cluster.id: cluster.site for cluster in fleet.clusters}
        with self.lock:
            files, self.files = self.files, None  # who publishes the fleet stores its words, in its order
            before, self.entries = self.entries, {}
            clusters: dict[str, list[Entry]] = defaultdict(list)
            for appliance in fleet.appliances:
                place = Place(appliance.cluster, sites[appliance.cluster])
                entry = before.get(appliance.id) or Entry(appliance, place, now)
                entry.appliance, entry.place = appliance, place
                entry.override, entry.wished = overrides.get(appliance.id, NOBODY), wished.get(appliance.id)
                self.entries[appliance.id] = entry
                clusters[place.cluster].append(entry)
            self.by_slot = {entry.appliance.slot: entry for entry in self.entries.values()}
            self.clusters = dict(clusters)
            self.waited_s = [0.0] * (1 + len(self.entries) // COMPARED_AT_ONCE)
            self.sizes = ejection_limits.sizes_of({name: entry.place for name, entry in self.entries.items()})
            for names in (self.restless, self.released, self.dirty):
                names.intersection_update(self.entries)
            self.suspect = {name: at for name, at in self.suspect.items() if name in self.entries}
            for entry in self.entries.values():
                self.refresh(entry, now)
            self.files = files

    def adopt(self, states: Mapping[str, str], word_at: Callable[[int], int]) -> None:
        """Begin where the last control process ended: with what it had on record, and the words that serve.

        Silence counts from now on: who was heard of has all its time to report again.
        """
        now = self.clock()
        with self.lock:
            for name, entry in self.entries.items():
                word = word_at(entry.appliance.slot)
                if name in states:
                    entry.vital = read_state(states[name], now)
                    if word and (full := health.full_weight(entry.appliance, entry.override)):
                        entry.vital = dataclasses.replace(entry.vital, level=min((word & WEIGHT) / full, 1.0))
                        self.restless.add(name)
                entry.out = bool(word & OUT) and health.is_suspect(entry.vital, entry.override, self.rules)
                entry.over = bool(word & OVER_LIMIT)
                entry.word = word  # so that nobody who never was out starts slowly
                self.refresh(entry, now)
            self.pending.clear()

    def words(self) -> dict[int, int]:
        """Return the word that every slot in use should hold."""
        with self.lock:
            return {slot: entry.word for slot, entry in self.by_slot.items()}

    def set_overrides(self, overrides: Mapping[str, Override], wished: OverrideOrigin) -> None:
        """Take over overrides that are on record."""
        now = self.clock()
        with self.lock:
            for name, override in overrides.items():
                if entry := self.entries.get(name):
                    entry.override, entry.wished = override, wished
                    self.refresh(entry, now, f"{wished.who} wished it")

    # ---- what is said

    def report(self, name: str, report: Report, own: bool, now: float | None = None) -> str:
        """Take a report, an appliance's own or what a monitor says of it; return accepted, repeated or late.

        Raises RequestError 404 where the fleet has no such appliance.
        """
        now = self.clock() if now is None else now
        with self.lock:
            entry = self.find(name)
            if not own:
                if report.health:
                    self.observe(name, report.health.state != "failed", f"a monitor: {report.health.why}", now)
                return "accepted"
            verdict = health.verdict_of(entry.vital, report)
            if verdict == "accepted":
                before, first = entry.vital, not entry.vital.reports
                entry.vital = health.with_report(entry.vital, report, entry.appliance.capacity_gbps, now, self.rules)
                entry.busy = (known(entry.vital).throughput_gbps or 0.0) / entry.appliance.capacity_gbps
                if first or before.boot != report.boot:
                    self.dirty.add(name)
                self.refresh(entry, now)
            return verdict

    def observe(self, name: str, ok: bool, why: str, now: float | None = None, family: int = 0) -> None:
        """Take what somebody else finds of an appliance; enough of it in a row counts. Unknown names pass."""
        now = self.clock() if now is None else now
        with self.lock:
            if entry := self.entries.get(name):
                entry.vital = health.with_observation(entry.vital, ok, why, now, self.rules, family)
                self.refresh(entry, now)

    def release(self) -> list[str]:
        """Let those that are held go, by a person's word; return who they are. They go at the next tick."""
        with self.lock:
            held = [name for name, entry in self.entries.items() if entry.held]
            self.released.update(held)
            return held

    # ---- what follows

    def refresh(self, entry: Entry, now: float, why: str = "") -> None:
        """Work out an appliance's word anew and store it; the caller has the lock."""
        name = entry.appliance.id
        vital, override = entry.vital, entry.override
        if health.is_suspect(vital, override, self.rules):
            self.suspect.setdefault(name, now)
        elif name in self.suspect:
            del self.suspect[name]
            self.released.discard(name)
            entry.out, entry.held = False, ""
        word = self.word_of(entry)
        if is_out(entry.word) and not is_out(word) and health.is_reported(vital, override, self.rules):
            entry.vital = health.with_slow_start(vital)
            word = self.word_of(entry)
        if health.is_reported(vital, override, self.rules):
            aim = health.level_aimed_at(vital.health, entry.appliance.capacity_gbps, self.rules)
            if entry.vital.level != aim:
                self.restless.add(name)
        if word != entry.word:
            if self.files:
                self.files.set_words({entry.appliance.slot: word})
            if (word ^ entry.word) & ~WEIGHT:
                self.dirty.add(name)
            entry.word = word
        label, reason = label_of(entry, self.rules)
        if label != entry.label:
            if entry.label:
                self.pending.append(StateChange(now, name, entry.label, label, why or reason))
            entry.label, entry.changed_at = label, now
        entry.why = reason

    def word_of(self, entry: Entry) -> int:
        """Return the word that follows from what is wished and known."""
        return health.word_of(
            entry.appliance,
            entry.override,
            entry.vital,
            self.rules,
            enabled=entry.maintenance is None,
            out=entry.out,
            over=entry.over,
            trim=entry.trimmed * entry.kept,
        )

    def tick(
        self,
        answers: Mapping[int, int] | None = None,
        asked: Mapping[int, int] | None = None,
        maintenance: Mapping[str, Maintenance] | None = None,
        voices: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        """Do what is done once a tick, then tell who listens.

        `answers` are those that named each slot first, `asked` how often each content key was asked for, `voices` the
        viewers of each slot whose word counts and how many of them fail, all since the last tick, by all workers;
        `maintenance` the windows that are open.
        """
        now = self.clock()
        with self.lock:
            elapsed_s = 0.0 if self.ticked_at is None else max(now - self.ticked_at, 0.0)
            self.ticked_at = now
            self.keep_windows(maintenance or {}, now)
            self.hear_silence(now)
            self.take_out(now)
            self.move_levels(now, elapsed_s)
            self.bound_loads(answers or {}, now, elapsed_s)
            self.hear_players(voices or {}, now, elapsed_s)
            self.fan_out_hits(asked or {}, elapsed_s)
            if self.files:
                self.files.set_words({slot: entry.word for slot, entry in self.by_slot.items()})
            changes, self.pending = self.pending, []
            alarms = self.alarms_changed(now)
        for change in changes:
            for listen in self.listeners:
                listen(change)
        for alarm in alarms:
            for hear in self.alarm_listeners:
                hear(alarm)

    def keep_windows(self, maintenance: Mapping[str, Maintenance], now: float) -> None:
        """Begin and end maintenance."""
        for name in maintenance.keys() | self.in_maintenance:
            entry, window = self.entries.get(name), maintenance.get(name)
            if entry and window != entry.maintenance:
                entry.maintenance = window
                self.refresh(entry, now)
        self.in_maintenance = set(maintenance)

    def hear_silence(self, now: float) -> None:
        """Notice who has been silent for too long."""
        stale_s = self.rules.stale_s
        for entry in self.entries.values():
            vital = entry.vital
            if vital.heard_at is not None and now - vital.heard_at > stale_s and vital.heard.holds:
                entry.vital = health.with_silence(vital, now, self.rules)
                self.refresh(entry, now)

    def take_out(self, now: float) -> None:
        """Let what is inferred act, as far as the ejection_limits radius allows."""
        self.recent = {name: at for name, at in self.recent.items() if now - at <= self.limits.ejection_limit_s}
        wanted = [name for name in self.suspect if self.is_wanted(self.entries[name])]
        out = frozenset(name for name in wanted if self.entries[name].out)
        bound = [name for name in wanted if name not in self.released]
        places = {name: self.entries[name].place for name in {*wanted, *self.recent} if name in self.entries}
        found = ejection_limits.limit(bound, out, frozenset(self.recent), places, self.sizes, self.limits)
        for name in self.suspect:
            entry = self.entries[name]
            held = found.held.get(name, "")
            out_now = entry.out or name in found.go or name in self.released or not self.is_wanted(entry)
            if (out_now, held) != (entry.out, entry.held):
                if not entry.out and name in found.go:
                    self.recent[name] = now
                entry.out, entry.held = out_now, held
                self.refresh(entry, now)

    def is_wanted(self, entry: Entry) -> bool:
        """Tell whether people want it to serve."""
        return entry.override.enabled and entry.maintenance is None

    def move_levels(self, now: float, elapsed_s: float) -> None:
        """Move the levels that are not where they should be by a step."""
        for name in list(self.restless):
            entry = self.entries[name]
            stepped = health.with_step(entry.vital, entry.appliance.capacity_gbps, elapsed_s, self.rules)
            if stepped is entry.vital:
                self.restless.discard(name)
            else:
                entry.vital = stepped
                self.refresh(entry, now)

    def bound_loads(self, answers: Mapping[int, int], now: float, elapsed_s: float) -> None:
        """Compare every appliance's load with its share of its cluster's; of a large fleet, where it is their turn."""
        fade = load.faded(1.0, elapsed_s)
        slowly = load.faded(1.0, elapsed_s, load.STEADY_S)
        self.total = self.total * fade + sum(answers.values())
        for slot, entry in self.by_slot.items():
            count = answers.get(slot, 0)
            entry.requests = entry.requests * fade + count
            entry.steady = entry.steady * slowly + count
        self.waited_s = [waited_s + elapsed_s for waited_s in self.waited_s]
        self.turn = (self.turn + 1) % len(self.waited_s)
        waited_s, self.waited_s[self.turn] = self.waited_s[self.turn], 0.0
        for members in itertools.islice(self.clusters.values(), self.turn, None, len(self.waited_s)):
            over: set[int] = set()
            loads, busy = [entry.steady for entry in members], [entry.busy for entry in members]
            if len(members) > 1 and load.may_be_over(loads, busy, self.excess):
                compared = [member_of(entry) for entry in members if can_serve(entry)]
                over = load.over_limit(compared, self.excess)
                for slot, trim in load.trims(compared, self.excess, waited_s).items():
                    self.by_slot[slot].trim = trim
            for entry in members:
                is_over = entry.appliance.slot in over
                if entry.over != is_over or abs(entry.trim - entry.trimmed) >= load.TRIM_STEP:
                    entry.over, entry.trimmed = is_over, entry.trim
                    self.refresh(entry, now)

    def hear_players(self, voices: Mapping[int, tuple[int, int]], now: float, elapsed_s: float) -> None:
        """Let those that players fail on lose weight, and get it back."""
        if not self.player_signal:
            return
        fade = load.faded(1.0, elapsed_s, signal.HALF_LIFE_S)
        for slot, entry in self.by_slot.items():
            heard, failing = voices.get(slot, (0, 0))
            entry.voices = entry.voices * fade + heard
            entry.failing = min(entry.failing * fade + failing, entry.voices)
        for members in self.clusters.values():
            if all(entry.kept == 1.0 and entry.failing < 1.0 for entry in members):
                continue
            told = [Told(entry.appliance.slot, entry.voices, entry.failing, entry.kept) for entry in members]
            most = ejection_limits.allowance(self.limits.ejection_limit_cluster, len(members))
            for slot, kept in signal.kept(told, self.player_signal, most, elapsed_s).items():
                self.by_slot[slot].kept = kept
                self.refresh(self.by_slot[slot], now)

    def fan_out_hits(self, asked: Mapping[int, int], elapsed_s: float) -> None:
        """Deal the viewers of hits into more orders."""
        fade = load.faded(1.0, elapsed_s)
        self.heat = {key: rate * fade for key, rate in self.heat.items() if rate * fade >= 1.0}
        for key, count in asked.items():
            self.heat[key] = self.heat.get(key, 0.0) + count
        largest = max((len(members) for members in self.clusters.values()), default=1)
        hot = load.fan_outs(self.heat, max(self.total, sum(self.heat.values())), largest, self.hot)
        if hot != self.hot:
            self.hot = hot
            if self.files:
                self.files.set_hot(hot)

    # ---- told

    def alarms_changed(self, now: float) -> list[Alarm]:
        """Return the alarms that are new, and those that are over; the caller has the lock."""
        found: dict[tuple[str, str], Alarm] = {}
        held: dict[str, list[str]] = defaultdict(list)
        for name in self.suspect:
            if reason := self.entries[name].held:
                held[reason].append(name)
        for limit, names in held.items():
            text = (
                f"{len(names)} appliances seem to be down, more than may be inferred at once ({limit}): they serve on; "
                f"look, then `steering held --release`: {', '.join(sorted(names)[:3])}"
            )
            found["held", limit] = Alarm(now, "held", limit, text)
        for cluster in {entry.place.cluster for entry in self.entries.values() if is_out(entry.word)}:
            wanted = [entry for entry in self.clusters[cluster] if self.is_wanted(entry)]
            if wanted and all(is_out(entry.word) for entry in wanted):
                text = f"cluster {cluster}: none of its {len(wanted)} appliances can serve: {wanted[0].why}"
                found["cluster_down", cluster] = Alarm(now, "cluster_down", cluster, text)
        for entry in self.entries.values() if self.player_signal else ():
            if entry.kept < 1.0:
                name, cluster = entry.appliance.id, entry.place.cluster
                text = f"players fail on {name}: of {entry.voices:.0f}, {entry.failing:.0f} had a stall or an error"
                found["players", cluster] = Alarm(now, "players", cluster, text)
        told = [alarm for key, alarm in found.items() if key not in self.raised]
        told += [
            dataclasses.replace(alarm, at=now, resolved=True) for key, alarm in self.raised.items() if key not in found
        ]
        self.raised = {key: self.raised.get(key, alarm) for key, alarm in found.items()}
        return told

    def alarms(self) -> list[Alarm]:
        """Return the alarms that are raised."""
        with self.lock:
            return list(self.raised.values())

    def listen(self, callback: Callable[[StateChange], None]) -> None:
        """Call back for every change of a state, from the thread that ticks."""
        self.listeners.append(callback)

    def on_alarm(self, callback: Callable[[Alarm], None]) -> None:
        """Call back for every alarm that is raised, or over, from the thread that ticks."""
        self.alarm_listeners.append(callback)

    def find(self, name: str) -> Entry:
        """Return an appliance's entry. Raises RequestError 404."""
        try:
            return self.entries[name]
        except KeyError:
            raise RequestError.of_parameter("appliance", name, "the id of an appliance of the fleet", 404) from None

    def believed(self, name: str) -> bool:
        """Tell whether an appliance is believed by its reports."""
        with self.lock:
            entry = self.find(name)
            return health.is_reported(entry.vital, entry.override, self.rules)

    def describe(self, name: str) -> dict[str, Any]:
        """Return the state of an appliance, since when and why, and the figures behind it."""
        with self.lock:
            entry = self.find(name)
            return describe(entry, self.rules, self.total)

    def describe_all(self) -> dict[str, dict[str, Any]]:
        """Return the state of every appliance, by id."""
        with self.lock:
            return {name: describe(entry, self.rules, self.total) for name, entry in self.entries.items()}

    def describe_cluster(self, name: str) -> dict[str, Any]:
        """Return how many appliances of a cluster are in which state, what it weighs, and its share of the answers."""
        with self.lock:
            members = self.clusters.get(name, [])
            states: dict[str, int] = defaultdict(int)
            for entry in members:
                states[entry.label] += 1
            requests = sum(entry.requests for entry in members)
            return {
                "appliances": len(members),
                "states": dict(sorted(states.items())),
                "weight": sum(entry.word & WEIGHT for entry in members if can_serve(entry)),
                "capacity_gbps": sum(entry.appliance.capacity_gbps for entry in members),
                "throughput_gbps": sum((known(entry.vital).throughput_gbps or 0.0) for entry in members),
                "share": requests / self.total if self.total else 0.0,
            }

    def routes_heard(self) -> dict[str, Mapping[int, health.RoutesHeard]]:
        """Return what each appliance that says so hears, by family."""
        with self.lock:
            return {name: entry.vital.routes for name, entry in self.entries.items() if entry.vital.routes}

    def take_dirty(self, every: bool = False) -> dict[str, str]:
        """Return what is to be put on record of whom; of `every` one that ever reported, or of those that changed."""
        with self.lock:
            names = [name for name, entry in self.entries.items() if entry.vital.reports] if every else self.dirty
            states = {name: write_state(self.entries[name].vital) for name in names if name in self.entries}
            self.dirty = set()
            return states


def is_out(word: int) -> bool:
    """Tell whether an appliance can serve nobody, whatever people override."""
    return bool(word & OUT) or not word & FAMILIES


def can_serve(entry: Entry) -> bool:
    """Tell whether it takes clients, or would were it not over its limit."""
    return not (entry.word & (DISABLED | NO_HEADROOM) or is_out(entry.word)) and bool(entry.word & WEIGHT)


def member_of(entry: Entry) -> load.Member:
    """Return an appliance as its load is compared."""
    appliance = entry.appliance
    busy = entry.busy or None
    weight = round((entry.word & WEIGHT) / entry.trimmed)
    return load.Member(
        appliance.slot,
        weight,
        entry.requests,
        busy,
        appliance.capacity_gbps,
        entry.over,
        entry.steady,
        entry.trim,
    )


def known(vital: Vital) -> health.Health:
    """Return the last health that an appliance reported, or one that says nothing."""
    return vital.health or health.Health()


def label_of(entry: Entry, rules: Rules) -> tuple[str, str]:
    """Return the state of an appliance in a word, and why."""
    vital, word = entry.vital, entry.word
    reported = health.is_reported(vital, entry.override, rules)
    if entry.maintenance:
        return "maintenance", entry.maintenance.why
    if not entry.override.enabled:
        busy = reported and bool(known(vital).connections)
        return "draining" if busy else "drained", entry.wished.who if entry.wished else ""
    if word & UNHEALTHY or not word & FAMILIES:
        return "unhealthy", health.suspicion_of(vital).why if vital.healthy.holds else vital.healthy.why
    if word & STALE:
        return ("stale" if vital.reports else "unknown"), vital.heard.why
    if word & NO_HEADROOM:
        return "full", f"headroom {known(vital).headroom_gbps:g} Gbps"
    if word & OVER_LIMIT:
        return "over", "far above its share of its cluster's load"
    if not word & WEIGHT:
        return "weightless", "its weight is 0"
    if entry.held:
        suspicion = vital.heard.why if reported and not vital.heard.holds else health.suspicion_of(vital).why
        return "held", f"{suspicion}; held by the limit of {entry.held}"
    lost = [version for bit, version, wanted in family_bits(entry.appliance) if wanted and not word & bit]
    if lost:
        found = health.suspicion_of(vital)
        return "partial", f"not up over {' and '.join(lost)}" + (f": {found.why}" if not found.holds else "")
    if reported and vital.climbing:
        return "climbing", "slow start"
    return "serving", f"players fail on it: it keeps {entry.kept:.0%} of its weight" if entry.kept < 1.0 else ""


def family_bits(appliance: Appliance) -> tuple[tuple[int, str, bool], tuple[int, str, bool]]:
    """Return for each family its bit, its name, and if the appliance is there to answer on it."""
    return (IPV4_UP, "IPv4", appliance.ipv4), (IPV6_UP, "IPv6", appliance.ipv6)


def describe(entry: Entry, rules: Rules, total: float) -> dict[str, Any]:
    """Return an appliance's state for people and machines."""
    vital, word = entry.vital, entry.word
    said = known(vital)
    reported = health.is_reported(vital, entry.override, rules)
    return {
        "state": entry.label,
        "since": entry.changed_at,
        "why": entry.why,
        "health_source": "reported" if reported else "assumed",
        "enabled": entry.override.enabled and entry.maintenance is None,
        "wished": {"at": entry.wished.at, "who": entry.wished.who} if entry.wished else None,
        "maintenance": dataclasses.asdict(entry.maintenance) if entry.maintenance else None,
        "healthy": condition(vital.healthy if not vital.healthy.holds else health.suspicion_of(vital)),
        "stale": condition(dataclasses.replace(vital.heard, holds=reported and not vital.heard.holds)),
        "held": entry.held or None,
        "weight": word & WEIGHT,
        "level": round(vital.level, 3) if reported else 1.0,
        "trim": round(entry.trimmed, 3),
        "players": {
            "voices": round(entry.voices, 1),
            "failing": round(entry.failing, 1),
            "kept": round(entry.kept, 3),
        },
        "families": [family for family, bit in ((4, IPV4_UP), (6, IPV6_UP)) if word & bit],
        "throughput_gbps": said.throughput_gbps,
        "headroom_gbps": said.headroom_gbps,
        "connections": said.connections,
        "error_rate": said.error_rate,
        "disk_used": said.disk_used,
        "reported_at": vital.heard_at,
        "clock_skew_s": None if vital.skew_s is None else round(vital.skew_s, 3),
        "share": entry.requests / total if total else 0.0,
    }


def condition(found: Condition) -> dict[str, Any]:
    """Return a condition for machines."""
    return {"holds": found.holds, "since": found.since, "why": found.why}


def write_state(vital: Vital) -> str:
    """Return what is known of an appliance as JSON, to be on record."""
    return msgspec.json.encode(vital).decode()


def read_state(text: str, now: float) -> Vital:
    """Return what was known of an appliance; what this version cannot read is nothing.

    Who was heard of then has from now on the time to report again.
    """
    try:
        found = msgspec.json.decode(text, type=Vital)
    except msgspec.MsgspecError:
        return health.unheard(now)
    return dataclasses.replace(found, heard_at=now if found.heard.holds else None)
