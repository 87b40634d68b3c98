"""A recipe is checked before a byte of it is used: its name, its paths, its sizes, its parts."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.appliance.recipe import MIN_PART, RecipeError, is_title_name, parts_of, path_fault, read_recipe

HASH, OTHER = "a" * 64, "b" * 64


def document(*files: dict[str, Any], part: Any = MIN_PART) -> tuple[bytes, str]:
    text = json.dumps({"part_bytes": part, "files": list(files)}).encode()
    return text, f"sha256-{hashlib.sha256(text).hexdigest()}"


def file(path: str = "a", size: Any = 1, parts: Any = (), sha256: str = HASH) -> dict[str, Any]:
    return {"path": path, "bytes": size, "sha256": sha256, "parts": list(parts)}


GOOD = [
    ("nothing", ()),
    ("one file", (file(),)),
    ("an empty file", (file(size=0),)),
    ("an empty file has no parts", (file(size=0, parts=[]),)),
    ("its only part", (file(parts=[HASH]),)),
    ("two parts", (file(size=MIN_PART + 1, parts=[HASH, OTHER]),)),
    ("folders", (file("a/b"), file("a/c"), file("ab"))),
    ("names with dots", (file("..a"), file("a.."), file("..."), file(".hidden"))),
    ("a name of another script", (file("फ़िल्म/१.ts"),)),
]


@pytest.mark.parametrize(("files"), [row[1] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_good_recipe_is_read(files: tuple[dict[str, Any], ...]) -> None:
    recipe = read_recipe(*document(*files))
    assert [row.path for row in recipe.files] == [row["path"] for row in files]
    for row in recipe.files:
        parts = list(parts_of(recipe, row))
        assert sum(part.length for part in parts) == row.bytes
        assert [part.start for part in parts] == list(range(0, row.bytes, MIN_PART))


BAD = [
    ("above the folder", (file("../a"),), "not `..`"),
    ("above, inside", (file("a/../../b"),), "not `..`"),
    ("absolute", (file("/etc/passwd"),), "not empty"),
    ("empty", (file(""),), "empty"),
    ("a dot", (file("a/./b"),), "not `.`"),
    ("ends with a slash", (file("a/"),), "not empty"),
    ("a backslash", (file("a\\b"),), "backslash"),
    ("a zero byte", (file("a\0b"),), "control"),
    ("a line end", (file("a\nb"),), "control"),
    ("a path too long", (file("a/" * 512 + "b"),), "1024"),
    ("a name too long", (file("a" * 256),), "255"),
    ("too deep", (file("/".join("a" * 40)),), "32 parts"),
    ("twice", (file("a"), file("a")), "twice"),
    ("below a file", (file("a"), file("a/b")), "below"),
    ("deep below a file", (file("a"), file("a/b/c")), "below"),
    ("2^63", (file(size=1 << 63),), "recipe sha256-"),
    ("2^53", (file(size=1 << 53),), "recipe sha256-"),
    ("below 0", (file(size=-1),), "recipe sha256-"),
    ("a size that is no number", (file(size="1"),), "recipe sha256-"),
    ("a broken number", (file(size=1.5),), "recipe sha256-"),
    ("the sum of sizes", (file("a", (1 << 52), [HASH] * 4), file("b", (1 << 52))), "parts"),
    ("no hash", (file(sha256="x" * 64),), "recipe sha256-"),
    ("a hash with a line end", (file(sha256=HASH + "\n"),), "recipe sha256-"),
    ("a part is missing", (file(size=MIN_PART + 1, parts=[HASH]),), "1 parts"),
    ("no parts", (file(size=MIN_PART + 1),), "0 parts"),
    ("a part too many", (file(parts=[HASH, HASH]),), "2 parts"),
    ("the only part differs", (file(parts=[OTHER]),), "another hash"),
]


@pytest.mark.parametrize(("files", "rule"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_hostile_recipe_is_refused(files: tuple[dict[str, Any], ...], rule: str) -> None:
    with pytest.raises(RecipeError, match=rule):
        read_recipe(*document(*files))


def test_the_document_is_the_one_of_this_name() -> None:
    text, name = document(file())
    with pytest.raises(RecipeError, match="the document's hash is"):
        read_recipe(text + b" ", name)
    for other in (b"", b"[]", b"\xff", b"[" * 100_000, b'{"part_bytes": 65536}'):
        with pytest.raises(RecipeError):
            read_recipe(other, f"sha256-{hashlib.sha256(other).hexdigest()}")


@pytest.mark.parametrize("part", [0, -1, 1, MIN_PART - 1, 1 << 40, "x"])
def test_parts_have_a_sensible_size(part: Any) -> None:
    with pytest.raises(RecipeError):
        read_recipe(*document(file(), part=part))


def test_a_million_files_are_the_most() -> None:
    rows = b",".join([json.dumps(file()).encode()] * 1_000_001)
    text = b'{"part_bytes": 65536, "files": [' + rows + b"]}"
    with pytest.raises(RecipeError, match="1000000"):
        read_recipe(text, f"sha256-{hashlib.sha256(text).hexdigest()}")


@given(st.text(st.sampled_from("a./\\\0~ é\n"), max_size=12))
def test_a_path_without_fault_stays_below_its_folder(path: str) -> None:
    if not path_fault(path):
        pure = PurePosixPath("/folder") / path
        assert str(pure) == f"/folder/{path}"
        assert ".." not in pure.parts
    else:
        assert path_fault(path)


@pytest.mark.parametrize(
    ("name", "good"),
    [("80100172", True), ("a b", True), ("..", False), (".new", False), ("a/b", False), ("", False), ("\u0007", False)],
)
def test_an_id_that_is_no_name_is_no_title(name: str, good: bool) -> None:
    assert is_title_name(name) is good
