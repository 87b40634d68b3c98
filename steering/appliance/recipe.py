"""A recipe: the files of a title with their sizes and hashes, checked before a byte of it is used.

Its name is the hash of the document, so a document that was changed on the way is no recipe of that name. Its content
is still input from outside: every path is checked here, and nowhere else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from steering.errors import FeedError

MAX_DOCUMENT: Final = 256 << 20  # bytes: a million files
MAX_FILES: Final = 1_000_000
MAX_PATH: Final = 1024
MAX_NAME: Final = 255  # bytes of one part of a path, ext4(5)
MAX_DEPTH: Final = 32
MAX_BYTES: Final = 1 << 53
MIN_PART: Final = 1 << 16  # smaller parts would need more requests than bytes
MAX_PART: Final = 1 << 30

RECIPE_NAME: Final = r"^sha256-[0-9a-f]{64}\Z"
CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\\u2028\u2029\ud800-\udfff]")

RecipeName = Annotated[str, Meta(pattern=RECIPE_NAME)]
Size = Annotated[int, Meta(ge=0, lt=MAX_BYTES)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class File(Struct, frozen=True):
    """One file. `parts` are the hashes of its parts; a file of one part may have none."""

    path: str
    bytes: Size
    sha256: Hash
    parts: tuple[Hash, ...] = ()


class Recipe(Struct, frozen=True):
    """The files of a title. A document may have other members; they are ignored."""

    part_bytes: Annotated[int, Meta(ge=MIN_PART, le=MAX_PART)]
    files: Annotated[tuple[File, ...], Meta(max_length=MAX_FILES)]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class Part(NamedTuple):
    """One part of a file: its first byte, its length, its hash."""

    file: File
    start: int
    length: int
    sha256: str

    @property
    def is_whole(self) -> bool:
        return self.length == self.file.bytes


class RecipeError(FeedError):
    """The document is no recipe of this name, or breaks a rule."""


DECODER: Final = msgspec.json.Decoder(Recipe)


def read_recipe(document: bytes, name: str) -> Recipe:
    """Return the recipe in a document. Raises RecipeError if it is not the one of this name, or breaks a rule."""
    digest = f"sha256-{hashlib.sha256(document).hexdigest()}"
    if digest != name:
        raise RecipeError(f"recipe {name}: the document's hash is {digest}")
    try:
        recipe = DECODER.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"recipe {name}: {error}") from None
    check_paths(recipe.files)
    for file in recipe.files:
        count = -(-file.bytes // recipe.part_bytes)
        if len(file.parts) != count and (file.parts or count > 1):
            raise RecipeError(f"file {file.path!r} has {len(file.parts)} parts; {file.bytes} bytes are {count}")
        if len(file.parts) == 1 and file.parts[0] != file.sha256:
            raise RecipeError(f"file {file.path!r}: its only part has another hash than the file")
    if recipe.bytes >= MAX_BYTES:
        raise RecipeError(f"recipe {name}: {recipe.bytes} bytes, the most is {MAX_BYTES - 1}")
    return recipe


def check_paths(files: Sequence[File]) -> None:
    """Raise RecipeError unless each path stays below the title's folder, and can stand beside the others."""
    paths = set()
    for file in files:
        if rule := path_fault(file.path):
            raise RecipeError(f"path {file.path[:80]!r}: {rule}")
        if file.path in paths:
            raise RecipeError(f"path {file.path!r} occurs twice")
        paths.add(file.path)
    for path in paths:
        above = path
        while above := above.rpartition("/")[0]:
            if above in paths:
                raise RecipeError(f"path {path!r} is below the file {above!r}")


def path_fault(path: str) -> str:
    """Return the rule that a path breaks, "" for a good one."""
    if not path:
        return "it is empty"
    if CONTROLS.search(path):
        return "it has a backslash or a control character"
    if len(path.encode()) > MAX_PATH:
        return f"it has more than {MAX_PATH} bytes"
    parts = path.split("/")
    if len(parts) > MAX_DEPTH:
        return f"it has more than {MAX_DEPTH} parts"
    if any(part in ("", ".", "..") for part in parts):
        return "each part is a name: not empty, not `.`, not `..`"
    if any(len(part.encode()) > MAX_NAME for part in parts):
        return f"a part has more than {MAX_NAME} bytes"
    return ""


def is_title_name(title: str) -> bool:
    """Return whether an id can be the name of a title's folder."""
    return not path_fault(title) and "/" not in title and not title.startswith(".")


def parts_of(recipe: Recipe, file: File) -> Iterator[Part]:
    """Yield the parts of a file in order; none for an empty file."""
    hashes = file.parts or (file.sha256,)
    for index, start in enumerate(range(0, file.bytes, recipe.part_bytes)):
        yield Part(file, start, min(recipe.part_bytes, file.bytes - start), hashes[index])
