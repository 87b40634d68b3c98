"""What must survive: fleet, overrides, published versions and the numbers given, in `steering.db` (SQLite, one writer).

Cluster numbers, partner numbers and appliance slots are given once and never again, also after a delete and a new
import: tables, fleets and weights of different versions agree through them on who is who. So are version numbers,
also after a publish that failed. A change is acknowledged when it is on disk (WAL, synchronous=FULL).
"""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from steering.control.health.windows import Window
from steering.control.records.auth import Token
from steering.errors import SettingsError
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Pathway, Service

NAME: Final = "steering.db"

# One script a step, never edited once released; PRAGMA user_version counts how many have run.
MIGRATIONS: Final = (
    """
    CREATE TABLE numbers (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (kind, id),
        UNIQUE (kind, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE fleets (
        version INTEGER PRIMARY KEY AUTOINCREMENT,
        imported_at REAL NOT NULL,
        who TEXT NOT NULL
    ) STRICT;
    CREATE TABLE partners (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        country TEXT NOT NULL,
        asns TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sites (
        id TEXT PRIMARY KEY,
        country TEXT NOT NULL,
        city TEXT NOT NULL,
        latitude REAL NOT NULL,
        longitude REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE clusters (
        id TEXT PRIMARY KEY,
        site TEXT NOT NULL REFERENCES sites (id),
        route_class INTEGER NOT NULL,
        partner TEXT REFERENCES partners (id),
        countries TEXT NOT NULL,
        accepts_off_net INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX clusters_by_site ON clusters (site);
    CREATE INDEX clusters_by_partner ON clusters (partner);
    CREATE TABLE appliances (
        id TEXT PRIMARY KEY,
        cluster TEXT NOT NULL REFERENCES clusters (id),
        host TEXT NOT NULL,
        capacity_gbps REAL NOT NULL,
        ipv4 INTEGER NOT NULL,
        ipv6 INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX appliances_by_cluster ON appliances (cluster);
    CREATE TABLE services (
        id TEXT PRIMARY KEY,
        url TEXT NOT NULL,
        fallback TEXT NOT NULL,
        ttl_s INTEGER NOT NULL,
        regions TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    -- By id, not by reference: a override outlives its appliance's absence from one import.
    CREATE TABLE overrides (
        appliance TEXT PRIMARY KEY,
        enabled INTEGER NOT NULL,
        weight INTEGER,
        changed_at REAL NOT NULL,
        who TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    -- A row without published_at is a publish that was begun and never served.
    CREATE TABLE versions (
        version INTEGER PRIMARY KEY AUTOINCREMENT,
        fleet INTEGER NOT NULL,
        published_at REAL,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        sources TEXT NOT NULL,
        counts TEXT NOT NULL
    ) STRICT;
    CREATE TABLE generation (number INTEGER NOT NULL) STRICT;
    INSERT INTO generation VALUES (0);
    """,
    """
    -- Revoked tokens stay, so that the audit log's ids mean something.
    CREATE TABLE tokens (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        role TEXT NOT NULL,
        name TEXT NOT NULL,
        sha256 BLOB NOT NULL UNIQUE,
        made_at REAL NOT NULL,
        who TEXT NOT NULL,
        expires_at REAL,
        revoked_at REAL
    ) STRICT;
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        who TEXT NOT NULL,
        what TEXT NOT NULL,
        subject TEXT NOT NULL,
        before TEXT NOT NULL,
        after TEXT NOT NULL,
        why TEXT NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE partners ADD COLUMN allowed_asns TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE partners ADD COLUMN accepts_v4 TEXT NOT NULL DEFAULT '';
    ALTER TABLE partners ADD COLUMN accepts_v6 TEXT NOT NULL DEFAULT '';
    ALTER TABLE partners ADD COLUMN max_prefixes INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- No row, or one: no publish but one by hand until it is gone.
    CREATE TABLE pin (version INTEGER NOT NULL, at REAL NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL) STRICT;
    ALTER TABLE clusters ADD COLUMN peers TEXT NOT NULL DEFAULT '[]';
    """,
    """
    ALTER TABLE appliances ADD COLUMN addresses TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE appliances ADD COLUMN health_url TEXT NOT NULL DEFAULT '';
    ALTER TABLE services ADD COLUMN holdings TEXT NOT NULL DEFAULT 'title';
    ALTER TABLE services ADD COLUMN fail_open INTEGER NOT NULL DEFAULT 0;
    -- '': as the setting says; else assumed or reported.
    ALTER TABLE overrides ADD COLUMN health_source TEXT NOT NULL DEFAULT '';
    -- Maintenance of an appliance, a cluster or a site; rows stay when they are over or cancelled.
    CREATE TABLE windows (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        begins_at REAL NOT NULL,
        ends_at REAL NOT NULL,
        made_at REAL NOT NULL,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        cancelled_at REAL
    ) STRICT;
    -- What was last known of an appliance, as JSON.
    CREATE TABLE states (appliance TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE sites ADD COLUMN region TEXT NOT NULL DEFAULT '';
    -- What else a service is, as JSON: the fields that are not at their default.
    ALTER TABLE services ADD COLUMN more TEXT NOT NULL DEFAULT '{}';
    """,
    """
    -- A title's playlists: as they came, as JSON texts that playback joins, and where from (empty: from a person).
    CREATE TABLE playlists (
        service TEXT NOT NULL,
        title TEXT NOT NULL,
        kind TEXT NOT NULL,
        body BLOB NOT NULL,
        cut TEXT NOT NULL,
        url TEXT NOT NULL,
        changed_at REAL NOT NULL,
        who TEXT NOT NULL,
        problem TEXT NOT NULL,
        PRIMARY KEY (service, title, kind)
    ) STRICT, WITHOUT ROWID;
    """,
)

