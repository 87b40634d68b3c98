"""Recipes: the files of a title, with their sizes and hashes. A recipe is named by its own hash, and never changes.

    {"part_bytes": 67108864,
     "files": [{"path": "master.m3u8", "bytes": 1234, "sha256": "<64 hex>", "parts": []}]}

`parts` are the SHA-256 of each part of a file in order; a file of one part at most may have none, as its own hash is
the part's. The name is `sha256-` and the SHA-256 of the exact bytes of the document, which are kept as they were given.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from steering.errors import FeedError

PART_BYTES: Final = 64 << 20
MOST_DOCUMENT: Final = 64 << 20  # bytes of a recipe
MOST_FILES: Final = 200_000  # of a title
MOST_PARTS: Final = 500_000
MOST_PATH: Final = 1024  # bytes of UTF-8
MOST_BYTES: Final = (1 << 53) - 1  # exact in every reader of JSON
NAME: Final = re.compile(r"sha256-[0-9a-f]{64}")
CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f]")
SURROGATE: Final = re.compile("[\ud800-\udfff]")

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Size = Annotated[int, Meta(ge=0, le=MOST_BYTES)]


class RecipeFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a title: its path below the title, its size, and its hashes."""

    path: str
    bytes: Size
    sha256: Sha256
    parts: list[Sha256] = []


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The files of a title."""

    files: Annotated[list[RecipeFile], Meta(min_length=1, max_length=MOST_FILES)]
    part_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 30)] = PART_BYTES

    @property
    def bytes(self) -> int:
        """The bytes of all files."""
        return sum(file.bytes for file in self.files)


DECODER: Final = msgspec.json.Decoder(Recipe, strict=True)
ENCODER: Final = msgspec.json.Encoder()


def name_of(document: bytes) -> str:
    """Return the name of a recipe by the exact bytes of its document."""
    return f"sha256-{hashlib.sha256(document).hexdigest()}"


def read_recipe(document: bytes) -> Recipe:
    """Return a checked recipe. FeedError names the file, the value and the rule."""
    if len(document) > MOST_DOCUMENT:
        raise FeedError(f"a recipe has at most {MOST_DOCUMENT} bytes; this has {len(document)}")
    try:
        recipe = DECODER.decode(document)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"is no recipe: {error}"[:500]) from None
    check_recipe(recipe)
    return recipe


def document_of(recipe: Recipe) -> bytes:
    """Return the canonical document of a recipe: files by path, no spaces. Raises FeedError for a wrong one."""
    files = sorted(recipe.files, key=lambda file: file.path)
    document = ENCODER.encode({"part_bytes": recipe.part_bytes, "files": files})
    read_recipe(document)  # a Recipe made by hand has no limits
    return document


def check_recipe(recipe: Recipe) -> None:
    """Raise FeedError for the first file that breaks a rule, or for sums that do."""
    paths: set[str] = set()
    parts = 0
    for file in recipe.files:
        if rule := path_fault(file.path):
            raise FeedError(f"file {file.path[:80]!r}: {rule}")
        if file.path in paths:
            raise FeedError(f"file {file.path[:80]!r}: a path stands once in a recipe")
        paths.add(file.path)
        needed = -(-file.bytes // recipe.part_bytes)
        if len(file.parts) != needed and not (needed <= 1 and not file.parts):
            rule = f"{file.bytes} bytes are {needed} parts of {recipe.part_bytes}, each with a hash"
            raise FeedError(f"file {file.path[:80]!r}: {rule}; it has {len(file.parts)}")
        if needed == 1 and file.parts and file.parts[0] != file.sha256:
            raise FeedError(f"file {file.path[:80]!r}: the hash of its only part is its own hash")
        parts += needed
    for path in paths:
        folders = path.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            if (above := "/".join(folders[:depth])) in paths:
                raise FeedError(f"file {path[:80]!r}: {above[:80]!r} is a file too, and not a folder")
    if parts > MOST_PARTS:
        raise FeedError(f"a recipe has at most {MOST_PARTS} parts; this has {parts}")
    if recipe.bytes > MOST_BYTES:
        raise FeedError(f"the files of a title have at most {MOST_BYTES} bytes; these have {recipe.bytes}")


def path_fault(path: str) -> str:
    """Return the rule that a path breaks, empty for a right one."""
    if SURROGATE.search(path):
        return "a path is UTF-8"
    if not 0 < len(path.encode()) <= MOST_PATH:
        return f"a path has 1 to {MOST_PATH} bytes"
    if CONTROL.search(path) or "\\" in path:
        return "a path has no control character and no backslash"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "a path is relative, without empty, . and .. parts"
    if any(len(part.encode()) > 255 for part in parts):
        return "a part of a path has at most 255 bytes"
    return ""


def check_size(name: str, recipe: Recipe, title: str, title_bytes: int) -> None:
    """Raise FeedError unless a title has as many bytes as the files of its recipe."""
    if recipe.bytes != title_bytes:
        rule = f"a title has the bytes of its recipe's files; {title_bytes}, not {recipe.bytes}"
        raise FeedError(f"title {title!r}, recipe {name}: {rule}")
