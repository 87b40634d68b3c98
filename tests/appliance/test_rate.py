"""No second is over its rate, and the bytes of a window outlive a restart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steering.appliance.manifest import GIGABIT, Window
from steering.appliance.rate import BURST_S, Bucket, WindowBudget


@given(st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0, 0.5)), min_size=1, max_size=200))
def test_no_second_is_over_the_rate_by_more_than_the_burst_and_a_piece(pieces: list[tuple[int, float]]) -> None:
    bucket, now, taken = Bucket(0.1), 100.0, []
    for amount, idle_s in pieces:
        now += idle_s
        taken.append((now, amount))
        now += bucket.take(amount, now)
    for begin, _ in taken:
        second = [amount for time, amount in taken if begin <= time < begin + 1.0]
        assert sum(second[:-1]) <= 0.1 * GIGABIT * (1.0 + BURST_S) * 1.000001 + max(second)


def test_the_bytes_of_a_window_are_counted_across_a_restart_and_anew_in_the_next() -> None:
    window = Window(10, 20, 1.0, 100)
    budget = WindowBudget()
    budget.enter(window)
    budget.add(60)
    again = WindowBudget(budget.packed())
    again.enter(window)
    assert again.allows(window, 40)
    assert not again.allows(window, 41)
    again.enter(None)
    assert again.spent.bytes == 60
    again.enter(Window(30, 40, 1.0, 100))
    assert again.spent.bytes == 0
    assert WindowBudget(b"damaged").spent.bytes == 0
