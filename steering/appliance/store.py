"""The folder of all content. What is whole and checked stands under `fill/`; a receipt says so; a link serves it.

    served/<folder>/<title>            link to the recipe's folder: what players get
    fill/<service>/<recipe>/<path>     whole, checked recipes: what other appliances get
    filling/<service>/<recipe>/<path>  recipes that are being fetched; nginx serves nothing of it
    receipts/<service>/<recipe>        when the files were last hashed, and their times of change
    recipes/<service>/<recipe>         the recipe as control sent it
    removing/                          what is being deleted

There is no other record: a title is held if its link leads to a recipe with a good receipt. Every step that shows
something to others is one rename, after fsync. Folders are opened name by name below the root and never through a link,
so a link that someone laid into the folder is refused instead of written through.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from steering.appliance.recipe import RECIPE_NAME
from steering.appliance.settings import usable_bytes

FOLDERS: Final = ("served", "fill", "filling", "receipts", "recipes", "removing")
LINK: Final = re.compile(r"\.\./\.\./fill/(?P<service>[^/]{1,63})/(?P<recipe>sha256-[0-9a-f]{64})")
CANARY: Final = "canary"
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe in a file's place must not block


class Held(NamedTuple):
    """A title that stands on the disk."""

    service: str
    title: str
    recipe: str


Key = tuple[str, str]  # a service and a recipe's name


class Store:
    """The folder. `served` is the folder of URLs of a service."""

    def __init__(self, folder: Path, disk_bytes: str = "all but 0") -> None:
        self.folder = folder
        self.disk_bytes = disk_bytes
        self.root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in FOLDERS:
            os.close(open_below(self.root, (name,), create=True))

    def close(self) -> None:
        os.close(self.root)

    @contextlib.contextmanager
    def inside(self, *names: str, create: bool = False) -> Iterator[int]:
        """Give a folder below the root as a descriptor; FileNotFoundError without it, OSError through a link."""
        descriptor = open_below(self.root, names, create=create)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    # --- files of recipes ---

    def open_file(self, area: str, key: Key, path: str, *, write: bool = False) -> int:
        """Open a file of a recipe in `fill` or `filling`, or create it. OSError unless it is a plain file."""
        *folders, name = path.split("/")
        with self.inside(area, *key, *folders, create=write) as folder:
            flags = FILE_FLAGS | (os.O_RDWR | os.O_CREAT if write else os.O_RDONLY)
            descriptor = os.open(name, flags, 0o644, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(f"{path}: no plain file")
        return descriptor

    def move_file(self, key: Key, path: str, source: str, target: str) -> None:
        """Move a file of a recipe between `fill` and `filling` by one rename."""
        *folders, name = path.split("/")
        with (
            self.inside(source, *key, *folders) as old,
            self.inside(target, *key, *folders, create=True) as new,
        ):
            os.rename(name, name, src_dir_fd=old, dst_dir_fd=new)
            os.fsync(new)

    def has(self, area: str, key: Key) -> bool:
        try:
            with self.inside(area, *key):
                return True
        except OSError:
            return False

    # --- small files ---

    def read(self, area: str, key: Key) -> bytes:
        with self.inside(area, key[0]) as folder:
            descriptor = os.open(key[1], os.O_RDONLY | FILE_FLAGS, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                return file.read()

    def write(self, area: str, key: Key, content: bytes) -> None:
        """Write a small file beside, fsync it and rename it."""
        with self.inside(area, key[0], create=True) as folder:
            self.write_into(folder, key[1], content)

    def write_top(self, name: str, content: bytes) -> None:
        """Write a small file into the root itself."""
        self.write_into(self.root, name, content)

    @staticmethod
    def write_into(folder: int, name: str, content: bytes) -> None:
        beside = f".{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | FILE_FLAGS
        with os.fdopen(os.open(beside, flags, 0o644, dir_fd=folder), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)

    # --- titles ---

    def switch(self, served: str, title: str, key: Key) -> None:
        """Serve a recipe as a title, instead of the one before, by one rename."""
        with self.inside("served", served, create=True) as folder:
            beside = f".{key[1]}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=folder)
            os.symlink(f"../../fill/{key[0]}/{key[1]}", beside, dir_fd=folder)
            os.rename(beside, title, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def unlink(self, *names: str) -> None:
        """Delete a title's link or a small file, if it is there."""
        *folders, name = names
        with contextlib.suppress(FileNotFoundError), self.inside(*folders) as folder:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def links(self) -> Iterator[Held]:
        """Yield every title that a link serves, whether or not its receipt is good."""
        for served in names_in(self.folder / "served"):
            with self.inside("served", served) as folder:
                for title in os.listdir(folder):  # noqa: PTH208 (of a descriptor)
                    try:
                        link = LINK.fullmatch(os.readlink(title, dir_fd=folder))
                    except OSError:
                        continue
                    if link and not title.startswith("."):
                        yield Held(link["service"], title, link["recipe"])

    def recipes(self, area: str = "fill") -> Iterator[Key]:
        """Yield the recipes that stand in `fill` or `filling`."""
        for service in names_in(self.folder / area):
            for name in names_in(self.folder / area / service):
                if re.match(RECIPE_NAME, name):
                    yield service, name

    def discard(self, area: str, key: Key) -> None:
        """Delete a recipe's folder: first out of the way by one rename, then file by file."""
        for record in ("receipts", "recipes") if area == "fill" else ():
            self.unlink(record, *key)
        with contextlib.suppress(FileNotFoundError), self.inside(area, key[0]) as old, self.inside("removing") as new:
            os.rename(key[1], f"{area}.{key[0]}.{key[1]}.{time.monotonic_ns()}", src_dir_fd=old, dst_dir_fd=new)
        self.empty_removing()

    def empty_removing(self) -> None:
        """Delete what an earlier removal left; shutil.rmtree follows no links."""
        for name in names_in(self.folder / "removing"):
            shutil.rmtree(self.folder / "removing" / name, ignore_errors=True)

    # --- room ---

    def room(self) -> int:
        """Return how many bytes may still be written."""
        disk = os.fstatvfs(self.root)
        total, unused = disk.f_blocks * disk.f_frsize, disk.f_bfree * disk.f_frsize
        allowed = usable_bytes(self.disk_bytes, total) - (total - unused)
        return max(min(allowed, disk.f_bavail * disk.f_frsize), 0)

    def disk_used(self) -> float:
        """Return the used share of the disk."""
        disk = os.fstatvfs(self.root)
        return 1 - disk.f_bfree / disk.f_blocks if disk.f_blocks else 1.0

    def partial_bytes(self, key: Key) -> int:
        """Return how many bytes of the disk a recipe that is being fetched takes already."""
        taken = 0
        for folder, _, files in os.walk(self.folder / "filling" / key[0] / key[1]):
            for name in files:
                with contextlib.suppress(OSError):
                    taken += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118
        return taken


def open_below(root: int, names: Sequence[str], *, create: bool) -> int:
    """Open a folder below another one, name by name; OSError where a name is a link or no folder."""
    descriptor = os.dup(root)
    try:
        for name in names:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=descriptor)
            inner = os.open(name, FOLDER_FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def names_in(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder; none if it is not there."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def sync_folders(folder: Path) -> None:
    """Fsync a folder and all folders below it."""
    for name, _, _ in os.walk(folder):
        descriptor = os.open(name, FOLDER_FLAGS)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
