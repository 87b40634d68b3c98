"""A recipe from a folder has each file once, with the hashes of the whole and of its parts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from steering.control.fill.recipe_folder import files_of, recipe_of
from steering.control.fill.recipes import PART_BYTES, name_of, read_recipe
from steering.errors import FeedError

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of a title: an empty file, one of one part, one of two whole parts and a rest."""
    (tmp_path / "high").mkdir()
    (tmp_path / "master.m3u8").write_bytes(b"#EXTM3U\n")
    (tmp_path / "empty").touch()
    (tmp_path / "high" / "v.m4s").write_bytes(bytes(2 * MIB) + b"rest")
    return tmp_path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_each_file_has_its_hash_and_those_of_its_parts(folder: Path) -> None:
    read: list[int] = []
    recipe = read_recipe(recipe_of(folder, read.append, MIB))
    assert recipe.part_bytes == MIB
    assert {file.path: (file.bytes, file.sha256, file.parts) for file in recipe.files} == {
        "empty": (0, sha256(b""), []),
        "high/v.m4s": (
            2 * MIB + 4,
            sha256(bytes(2 * MIB) + b"rest"),
            [sha256(bytes(MIB)), sha256(bytes(MIB)), sha256(b"rest")],
        ),
        "master.m3u8": (8, sha256(b"#EXTM3U\n"), [sha256(b"#EXTM3U\n")]),
    }
    assert sum(read) == sum(size for _, size in files_of(folder)) == recipe.bytes


def test_the_same_files_have_the_same_name(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "high").mkdir()
    for path, _ in reversed(files_of(folder)):
        (other / path).write_bytes((folder / path).read_bytes())
    documents = [recipe_of(path, lambda _: None) for path in (folder, other)]
    assert name_of(documents[0]) == name_of(documents[1])
    assert read_recipe(documents[0]).part_bytes == PART_BYTES


def no_files(folder: Path) -> None:
    for path, _ in files_of(folder):
        (folder / path).unlink()


REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    ("no file", no_files, "holds no file"),
    ("a link to a file", lambda folder: (folder / "copy").symlink_to("empty"), "copy: is a link or a device"),
    ("a link to a folder", lambda folder: (folder / "copy").symlink_to("high"), "copy: is a link or a device"),
    ("a pipe", lambda folder: os.mkfifo(folder / "pipe"), "pipe: is a link or a device"),
    ("a control character", lambda folder: (folder / "a\nb").touch(), "no control character"),
    ("no UTF-8", lambda folder: (folder / os.fsdecode(b"\xff")).touch(), "a path is UTF-8"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_no_recipe_can_have_is_named(folder: Path, change: Callable[[Path], object], message: str) -> None:
    change(folder)
    with pytest.raises(FeedError, match=message):
        recipe_of(folder, lambda _: None)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="none: No such file or directory"):
        recipe_of(tmp_path / "none", lambda _: None)


def test_a_file_that_changes_while_it_is_read_is_refused(folder: Path) -> None:
    def grow(_: int) -> None:
        with (folder / "high" / "v.m4s").open("ab") as file:
            file.write(b"x" if file.tell() < 3 * MIB else b"")

    with pytest.raises(FeedError, match="changed while it was read"):
        recipe_of(folder, grow)
