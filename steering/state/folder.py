"""The state folder: private, locked by its one writer, and without unneeded files."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from steering.errors import SettingsError

SOCKET: Final = "control.sock"

VERSIONED: Final = re.compile(r"(table|routes|fleet|status|holdings|playlists|plan|forecast)\.([0-9]{1,18})")
WORKER: Final = re.compile(r"worker\.([1-9][0-9]{0,4})")
UNFINISHED: Final = re.compile(
    r"\.(table|routes|fleet|status|holdings|playlists|plan|forecast|current|keys)\.?[0-9]*\.[0-9]+"
)


def make_folder(state: Path) -> None:
    """Make the state folder with mode 0700, or check an existing one."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"state folder {state}: {error.strerror}") from error
    check_folder(state)


def check_folder(state: Path) -> None:
    """Raise SettingsError unless the state folder exists, belongs to this user, and no other user may write in it."""
    try:
        status = state.stat()
    except OSError as error:
        raise SettingsError(f"state folder {state}: {error.strerror}") from error
    if status.st_uid != os.geteuid():
        raise SettingsError(
            f"state folder {state}: belongs to user {status.st_uid}, this process is user {os.geteuid()}",
            hint="run as its owner, or name another folder with --state",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(
            f"state folder {state}: mode {stat.S_IMODE(status.st_mode):04o} lets others write in it",
            hint=f"chmod 700 {state}",
        )


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Return a value that changes with a file or its mode, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode


def read_small(path: Path, most_bytes: int) -> tuple[bytes | None, int]:
    """Return the bytes of a file and its mode; None for what is no regular file, or is larger. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not be waited for
    try:
        mode = os.fstat(descriptor).st_mode
        data = os.read(descriptor, most_bytes + 1) if stat.S_ISREG(mode) else None
    finally:
        os.close(descriptor)
    return (None if data is None or len(data) > most_bytes else data), mode


def worker_file(state: Path, number: int) -> Path:
    """Return the path of a worker's counters; workers are numbered from 1."""
    return state / f"worker.{number}"


def worker_files(state: Path) -> dict[int, Path]:
    """Return the files of counters that are there, by the number of their worker, in order."""
    matches = (WORKER.fullmatch(path.name) for path in state.iterdir())
    numbers = sorted(int(match[1]) for match in matches if match)
    return {number: worker_file(state, number) for number in numbers}


class LockHeldError(SettingsError):
    """Another process holds the lock of the state folder."""


class Lock:
    """The right to write in a state folder, until `release` or the end of the process."""

    def __init__(self, state: Path) -> None:
        path = state / "lock"
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self.descriptor, 32).decode("ascii", "replace").strip() or "of unknown number"
            os.close(self.descriptor)
            raise LockHeldError(
                f"state folder {state}: process {holder} holds its lock and does not answer on {SOCKET}",
                hint=f"wait until it has ended; where it hangs: kill {holder}",
            ) from None
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another process write; a second call does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def versioned_files(state: Path) -> Iterator[tuple[Path, str, int]]:
    """Yield (path, kind, number) of every versioned file: `table.7` is (path, "table", 7)."""
    for path in state.iterdir():
        if match := VERSIONED.fullmatch(path.name):
            yield path, match[1], int(match[2])


def remove_unfinished(state: Path) -> None:
    """Remove the unfinished files of a killed writer. Only for the holder of the lock."""
    for path in state.iterdir():
        if UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


def remove_unneeded(state: Path, needed: Callable[[str, int], bool]) -> None:
    """Remove the versioned files that are not needed; a process that has one mapped keeps reading it."""
    for path, kind, number in versioned_files(state):
        if not needed(kind, number):
            path.unlink(missing_ok=True)


def number_of(name: str) -> int:
    """Return 7 of `table.7`."""
    return int(name.rpartition(".")[2])
