"""A recipe from a folder: every file below it is read once, and hashed whole and by parts."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from steering.control.fill.recipes import MOST_FILES, PART_BYTES, Recipe, RecipeFile, document_of, path_fault
from steering.errors import FeedError

READ_BYTES: Final = 1 << 20

Advance = Callable[[int], None]  # called with the bytes that were read since the last call


def files_of(folder: Path) -> list[tuple[str, int]]:
    """Return the path below a folder and the size of each file in it, by path.

    Raises FeedError for a link or a device, and for a path that no recipe may have.
    """
    files = sorted(walk(folder))
    if not files:
        raise FeedError(f"{folder}: holds no file; a recipe has at least one")
    if len(files) > MOST_FILES:
        raise FeedError(f"{folder}: {len(files)} files; a recipe has at most {MOST_FILES}")
    return files


def walk(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield path and size of the files below a folder, in any order."""
    folders = [""]
    while folders:
        below = folders.pop()
        try:
            entries = list(os.scandir(folder / below))
        except OSError as error:
            raise FeedError(f"{folder / below}: {error.strerror}") from error
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if rule := path_fault(path):
                raise FeedError(f"{folder}: file {path[:80]!r}: {rule}")
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif stat.S_ISREG(status.st_mode):
                yield path, status.st_size
            else:
                raise FeedError(f"{folder / path}: is a link or a device; a recipe has files", hint="copy the file")


def recipe_of(folder: Path, advance: Advance, part_bytes: int = PART_BYTES) -> bytes:
    """Return the canonical document of the recipe of a folder. Raises FeedError."""
    files = [hashed(folder, path, size, part_bytes, advance) for path, size in files_of(folder)]
    return document_of(Recipe(files=files, part_bytes=part_bytes))


def hashed(folder: Path, path: str, size: int, part_bytes: int, advance: Advance) -> RecipeFile:
    """Return a file with its hashes. Raises FeedError if it changes while it is read."""
    whole, parts, part, count = hashlib.sha256(), [], hashlib.sha256(), 0
    try:
        with (folder / path).open("rb") as file:
            before = os.fstat(file.fileno())
            while data := file.read(min(READ_BYTES, part_bytes - count % part_bytes)):
                whole.update(data)
                part.update(data)
                count += len(data)
                if count % part_bytes == 0:
                    parts.append(part.hexdigest())
                    part = hashlib.sha256()
                advance(len(data))
            after = os.fstat(file.fileno())
    except OSError as error:
        raise FeedError(f"{folder / path}: {error.strerror}") from error
    if count != size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FeedError(f"{folder / path}: changed while it was read", hint="repeat it when the file is at rest")
    if count % part_bytes:
        parts.append(part.hexdigest())
    return RecipeFile(path, size, whole.hexdigest(), parts)
