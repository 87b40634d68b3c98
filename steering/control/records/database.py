"""The database `steering.db` (SQLite): what must survive. One process writes it, in one thread.

Reads go through the repositories of `Records`. Writes go through the same repositories inside a transaction, which
commits whole or not at all:

    with records.transaction() as transaction:
        transaction.tokens.revoke(number, now)
        transaction.audit.add(entry)

Outside a transaction the connection refuses to write. A change is acknowledged when it is on disk (WAL,
synchronous=FULL). Other threads, and the child processes of control, read over connections of their own (`reading`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from steering.control.records.audit import AuditRepository
from steering.control.records.auth import TokenRepository
from steering.control.records.catalogue import CatalogueRepository
from steering.control.records.fleet import FleetRepository
from steering.control.records.overrides import OverrideRepository, StateRepository
from steering.control.records.playlists import PlaylistRepository
from steering.control.records.schema import SCHEMA, VERSION
from steering.control.records.versions import (
    PinRepository,
    PlanPinRepository,
    PlanVersionRepository,
    VersionRepository,
)
from steering.control.records.windows import WindowRepository
from steering.errors import SettingsError

NAME: Final = "steering.db"
RESTORE: Final = "steering restore BACKUP brings it back; playback serves on meanwhile"
# What reading rows may raise that a damaged page has changed.
UNREADABLE: Final = (sqlite3.Error, ArithmeticError, LookupError, TypeError, ValueError)


class RecordsError(SettingsError):
    """The database is lost or damaged, or another version wrote it: control cannot run, playback can."""


class Transaction:
    """One repository for each table, over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.audit = AuditRepository(connection)
        self.catalogue = CatalogueRepository(connection)
        self.fleet = FleetRepository(connection)
        self.overrides = OverrideRepository(connection)
        self.pins = PinRepository(connection)
        self.plan_pins = PlanPinRepository(connection)
        self.plan_versions = PlanVersionRepository(connection)
        self.playlists = PlaylistRepository(connection)
        self.states = StateRepository(connection)
        self.tokens = TokenRepository(connection)
        self.versions = VersionRepository(connection)
        self.windows = WindowRepository(connection)


@contextmanager
def reading(path: Path) -> Iterator[Transaction]:
    """Give the repositories of a database that is in use, for reads alone, in any thread and any process."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
    connection.row_factory = sqlite3.Row
    try:
        yield Transaction(connection)
    except sqlite3.Error as error:
        raise SettingsError(f"{path}: {error}") from error
    finally:
        connection.close()


class Records(Transaction):
    """The open database. Raises RecordsError where the file is unusable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:  # the -wal and -shm files get the same mode
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise RecordsError(f"{path}: {error.strerror}", RESTORE) from error
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=5)
        self.connection.row_factory = sqlite3.Row
        try:
            self.connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"
            )
            self.prepare()
            self.connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            self.connection.close()
            raise RecordsError(f"{path}: is damaged: {error}", RESTORE) from error
        except SettingsError:
            self.connection.close()
            raise
        super().__init__(self.connection)

    def prepare(self) -> None:
        """Create the tables in an empty database. Raises RecordsError for another schema."""
        (schema,) = self.connection.execute("PRAGMA user_version").fetchone()
        if schema == 0:
            self.connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA}; PRAGMA user_version = {VERSION}; COMMIT")
        elif schema != VERSION:
            raise RecordsError(
                f"{self.path}: has schema {schema}, and this version of steering reads schema {VERSION}",
                hint="run the version of steering that wrote it",
            )

    def reading(self) -> contextlib.AbstractContextManager[Transaction]:
        """Give the repositories over a connection of their own, for a long read in any thread."""
        return reading(self.path)

    def close(self) -> None:
        """Close the database; every acknowledged change is on disk already."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Give the repositories for one change: committed at the end, rolled back by any error.

        An error of SQLite itself (a full disk, a locked or damaged file) is a SettingsError.
        """
        try:
            self.connection.execute("PRAGMA query_only = OFF")
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                yield self
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            finally:
                self.connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise SettingsError(f"{self.path}: {error}; nothing was changed") from error
