"""Side inputs of a table: geofeeds, the country map, RPKI payloads and traffic. None of them stops routes.

Where one cannot be used, its last good version takes its place, or nothing does where there is none: then clients have
the locations of the map, and routes are not validated (as RFC 7115, 5, has it: a router without payloads takes all
routes). A publish keeps a copy of each good one in the folder `side` of the state folder:

    side/<digest of its path>/<its name>
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from steering.control.feed_files import sha256_of
from steering.errors import FeedError

FOLDER: Final = "side"
LEFT_OUT: Final = {"rpki": "it is left out: routes are not validated"}
T = TypeVar("T")


class SideInputs:
    """Reads side inputs for one build; `problems` describes those that could not be used, as reports have them."""

    def __init__(self, state: Path) -> None:
        self.folder = state / FOLDER
        self.problems: list[dict[str, Any]] = []
        self.good: dict[Path, str] = {}  # with the SHA-256 before it was read

    def read(self, kind: str, path: Path, reader: Callable[[Path], T]) -> T | None:
        """Return what a reader makes of a side input, else of its last good version, else None."""
        try:
            digest = digest_of(path)
            content = reader(path)
            self.good[path] = digest
            return content
        except FeedError as error:
            copy, left_out, problem = self.copy_of(path), LEFT_OUT.get(kind, "it is left out"), error.message
            instead = left_out
            kept: T | None = None
            if copy.exists():
                try:
                    kept, instead = reader(copy), "its last good version is used"
                except FeedError:
                    instead = f"its last good version is unusable too; {left_out}"
        self.problems.append({"kind": kind, "feed": path.name, "path": str(path), "problem": f"{problem}; {instead}"})
        return kept

    def copy_of(self, path: Path) -> Path:
        """Return where the last good version of a side input is kept."""
        return self.folder / hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16] / path.name

    def keep(self) -> None:
        """Keep a copy of each good side input, and remove copies of files that the settings no longer name."""
        named = {self.copy_of(path) for path in [*self.good, *(Path(row["path"]) for row in self.problems)]}
        for folder in self.folder.iterdir() if self.folder.exists() else ():
            if not any(copy.parent == folder for copy in named):
                shutil.rmtree(folder, ignore_errors=True)
        for path, digest in self.good.items():
            copy = self.copy_of(path)
            if copy.exists() and sha256_of(copy) == digest:
                continue
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = copy.with_name(f"{copy.name}.new")
            try:
                shutil.copyfile(path, part)
                if sha256_of(part) == digest:  # else it changed since it was read
                    part.replace(copy)
            except OSError as error:
                self.problems.append(
                    {"kind": "copy", "feed": path.name, "path": str(path), "problem": f"not kept: {error.strerror}"}
                )
            finally:
                part.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file. Raises FeedError where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror}") from error
