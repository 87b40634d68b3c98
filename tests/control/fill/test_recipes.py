"""Recipes: what is read, what is refused by name, and the name by the exact bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from steering.control.fill.recipes import (
    MOST_BYTES,
    PART_BYTES,
    Recipe,
    RecipeFile,
    check_size,
    document_of,
    name_of,
    path_fault,
    read_recipe,
)
from steering.errors import FeedError

HASH, OTHER = "a" * 64, "b" * 64


def file(path: str = "v/1.m4s", size: int = 10, parts: list[str] | None = None, **others: Any) -> dict[str, Any]:
    return {"path": path, "bytes": size, "sha256": HASH, "parts": parts or [], **others}


def document(*files: Any, **others: Any) -> bytes:
    return json.dumps({"part_bytes": PART_BYTES, "files": list(files), **others}).encode()


TAKEN = [
    ("one file", [file()], 10),
    ("no bytes", [file(size=0)], 0),
    ("one part, named", [file(parts=[HASH])], 10),
    ("a whole part", [file(size=PART_BYTES)], PART_BYTES),
    ("two parts", [file(size=PART_BYTES + 1, parts=[HASH, OTHER])], PART_BYTES + 1),
    ("two files", [file("a"), file("b/a")], 20),
    ("any script", [file("映画/1.m4s")], 10),
    ("dots inside", [file("..a/b..c/...")], 10),
]


@pytest.mark.parametrize(("files", "size"), [row[1:] for row in TAKEN], ids=[row[0] for row in TAKEN])
def test_a_recipe_is_read(files: list[dict[str, Any]], size: int) -> None:
    recipe = read_recipe(document(*files))
    assert recipe.bytes == size
    assert read_recipe(document_of(recipe)) == Recipe(sorted(recipe.files, key=lambda item: item.path))


REFUSED = [
    ("not JSON", b"{", "is no recipe"),
    ("nested", b"[" * 100_000, "is no recipe"),
    ("no files", document(), "is no recipe"),
    ("another key", document(file(), origin="x"), "unknown field"),
    ("another key of a file", document(file(url="x")), "unknown field"),
    ("empty path", document(file("")), "a path has 1 to 1024 bytes"),
    ("long path", document(file("a/" * 512 + "b")), "a path has 1 to 1024 bytes"),
    ("long part", document(file("a" * 256)), "a part of a path has at most 255 bytes"),
    ("absolute", document(file("/etc/passwd")), "a path is relative"),
    ("parent", document(file("a/../../b")), "a path is relative"),
    ("here", document(file("./b")), "a path is relative"),
    ("empty part", document(file("a//b")), "a path is relative"),
    ("folder", document(file("a/")), "a path is relative"),
    ("backslash", document(file("a\\b")), "no control character and no backslash"),
    ("line end", document(file("a\nb")), "no control character and no backslash"),
    ("zero", document(file("a\0")), "no control character and no backslash"),
    ("twice", document(file("a"), file("a")), "a path stands once"),
    ("file and folder", document(file("a/b"), file("a")), "'a' is a file too"),
    ("deep below a file", document(file("a"), file("a/b/c")), "'a' is a file too"),
    ("negative", document(file(size=-1)), "is no recipe"),
    ("2^63", document(file(size=2**63)), "is no recipe"),
    ("2^53", document(file(size=2**53)), "is no recipe"),
    ("sum beyond 2^53", document(*(file(name, 2**52, []) for name in "ab"), part_bytes=1 << 30), "each with a hash"),
    ("fraction", document(file(size=1.5)), "is no recipe"),
    ("text", document(file(size="1")), "is no recipe"),
    ("short hash", document({**file(), "sha256": "a"}), "is no recipe"),
    ("capital hash", document({**file(), "sha256": "A" * 64}), "is no recipe"),
    ("hash and line end", document({**file(), "sha256": HASH + "\n"}), "is no recipe"),
    ("too few parts", document(file(size=PART_BYTES + 1, parts=[HASH])), "2 parts of 67108864"),
    ("no parts", document(file(size=PART_BYTES + 1)), "it has 0"),
    ("too many parts", document(file(parts=[HASH, HASH])), "1 parts of 67108864"),
    ("another part", document(file(parts=[OTHER])), "its own hash"),
    ("parts too small", document(file(), part_bytes=1), "is no recipe"),
]


@pytest.mark.parametrize(("text", "rule"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_wrong_recipe_is_refused(text: bytes, rule: str) -> None:
    with pytest.raises(FeedError) as caught:
        read_recipe(text)
    assert rule in caught.value.message


def test_a_recipe_is_named_by_its_exact_bytes() -> None:
    text = document(file())
    assert name_of(text) == f"sha256-{hashlib.sha256(text).hexdigest()}"
    assert name_of(text) != name_of(text + b" ")
    recipes = [Recipe([RecipeFile(path, 1, HASH) for path in paths]) for paths in (("a", "b"), ("b", "a"))]
    assert name_of(document_of(recipes[0])) == name_of(document_of(recipes[1]))


def test_a_recipe_made_by_hand_is_checked() -> None:
    with pytest.raises(FeedError, match="a path is relative"):
        document_of(Recipe([RecipeFile("../a", 1, HASH)]))
    assert path_fault("\ud800") == "a path is UTF-8"


def test_the_sum_of_a_recipe_is_the_size_of_its_title() -> None:
    recipe = read_recipe(document(file("a"), file("b")))
    check_size("sha256-x", recipe, "t", 20)
    with pytest.raises(FeedError, match="a title has the bytes of its recipe's files; 21, not 20"):
        check_size("sha256-x", recipe, "t", 21)
    assert MOST_BYTES == 2**53 - 1
