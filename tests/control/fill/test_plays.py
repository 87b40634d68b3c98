"""The feed of plays: rows that are taken, rows that are refused by name, and files that cannot be used."""

from __future__ import annotations

import datetime
import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.fill import plays as plays_module
from steering.control.fill.plays import Plays, read_plays
from steering.errors import FeedError

HEADER = "day,area,title,plays\n"


def read(folder: Path, text: str, name: str = "plays.csv") -> Plays:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return read_plays(folder / name, "video")


def rows_of(plays: Plays) -> list[tuple[str, str, str, float]]:
    return [
        (datetime.date.fromordinal(plays.days[day]).isoformat(), plays.areas[area], plays.titles[title], count)
        for day, area, title, count in zip(plays.day, plays.area, plays.title, plays.plays, strict=True)
    ]


TAKEN = [
    ("plain", "2026-01-05,DE,t1,3", ("2026-01-05", "DE", "t1", 3.0)),
    ("the world", "2026-01-05,*,t1,0", ("2026-01-05", "*", "t1", 0.0)),
    ("sampled", "2026-01-05,isp-1,t1,2.5", ("2026-01-05", "isp-1", "t1", 2.5)),
    ("spaces", " 2026-01-05 , IN-MH , t1 , 7 ", ("2026-01-05", "IN-MH", "t1", 7.0)),
    ("quoted", '2026-01-05,DE,"a, b",1e3', ("2026-01-05", "DE", "a, b", 1000.0)),
    ("any script", "2024-02-29,DE,映画,1\r", ("2024-02-29", "DE", "映画", 1.0)),
]


@pytest.mark.parametrize(("line", "row"), [row[1:] for row in TAKEN], ids=[row[0] for row in TAKEN])
def test_a_row_is_taken(tmp_path: Path, line: str, row: tuple[str, str, str, float]) -> None:
    plays = read(tmp_path, f"{HEADER}{line}\n")
    assert rows_of(plays) == [row]
    assert not plays.refused
    assert plays.describe()["accepted"] == 1


REFUSED = [
    ("no such day", "2026-02-30,DE,t,1", "a day is written YYYY-MM-DD"),
    ("a week", "2026-W01-1,DE,t,1", "a day is written YYYY-MM-DD"),
    ("area with a space", "2026-01-05,D E,t,1", "an area is *"),
    ("no area", "2026-01-05,,t,1", "an area is *"),
    ("no title", "2026-01-05,DE,,1", "a title is 1 to 256 bytes"),
    ("parent folder", "2026-01-05,DE,..,1", "a title is 1 to 256 bytes"),
    ("control character", "2026-01-05,DE,a\tb,1", "a title is 1 to 256 bytes"),
    ("long title", f"2026-01-05,DE,{'t' * 257},1", "a title is 1 to 256 bytes"),
    ("negative", "2026-01-05,DE,t,-1", "plays is a number from 0"),
    ("not a number", "2026-01-05,DE,t,nan", "plays is a number from 0"),
    ("infinite", "2026-01-05,DE,t,inf", "plays is a number from 0"),
    ("too many", "2026-01-05,DE,t,1e13", "plays is a number from 0"),
    ("underscore", "2026-01-05,DE,t,1_0", "plays is a number from 0"),
    ("other digits", "2026-01-05,DE,t,\u0663", "plays is a number from 0"),
    ("empty", "2026-01-05,DE,t,", "plays is a number from 0"),
    ("few fields", "2026-01-05,DE,t", "as many fields as the first line"),
    ("many fields", "2026-01-05,DE,t,1,2", "as many fields as the first line"),
    ("open quote", '2026-01-05,DE,"t,1', "a line is CSV"),
    ("long line", f"2026-01-05,DE,t,{'1' * 17_000}", "a line has at most 16384 bytes"),
]


