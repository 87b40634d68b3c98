"""Titles laid out over the appliances of a cluster: load by share, disks within their room, incumbents first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _fastpath.layout import BOUND, lay_out

SPEED, DISK = 10.0, 1_000.0


def laid_out(
    loads: list[float],
    sizes: list[float],
    copies: list[int],
    speeds: list[float],
    disks: list[float],
    held: list[bytes | None] | None = None,
) -> tuple[list[set[int]], int, float]:
    """Return the titles of each appliance, how many copies found no room, and the highest load by share."""
    bitmaps = [bytearray(-(-len(loads) // 8)) for _ in speeds]
    missing, highest = lay_out(
        np.arange(len(loads), dtype=np.uint32),
        np.array(loads, float),
        np.array(sizes, float),
        np.array(copies, np.uint8),
        speeds,
        disks,
        held or [None] * len(speeds),
        bitmaps,
    )
    inside = [{title for title in range(len(loads)) if bits[title >> 3] >> (title & 7) & 1} for bits in bitmaps]
    return inside, missing, highest


def test_fast_small_disks_get_the_hot_titles_and_large_slow_ones_the_tail() -> None:
    loads = [100.0 / (index + 1) for index in range(1000)]
    (flash, _), missing, highest = laid_out(loads, [1.0] * 1000, [1] * 1000, [60, 40], [100, 1000])
    assert missing == 0
    assert highest < 1.1
    assert len(flash) <= 100
    assert set(range(5)) <= flash


@pytest.mark.parametrize("appliances", [2, 3, 24])
def test_load_is_within_a_tenth_of_each_share(appliances: int) -> None:
    loads = list(np.log(1.6 * 5000 / np.arange(1, 5001)) ** 3)
    _, missing, highest = laid_out(loads, [1.0] * 5000, [1] * 5000, [SPEED] * appliances, [5000.0] * appliances)
    assert missing == 0
    assert highest <= BOUND


def test_unchanged_titles_stay_where_they_are() -> None:
    rng = np.random.default_rng(1)
    loads = sorted(rng.pareto(2, 400), reverse=True)
    first, _, _ = laid_out(loads, [1.0] * 400, [1] * 400, [SPEED] * 4, [110.0] * 4)
    held = [bitmap_of(titles, 400) for titles in first]
    assert laid_out(loads, [1.0] * 400, [1] * 400, [SPEED] * 4, [110.0] * 4, list(held))[0] == first


def test_one_appliance_more_moves_its_share_only() -> None:
    rng = np.random.default_rng(2)
    loads = sorted(1 + 0.2 * rng.random(1000), reverse=True)
    first, _, _ = laid_out(loads, [1.0] * 1000, [1] * 1000, [SPEED] * 4, [300.0] * 4)
    held: list[bytes | None] = [*(bitmap_of(titles, 1000) for titles in first), None]
    second, _, _ = laid_out(loads, [1.0] * 1000, [1] * 1000, [SPEED] * 5, [300.0] * 5, held)
    moved = sum(len(after - before) for before, after in zip([*first, set()], second, strict=True))
    assert moved <= 1.2 * 1000 / 5


def bitmap_of(titles: set[int], count: int) -> bytes:
    bits = bytearray(-(-count // 8))
    for title in titles:
        bits[title >> 3] |= 1 << (title & 7)
    return bytes(bits)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(1, 300), st.integers(1, 4)), min_size=1, max_size=60),
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, DISK)), min_size=1, max_size=6),
)
def test_no_disk_overflows_and_no_appliance_has_a_title_twice(
    titles: list[tuple[float, float, int]], appliances: list[tuple[float, float]]
) -> None:
    loads, sizes, copies = (list(column) for column in zip(*titles, strict=True))
    speeds, disks = (list(column) for column in zip(*appliances, strict=True))
    inside, missing, _ = laid_out(loads, sizes, copies, speeds, disks)
    for held, disk in zip(inside, disks, strict=True):
        assert sum(sizes[title] for title in held) <= disk * (1 + 1e-9)
    wanted = sum(min(count, len(speeds)) for count in copies)
    assert sum(map(len, inside)) + missing == wanted


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"sizes": [1.0]}, "different lengths"),
        ({"speeds": []}, "not each with"),
        ({"speeds": [0.0, 0.0]}, "not each with"),
        ({"disks": [1.0]}, "not each with"),
    ],
)
def test_wrong_shapes_are_refused(change: dict[str, list[float]], rule: str) -> None:
    wrong = {"loads": [1.0, 1.0], "sizes": [1.0, 1.0], "copies": [1, 1], "speeds": [1.0, 1.0], "disks": [9.0, 9.0]}
    with pytest.raises(ValueError, match=rule):
        laid_out(**{**wrong, **change})  # type: ignore[arg-type]
