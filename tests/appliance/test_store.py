"""The folder: nothing is written through a link, and what is not whole is not shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steering.appliance.prepare import missing_parts, show
from steering.appliance.receipts import read_receipt
from steering.appliance.recipe import parts_of, read_recipe
from steering.appliance.store import Held, Store
from tests.support.fill_stage import PART, Content

FILM = Content(1, {"a/b.ts": 2 * PART + 1, "c": 5})
KEY = ("video", FILM.recipe)
RECIPE = read_recipe(FILM.document, FILM.recipe)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def fill(store: Store) -> None:
    store.write("recipes", KEY, FILM.document)
    for part in missing_parts(store, KEY, RECIPE):
        path = store.folder / "filling" / "video" / FILM.recipe / part.file.path
        with path.open("r+b") as file:
            file.seek(part.start)
            file.write(FILM.files[part.file.path][part.start : part.start + part.length])
    show(store, KEY, RECIPE, "v", "t1")


def test_a_whole_title_is_shown_and_has_a_receipt(store: Store) -> None:
    assert len(missing_parts(store, KEY, RECIPE)) == 4
    assert list(store.links()) == []
    fill(store)
    assert list(store.links()) == [Held("video", "t1", FILM.recipe)]
    assert (store.folder / "served" / "v" / "t1" / "c").read_bytes() == FILM.files["c"]
    assert read_receipt(store, KEY)
    assert missing_parts(store, KEY, RECIPE) == []
    assert list(store.recipes("fill")) == [KEY]


@pytest.mark.parametrize("damage", ["size", "time", "link", "gone", "recipe", "receipt"])
def test_a_receipt_is_good_only_while_nothing_changed(store: Store, damage: str) -> None:
    fill(store)
    file = store.folder / "fill" / "video" / FILM.recipe / "c"
    if damage == "size":
        file.write_bytes(b"1234")
    elif damage == "time":
        file.write_bytes(FILM.files["c"])
    elif damage in ("link", "gone"):
        file.rename(store.folder / "elsewhere")
        if damage == "link":
            file.symlink_to(store.folder / "elsewhere")
    elif damage == "recipe":
        (store.folder / "recipes" / "video" / FILM.recipe).write_bytes(FILM.document + b" ")
    else:
        (store.folder / "receipts" / "video" / FILM.recipe).write_bytes(b"[")
    assert read_receipt(store, KEY) is None


def test_only_good_parts_are_kept(store: Store) -> None:
    file = store.folder / "filling" / "video" / FILM.recipe / "a" / "b.ts"
    file.parent.mkdir(parents=True)
    data = FILM.files["a/b.ts"]
    file.write_bytes(data[:PART] + b"x" + data[PART + 1 :] + b"too long")
    big = next(row for row in RECIPE.files if row.path == "a/b.ts")
    missing = [part for part in missing_parts(store, KEY, RECIPE) if part.file.path == big.path]
    assert missing == [list(parts_of(RECIPE, big))[1]]


def test_a_damaged_file_goes_back_and_the_good_ones_stay(store: Store) -> None:
    fill(store)
    file = store.folder / "fill" / "video" / FILM.recipe / "a" / "b.ts"
    file.write_bytes(b"x" + FILM.files["a/b.ts"][1:])
    assert [part.start for part in missing_parts(store, KEY, RECIPE)] == [0]
    assert not file.exists()
    fill(store)
    assert file.read_bytes() == FILM.files["a/b.ts"]
    assert read_receipt(store, KEY)
    assert not store.has("filling", KEY)


@pytest.mark.parametrize("level", ["video", f"video/{FILM.recipe}", f"video/{FILM.recipe}/a", f"video/{FILM.recipe}/c"])
@pytest.mark.parametrize("area", ["filling", "receipts", "recipes"])
def test_a_link_is_not_written_through(store: Store, tmp_path: Path, area: str, level: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = store.folder / area / level
    if area != "filling" and level.count("/") > 1:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside / "file" if level.endswith("/c") else outside)
    if area == "filling":
        with pytest.raises(OSError, match=r"[Nn]ot a directory|Too many levels"):
            missing_parts(store, KEY, RECIPE)
    elif level == "video":
        with pytest.raises(OSError, match=r"[Nn]ot a directory|Too many levels"):
            store.write(area, KEY, b"x")
    else:
        store.write(area, KEY, b"x")  # the rename replaces the link itself
    assert list(outside.iterdir()) == []


def test_a_pipe_in_the_place_of_a_file_blocks_nothing(store: Store) -> None:
    import os

    folder = store.folder / "filling" / "video" / FILM.recipe
    folder.mkdir(parents=True)
    os.mkfifo(folder / "c")
    with pytest.raises(OSError, match="no plain file"):
        missing_parts(store, KEY, RECIPE)


def test_other_names_in_the_folders_are_ignored(store: Store) -> None:
    served = store.folder / "served" / "v"
    served.mkdir()
    for name, target in (("a", "/etc"), ("b", "../../fill/../../x"), (".t.new", f"../../fill/video/{FILM.recipe}")):
        (served / name).symlink_to(target)
    (served / "file").write_text("x")
    (store.folder / "fill" / "video" / "other").mkdir(parents=True)
    assert list(store.links()) == []
    assert list(store.recipes()) == []
