"""The tables of `steering.db`.

Numbers and slots are given once and never again, also after a delete and a new import: tables, fleets and status files
of different versions agree through them on which object is meant. Version numbers are never given twice either, also
after a publish that failed.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 3  # PRAGMA user_version

SCHEMA: Final = """
CREATE TABLE numbers (
    kind TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (kind, id),
    UNIQUE (kind, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE fleets (version INTEGER PRIMARY KEY AUTOINCREMENT, imported_at REAL NOT NULL, who TEXT NOT NULL) STRICT;
-- The last change of the fleet in packed parts (`records/fleet.py: FleetPart`), until each is in the tables below.
CREATE TABLE fleet_parts (number INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT;
CREATE TABLE partners (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL, asns TEXT NOT NULL,
    allowed_asns TEXT NOT NULL, accepts_v4 TEXT NOT NULL, accepts_v6 TEXT NOT NULL,
    max_prefixes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE sites (
    id TEXT PRIMARY KEY, country TEXT NOT NULL, city TEXT NOT NULL, latitude REAL NOT NULL,
    longitude REAL NOT NULL, region TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE clusters (
    id TEXT PRIMARY KEY, site TEXT NOT NULL REFERENCES sites (id), route_class INTEGER NOT NULL,
    partner TEXT REFERENCES partners (id), countries TEXT NOT NULL, accepts_off_net INTEGER NOT NULL,
    peers TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX clusters_by_site ON clusters (site);
CREATE INDEX clusters_by_partner ON clusters (partner);
CREATE TABLE appliances (
    id TEXT PRIMARY KEY, cluster TEXT NOT NULL REFERENCES clusters (id), host TEXT NOT NULL,
    capacity_gbps REAL NOT NULL, ipv4 INTEGER NOT NULL, ipv6 INTEGER NOT NULL, addresses TEXT NOT NULL,
    health_url TEXT NOT NULL, disk_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX appliances_by_cluster ON appliances (cluster);
-- A service's fields as one JSON object.
CREATE TABLE services (id TEXT PRIMARY KEY, fields TEXT NOT NULL) STRICT, WITHOUT ROWID;
-- By id, not by reference: an override stays when an import leaves its appliance out.
CREATE TABLE overrides (
    appliance TEXT PRIMARY KEY, enabled INTEGER NOT NULL, weight INTEGER, health_source TEXT NOT NULL,
    changed_at REAL NOT NULL, who TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- Maintenance of an appliance, a cluster or a site. Rows stay when a window is over or cancelled.
CREATE TABLE windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, subject TEXT NOT NULL, begins_at REAL NOT NULL,
    ends_at REAL NOT NULL, made_at REAL NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL, cancelled_at REAL
) STRICT;
-- The last known health state of an appliance, as JSON.
CREATE TABLE states (appliance TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID;
-- A title's playlists: as given (body), and as JSON texts that playback joins (cut). Empty url: given by a person.
CREATE TABLE playlists (
    service TEXT NOT NULL, title TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, cut TEXT NOT NULL,
    url TEXT NOT NULL, changed_at REAL NOT NULL, who TEXT NOT NULL, problem TEXT NOT NULL,
    PRIMARY KEY (service, title, kind)
) STRICT;
-- What is asked of all playlists at once is in the indexes, so that no text is read for it.
CREATE INDEX playlists_by_time ON playlists (service, title, kind, changed_at);
CREATE INDEX playlists_fetched ON playlists (service, title, kind) WHERE url <> '';
-- What appliances may hold. Empty recipe: the title cannot be filled.
CREATE TABLE titles (
    service TEXT NOT NULL, title TEXT NOT NULL, bytes INTEGER NOT NULL, recipe TEXT NOT NULL, kind TEXT NOT NULL,
    available_from REAL, available_until REAL, regions TEXT NOT NULL, PRIMARY KEY (service, title)
) STRICT, WITHOUT ROWID;
CREATE INDEX titles_by_recipe ON titles (service, recipe) WHERE recipe <> '';
-- A recipe is named by the hash of its document (body), which never changes.
CREATE TABLE recipes (
    service TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, bytes INTEGER NOT NULL, files INTEGER NOT NULL,
    put_at REAL NOT NULL, who TEXT NOT NULL, PRIMARY KEY (service, name)
) STRICT;
CREATE INDEX recipe_sizes ON recipes (service, name, bytes, put_at);
-- Revoked tokens stay, so that the ids in the audit log keep their meaning.
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT, role TEXT NOT NULL, name TEXT NOT NULL, sha256 BLOB NOT NULL UNIQUE,
    made_at REAL NOT NULL, who TEXT NOT NULL, expires_at REAL, revoked_at REAL
) STRICT;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    subject TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, why TEXT NOT NULL
) STRICT;
-- A row without published_at is a publish that was started and never served.
CREATE TABLE versions (
    version INTEGER PRIMARY KEY AUTOINCREMENT, fleet INTEGER NOT NULL, published_at REAL, who TEXT NOT NULL,
    why TEXT NOT NULL, sources TEXT NOT NULL, counts TEXT NOT NULL
) STRICT;
-- No row, or one: while it is there, only a person publishes.
CREATE TABLE pin (version INTEGER NOT NULL, at REAL NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL) STRICT;
-- The same of fill plans.
CREATE TABLE plan_versions (
    version INTEGER PRIMARY KEY AUTOINCREMENT, fleet INTEGER NOT NULL, published_at REAL, who TEXT NOT NULL,
    why TEXT NOT NULL, sources TEXT NOT NULL, counts TEXT NOT NULL
) STRICT;
CREATE TABLE plan_pin (version INTEGER NOT NULL, at REAL NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL) STRICT;
CREATE TABLE generation (number INTEGER NOT NULL) STRICT;
INSERT INTO generation VALUES (0);
"""
