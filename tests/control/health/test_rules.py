"""Reports, observations and overrides make a status word: rows first, then the properties."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _fastpath.status_words import DISABLED, IPV4_UP, IPV6_UP, NO_HEADROOM, OVER_LIMIT, STALE, UNHEALTHY
from steering.control.health import rules as health
from steering.control.health.rules import Health, HealthRecord, Report
from steering.control.records.overrides import Override
from steering.model.fleet import Appliance
from steering.settings import Settings

SETTINGS = Settings(low_headroom=0.05)
BOTH = IPV4_UP | IPV6_UP
APPLIANCE = Appliance("c1", "a", "c1.example", 100.0, slot=0)  # full weight 1000
NEW = health.new_record(0.0)


def reported(report: Report | None = None, now: float = 0.0, settings: Settings = SETTINGS) -> HealthRecord:
    """Return the record after a first report."""
    return health.with_report(NEW, report or Report("b", 1, health=Health()), 100.0, now, settings)


def status(record: HealthRecord = NEW, override: Override | None = None, **more: Any) -> int:
    return health.status_of(APPLIANCE, override or Override(), record, SETTINGS, **more)


FAILED = reported(Report("b", 1, health=Health("failed", "disk")))
SILENT = health.with_silence(reported(), 31.0, SETTINGS)
SUSPECT = msgspec.structs.replace(NEW, inferred=(health.Condition(False, 0.0, "refused"), *NEW.inferred[1:]))
NO_IPV6 = msgspec.structs.replace(NEW, inferred=(*NEW.inferred[:2], health.Condition(False, 0.0, "refused")))

STATUS_WORDS: list[tuple[str, int, int]] = [
    ("assumed has its capacity", status(), 1000 | BOTH),
    ("assumed with a set weight", status(override=Override(weight=7)), 7 | BOTH),
    ("drained", status(override=Override(enabled=False)), 1000 | BOTH | DISABLED),
    ("in maintenance", status(enabled=False), 1000 | BOTH | DISABLED),
    ("reported, no report yet", status(override=Override(health_source="reported")), 1000 | BOTH | STALE),
    ("reported", status(reported()), 1000 | BOTH),
    ("reported, weight 0 stays 0", status(reported(), Override(weight=0)), BOTH),
    ("a low ramp is never 0", status(msgspec.structs.replace(reported(), ramp=0.0)), 1 | BOTH),
    ("failed by its own report", status(FAILED), 1000 | BOTH | UNHEALTHY),
    ("failed, but assumed", status(FAILED, Override(health_source="assumed")), 1000 | BOTH),
    ("silent, not ejected", status(SILENT), 1000 | BOTH),
    ("silent and ejected", status(SILENT, ejected=True), 1000 | BOTH | STALE),
    ("silent, but assumed", status(SILENT, Override(health_source="assumed"), ejected=True), 1000 | BOTH),
    ("suspect, not ejected", status(SUSPECT), 1000 | BOTH),
    ("suspect and ejected", status(SUSPECT, ejected=True), 1000 | BOTH | UNHEALTHY),
    ("suspect over IPv6 alone", status(NO_IPV6, ejected=True), 1000 | IPV4_UP),
    ("overloaded", status(overloaded=True), 1000 | BOTH | OVER_LIMIT),
    ("no IPv4 by its own report", status(reported(Report("b", 1, health=Health(ipv4=False)))), 1000 | IPV6_UP),
    ("full", status(reported(Report("b", 1, health=Health(headroom_gbps=5.0)))), 1000 | BOTH | NO_HEADROOM | 63 << 23),
    ("nearly full", status(reported(Report("b", 1, health=Health(headroom_gbps=5.1)))), 1000 | BOTH),
]


@pytest.mark.parametrize(("name", "result", "expected"), STATUS_WORDS, ids=[row[0] for row in STATUS_WORDS])
def test_the_status_word_follows_from_overrides_and_record(name: str, result: int, expected: int) -> None:
    assert result == expected


ORDERS: list[tuple[str, list[tuple[str, int]], list[str]]] = [
    ("in order", [("a", 1), ("a", 2), ("a", 9)], ["accepted"] * 3),
    ("repeated", [("a", 1), ("a", 1)], ["accepted", "repeated"]),
    ("out of order", [("a", 3), ("a", 2), ("a", 4)], ["accepted", "late", "accepted"]),
    ("a new boot begins anew", [("a", 9), ("b", 0), ("b", 0)], ["accepted", "accepted", "repeated"]),
    ("the boot before is late", [("a", 9), ("b", 0), ("a", 10)], ["accepted", "accepted", "late"]),
    ("two boots before is new again", [("a", 9), ("b", 0), ("c", 0), ("a", 1)], ["accepted"] * 4),
    ("a boot without a name", [("", 1), ("", 1), ("", 2)], ["accepted", "repeated", "accepted"]),
]


@pytest.mark.parametrize(("name", "given", "expected"), ORDERS, ids=[row[0] for row in ORDERS])
def test_late_and_repeated_reports_are_recognised(name: str, given: list[tuple[str, int]], expected: list[str]) -> None:
    record, verdicts = NEW, []
    for boot, seq in given:
        report = Report(boot, seq)
        verdicts.append(health.verdict_of(record, report))
        if verdicts[-1] == "accepted":
            record = health.with_report(record, report, 100.0, 0.0, SETTINGS)
    assert verdicts == expected


def test_an_appliances_clock_is_shown_and_decides_nothing() -> None:
    record = health.with_report(reported(now=100.0), Report("b", 2, sent_at=-5e9), 100.0, 110.0, SETTINGS)
    assert record.reported_at == 110.0
    assert record.skew_s == -5e9 - 110.0


RAMPS: list[tuple[Health | None, float]] = [
    (None, 1.0),
    (Health(), 1.0),
    (Health(headroom_gbps=100.0), 1.0),
    (Health(headroom_gbps=20.0), 1.0),
    (Health(headroom_gbps=12.5), 0.5),
    (Health(headroom_gbps=5.0), 0.0),
    (Health(headroom_gbps=0.0), 0.0),
    (Health("degraded", headroom_gbps=20.0), 0.5),
    (Health("degraded", headroom_gbps=12.5), 0.25),
]


@pytest.mark.parametrize(("reported_health", "ramp"), RAMPS)
def test_the_ramp_falls_between_the_marks_and_by_half_when_degraded(
    reported_health: Health | None, ramp: float
) -> None:
    assert health.target_ramp(reported_health, 100.0, SETTINGS) == pytest.approx(ramp)


def test_a_full_appliance_takes_clients_again_only_well_above_the_low_mark() -> None:
    full = [False]
    for headroom in (6.0, 5.0, 6.0, 8.7, 8.8, 6.0):
        full.append(health.is_full(Health(headroom_gbps=headroom), 100.0, full[-1], SETTINGS))
    assert full[1:] == [False, True, True, True, False, False]


def test_a_recovered_appliance_ramps_up_slowly_to_its_full_weight() -> None:
    record = health.with_slow_start(reported())
    ramps = [record.ramp]
    settings = SETTINGS.model_copy(update={"return_s": 60.0})
    for _ in range(61):
        record = health.with_step(record, 100.0, 1.0, settings)
        ramps.append(record.ramp)
    assert ramps[0] == health.FIRST_RAMP
    assert ramps[30] == pytest.approx(0.6)
    assert ramps[54] == pytest.approx(1.0)
    assert ramps[60] == 1.0
    assert not record.ramping
    assert health.with_step(record, 100.0, 1.0, SETTINGS) is record


RETURNS = [
    # name, headroom of 100 Gbps, the share of its viewers back after 60 of 600 s
    ("with all its headroom", 100.0, 0.1),
    ("from the high mark on", 20.0, 0.1),
    ("with half of the way between the marks", 12.5, 0.05),
    ("with none beyond the low mark", 5.1, 0.1 * 0.1 / 15),
    ("while it is full", 5.0, 0.0),
]


@pytest.mark.parametrize(("headroom", "back"), [row[1:] for row in RETURNS], ids=[row[0] for row in RETURNS])
def test_viewers_come_back_as_there_is_room(headroom: float, back: float) -> None:
    record = reported(Report("b", 1, health=Health(headroom_gbps=1.0)))
    record = health.with_report(record, Report("b", 2, health=Health(headroom_gbps=50.0)), 100.0, 0.0, SETTINGS)
    assert record.returned == 0.0
    record = health.with_report(record, Report("b", 3, health=Health(headroom_gbps=headroom)), 100.0, 0.0, SETTINGS)
    for _ in range(60):
        record = health.with_step(record, 100.0, 1.0, SETTINGS)
    assert record.returned == pytest.approx(back)
    word = status(record)
    assert health.returned_by(word) == pytest.approx(back, abs=1 / 63)


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=30),
    st.floats(0.01, 1.0),
    st.sampled_from(["ok", "degraded", "failed"]),
)
def test_no_ramp_moves_by_more_than_a_step(headrooms: list[float | None], step: float, state: str) -> None:
    settings = SETTINGS.model_copy(update={"weight_step": step})
    record = reported(settings=settings)
    for seq, headroom in enumerate(headrooms, 2):
        message = Health(state, headroom_gbps=headroom)
        record = health.with_report(record, Report("b", seq, health=message), 100.0, 0.0, settings)
        stepped = health.with_step(record, 100.0, 1.0, settings)
        assert abs(stepped.ramp - record.ramp) <= step + 1e-9
        assert 0.0 <= stepped.ramp <= 1.0
        record = stepped


Heard = tuple[int, str, int, float | None]  # token, boot, seq, at

MONITORS: list[tuple[str, list[Heard], list[str]]] = [
    ("in order", [(1, "m", 1, 5.0), (1, "m", 2, 6.0), (1, "m", 9, None)], ["accepted"] * 3),
    ("one report three times", [(1, "m", 1, 5.0)] * 3, ["accepted", "repeated", "repeated"]),
    ("without a clock", [(1, "m", 1, None)] * 3, ["accepted", "repeated", "repeated"]),
    ("one observation sent as new", [(1, "m", 1, 5.0), (1, "m", 2, 5.0)], ["accepted", "repeated"]),
    ("old observations in turn, sent as new", [(1, "m", 1, 5.0), (1, "m", 2, 6.0), (1, "m", 3, 5.0), (1, "m", 4, 6.0), (1, "m", 5, 5.0)],
     ["accepted", "accepted", "repeated", "repeated", "repeated"]),
    ("an old one behind one without a clock", [(1, "m", 1, 5.0), (1, "m", 2, None), (1, "m", 3, 5.0), (1, "m", 4, None)],
     ["accepted", "accepted", "repeated", "accepted"]),
    ("out of order", [(1, "m", 3, 7.0), (1, "m", 2, 6.0), (1, "m", 4, 8.0)], ["accepted", "late", "accepted"]),
    ("a clock set back", [(1, "m", 1, 7.0), (1, "m", 2, 6.0)], ["accepted", "accepted"]),
    ("a monitor restarts", [(1, "m", 9, 7.0), (1, "n", 0, 8.0), (1, "n", 0, 8.0)], ["accepted", "accepted", "repeated"]),
    ("two monitors of a token", [(1, "m", 1, 5.0), (1, "n", 1, 5.0), (1, "m", 1, 5.0)], ["accepted", "accepted", "repeated"]),
    ("two tokens", [(1, "m", 1, 5.0), (2, "m", 1, 5.0), (2, "m", 1, 5.0)], ["accepted", "accepted", "repeated"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "expected"), MONITORS, ids=[row[0] for row in MONITORS])
def test_a_monitors_report_counts_once(name: str, given: list[Heard], expected: list[str]) -> None:
    record, verdicts = NEW, []
    for token, boot, seq, sent_at in given:
        record, verdict = health.heard_from(record, Report(boot, seq, sent_at), token)
        verdicts.append(verdict)
    assert verdicts == expected


def test_only_the_last_boots_of_monitors_are_kept() -> None:
    record = NEW
    for boot in range(100):
        record, _ = health.heard_from(record, Report(f"boot-{boot}", 0), 1)
    assert list(record.observers) == [f"1 boot-{boot}" for boot in range(92, 100)]


OBSERVATIONS: list[tuple[str, str, bool]] = [
    ("two bad ones are too few", "--", True),
    ("three bad ones in a row", "---", False),
    ("never three in a row", "--+--+--+", True),
    ("one good one is too few", "---+", False),
    ("two good ones in a row", "---++", True),
    ("flapping stays where it is", "---+-+-+-+-", False),
]


@pytest.mark.parametrize(("name", "seen", "holds"), OBSERVATIONS, ids=[row[0] for row in OBSERVATIONS])
@pytest.mark.parametrize("family", [0, 4, 6])
def test_it_takes_equal_observations_in_a_row_to_turn_what_is_inferred(
    name: str, seen: str, holds: bool, family: int
) -> None:
    record = NEW
    for sign in seen:
        record = health.with_observation(record, sign == "+", "refused", 0.0, SETTINGS, family)
    assert health.suspicion_of(record).holds == holds
    assert health.is_suspect(record, Override(), SETTINGS) != holds


def test_silence_counts_after_three_missed_reports() -> None:
    record = reported(now=100.0)
    assert health.with_silence(record, 130.0, SETTINGS) is record
    assert not health.with_silence(record, 130.1, SETTINGS).fresh.holds
    assert health.with_silence(NEW, 1e9, SETTINGS) is NEW


@given(st.integers(0, 0xFFFF), st.floats(0.0, 1.0), st.booleans(), st.booleans())
def test_a_higher_ramp_never_weighs_less(weight: int, ramp: float, ejected: bool, overloaded: bool) -> None:
    low, high = (msgspec.structs.replace(reported(), ramp=value) for value in sorted((ramp, 1.0)))
    override = Override(weight=weight)
    assert (
        status(low, override, ejected=ejected, overloaded=overloaded) & 0xFFFF
        <= status(high, override, ejected=ejected, overloaded=overloaded) & 0xFFFF
        <= weight
    )
