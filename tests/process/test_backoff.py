"""Pauses between attempts."""

from __future__ import annotations

from steering.process.backoff import Backoff


def test_pauses_double_up_to_a_limit_and_begin_again_after_a_reset() -> None:
    backoff = Backoff(0.1, 5.0)
    assert [backoff.next_s() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    backoff.reset()
    assert [backoff.next_s() for _ in range(2)] == [0.1, 0.2]


def test_a_first_pause_above_the_limit_is_the_limit() -> None:
    assert Backoff(9.0, 5.0).next_s() == 5.0
