"""The catalogue: rows that are taken, and rows that are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from steering.control.fill.catalogue import COLUMNS, CatalogueTitle, read_catalogue
from steering.errors import FeedError

HEADER = ",".join(COLUMNS) + "\n"
RECIPE = "sha256-" + "0" * 64


def test_a_catalogue_is_read(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.csv"
    path.write_text(f"{HEADER}a,10,,,,,\nb,28311552000,{RECIPE},series,2026-02-06T08:00:00Z,2027-02-06,IN LK IN\n")
    catalogue = read_catalogue(path)
    timed = CatalogueTitle("b", 28_311_552_000, RECIPE, "series", 1_770_364_800.0, 1_801_872_000.0, ("IN", "LK"))
    assert catalogue.titles == [CatalogueTitle("a", 10), timed]
    assert catalogue.describe()["bytes"] == 28_311_552_010
    assert [timed.is_available(now) for now in (1.7e9, 1_770_364_800.0, 1_801_872_000.0)] == [False, True, False]
    path = tmp_path / "catalogue.jsonl"
    path.write_text('{"title": "a", "bytes": 10}\n{"title": "c", "bytes": 2, "regions": ["IN", "LK"], "kind": null}\n')
    assert read_catalogue(path).titles == [CatalogueTitle("a", 10), CatalogueTitle("c", 2, regions=("IN", "LK"))]


REFUSED = [
    ("no bytes", "b,,,,,,", "bytes is missing"),
    ("0 bytes", "b,0,,,,,", "a title has bytes"),
    ("2^53", f"b,{2**53},,,,,", "bytes is a whole number from 0 to 9007199254740991"),
    ("2^63", f"b,{2**63},,,,,", "bytes is a whole number"),
    ("fraction", "b,1.5,,,,,", "bytes is a whole number"),
    ("recipe", "b,1,sha256-0,,,,", "a recipe is sha256- and 64"),
    ("kind", "b,1,,show,,,", "kind is one of film, series, other"),
    ("time", "b,1,,,yesterday,,", "a time is a day"),
    ("times", "b,1,,,2026-02-06,2026-02-06,", "available_until is after available_from"),
    ("region", "b,1,,,,,India", "a region is a country"),
    ("title", "..,1,,,,,", "a title is 1 to 256 bytes"),
    ("again", "a,1,,,,,", "a title has one row"),
    ("fields", "b,1", "as many fields as the first line"),
]


@pytest.mark.parametrize(("line", "rule"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_wrong_title_is_refused_and_the_others_are_taken(tmp_path: Path, line: str, rule: str) -> None:
    path = tmp_path / "catalogue.csv"
    path.write_text(f"{HEADER}a,10,,,,,\n{line}\nz,10,,,,,\n")
    catalogue = read_catalogue(path)
    assert [title.title for title in catalogue.titles] == ["a", "z"]
    (refusal,) = catalogue.refused.listed
    assert refusal.row == 3
    assert rule in refusal.rule


def test_a_catalogue_without_a_title_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.csv"
    path.write_text(f"{HEADER}a,0,,,,,\n")
    with pytest.raises(FeedError, match=r"catalogue\.csv: holds no row that can be used; the first of 1 refused"):
        read_catalogue(path)
