"""Player reports lower the weight of appliances that fail more than their peers: capped, few at once, monotone."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.health.appliance_state import ApplianceState
from steering.control.health.player_signal import FEWEST, MARGIN, RATE, losses, next_factors, update_factors
from steering.settings import Settings
from tests.support.appliances import state_of


def cluster(*rows: tuple[float, float] | tuple[float, float, float]) -> list[ApplianceState]:
    """Rows are attested reports, failing ones, and the factor."""
    return [
        state_of(slot, attested=attested, failing=failing, player_factor=factor[0] if factor else 1.0)
        for slot, (attested, failing, *factor) in enumerate(rows)
    ]


ROWS: list[tuple[str, list[ApplianceState], set[int]]] = [
    ("no reports", cluster((0, 0), (0, 0)), set()),
    ("none fails", cluster((100, 0), (100, 0)), set()),
    ("all fail", cluster((100, 90), (100, 90)), set()),
    ("one fails", cluster((100, 50), (100, 2)), {0}),
    ("one fails a little more", cluster((1000, 60), (1000, 20)), set()),
    ("chance", cluster((25, 8), (25, 3)), set()),
    ("the same share of many", cluster((2500, 800), (2500, 300)), {0}),
    ("too few reports of it", cluster((19, 19), (500, 0)), set()),
    ("too few of its peers", cluster((500, 500), (19, 0)), set()),
    ("peers together are enough", cluster((100, 100), (10, 0), (10, 0)), {0}),
    ("alone", cluster((500, 500)), set()),
    ("two of four", cluster((100, 90), (100, 90), (100, 0), (100, 0)), {0, 1}),
]


@pytest.mark.parametrize(("members", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_who_is_worse_than_its_peers(members: list[ApplianceState], expected: set[int]) -> None:
    assert losses(members).keys() == expected


SAMPLES = st.builds(
    lambda attested, share, factor: (attested, attested * share, factor),
    st.floats(0, 5000),
    st.floats(0, 1),
    st.sampled_from([1.0, 1.0, 0.9, 0.6, 0.5]),
)
CLUSTERS = st.lists(SAMPLES, min_size=1, max_size=8).map(lambda rows: cluster(*rows))


@given(CLUSTERS, st.floats(0.01, 0.5), st.integers(1, 8), st.floats(0, 10))
def test_within_the_cap_a_step_at_a_time_and_of_few_at_once(
    members: list[ApplianceState], cap: float, most: int, elapsed_s: float
) -> None:
    for member in members:
        member.player_factor = max(member.player_factor, 1 - cap)
    after = {member.appliance.slot: member.player_factor for member in members} | next_factors(
        members, cap, most, elapsed_s
    )
    lower = [member.appliance.slot for member in members if member.player_factor < 1.0]
    new = [slot for slot, share in after.items() if share < 1.0 and slot not in lower]
    for member in members:
        assert 1 - cap <= after[member.appliance.slot] <= 1.0
        assert abs(after[member.appliance.slot] - member.player_factor) <= RATE * elapsed_s + 1e-9
    assert len(new) <= max(min(most, len(members) - 1) - len(lower), 0)


@given(CLUSTERS, st.data())
def test_more_failing_never_gives_weight_and_never_takes_it_from_others(
    members: list[ApplianceState], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(members) - 1))
    before = members[index]
    worse = list(members)
    worse[index] = dataclasses.replace(before, failing=data.draw(st.floats(before.failing, max(before.attested, 0))))
    first, second = losses(members), losses(worse)
    for member in members:
        more, less = (second, first) if member.appliance.slot == before.appliance.slot else (first, second)
        assert more.get(member.appliance.slot, 0.0) >= less.get(member.appliance.slot, 0.0) - 1e-9
    first_factors, second_factors = next_factors(members, 0.5, 9, 5.0), next_factors(worse, 0.5, 9, 5.0)
    assert (
        second_factors.get(before.appliance.slot, before.player_factor)
        <= first_factors.get(before.appliance.slot, before.player_factor) + 0.03
    )


@given(CLUSTERS)
def test_the_judge(members: list[ApplianceState]) -> None:
    """An appliance that loses has reports, peers with reports, and a share of failing ones above theirs by the margin."""
    for member in members:
        others = [other for other in members if other is not member]
        attested, failing = sum(other.attested for other in others), sum(other.failing for other in others)
        if member.appliance.slot in losses(members):
            assert member.attested >= FEWEST
            assert attested >= FEWEST
            assert member.failing / member.attested > failing / attested * (1 - 1e-3) + MARGIN - 0.02
        elif min(member.attested, attested) > 400 and member.failing / member.attested > failing / attested + 0.35:
            raise AssertionError(member)


def play_minutes(rates: list[tuple[float, float]], minutes: int = 60, cap: float = 0.5) -> list[float]:
    """Return the factors of a cluster whose appliances get so many attested and failing reports a minute."""
    states = [state_of(slot) for slot in range(len(rates))]
    settings = Settings(player_signal=cap)
    for second in range(60 * minutes):
        due = second % 60 == 0
        attested = {slot: round(rate) for slot, (rate, _) in enumerate(rates) if due}
        failing = {slot: round(rate) for slot, (_, rate) in enumerate(rates) if due}
        update_factors({"a": states}, attested, failing, settings, 1.0)
    return [state.player_factor for state in states]


ONE_NETWORK: list[tuple[str, list[tuple[float, float]], float]] = [
    # a network has VIEWERS_PER_NETWORK reports a minute at each appliance, however many tags and workers there are
    ("alone", [(4, 4), (0, 0), (0, 0)], 1.0),
    ("it praises the others", [(4, 4), (4, 0), (4, 0)], 1.0),
    ("beside few viewers", [(14 + 4, 4), (14, 0), (14, 0), (14, 0)], 0.9),
    ("beside some viewers", [(40 + 4, 4), (40, 1), (40, 1)], 1.0),
    ("beside many viewers", [(400 + 4, 4), (400, 8), (400, 8)], 1.0),
    ("five networks are beyond chance, and the cap holds", [(20, 20), (40, 0), (40, 0)], 0.5),
]


@pytest.mark.parametrize(("name", "rates", "least"), ONE_NETWORK, ids=[row[0] for row in ONE_NETWORK])
def test_one_network_hardly_lowers_a_weight_and_none_beyond_the_cap(
    name: str, rates: list[tuple[float, float]], least: float
) -> None:
    factors = play_minutes(rates)
    assert factors[0] >= least - 1e-9
    assert factors[1:] == [1.0] * (len(rates) - 1)


@pytest.mark.parametrize("seed", range(5))
def test_chance_hardly_ever_lowers_a_weight(seed: int) -> None:
    rnd = random.Random(seed)
    found: list[float] = []
    for _ in range(2000):
        rows = [
            (attested := rnd.randrange(20, 200), sum(rnd.random() < 0.05 for _ in range(attested))) for _ in range(4)
        ]
        found += losses(cluster(*rows)).values()
    assert len(found) <= 8  # of 8,000, with fewer reports than the estimate of chance assumes
    assert max(found, default=0.0) < 0.25
