"""Players' word takes weight from who fails them more than its peers do: within a cap, of few at once, and monotone."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.health.player_signal import FEWEST, MARGIN, RATE, Told, kept, losses


def cluster(*rows: tuple[float, float] | tuple[float, float, float]) -> list[Told]:
    """Rows are voices, failing, and the share of its weight that it keeps."""
    return [Told(slot, *row) for slot, row in enumerate(rows)]


ROWS: list[tuple[str, list[Told], set[int]]] = [
    ("nobody says anything", cluster((0, 0), (0, 0)), set()),
    ("nobody fails", cluster((100, 0), (100, 0)), set()),
    ("all fail", cluster((100, 90), (100, 90)), set()),
    ("one fails", cluster((100, 50), (100, 2)), {0}),
    ("one fails a little more", cluster((1000, 60), (1000, 20)), set()),
    ("chance", cluster((25, 8), (25, 3)), set()),
    ("the same share of many", cluster((2500, 800), (2500, 300)), {0}),
    ("too few voices of it", cluster((19, 19), (500, 0)), set()),
    ("too few of its peers", cluster((500, 500), (19, 0)), set()),
    ("peers together are enough", cluster((100, 100), (10, 0), (10, 0)), {0}),
    ("alone", cluster((500, 500)), set()),
    ("two of four", cluster((100, 90), (100, 90), (100, 0), (100, 0)), {0, 1}),
]


@pytest.mark.parametrize(("members", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_who_is_worse_than_its_peers(members: list[Told], expected: set[int]) -> None:
    assert losses(members).keys() == expected


TOLD = st.builds(
    lambda voices, share, kept: (voices, voices * share, kept),
    st.floats(0, 5000),
    st.floats(0, 1),
    st.sampled_from([1.0, 1.0, 0.9, 0.6, 0.5]),
)
CLUSTERS = st.lists(TOLD, min_size=1, max_size=8).map(lambda rows: cluster(*rows))


@given(CLUSTERS, st.floats(0.01, 0.5), st.integers(1, 8), st.floats(0, 10))
def test_within_the_cap_a_step_at_a_time_and_of_few_at_once(
    members: list[Told], cap: float, most: int, elapsed_s: float
) -> None:
    members = [dataclasses.replace(member, kept=max(member.kept, 1 - cap)) for member in members]
    after = {member.slot: member.kept for member in members} | kept(members, cap, most, elapsed_s)
    lower = [member.slot for member in members if member.kept < 1.0]
    new = [slot for slot, share in after.items() if share < 1.0 and slot not in lower]
    for member in members:
        assert 1 - cap <= after[member.slot] <= 1.0
        assert abs(after[member.slot] - member.kept) <= RATE * elapsed_s + 1e-9
    assert len(new) <= max(min(most, len(members) - 1) - len(lower), 0)


@given(CLUSTERS, st.data())
def test_more_failing_never_gives_weight_and_never_takes_it_from_others(
    members: list[Told], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(members) - 1))
    before = members[place]
    worse = list(members)
    worse[place] = dataclasses.replace(before, failing=data.draw(st.floats(before.failing, max(before.voices, 0))))
    first, second = losses(members), losses(worse)
    for member in members:
        more, less = (second, first) if member.slot == before.slot else (first, second)
        assert more.get(member.slot, 0.0) >= less.get(member.slot, 0.0) - 1e-9
    kept_first, kept_second = kept(members, 0.5, 9, 5.0), kept(worse, 0.5, 9, 5.0)
    assert kept_second.get(before.slot, before.kept) <= kept_first.get(before.slot, before.kept) + 0.03


@given(CLUSTERS)
def test_the_judge(members: list[Told]) -> None:
    """Who loses has voices, peers with voices, and a share of failing above theirs by the margin at least."""
    for member in members:
        others = [other for other in members if other is not member]
        voices, failing = sum(other.voices for other in others), sum(other.failing for other in others)
        if member.slot in losses(members):
            assert member.voices >= FEWEST
            assert voices >= FEWEST
            assert member.failing / member.voices > failing / voices * (1 - 1e-3) + MARGIN - 0.02
        elif min(member.voices, voices) > 400 and member.failing / member.voices > failing / voices + 0.35:
            raise AssertionError(member)


@pytest.mark.parametrize("seed", range(5))
def test_honest_voices_hardly_ever_speak_against_the_innocent(seed: int) -> None:
    rnd = random.Random(seed)
    found: list[float] = []
    for _ in range(2000):
        rows = [(voices := rnd.randrange(20, 200), sum(rnd.random() < 0.05 for _ in range(voices))) for _ in range(4)]
        found += losses(cluster(*rows)).values()
    assert len(found) <= 8  # of 8,000, by fewer voices than chance is reckoned with
    assert max(found, default=0.0) < 0.25
