"""How playback goes, summed over workers: by partner, cluster or appliance, the worst first, to whom it may concern."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from _fastpath.counters import Counters
from steering.control.fill.missing import counters_in
from steering.control.health.quality import By, quality
from steering.model.fleet import Fleet


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a folder where two workers counted reports of slots 0 (bom001-a), 3 (bom002-a), and elsewhere."""
    for number in (1, 2):
        counters = Counters(str(tmp_path / f"worker.{number}"), 16, writable=True)
        for _ in range(number):
            counters.note_report(0, 1, 100, False, False, 3000, 500, 800)
            counters.note_report(1, 1, 100, True, False)
        counters.note_report(3, 0, 1, False, True, 1000)
        counters.note_report(-1, 0, 10, False, False)
        counters.note_attested(0, False)
        counters.note_attested(0, True)
    return tmp_path


def short(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.values())


ROWS: list[tuple[str, By, str, list[tuple[Any, ...]]]] = [
    (
        "by partner",
        "partner",
        "",
        [
            ("as64500", 600, 3000.0, 500.0, 500.0, 0.0, 300, 800.0, 0, 0),
            (None, 22, 1000.0, None, 0.0, 90.91, 0, None, 0, 0),
        ],
    ),
    ("by one partner", "partner", "as64500", [("as64500", 600, 3000.0, 500.0, 500.0, 0.0, 300, 800.0, 0, 0)]),
    (
        "by cluster",
        "cluster",
        "",
        [
            ("bom001-a", 600, 3000.0, 500.0, 500.0, 0.0, 300, 800.0, 2, 2),
            ("bom002-a", 2, 1000.0, None, 0.0, 1000.0, 0, None, 0, 0),
            (None, 20, None, None, 0.0, 0.0, 0, None, 0, 0),
        ],
    ),
    (
        "by appliance, of one partner",
        "appliance",
        "as64500",
        [
            ("c002-bom001", 300, None, None, 1000.0, 0.0, 0, None, 0, 0),
            ("c001-bom001", 300, 3000.0, 500.0, 0.0, 0.0, 300, 800.0, 2, 2),
        ],
    ),
    ("of a partner that is not there", "cluster", "as1", []),
]


@pytest.mark.parametrize(("by", "partner", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_how_playback_goes(state: Path, fleet: Fleet, by: By, partner: str, expected: list[tuple[Any, ...]]) -> None:
    result = quality(counters_in(state), fleet, by, partner, 10)
    assert [short(row) for row in result] == expected
    assert [short(row) for row in quality(counters_in(state), fleet, by, partner, 1)] == expected[:1]