@pytest.mark.parametrize(("line", "rule"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_wrong_row_is_refused_and_the_others_are_taken(tmp_path: Path, line: str, rule: str) -> None:
    plays = read(tmp_path, f"{HEADER}2026-01-05,DE,t,1\n{line}\n2026-01-06,DE,t,2\n")
    assert [row[3] for row in rows_of(plays)] == [1.0, 2.0]
    (refusal,) = plays.refused.listed
    assert (refusal.feed, refusal.row) == ("plays.csv", 3)
    assert rule in refusal.rule


def test_json_lines_give_the_same_rows_and_the_same_refusals(tmp_path: Path) -> None:
    lines = [
        {"day": "2026-01-05", "area": "DE", "title": "t1", "plays": 3},
        {"day": "2026-01-05", "area": "DE", "title": "t2", "plays": "4"},
        {"day": "2026-01-05", "area": "DE", "title": 80100172, "plays": 2.5},
        {"day": "2026-01-05", "area": "DE", "title": "t3", "plays": True},
        {"day": "2026-01-05", "area": "DE", "title": "t3", "plays": 1, "hours": 4},
        {"day": "2026-01-05", "area": "DE", "title": "t3"},
        [1],
    ]
    plays = read(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "plays.jsonl")
    assert [row[2:] for row in rows_of(plays)] == [("t1", 3.0), ("t2", 4.0), ("80100172", 2.5)]
    assert [refusal.row for refusal in plays.refused.listed] == [4, 5, 6, 7]


@pytest.mark.parametrize("name", ["plays.csv", "plays.jsonl"])
def test_bytes_are_a_column_where_the_feed_has_them(tmp_path: Path, name: str) -> None:
    rows = [("2026-01-05", "DE", "t1", 3, 9_000), ("2026-01-05", "DE", "t2", 1, 5)]
    keys = ("bytes", "title", "day", "area", "plays")
    if name == "plays.csv":
        text = "bytes,title,day,area,plays\n" + "".join(f"{b},{t},{d},{a},{p}\n" for d, a, t, p, b in rows)
    else:
        text = "".join(json.dumps(dict(zip(keys, (b, t, d, a, p), strict=True))) + "\n" for d, a, t, p, b in rows)
    plays = read(tmp_path, text, name)
    assert plays.bytes.tolist() == [9000.0, 5.0]
    assert plays.titles == ["t1", "t2"]


UNUSABLE = [
    ("empty", "", "is empty"),
    ("without columns", "2026-01-05,DE,t,1\n", "does not name the columns"),
    ("unknown column", "day,area,title,plays,hours\n", "does not name the columns"),
    ("twice a column", "day,area,title,plays,plays\n", "does not name the columns"),
    ("cut off", f"{HEADER}2026-01-05,DE,t,1", "cut off"),
    ("no rows", HEADER, "holds no row that can be used"),
    ("no right row", f"{HEADER}x,DE,t,1\n", "the first of 1 refused rows is row 2: a day is written"),
]


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in UNUSABLE], ids=[row[0] for row in UNUSABLE])
def test_an_unusable_feed_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FeedError, match=message):
        read(tmp_path, text)


def test_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plays_module, "MOST_TITLES", 2)
    plays = read(tmp_path, HEADER + "".join(f"2026-01-05,DE,t{index},1\n" for index in range(4)))
    assert plays.titles == ["t0", "t1"]
    assert plays.refused.by_rule == Counter({"a feed has at most 2 titles": 2})


def test_a_packed_feed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plays.csv.gz"
    path.write_bytes(gzip.compress(f"\ufeff{HEADER}2026-01-05,DE,t,1\n".encode()))
    assert len(read_plays(path, "video")) == 1


field = st.sampled_from(
    ["2026-01-05", "2026-01-06", "DE", "*", "t", "t 1", "", " t", "1", "2.5", "-1", "nan", '"t"', "é"]
)


@given(st.lists(st.lists(field, min_size=3, max_size=5).map(",".join), min_size=1, max_size=6))
def test_lines_in_groups_are_read_as_lines_one_at_a_time(lines: list[str]) -> None:
    split = lambda line: plays_module.csv_fields(line, 4)  # noqa: E731
    rows = [line.encode() for line in lines]
    grouped, single = plays_module.PlaysReader("f", False), plays_module.PlaysReader("f", False)
    text = b"".join(row + b"\n" for row in rows)
    plays_module.take_groups(grouped, text, 0, 2, split, lambda group: plays_module.csv_columns(group, [0, 1, 2, 3]))
    single.take_lines(2, rows, split)
    assert grouped.refused.listed == single.refused.listed
    assert [[list(names)[index] for index in column] for names, column in columns_of(grouped)] == [
        [list(names)[index] for index in column] for names, column in columns_of(single)
    ]
    assert grouped.plays == single.plays


def columns_of(reader: plays_module.PlaysReader) -> list[tuple[dict[str, int], list[int]]]:
    return [(reader.days, list(reader.day)), (reader.areas, list(reader.area)), (reader.titles, list(reader.title))]


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table(
        {
            "day": [datetime.date(2026, 1, 5)] * 3,
            "area": ["DE", "DE", None],
            "title": ["t1", "t2", "t3"],
            "plays": [3, 4, 5],
        }
    )
    parquet.write_table(table, tmp_path / "plays.parquet")
    plays = read_plays(tmp_path / "plays.parquet", "video")
    assert rows_of(plays) == [("2026-01-05", "DE", "t1", 3.0), ("2026-01-05", "DE", "t2", 4.0)]
    assert [refusal.row for refusal in plays.refused.listed] == [3]
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(FeedError, match="cannot be read as Parquet"):
        read_plays(tmp_path / "torn.parquet", "video")
