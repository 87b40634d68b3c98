"""Backups of a state folder: one tar file with everything that is needed to serve again at once.

A backup has the database, the keys, `current` and the files that `current` names, so that a restored folder serves
without its feeds. With `records_only` it has the database and the keys alone: small enough for every hour; the next
start publishes the table again from its feeds.

`back_up` only reads, so it works while control runs or hangs. It opens the files that serve before it copies the
database (SQLite's online backup), so the database is never older than they are. `restore` needs the lock of the folder,
checks everything before it moves a file, and keeps the old content in a folder beside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Final

from steering.control.records.audit import Entry
from steering.control.records.database import NAME, Records
from steering.control.routes.bgp.sessions import FILE as BGP_FILE
from steering.control.routes.build import Progress, quiet
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError, SnapshotError
from steering.state.current import Current, read_current
from steering.state.folder import SOCKET, VERSIONED, WORKER, Lock, LockHeldError, check_folder, make_folder, number_of
from steering.state.keys import FILE as KEYS
from steering.state.keys import read_keys
from steering.state.table import read_meta

TRIES: Final = 10  # a publish may remove a file between `current` and it
ASIDE: Final = "before-restore-"
CHUNK: Final = 1 << 20
MOST_MEMBERS: Final = 32  # a backup has at most 13 files


def back_up(state: Path, target: Path, *, records_only: bool = False, progress: Progress = quiet) -> dict[str, Any]:
    """Write a backup of a state folder, mode 0600, whole or not at all; report what is in it. Raises SettingsError."""
    check_folder(state)
    if not (state / NAME).exists():
        raise SettingsError(f"{state / NAME}: is not there; nothing to back up")
    part = target.with_name(f".{target.name}.{os.getpid()}")
    copy = part.with_name(part.name + ".db")
    try:
        with contextlib.ExitStack() as closing:
            closing.callback(part.unlink, missing_ok=True)
            closing.callback(copy.unlink, missing_ok=True)
            files = [] if records_only else open_served(state, closing)
            if (state / KEYS).exists():
                files.append(closing.enter_context((state / KEYS).open("rb")))
            progress("copy the database")
            copy_database(state / NAME, copy)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            whole = closing.enter_context(os.fdopen(descriptor, "wb"))
            progress("write the backup")
            with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as tar:
                add(tar, NAME, closing.enter_context(copy.open("rb")))
                for file in files:
                    add(tar, Path(file.name).name, file)
            whole.flush()
            os.fsync(whole.fileno())
            part.rename(target)
            sync_folder(target.parent)
        with tarfile.open(target, "r:") as tar:
            sizes = {member.name: member.size for member in tar}
        return {"backup": str(target), "bytes": target.stat().st_size, "files": sizes}
    except OSError as error:
        raise SettingsError(f"{error.filename or target}: {error.strerror}; no backup was made") from error
    except sqlite3.Error as error:
        raise SettingsError(f"{state / NAME}: {error}; no backup was made") from error


def open_served(state: Path, closing: contextlib.ExitStack) -> list[IO[bytes]]:
    """Return `current` and the files that it names, open, so that a publish cannot take one away."""
    for _ in range(TRIES):
        with contextlib.ExitStack() as on_error:
            try:
                current = read_current(state)
                names = ["current", *names_of(state, current), *([BGP_FILE] if (state / BGP_FILE).exists() else [])]
                files: list[IO[bytes]] = [on_error.enter_context((state / name).open("rb")) for name in names]
                if read_current(state) == current:
                    closing.push(on_error.pop_all())
                    return files
            except FileNotFoundError:
                continue
            except SnapshotError as error:
                if not (state / "current").exists():
                    return []
                raise SettingsError(error.message, hint="--records-only backs up the database alone") from error
    raise SettingsError(f"{state}: what serves changes all the time; no backup was made", hint="try again")


def names_of(state: Path, current: Current) -> list[str]:
    """Return the files that `current` names, and those that a canary is promoted or withdrawn to."""
    names = current.names()
    if canary := read_meta(state / current.table).get("canary"):
        names += [f"{kind}.{canary[side]}" for side in ("before", "after") for kind in ("table", "routes")]
    return names


def copy_database(source: Path, copy: Path) -> None:
    """Copy a database that is in use, as it is at one moment, into one file, and check the copy."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with (
        contextlib.closing(sqlite3.connect(f"file:{quoted(source)}?mode=rw", uri=True, timeout=5)) as reading,
        contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as writing,
    ):
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode = DELETE")
    check_database(copy)


