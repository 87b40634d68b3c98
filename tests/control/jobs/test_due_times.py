"""Sources are fetched once a period, later after failures, and never all at once."""

from __future__ import annotations

import pytest

from steering.control.jobs.due_times import MOST_S, DueTimes


def pauses(times: DueTimes, failures: list[bool]) -> list[float]:
    """Return the pauses after fetches that failed or not."""
    found = []
    for failed in failures:
        times.fetched("a", 0.0, failed)
        found.append(times.due_at["a"])
    return found


@pytest.mark.parametrize(
    ("failures", "periods"),
    [
        ([False, False], [1, 1]),
        ([True, True, True], [2, 4, 8]),
        ([True, True, False, True], [2, 4, 1, 2]),
    ],
    ids=["no failure", "failures", "a success between"],
)
def test_the_pause_doubles_after_each_failure_and_a_success_ends_that(
    failures: list[bool], periods: list[float]
) -> None:
    for pause, expected in zip(pauses(DueTimes(100.0), failures), periods, strict=True):
        assert 90.0 * expected <= pause <= 110.0 * expected


def test_a_source_that_always_fails_is_fetched_once_an_hour_or_once_a_longer_period() -> None:
    assert pauses(DueTimes(100.0), [True] * 30)[-1] <= 1.1 * MOST_S
    assert pauses(DueTimes(2 * MOST_S), [True] * 30)[-1] >= 1.8 * MOST_S


def test_new_sources_become_due_within_a_period_and_not_together() -> None:
    times = DueTimes(100.0)
    assert not any(times.is_due(number, 0.0) for number in range(100))
    assert all(10.0 <= due_at <= 100.0 for due_at in times.due_at.values())
    assert len(set(times.due_at.values())) > 90
    assert all(times.is_due(number, 100.0) for number in range(100))
