"""The catalogue's tables: titles in the place of others, and recipes that titles name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from steering.control.records.catalogue import RecipeRow, TitleRow
from steering.control.records.database import Records

TITLES = [TitleRow("video", f"t{index}", 10 + index) for index in range(5)]
NAMED = dataclasses.replace(TITLES[1], recipe="sha256-1", kind="film", available_from=1.5, regions="IN LK")
OTHER = TitleRow("games", "t1", 7)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    records = Records(tmp_path / "steering.db")
    with records.transaction() as transaction:
        transaction.catalogue.put_titles([*TITLES, OTHER])
    yield records
    records.close()


def recipe(name: str, put_at: float = 1.0) -> RecipeRow:
    return RecipeRow("video", name, name.encode(), 11, 1, put_at, "ops")


def test_titles_are_read_by_service(records: Records) -> None:
    catalogue = records.catalogue
    assert list(catalogue.titles("video")) == TITLES
    assert catalogue.count("video") == (5, 60)
    assert catalogue.count("live") == (0, 0)
    assert catalogue.title("games", "t1") == OTHER
    assert catalogue.title("games", "t2") is None
    assert catalogue.after("video", "t1", 2) == TITLES[2:4]


def test_a_title_is_put_in_the_place_of_another_and_only_then_written(records: Records) -> None:
    with records.transaction() as transaction:
        before = records.connection.total_changes
        transaction.catalogue.put_titles([TITLES[0], NAMED])
        assert records.connection.total_changes - before == 1
    assert records.catalogue.title("video", "t1") == NAMED
    with records.transaction() as transaction:
        transaction.catalogue.delete_titles("video", ["t1", "t9"])
    assert records.catalogue.title("video", "t1") is None
    assert records.catalogue.title("games", "t1") == OTHER


def test_recipes_are_kept_while_a_title_names_them_or_they_are_new(records: Records) -> None:
    with records.transaction() as transaction:
        transaction.catalogue.put_titles([NAMED])
    assert records.catalogue.missing_recipes("video") == ["t1"]
    with records.transaction() as transaction:
        for row in (recipe("sha256-1"), recipe("sha256-2"), recipe("sha256-3", 99.0)):
            transaction.catalogue.put_recipe(row)
    assert records.catalogue.missing_recipes("video") == []
    assert records.catalogue.recipe("video", "sha256-1") == b"sha256-1"
    assert records.catalogue.recipe("games", "sha256-1") is None
    assert records.catalogue.unused_recipes("video", 50.0) == ["sha256-2"]
    with records.transaction() as transaction:
        transaction.catalogue.delete_recipes("video", ["sha256-2"])
    assert records.catalogue.recipe_sizes("video") == {"sha256-1": 11, "sha256-3": 11}
