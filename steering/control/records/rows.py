"""Rows by column name: every statement that writes names its columns. `Repository` is the base of all tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]  # of a report


class Repository:
    """Tables of the database, over the one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection


def insert(connection: sqlite3.Connection, table: str, row: Row) -> int:
    """Add a row, and return the number that SQLite gave it."""
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    added = connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", dict(row))  # noqa: S608
    return int(added.lastrowid or 0)


def upsert(connection: sqlite3.Connection, table: str, key: tuple[str, ...], rows: Iterable[Row]) -> None:
    """Add rows, or change those that have the same key; the columns are those of the first row."""
    rows = [dict(row) for row in rows]
    if rows:
        columns, values = ", ".join(rows[0]), ", ".join(f":{name}" for name in rows[0])
        changes = ", ".join(f"{name} = excluded.{name}" for name in rows[0] if name not in key)
        connection.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({values})"  # noqa: S608
            f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}",
            rows,
        )
