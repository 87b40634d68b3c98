"""What is said of an appliance, and the word that follows: rows first, then what must hold whatever is said."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _fastpath.status_words import DISABLED, IPV4_UP, IPV6_UP, NO_HEADROOM, OVER_LIMIT, STALE, UNHEALTHY
from steering.control.health import rules as health
from steering.control.health.rules import Health, Report, Rules, Vital
from steering.control.records.database import Override
from steering.model.fleet import Appliance

RULES = Rules()
BOTH = IPV4_UP | IPV6_UP
APPLIANCE = Appliance("c1", "a", "c1.example", 100.0, slot=0)  # full weight 1000
NEW = health.unheard(0.0)


def heard(report: Report | None = None, now: float = 0.0, rules: Rules = RULES) -> Vital:
    """Return what is known after a first report."""
    return health.with_report(NEW, report or Report("b", 1, health=Health()), 100.0, now, rules)


def word(vital: Vital = NEW, override: Override | None = None, **more: Any) -> int:
    return health.word_of(APPLIANCE, override or Override(), vital, RULES, **more)


FAILED = heard(Report("b", 1, health=Health("failed", "disk")))
SILENT = health.with_silence(heard(), 31.0, RULES)
DOUBTED = dataclasses.replace(NEW, fine=(health.Condition(False, 0.0, "refused"), *NEW.fine[1:]))
NO_IPV6 = dataclasses.replace(NEW, fine=(*NEW.fine[:2], health.Condition(False, 0.0, "refused")))

WORDS: list[tuple[str, int, int]] = [
    ("assumed has its capacity", word(), 1000 | BOTH),
    ("assumed with a set weight", word(override=Override(weight=7)), 7 | BOTH),
    ("drained", word(override=Override(enabled=False)), 1000 | BOTH | DISABLED),
    ("in maintenance", word(enabled=False), 1000 | BOTH | DISABLED),
    ("reported, never heard", word(override=Override(health_source="reported")), 1000 | BOTH | STALE),
    ("reported and heard", word(heard()), 1000 | BOTH),
    ("reported, weight 0 stays 0", word(heard(), Override(weight=0)), BOTH),
    ("a low level is never 0", word(dataclasses.replace(heard(), level=0.0)), 1 | BOTH),
    ("failed by its own word", word(FAILED), 1000 | BOTH | UNHEALTHY),
    ("failed, but assumed", word(FAILED, Override(health_source="assumed")), 1000 | BOTH),
    ("silent, held back", word(SILENT), 1000 | BOTH),
    ("silent, may act", word(SILENT, out=True), 1000 | BOTH | STALE),
    ("silent, but assumed", word(SILENT, Override(health_source="assumed"), out=True), 1000 | BOTH),
    ("suspect, held back", word(DOUBTED), 1000 | BOTH),
    ("suspect, may act", word(DOUBTED, out=True), 1000 | BOTH | UNHEALTHY),
    ("suspect over IPv6 alone", word(NO_IPV6, out=True), 1000 | IPV4_UP),
    ("over its limit", word(over=True), 1000 | BOTH | OVER_LIMIT),
    ("no IPv4 by its own word", word(heard(Report("b", 1, health=Health(ipv4=False)))), 1000 | IPV6_UP),
    ("full", word(heard(Report("b", 1, health=Health(headroom_gbps=5.0)))), 1000 | BOTH | NO_HEADROOM),
    ("nearly full", word(heard(Report("b", 1, health=Health(headroom_gbps=5.1)))), 1000 | BOTH),
]


@pytest.mark.parametrize(("name", "found", "expected"), WORDS, ids=[row[0] for row in WORDS])
def test_the_word_follows_from_what_is_wished_and_known(name: str, found: int, expected: int) -> None:
    assert found == expected


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
    vital, verdicts = NEW, []
    for boot, seq in given:
        report = Report(boot, seq)
        verdicts.append(health.verdict_of(vital, report))
        if verdicts[-1] == "accepted":
            vital = health.with_report(vital, report, 100.0, 0.0, RULES)
    assert verdicts == expected


def test_an_appliances_clock_is_shown_and_decides_nothing() -> None:
    vital = health.with_report(heard(now=100.0), Report("b", 2, at=-5e9), 100.0, 110.0, RULES)
    assert vital.heard_at == 110.0
    assert vital.skew_s == -5e9 - 110.0


LEVELS: list[tuple[Health | None, float]] = [
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


@pytest.mark.parametrize(("said", "level"), LEVELS)
def test_the_level_falls_between_the_marks_and_by_half_when_degraded(said: Health | None, level: float) -> None:
    assert health.level_aimed_at(said, 100.0, RULES) == pytest.approx(level)


def test_a_full_appliance_takes_clients_again_only_well_above_the_low_mark() -> None:
    full = [False]
    for headroom in (6.0, 5.0, 6.0, 8.7, 8.8, 6.0):
        full.append(health.is_full(Health(headroom_gbps=headroom), 100.0, full[-1], RULES))
    assert full[1:] == [False, True, True, True, False, False]


def test_a_recovered_appliance_climbs_slowly_to_its_full_weight() -> None:
    vital = health.with_slow_start(heard())
    levels = [vital.level]
    for _ in range(60):
        vital = health.with_step(vital, 100.0, 1.0, RULES)
        levels.append(vital.level)
    assert levels[0] == health.FIRST_LEVEL
    assert levels[30] == pytest.approx(0.6)
    assert levels[54] == pytest.approx(1.0)
    assert levels[60] == 1.0
    assert not vital.climbing
    assert health.with_step(vital, 100.0, 1.0, RULES) is vital


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=30),
    st.floats(0.01, 1.0),
    st.sampled_from(["ok", "degraded", "failed"]),
)
def test_no_level_moves_by_more_than_a_step(headrooms: list[float | None], step: float, state: str) -> None:
    rules = Rules(weight_step=step)
    vital = heard(rules=rules)
    for seq, headroom in enumerate(headrooms, 2):
        said = Health(state, headroom_gbps=headroom)
        vital = health.with_report(vital, Report("b", seq, health=said), 100.0, 0.0, rules)
        stepped = health.with_step(vital, 100.0, 1.0, rules)
        assert abs(stepped.level - vital.level) <= step + 1e-9
        assert 0.0 <= stepped.level <= 1.0
        vital = stepped


OBSERVATIONS: list[tuple[str, str, bool]] = [
    ("two bad ones are too few", "--", True),
    ("three bad ones in a row", "---", False),
    ("never three in a row", "--+--+--+", True),
    ("one good one is too few", "---+", False),
    ("two good ones in a row", "---++", True),
    ("flapping stays where it is", "---+-+-+-+-", False),
]


@pytest.mark.parametrize(("name", "seen", "fine"), OBSERVATIONS, ids=[row[0] for row in OBSERVATIONS])
@pytest.mark.parametrize("family", [0, 4, 6])
def test_it_takes_equal_observations_in_a_row_to_turn_what_is_inferred(
    name: str, seen: str, fine: bool, family: int
) -> None:
    vital = NEW
    for sign in seen:
        vital = health.with_observation(vital, sign == "+", "refused", 0.0, RULES, family)
    assert health.suspicion_of(vital).holds == fine
    assert health.is_suspect(vital, Override(), RULES) != fine


def test_silence_counts_after_three_missed_reports() -> None:
    vital = heard(now=100.0)
    assert health.with_silence(vital, 130.0, RULES) is vital
    assert not health.with_silence(vital, 130.1, RULES).heard.holds
    assert health.with_silence(NEW, 1e9, RULES) is NEW


@given(st.integers(0, 0xFFFF), st.floats(0.0, 1.0), st.booleans(), st.booleans())
def test_a_higher_level_never_weighs_less(weight: int, level: float, out: bool, over: bool) -> None:
    low, high = (dataclasses.replace(heard(), level=found) for found in sorted((level, 1.0)))
    override = Override(weight=weight)
    assert (
        word(low, override, out=out, over=over) & 0xFFFF <= word(high, override, out=out, over=over) & 0xFFFF <= weight
    )