def quoted(path: Path) -> str:
    """Return a path as it stands in a URI of SQLite."""
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def check_database(path: Path) -> None:
    """Raise SettingsError unless a database is whole."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quoted(path)}?mode=ro", uri=True)) as connection:
            damage = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            broken = [row[0] for row in connection.execute("PRAGMA foreign_key_check")]
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise SettingsError(f"{path.name}: {error}") from error
    if damage != ["ok"] or broken:
        raise SettingsError(
            f"{path.name}: is damaged: {'; '.join(damage) if damage != ['ok'] else 'rows point nowhere'}"
        )
    if not schema:
        raise SettingsError(f"{path.name}: is no database of steering")


def add(tar: tarfile.TarFile, name: str, source: IO[bytes]) -> None:
    """Add an open file to a backup; its owner and its mode stay behind."""
    status = os.fstat(source.fileno())
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = status.st_size, int(status.st_mtime), 0o600
    tar.addfile(member, source)


def restore(
    state: Path, source: Path, who: str, *, records_only: bool = False, progress: Progress = quiet
) -> dict[str, Any]:
    """Make a backup the content of a state folder that no service uses; report it, and where the old content is.

    Raises SettingsError where the folder is in use or the backup is not whole; then nothing was moved.
    """
    make_folder(state)
    try:
        lock = Lock(state)
    except LockHeldError as error:
        raise SettingsError(
            f"state folder {state}: is in use; nothing was restored", hint="end `steering serve` first"
        ) from error
    staging = state / f".restore-{os.getpid()}"
    try:
        for left in state.glob(".restore-*"):  # of a restore that was killed
            shutil.rmtree(left, ignore_errors=True)
        staging.mkdir(mode=0o700)
        progress("unpack and check the backup")
        made_at = unpack(source, staging, records_only)
        check_database(staging / NAME)
        report = take_on_record(staging, source, made_at, who)
        progress("put it in place")
        aside = swap(state, staging)
    except OSError as error:
        raise SettingsError(f"{error.filename or source}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        lock.release()
    return {"restored": str(source), **report, "aside": str(aside) if aside else None}


class Member(tarfile.TarInfo):
    """A member of a backup: a plain file. Extended headers, which may be large, and sparse files are refused unread."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type != tarfile.REGTYPE:
            raise tarfile.ReadError(f"{self.name[:64]!r} is no plain file (tar type {self.type!r})")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member


def unpack(source: Path, staging: Path, records_only: bool) -> float:
    """Write the files of a backup into an empty folder, and return when it was made. Raises SettingsError."""
    made_at = 0.0
    require_room(source, staging)
    try:
        with tarfile.open(source, "r:", tarinfo=Member) as tar:
            for number, member in enumerate(tar):
                if number == MOST_MEMBERS or not is_ours(member.name) or (staging / member.name).exists():
                    raise SettingsError(f"{source}: has {member.name[:64]!r}, and is no backup of steering")
                if records_only and member.name not in (NAME, KEYS):
                    continue
                if member.name == NAME:
                    made_at = float(member.mtime)
                content = tar.extractfile(member)
                assert content  # it is a regular file
                with content, (staging / member.name).open("xb") as file:
                    os.fchmod(file.fileno(), 0o600)
                    shutil.copyfileobj(content, file, CHUNK)
                    file.flush()
                    os.fsync(file.fileno())
    except tarfile.TarError as error:
        raise SettingsError(f"{source}: is no backup, or cut off: {error}") from error
    if not (staging / NAME).exists():
        raise SettingsError(f"{source}: has no {NAME}, and is no backup of steering")
    try:
        read_keys(staging)
    except SnapshotError as error:
        raise SettingsError(f"{source}: its keys are unusable: {error.message}", hint="take another backup") from error
    return made_at


def require_room(source: Path, staging: Path) -> None:
    """Raise SettingsError unless a backup is a regular file, and the disk has room for as many bytes."""
    status = source.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SettingsError(f"{source}: is no backup: not a regular file")
    free = shutil.disk_usage(staging).free
    if status.st_size > free:
        raise SettingsError(f"{source}: has {status.st_size} bytes, and the disk of {staging.parent} has {free} free")


def is_ours(name: str) -> bool:
    """Return whether a backup may have a file of this name."""
    return name in (NAME, KEYS, "current", BGP_FILE) or VERSIONED.fullmatch(name) is not None


def take_on_record(staging: Path, source: Path, made_at: float, who: str) -> dict[str, Any]:
    """Map the restored files, add the restore to the audit log of the restored database, and report its content."""
    serves: int | None = None
    if (staging / "current").exists():
        try:
            snapshot = Snapshot.map(staging)
            serves = number_of(snapshot.current.table) if snapshot.routes else None  # maps the routes, too
        except SnapshotError as error:
            raise SettingsError(
                f"{source}: what it served is unusable: {error.message}",
                hint="--records-only restores the database alone; the table is published again from its feeds",
            ) from error
    records = Records(staging / NAME)
    try:
        fleet = records.fleet.read()
        with records.transaction() as transaction:
            what = {"backup": source.name, "made_at": made_at}
            transaction.audit.add(Entry(time.time(), who, "restore", source.name, None, what))
        tokens = sum(token.is_good(time.time()) for token in records.tokens.all().values())
        return {
            "made_at": made_at,
            "fleet": records.fleet.version(),
            "appliances": len(fleet.appliances),
            "tokens": tokens,
            "table": serves,
        }
    finally:
        records.close()


def swap(state: Path, staging: Path) -> Path | None:
    """Replace the files of a folder by staged ones, and return where the old ones are now; None where there were none.

    The database is moved away first and `current` last, so no service starts by mistake on a folder whose restore was
    killed. Restoring again finishes it.
    """
    kept = {"lock", SOCKET, staging.name}
    if not (staging / KEYS).exists():
        kept.add(KEYS)  # the restored services may name keys that were made since
    old = [path for path in state.iterdir() if path.name not in kept and not path.name.startswith(ASIDE)]
    aside = None
    if old:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = Path(tempfile.mkdtemp(prefix=f"{ASIDE}{stamp}-", dir=state))
        for path in sorted(old, key=lambda path: (not path.name.startswith(NAME), path.name)):
            if path.name == "current" or WORKER.fullmatch(path.name):  # workers that serve count on in their files
                os.link(path, aside / path.name)
            else:
                path.rename(aside / path.name)
        sync_folder(aside)
    last = (NAME, "current")
    for path in staging.iterdir():
        if path.name not in last and not path.name.startswith(NAME):
            path.rename(state / path.name)
    for name in last:
        if (staging / name).exists():
            (staging / name).rename(state / name)
        else:
            (state / name).unlink(missing_ok=True)
    sync_folder(state)
    return aside


def sync_folder(path: Path) -> None:
    """Wait until a folder's names are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