AUDIT_KEPT: Final = 1_000_000

# Partner number 0 means none; the others index arrays.
FIRST_NUMBER: Final = {"partner": 1, "cluster": 0, "appliance": 0}


@dataclasses.dataclass(frozen=True, slots=True)
class Override:
    """What people want of an appliance: to serve or not, a weight instead of its capacity's, and whom to set_health_source.

    `health_source` is `assumed` (at its capacity, whatever it reports), `reported` (by its reports alone), or empty: as the
    setting says.
    """

    enabled: bool = True
    weight: int | None = None
    health_source: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A line of the audit log: who did what to which subject, what it was and what it became (as JSON), and why."""

    at: float
    who: str
    what: str
    subject: str
    before: Any = None
    after: Any = None
    why: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Version:
    """A published table: with which fleet, when, by whom, why, from which sources (SHA-256 each), and its counts."""

    table: int
    fleet: int
    published_at: float
    who: str
    why: str
    sources: list[dict[str, Any]]
    counts: dict[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A registered playlist: as it came, as playback has it (`cut`, JSON), from where, and what is wrong at the origin.

    An empty `url` is a person's, an empty `problem` none.
    """

    service: str
    title: str
    kind: str
    body: bytes
    cut: str
    url: str
    changed_at: float
    who: str
    problem: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Pin:
    """The table that is to stay, since when, by whom, and why."""

    table: int
    at: float
    who: str
    why: str


