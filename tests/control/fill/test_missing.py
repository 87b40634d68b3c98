"""The list of what should be filled where: summed over workers, without what is filled by now, to whom it may concern."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from _fastpath.counters import begin
from steering.control.fill.missing import Miss, counters_in, missing
from steering.model.fleet import Fleet


class Worker:
    """What a worker counted."""

    def __init__(self, *counted: Miss) -> None:
        self.counted = counted

    def misses(self) -> Sequence[Miss]:
        return self.counted


WORKERS = [
    Worker((11, 0, 5, "video", "a"), (12, 0, 9, "video", "b"), (11, 3, 2, "video", "a"), (11, 99, 50, "video", "a")),
    Worker((11, 0, 7, "video", "a"), (13, 2, 1, "games", "x")),
    Worker(),
]
A, B = ("video", "a", "bom001-a", "as64500", 12), ("video", "b", "bom001-a", "as64500", 9)
ABROAD, X = ("video", "a", "lhr001-a", None, 2), ("games", "x", "del001-a", "as64500", 1)
ROWS = [
    ("all, of clusters of the fleet", set(), "", 10, [A, B, ABROAD, X]),
    ("the first", set(), "", 2, [A, B]),
    ("of one partner", set(), "as64500", 10, [A, B, X]),
    ("the first of one partner", {(0, 11)}, "as64500", 2, [B, X]),
    ("without what is filled there by now", {(0, 11), (3, 12)}, "", 10, [B, ABROAD, X]),
    ("of a partner that is not there", set(), "as1", 10, []),
]


@pytest.mark.parametrize(
    ("held", "partner", "count", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_what_is_missing(
    fleet: Fleet, held: set[tuple[int, int]], partner: str, count: int, expected: list[tuple[str, str, str, str, int]]
) -> None:
    result = missing(WORKERS, fleet, lambda cluster, key: (cluster, key) in held, partner, count)
    assert [tuple(row.values()) for row in result] == expected
    assert all(list(row) == ["service", "title", "cluster", "partner", "misses"] for row in result)


def test_every_worker_that_counts_is_asked_and_a_file_that_is_none_passed_over(tmp_path: Path) -> None:
    for number in (1, 2):
        begin(str(tmp_path / f"worker.{number}"), 16)
    (tmp_path / "worker.3").write_bytes(b"STEER")
    (tmp_path / "worker.old").write_bytes(b"")
    assert len(list(counters_in(tmp_path))) == 2
