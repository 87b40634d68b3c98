"""The feed of launches: what is expected of each, and rows that are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from steering.control.fill.launches import Launch, read_launches
from steering.errors import FeedError

HEADER = "title,at,areas,plays_first_week,like,percentile\n"
AT = 1_770_364_800.0  # 2026-02-06T08:00:00Z


def test_launches_are_read(tmp_path: Path) -> None:
    path = tmp_path / "launches.csv"
    path.write_text(
        f"{HEADER}a,2026-02-06T08:00:00Z,*,1200000,,\nb,2026-02-06T09:00:00+01:00,DE FR,,a,\nc,2026-02-06,,,,0.9\n"
    )
    assert read_launches(path).launches == [
        Launch("a", AT, ("*",), plays_first_week=1_200_000.0),
        Launch("b", AT, ("DE", "FR"), like="a"),
        Launch("c", AT - 8 * 3600, ("*",), percentile=0.9),
    ]
    path = tmp_path / "launches.jsonl"
    path.write_text('{"title": "b", "at": "2026-02-06T08:00:00Z", "areas": ["DE", "FR"], "plays_first_week": 3}\n')
    assert read_launches(path).launches == [Launch("b", AT, ("DE", "FR"), plays_first_week=3.0)]


REFUSED = [
    ("nothing expected", "b,2026-02-06,*,,,", "one of plays_first_week, like, percentile; this has none"),
    ("two expected", "b,2026-02-06,*,1,a,", "this has plays_first_week and like"),
    ("no time", "b,,*,1,,", "at is missing"),
    ("no offset", "b,2026-02-06T08:00:00,*,1,,", "a time is a day"),
    ("no such day", "b,2026-02-30,*,1,,", "a time is a day"),
    ("area", "b,2026-02-06,D?,1,,", "an area is *"),
    ("percentile", "b,2026-02-06,*,,,90", "percentile is a number from 0 to 1"),
    ("again", "a,2026-02-06,*,1,,", "a title has one launch"),
]


@pytest.mark.parametrize(("line", "rule"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_wrong_launch_is_refused(tmp_path: Path, line: str, rule: str) -> None:
    path = tmp_path / "launches.csv"
    path.write_text(f"{HEADER}a,2026-02-06,*,1,,\n{line}\n")
    launches = read_launches(path)
    assert len(launches.launches) == 1
    (refusal,) = launches.refused.listed
    assert refusal.row == 3
    assert rule in refusal.rule


def test_a_feed_without_a_launch_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "launches.csv"
    path.write_text(f"{HEADER}a,2026-02-06,*,,,\n")
    with pytest.raises(FeedError, match="holds no row that can be used"):
        read_launches(path)
