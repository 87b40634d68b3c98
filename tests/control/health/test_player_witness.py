"""Players confirm a suspicion when enough of them report since the last sign of life, and nearly all of them fail."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.health.player_witness import FEWEST, HALF_LIFE_S, NEARLY_ALL, PlayerWitness, ViewerCounts
from steering.playback.signing.tags import VIEWERS_PER_NETWORK
from steering.playback.telemetry.player_reports import FILTER_BYTES, Window

ROWS: list[tuple[str, int, int, bool]] = [
    # name, attested, failing, confirmed
    ("no players", 0, 0, False),
    ("enough, and all fail", 25, 25, True),
    ("too few", 24, 24, False),
    ("one network, however loud", 4, 4, False),
    ("most fail, but not nearly all", 100, 79, False),
    ("nearly all fail", 100, 80, True),
    ("players play well", 1000, 3, False),
    ("counted before the sign of life, and failing after it", 0, 30, True),
    ("few fail, none counted since the sign of life", 0, 24, False),
]


@pytest.mark.parametrize(("name", "attested", "failing", "confirmed"), ROWS, ids=[row[0] for row in ROWS])
def test_enough_players_of_whom_nearly_all_fail_confirm(
    name: str, attested: int, failing: int, confirmed: bool
) -> None:
    counts = ViewerCounts(attested, failing)
    assert PlayerWitness(counts, 0.0).confirms(0.0) is confirmed


def test_what_players_reported_before_the_sign_of_life_does_not_count() -> None:
    counts = ViewerCounts(1000, 0)
    counts.note_sign(0.0)
    witness = PlayerWitness(counts, 0.0)
    assert not witness.confirms(0.0)
    counts.attested += 50
    counts.failing += 50
    assert witness.confirms(1.0)


def test_a_witness_without_reports_fades() -> None:
    counts = ViewerCounts(49, 49)
    witness = PlayerWitness(counts, 0.0)
    assert witness.confirms(0.0)
    assert witness.confirms(0.95 * HALF_LIFE_S)
    assert not witness.confirms(HALF_LIFE_S)
    counts.failing += 20
    assert witness.confirms(HALF_LIFE_S)


def test_what_was_counted_before_the_suspicion_fades_as_if_it_had_grown_evenly() -> None:
    for after_s in (1.0, 30.0, 600.0):
        counts, steady = ViewerCounts(), PlayerWitness(ViewerCounts(), 0.0)
        for second in range(int(after_s)):
            for each in (counts, steady.counts):
                each.attested += 10
            steady.confirms(second + 0.5)
        steady.confirms(after_s)
        assert PlayerWitness(counts, after_s).attested == pytest.approx(steady.attested, rel=0.01)


def test_one_network_is_never_enough() -> None:
    """Four sessions that count once a minute, and always fail, for an hour before the suspicion and after it."""
    counts = ViewerCounts()
    for _ in range(60):
        counts.attested += 4
        counts.failing += 4
    witness = PlayerWitness(counts, 3600.0)
    for minute in range(60):
        assert not witness.confirms(3600.0 + 60.0 * minute)
        counts.attested += 4
        counts.failing += 4


@pytest.mark.parametrize(("networks", "confirmed"), [(1, False), (2, False), (3, True)])
def test_one_household_is_never_enough(networks: int, confirmed: bool) -> None:
    """Its IPv4 /24 and IPv6 /48, with a flood of tags at the end of every minute, and at the beginning of the last."""
    window, counts = Window(bytearray(FILTER_BYTES)), ViewerCounts()
    witness, result = PlayerWitness(counts, 0.0), False
    for now in [*(60.0 * minute + 59.9 for minute in range(10)), 600.0]:
        window.turn(now)
        for network, tag in itertools.product(range(networks), range(200)):
            viewer = network, tag % VIEWERS_PER_NETWORK
            counts.attested += window.is_new(0, viewer)
            counts.failing += window.is_new(0, viewer, "failing")
        result |= witness.confirms(now)
    assert result is confirmed


def test_an_appliance_that_served_unheard_and_then_dies_is_confirmed_in_some_minutes() -> None:
    """100 viewers a minute play well for an hour while control hears nothing; then all who start there fail."""
    counts = ViewerCounts()
    witness = PlayerWitness(counts, 0.0)
    for minute in range(60):
        counts.attested += 100
        assert not witness.confirms(60.0 * minute)
    for minute in range(60, 65):
        counts.attested += 100
        counts.failing += 100
        confirmed = witness.confirms(60.0 * minute)
    assert confirmed


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 100)), max_size=20),
)
def test_the_judge(ticks: list[tuple[int, int, float]]) -> None:
    """The counts are the sums of each tick's, faded by its age."""
    counts = ViewerCounts()
    witness = PlayerWitness(counts, 0.0)
    now, rows = 0.0, []
    for attested, failing, wait_s in ticks:
        now += wait_s
        counts.attested += attested
        counts.failing += failing
        confirmed = witness.confirms(now)
        rows.append((attested, failing, now))
        faded = [sum(row[i] * 0.5 ** ((now - row[2]) / HALF_LIFE_S) for row in rows) for i in (0, 1)]
        viewers = max(faded)
        if abs(viewers - FEWEST) > 1e-6 and abs(faded[1] - NEARLY_ALL * viewers) > 1e-6:
            assert confirmed == (viewers >= FEWEST and faded[1] >= NEARLY_ALL * viewers)
