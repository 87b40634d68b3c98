"""What is learned of an appliance's capacity, from its reports alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.health import rules
from steering.control.health.learned_capacity import (
    FEWEST_CONNECTIONS,
    GROWTH_S,
    LESS,
    SHORT_REPORTS,
    Delivery,
    learn,
)
from steering.control.health.rules import Health, Report
from steering.control.records.overrides import Override
from steering.model.fleet import Appliance
from steering.settings import Settings
from steering.state.status import weight_of_capacity

RATE = 0.005  # Gbit/s that a viewer takes
CLAIMED = 100.0
APPLIANCE = Appliance("c1", "x", "c1.example", CLAIMED)


def play(can: list[float], viewers: list[int], rate: float = RATE, report_s: float = 10.0) -> list[Delivery]:
    """Return the delivery after each report of an appliance. `can` is the most that it delivers, in Gbit/s."""
    known, result = Delivery(), []
    for limit, count in zip(can, viewers, strict=True):
        known = learn(known, min(limit, rate * count), count, CLAIMED, report_s)
        result.append(known)
    return result


def test_an_appliance_that_delivers_half_of_what_it_claims_is_found_at_its_limit() -> None:
    viewers = list(range(1000, 16_000, 500))
    *_, last = play([50.0] * len(viewers), viewers)
    assert last.learned_gbps == 50.0
    # Three reports after a tenth more was asked than delivered, no sooner.
    first = next(i for i, known in enumerate(play([50.0] * len(viewers), viewers)) if known.learned_gbps)
    assert viewers[first - SHORT_REPORTS + 1] * RATE * 0.9 > 50.0 >= viewers[first - SHORT_REPORTS] * RATE * 0.9


@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=60), st.floats(1.0, 200.0))
def test_nothing_is_learned_of_one_that_delivers_all_that_is_asked(viewers: list[int], report_s: float) -> None:
    assert all(known.learned_gbps is None for known in play([1e9] * len(viewers), viewers, 0.003, report_s))


@given(st.lists(st.tuples(st.floats(0, 150), st.integers(0, 40_000)), min_size=1, max_size=80))
def test_what_is_learned_was_delivered_and_is_less_than_claimed(reports: list[tuple[float, int]]) -> None:
    known, most = Delivery(), 0.0
    for throughput, connections in reports:
        known = learn(known, throughput, connections, CLAIMED, 10.0)
        most = max(most * 2.0 ** (10.0 / GROWTH_S), throughput)
        assert known.learned_gbps is None or 0.0 < known.learned_gbps <= most * 1.000001
        assert known.learned_gbps is None or known.learned_gbps < CLAIMED
        assert 0 <= known.short <= SHORT_REPORTS


def test_what_was_learned_is_tried_again_and_forgotten_where_it_can_do_more() -> None:
    busy = [16_000] * 10
    calm = [8_000] * 400
    known = play([1e9] + [50.0] * 10 + [100.0] * 400, [8_000, *busy, *calm])
    learned = [item.learned_gbps for item in known[1:]]
    assert learned[9] == 50.0
    assert learned[10] == pytest.approx(50.0 * 2.0 ** (10.0 / GROWTH_S))
    assert learned[10 + round(GROWTH_S / 10)] is None


def test_viewers_that_take_less_for_another_reason_do_not_lower_a_capacity_for_long() -> None:
    # The rate of all viewers halves, as when a match in low quality begins; then viewers leave.
    known = Delivery()
    for _ in range(10):
        known = learn(known, 60.0, 12_000, CLAIMED, 10.0)
    for _ in range(SHORT_REPORTS):
        known = learn(known, 30.0, 12_000, CLAIMED, 10.0)
    assert known.learned_gbps == 30.0
    least = known.learned_gbps
    for viewers in range(11_900, 9_000, -100):
        known = learn(known, 0.0025 * viewers, viewers, CLAIMED, 10.0)
        least = min(least, known.learned_gbps or least)
    assert least == 30.0
    assert known.learned_gbps is None
    assert known.best == pytest.approx(0.0025, rel=0.01)


def test_a_capacity_that_falls_slowly_is_followed_down() -> None:
    can = [50.0 - 0.5 * turn for turn in range(60)]
    known = play([100.0] * 2 + can, [10_000] * 2 + [16_000] * 60)
    last = known[-1]
    assert last.learned_gbps is not None
    assert can[-1] <= last.learned_gbps <= can[-1] / LESS


def test_few_connections_say_nothing() -> None:
    known = learn(Delivery(), 1.0, FEWEST_CONNECTIONS, CLAIMED, 10.0)
    for _ in range(20):
        known = learn(known, 0.1, FEWEST_CONNECTIONS - 1, CLAIMED, 10.0)
    assert known == learn(Delivery(), 1.0, FEWEST_CONNECTIONS, CLAIMED, 10.0)


def test_a_learned_capacity_is_headroom_weight_and_reason() -> None:
    settings = Settings()
    record = rules.new_record(0.0)
    viewers = [*range(1000, 14_000, 1000), 14_000]
    for seq, count in enumerate(viewers):
        throughput = min(50.0, RATE * count)
        health = Health(throughput_gbps=throughput, headroom_gbps=CLAIMED - throughput, connections=count)
        record = rules.with_report(record, Report("b", seq, health=health), CLAIMED, 10.0 * seq, settings)
    assert record.delivery.learned_gbps == 50.0
    assert record.full
    assert rules.target_of(record, CLAIMED, settings) == 0.0
    assert rules.full_weight(APPLIANCE, Override(), 50.0) == weight_of_capacity(50.0)
    assert rules.full_weight(APPLIANCE, Override(weight=7), 50.0) == 7
    # Where operators trust nothing that it reports, nothing that was learned from that counts.
    word = rules.status_of(APPLIANCE, Override(health_source="assumed"), record, settings)
    assert word & 0xFFFF == weight_of_capacity(CLAIMED)