class Store:
    """The database, opened for the one writer. Not to be shared between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:  # its -wal and -shm take over the mode
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}") from error
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=5)
        try:
            self.connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"
            )
            self.migrate()
        except sqlite3.Error as error:
            self.connection.close()
            raise SettingsError(f"{path}: {error}", hint="restore it from a backup") from error
        except SettingsError:
            self.connection.close()
            raise

    def migrate(self) -> None:
        """Run the migrations that the database has not seen, each whole or not at all."""
        (done,) = self.connection.execute("PRAGMA user_version").fetchone()
        if done > len(MIGRATIONS):
            raise SettingsError(
                f"{self.path}: of schema {done}, this version knows up to {len(MIGRATIONS)}",
                hint="run the newer version of steering that wrote it",
            )
        for number, script in enumerate(MIGRATIONS[done:], done + 1):
            self.connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT")

    def close(self) -> None:
        """Close the database; whatever was acknowledged is on disk already."""
        self.connection.close()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside one transaction: kept whole at the end, or undone by any error.

        What SQLite itself refuses (a full disk, a locked or damaged file) is a SettingsError.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise SettingsError(f"{self.path}: {error}; nothing was changed") from error

    # ---- fleet

    def fleet_version(self) -> int:
        """Return the number of the latest fleet, 0 where none was imported."""
        (version,) = self.connection.execute("SELECT coalesce(max(version), 0) FROM fleets").fetchone()
        return int(version)

    def replace_fleet(self, fleet: Fleet, who: str, now: float) -> int:
        """Make the fleet the one on record and return its version; a part of the caller's `change`.

        What had a number keeps it; what is new gets the next, in the order of ids.
        """
        for table in ("appliances", "clusters", "sites", "partners", "services"):
            self.connection.execute(f"DELETE FROM {table}")  # noqa: S608
        self.give_numbers("partner", (item.id for item in fleet.partners))
        self.give_numbers("cluster", (item.id for item in fleet.clusters))
        self.give_numbers("appliance", (item.id for item in fleet.appliances))
        rows: dict[str, Iterable[tuple[Any, ...]]] = {
            "partners": (
                (
                    p.id,
                    p.name,
                    p.country,
                    json.dumps(p.asns),
                    json.dumps(p.allowed_asns),
                    p.accepts_v4,
                    p.accepts_v6,
                    p.max_prefixes,
                )
                for p in fleet.partners
            ),
            "sites": ((s.id, s.country, s.city, s.latitude, s.longitude, s.region) for s in fleet.sites),
            "clusters": (
                (
                    *(c.id, c.site, int(c.route_class), c.partner),
                    *(json.dumps(c.countries), c.accepts_off_net, json.dumps(c.peers)),
                )
                for c in fleet.clusters
            ),
            "appliances": (
                (a.id, a.cluster, a.host, a.capacity_gbps, a.ipv4, a.ipv6, json.dumps(a.addresses), a.health_url)
                for a in fleet.appliances
            ),
            "services": (
                (s.id, s.url, s.fallback, s.ttl_s, json.dumps(s.regions), s.holdings, s.fail_open, more_of(s))
                for s in fleet.services
            ),
        }
        places = {"partners": 8, "sites": 6, "clusters": 7, "appliances": 8, "services": 8}
        for table, values in rows.items():
            marks = ", ".join("?" * places[table])
            self.connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608
        added = self.connection.execute("INSERT INTO fleets (imported_at, who) VALUES (?, ?)", (now, who))
        return int(added.lastrowid or 0)

    def give_numbers(self, kind: str, ids: Iterable[str]) -> None:
        """Give each id of a kind its number, if it never had one."""
        known = self.numbers(kind)
        first = max(known.values(), default=FIRST_NUMBER[kind] - 1) + 1
        new = sorted(set(ids) - known.keys())
        self.connection.executemany(
            "INSERT INTO numbers VALUES (?, ?, ?)", ((kind, name, first + place) for place, name in enumerate(new))
        )

    def numbers(self, kind: str) -> dict[str, int]:
        """Return the numbers ever given to a kind, by id."""
        return dict(self.connection.execute("SELECT id, number FROM numbers WHERE kind = ?", (kind,)))

    def fleet(self) -> Fleet:
        """Return the fleet on record, numbered, each tuple ordered by id."""
        partner, cluster, slot = self.numbers("partner"), self.numbers("cluster"), self.numbers("appliance")
        rows = self.connection.execute
        return Fleet(
            partners=tuple(
                Partner(name, label, country, tuple(json.loads(asns)), partner[name], tuple(json.loads(allowed)), *more)
                for name, label, country, asns, allowed, *more in rows("SELECT * FROM partners ORDER BY id")
            ),
            sites=tuple(Site(*row) for row in rows("SELECT * FROM sites ORDER BY id")),
            clusters=tuple(
                Cluster(
                    *(name, site, RouteClass(kind), owner, tuple(json.loads(countries)), bool(off_net), cluster[name]),
                    tuple(json.loads(peers)),
                )
                for name, site, kind, owner, countries, off_net, peers in rows("SELECT * FROM clusters ORDER BY id")
            ),
            appliances=tuple(
                Appliance(
                    *(name, home, host, capacity, bool(ipv4), bool(ipv6), slot[name]),
                    *(tuple(json.loads(addresses)), url),
                )
                for name, home, host, capacity, ipv4, ipv6, addresses, url in rows(
                    "SELECT * FROM appliances ORDER BY id"
                )
            ),
            services=tuple(
                Service(
                    name, url, fallback, ttl_s, tuple(json.loads(regions)), holdings, bool(fail_open), **read_more(more)
                )
                for name, url, fallback, ttl_s, regions, holdings, fail_open, more in rows(
                    "SELECT * FROM services ORDER BY id"
                )
            ),
        )

    # ---- overrides

    def overrides(self) -> dict[str, Override]:
        """Return every override on record, by appliance id, also of appliances that are not in the fleet now."""
        rows = self.connection.execute("SELECT appliance, enabled, weight, health_source FROM overrides")
        return {name: Override(bool(enabled), weight, health_source) for name, enabled, weight, health_source in rows}

    def wished(self) -> dict[str, tuple[float, str]]:
        """Return when and by whom each override was changed last, by appliance id."""
        rows = self.connection.execute("SELECT appliance, changed_at, who FROM overrides")
        return {name: (at, who) for name, at, who in rows}

    def set_overrides(self, overrides: dict[str, Override], who: str, now: float) -> None:
        """Record overrides, all or none; a part of the caller's `change`."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO overrides VALUES (?, ?, ?, ?, ?, ?)",
            (
                (name, override.enabled, override.weight, now, who, override.health_source)
                for name, override in overrides.items()
            ),
        )

    # ---- windows

    def windows(self, ends_after: float = 0.0) -> list[Window]:
        """Return the maintenance windows that end after a time, in the order in which they were made."""
        rows = self.connection.execute("SELECT * FROM windows WHERE ends_at > ? ORDER BY id", (ends_after,))
        return [Window(*row) for row in rows]

    def add_window(self, window: Window) -> int:
        """Record a window and return the id it is given; a part of the caller's `change`."""
        added = self.connection.execute(
            "INSERT INTO windows (kind, subject, begins_at, ends_at, made_at, who, why) VALUES (?, ?, ?, ?, ?, ?, ?)",
            dataclasses.astuple(window)[1:8],
        )
        return int(added.lastrowid or 0)

    def cancel_window(self, number: int, now: float) -> None:
        """Record that a window is cancelled, or ended early; a part of the caller's `change`."""
        self.connection.execute(
            "UPDATE windows SET cancelled_at = ? WHERE id = ? AND cancelled_at IS NULL", (now, number)
        )

    # ---- states

    def states(self) -> dict[str, str]:
        """Return what was last known of each appliance, as JSON."""
        return dict(self.connection.execute("SELECT appliance, state FROM states"))

    def set_states(self, states: Mapping[str, str]) -> None:
        """Record what is known of appliances; a part of the caller's `change`."""
        self.connection.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)", states.items())

    # ---- playlists

    def playlist(self, service: str, title: str, kind: str) -> Listed | None:
        """Return one playlist, None where none is registered."""
        key = (service, title, kind)
        row = self.connection.execute(
            "SELECT * FROM playlists WHERE service = ? AND title = ? AND kind = ?", key
        ).fetchone()
        return Listed(*row) if row else None

    def playlists(self, service: str, title: str, kind: str, count: int) -> list[Listed]:
        """Return so many playlists behind that one, in their order."""
        rows = self.connection.execute(
            "SELECT * FROM playlists WHERE (service, title, kind) > (?, ?, ?) ORDER BY service, title, kind LIMIT ?",
            (service, title, kind, count),
        )
        return [Listed(*row) for row in rows]

    def count_playlists(self) -> int:
        """Return how many playlists are registered."""
        (count,) = self.connection.execute("SELECT count(*) FROM playlists").fetchone()
        return int(count)

    def fetched(self) -> list[tuple[str, str, str]]:
        """Return service, title and kind of the playlists that came from an origin."""
        return list(self.connection.execute("SELECT service, title, kind FROM playlists WHERE url <> ''"))

    def playlist_marks(self) -> list[tuple[str, str, str, float]]:
        """Return what changes when any playlist does: service, title, kind and time of each."""
        return list(
            self.connection.execute(
                "SELECT service, title, kind, changed_at FROM playlists ORDER BY service, title, kind"
            )
        )

    def prepared_playlists(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield service, title, kind and `cut` of every playlist."""
        yield from self.connection.execute("SELECT service, title, kind, cut FROM playlists ORDER BY 1, 2, 3")

    def set_playlist(self, row: Listed) -> None:
        """Record a playlist in the place of another; a part of the caller's `change`."""
        self.connection.execute(
            "INSERT OR REPLACE INTO playlists VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", dataclasses.astuple(row)
        )

    def delete_playlist(self, service: str, title: str, kind: str) -> None:
        """Forget a playlist; a part of the caller's `change`."""
        key = (service, title, kind)
        self.connection.execute("DELETE FROM playlists WHERE service = ? AND title = ? AND kind = ?", key)

    # ---- tokens

    def tokens(self) -> dict[int, Token]:
        """Return every token ever made, by id."""
        rows = self.connection.execute("SELECT * FROM tokens ORDER BY id")
        return {token.id: token for token in (Token(*row) for row in rows)}

    def add_token(self, role: str, name: str, sha256: bytes, who: str, now: float, expires_at: float | None) -> int:
        """Record a token and return its id; a part of the caller's `change`."""
        added = self.connection.execute(
            "INSERT INTO tokens (role, name, sha256, made_at, who, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
            (role, name, sha256, now, who, expires_at),
        )
        return int(added.lastrowid or 0)

    def revoke_token(self, number: int, now: float) -> None:
        """Record that a token opens no door any more; a part of the caller's `change`."""
        self.connection.execute("UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (now, number))

    # ---- audit

    def note(self, entry: Entry) -> None:
        """Add an entry to the audit log, and drop the oldest beyond AUDIT_KEPT; a part of the caller's `change`."""
        added = self.connection.execute(
            "INSERT INTO audit (at, who, what, subject, before, after, why) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                entry.at,
                entry.who,
                entry.what,
                entry.subject,
                json.dumps(entry.before, ensure_ascii=False),
                json.dumps(entry.after, ensure_ascii=False),
                entry.why,
            ),
        )
        self.connection.execute("DELETE FROM audit WHERE number <= ?", ((added.lastrowid or 0) - AUDIT_KEPT,))

    def audit(self, count: int, below: int | None = None) -> list[dict[str, Any]]:
        """Return the newest entries of the audit log, newest first; `below` a number, to read on."""
        rows = self.connection.execute(
            "SELECT * FROM audit WHERE number < ? ORDER BY number DESC LIMIT ?", (below or 1 << 62, count)
        )
        return [
            {
                "number": number,
                "at": at,
                "who": who,
                "what": what,
                "subject": subject,
                "before": json.loads(before),
                "after": json.loads(after),
                "why": why,
            }
            for number, at, who, what, subject, before, after, why in rows
        ]

    # ---- versions

    def take_version(self, above: int) -> int:
        """Return a table version never given before, and higher than `above`."""
        with self.change() as connection:
            given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'versions'").fetchone()
            version = max(int(given[0]) if given else 0, above) + 1
            connection.execute("DELETE FROM sqlite_sequence WHERE name = 'versions'")
            connection.execute("INSERT INTO sqlite_sequence VALUES ('versions', ?)", (version,))
        return version

    def record_written(
        self, version: int, fleet: int, who: str, why: str, sources: list[dict[str, Any]], counts: dict[str, int]
    ) -> None:
        """Record a table version as written; it is not published yet."""
        with self.change() as connection:
            connection.execute(
                "INSERT INTO versions VALUES (?, ?, NULL, ?, ?, ?, ?)",
                (version, fleet, who, why, json.dumps(sources), json.dumps(counts)),
            )

    def record_published(self, table: int, fleet: int, now: float) -> None:
        """Record that a version began to serve; a version recorded already keeps its time."""
        with self.change() as connection:
            connection.execute(
                "UPDATE versions SET published_at = ?, fleet = ? WHERE version = ? AND published_at IS NULL",
                (now, fleet, table),
            )

    def versions(self) -> list[Version]:
        """Return every published version, newest first."""
        rows = self.connection.execute("SELECT * FROM versions WHERE published_at IS NOT NULL ORDER BY version DESC")
        return [
            Version(table, fleet, at, who, why, json.loads(sources), json.loads(counts))
            for table, fleet, at, who, why, sources, counts in rows
        ]

    def forget(self, tables: Iterable[int]) -> None:
        """Forget versions, as if they never were published."""
        with self.change() as connection:
            connection.executemany("DELETE FROM versions WHERE version = ?", ((table,) for table in tables))

    def pin(self) -> Pin | None:
        """Return the pin that is set, if one is."""
        row = self.connection.execute("SELECT * FROM pin").fetchone()
        return Pin(*row) if row else None

    def set_pin(self, pin: Pin | None) -> None:
        """Set a pin in the place of another, or none; a part of the caller's `change`."""
        self.connection.execute("DELETE FROM pin")
        if pin:
            self.connection.execute("INSERT INTO pin VALUES (?, ?, ?, ?)", dataclasses.astuple(pin))

    def next_generation(self, above: int) -> int:
        """Return a generation for `current` higher than any given before and than `above`."""
        with self.change() as connection:
            connection.execute("UPDATE generation SET number = max(number, ?) + 1", (above,))
            (number,) = connection.execute("SELECT number FROM generation").fetchone()
        return int(number)


def more_of(service: Service) -> str:
    """Return the fields of a service that have no column of their own and are not at their default, as JSON."""
    plain = {"id", "url", "fallback", "ttl_s", "regions", "holdings", "fail_open"}
    found = {
        field.name: value
        for field in dataclasses.fields(Service)
        if field.name not in plain and (value := getattr(service, field.name)) != field.default
    }
    if service.pathways:
        found["pathways"] = [dataclasses.asdict(pathway) for pathway in service.pathways]
    return json.dumps(found)


def read_more(text: str) -> dict[str, Any]:
    """Return what `more_of` wrote."""
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()}
    if "pathways" in found:
        found["pathways"] = tuple(
            Pathway(item["id"], tuple(item["classes"]), tuple(item["clusters"]), item["host"])
            for item in found["pathways"]
        )
    return found
