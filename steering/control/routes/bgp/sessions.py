"""Live BGP sessions and the routes that each announces, from the JSON lines of the speaker.

A session that goes down keeps its routes for a while as stale (graceful restart, RFC 4724). If it comes back, stale
routes that it has not announced again by its End-of-RIB are dropped; if it does not come back, all are. So a reset
empties no table. The routes are written as a native CSV feed into the state folder; a starting control process reads
them back as routes of sessions that are down.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from steering.control.routes.feeds.csv import MAX_COMMUNITIES, MAX_PATH
from steering.errors import SettingsError, syntax_fault
from steering.model.fields import is_address
from steering.model.fleet import Fleet
from steering.state.folder import read_small
from steering.state.routes import ORIGIN_NAMES
from steering.state.sections import write_atomically

FILE: Final = "bgp.csv"
HEADER: Final = "prefix,cluster,as_path,origin,med,communities\n"
SESSION_LINE: Final = "# session "
MAX_REASON: Final = 200
MOST_UNUSED: Final = 10_000  # texts of rows that no route has any more
SHAPE_ERRORS: Final = (ValueError, LookupError, TypeError, AttributeError, msgspec.ValidationError)
MAX_SESSIONS: Final = 10_000
MAX_FILE: Final = 8 << 20  # bytes of the sessions' file

Key = tuple[str, str]  # our address, the peer's


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """One BGP session: its cluster, both ends, and its address family (4 or 6)."""

    cluster: str
    peer: str
    peer_asn: int
    local: str
    asn: int
    family: int
    port: int = 179
    ttl: int = 1
    password_file: str = ""

    @property
    def key(self) -> Key:
        """The addresses by which the speaker names the session."""
        return self.local, self.peer


def read_sessions(path: Path, asn: int) -> list[Session]:
    """Return the sessions of a TOML file, `[[session]]` each. Raises SettingsError with session, field and rule."""
    try:
        data, _ = read_small(path, MAX_FILE)
        if data is None:
            raise SettingsError(f"{path}: no file of at most {MAX_FILE >> 20} MiB")
        tables = tomllib.loads(data.decode()).get("session", [])
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {syntax_fault(error)}") from error
    if not isinstance(tables, list) or not tables or len(tables) > MAX_SESSIONS:
        raise SettingsError(f"{path}: has 1 to {MAX_SESSIONS} tables [[session]]")
    sessions = [read_session(f"{path}: session {number}", item, asn) for number, item in enumerate(tables, 1)]
    keys = [session.key for session in sessions]
    for number, key in enumerate(keys, 1):
        if key in keys[: number - 1]:
            raise SettingsError(
                f"{path}: session {number}: {key[0]} to {key[1]} is session {keys.index(key) + 1} already",
                hint="two sessions of one pair, one for each family, need two addresses",
            )
    return sessions


def read_session(name: str, item: Any, asn: int) -> Session:
    """Return one session. Raises SettingsError."""
    given = dict(item) if isinstance(item, dict) else {}
    local = given.get("local", "")
    rules: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
        "cluster": (None, lambda value: isinstance(value, str) and value != "", "the id of a cluster"),
        "peer": (None, lambda value: isinstance(value, str) and is_address(value), "an IP address"),
        "peer_asn": (None, lambda value: is_number(value, 1, 2**32 - 2), "an ASN"),
        "local": (None, lambda value: isinstance(value, str) and is_address(value), "an IP address, ours"),
        "asn": (asn or None, lambda value: is_number(value, 1, 2**32 - 2), "an ASN, ours; or the setting asn"),
        "family": (6 if ":" in str(local) else 4, lambda value: value in (4, 6), "4 or 6"),
        "port": (179, lambda value: is_number(value, 1, 65535), "a port"),
        "ttl": (1, lambda value: is_number(value, 1, 255), "a number of hops, from 1 to 255"),
        "password_file": ("", lambda value: isinstance(value, str) and value[:1] in ("", "/"), "an absolute path"),
    }
    if unknown := sorted(given.keys() - rules):
        raise SettingsError(f"{name}: {unknown[0]}: no such field; one of {', '.join(rules)}")
    values = {}
    for field, (default, takes, rule) in rules.items():
        values[field] = given.get(field, default)
        if not takes(values[field]):
            raise SettingsError(f"{name}: {field} = {values[field]!r}: {rule}")
    return Session(**values)


def is_number(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


@dataclasses.dataclass(slots=True)
class SessionRoutes:
    """The state and routes of one session; `stale` prefixes were announced before its state last changed.

    `routes` has by prefix the rest of its feed row.
    """

    is_up: bool = False
    since: float = 0.0
    reason: str = "not connected yet"
    routes: dict[str, str] = dataclasses.field(default_factory=dict)
    stale: set[str] = dataclasses.field(default_factory=set)
    is_complete: bool = False  # the End-of-RIB has arrived
    refused: int = 0
    last_refused: str = ""

    def refuse(self, count: int, reason: str) -> None:
        """Count routes that are not accepted, and keep the reason."""
        self.refused += count
        self.last_refused = "".join(letter if letter.isprintable() else "?" for letter in reason[:MAX_REASON])

    @property
    def explained(self) -> str:
        """The reason of the state, or why a session that is up has no route."""
        if self.is_up and self.is_complete and not self.routes:
            return f"no route is accepted; {self.last_refused}" if self.refused else "the router announces no route"
        return self.reason


U16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class Segment(msgspec.Struct):
    """A segment of an AS path; a path with a set has no single origin and is refused (RFC 9774)."""

    element: str
    value: list[int]


class Attributes(msgspec.Struct, rename="kebab"):
    """The attributes of an announced route that its feed row has, as the speaker writes them."""

    as_path: dict[str, Segment] = {}
    origin: Any = "incomplete"
    med: Any = 0
    community: list[tuple[U16, U16]] = []
    large_community: list[tuple[U32, U32, U32]] = []


class LiveRoutes:
    """The routes of all sessions. `changed` counts up with whatever would change the feed."""

    def __init__(self, sessions: Sequence[Session], hold_s: float, now: float) -> None:
        self.sessions = {session.key: session for session in sessions}
        self.received = {session.key: SessionRoutes(since=now) for session in sessions}
        self.hold_s = hold_s
        self.changed = 0
        self.texts: dict[str, str] = {}

    # ---- the speaker's events

    def take(self, line: bytes, now: float) -> None:
        """Apply one JSON line of the speaker; lines about unknown sessions are skipped."""
        try:
            event = json.loads(line)
            neighbor = event["neighbor"]
            address = neighbor["address"]
            key = (str(address["local"]), str(address["peer"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        received = self.received.get(key)
        if received is None:
            return
        try:
            if event["type"] == "state" and neighbor["state"] in ("up", "down"):
                self.set_state(received, neighbor["state"] == "up", str(neighbor.get("reason", "")), now)
            elif event["type"] == "update" and received.is_up:
                message = neighbor["message"]
                if "eor" not in message:
                    self.update(key, received, message["update"])
                elif message["eor"]["afi"] == f"ipv{self.sessions[key].family}":
                    self.drop_stale(received)
                    received.is_complete = True
        except SHAPE_ERRORS as error:
            received.refuse(1, f"an event of another shape: {type(error).__name__}: {error}")

    def set_state(self, received: SessionRoutes, is_up: bool, reason: str, now: float) -> None:
        """Record that a session came up or went down; its routes become stale."""
        if is_up or received.is_up:
            received.is_up, received.reason, received.since, received.is_complete = is_up, reason, now, False
            received.stale = set(received.routes)

    def all_down(self, reason: str, now: float) -> None:
        for received in self.received.values():
            self.set_state(received, is_up=False, reason=reason, now=now)
            received.reason = reason

    def expire(self, now: float) -> None:
        """Drop the stale routes of sessions that have been down, or up without an End-of-RIB, for too long."""
        for received in self.received.values():
            if received.stale and now - received.since >= self.hold_s:
                self.drop_stale(received)
        if len(self.texts) > MOST_UNUSED + 2 * sum(len(received.routes) for received in self.received.values()):
            self.texts = {text: text for received in self.received.values() for text in received.routes.values()}

    def drop_stale(self, received: SessionRoutes) -> None:
        for prefix in received.stale:
            del received.routes[prefix]
        self.changed += bool(received.stale)
        received.stale = set()

    def update(self, key: Key, received: SessionRoutes, update: dict[str, Any]) -> None:
        """Apply the withdrawals and announcements of an UPDATE."""
        family = f"ipv{self.sessions[key].family} unicast"
        for prefix in prefixes_of(update.get("withdraw", {}).get(family, [])):
            self.withdraw(received, prefix)
        announced = dict(update.get("announce", {}))
        own = announced.pop(family, {})
        for other, listed in announced.items():
            received.refuse(sum(map(len, listed.values())), f"{other}: a session has one family, and this has {family}")
        row = rule = None
        try:
            row = self.row_of(key, update.get("attribute", {})) if own else None
        except SHAPE_ERRORS as error:
            rule = str(error) or type(error).__name__
        for prefix in (prefix for listed in own.values() for prefix in prefixes_of(listed)):
            received.stale.discard(prefix)
            if row is None:  # treated as withdrawn (RFC 7606, RFC 9774)
                received.refuse(1, f"{prefix}: {rule}")
                self.withdraw(received, prefix)
            elif received.routes.get(prefix) != row:
                received.routes[prefix] = row
                self.changed += 1

    def withdraw(self, received: SessionRoutes, prefix: str) -> None:
        received.stale.discard(prefix)
        if received.routes.pop(prefix, None) is not None:
            self.changed += 1

    def row_of(self, key: Key, received: Any) -> str:
        """Return the feed row of some attributes, without the prefix; equal rows share one text.

        Raises one of SHAPE_ERRORS: the attributes have another shape, or break a rule.
        """
        attributes = msgspec.convert(received, Attributes)
        path: list[int] = []
        for segment in attributes.as_path.values():
            if segment.element not in ("as-sequence", "as-confed-sequence"):
                raise ValueError("a path has no AS_SET")
            if segment.element == "as-sequence":
                path += segment.value
        if len(path) > MAX_PATH or not all(is_number(asn, 1, 2**32 - 1) for asn in path):
            raise ValueError(f"a path has at most {MAX_PATH} ASNs from 1 to {2**32 - 1} (RFC 7607)")
        if attributes.origin not in ORIGIN_NAMES or not is_number(attributes.med, 0, 2**32 - 1):
            rule = f"origin is one of {', '.join(ORIGIN_NAMES)}, and a MED is a number"
            raise ValueError(f"{rule}; not {attributes.origin!r} and {attributes.med!r}")
        communities = [*attributes.community, *attributes.large_community]
        if len(communities) > MAX_COMMUNITIES:
            raise ValueError(f"a route has at most {MAX_COMMUNITIES} communities; this has {len(communities)}")
        fields = (
            self.sessions[key].cluster,
            " ".join(map(str, path)),
            attributes.origin,
            str(attributes.med),
            " ".join(":".join(map(str, community)) for community in communities),
        )
        text = ",".join(fields) + "\n"
        return self.texts.setdefault(text, text)

    # ---- the feed

    def copied(self) -> dict[Key, dict[str, str]]:
        """Return a copy of each session's routes, to write while sessions continue."""
        return {key: received.routes.copy() for key, received in self.received.items()}

    def read_back(self, state: Path) -> None:
        """Read the routes that were written last, as stale routes of sessions that are down.

        Whatever is damaged in the file is refused when the feed is read.
        """
        received: SessionRoutes | None = None
        try:
            lines = (state / FILE).read_text(errors="replace").split("\n")
        except OSError:
            return
        for line in lines[1:]:
            if line.startswith(SESSION_LINE):
                local, _, peer = line.removeprefix(SESSION_LINE).strip().partition(" ")
                received = self.received.get((local, peer))
            elif received is not None:
                prefix, _, row = line.partition(",")
                if prefix:
                    received.routes[prefix] = self.texts.setdefault(f"{row}\n", f"{row}\n")
        for received in self.received.values():
            received.stale = set(received.routes)

    def describe(self) -> list[dict[str, Any]]:
        return [
            {
                **{name: getattr(session, name) for name in ("cluster", "peer", "peer_asn", "local", "family")},
                "state": "up" if self.received[key].is_up else "down",
                "since": self.received[key].since,
                "reason": self.received[key].explained,
                "routes": len(self.received[key].routes),
                "stale": len(self.received[key].stale),
                "refused": self.received[key].refused,
                "last_refused": self.received[key].last_refused,
            }
            for key, session in self.sessions.items()
        ]


def lines_of(routes: dict[Key, dict[str, str]]) -> Iterator[str]:
    yield HEADER
    for key, row in routes.items():
        yield f"{SESSION_LINE}{key[0]} {key[1]}\n"
        rest = iter(row.items())
        while some := [f"{prefix},{text}" for prefix, text in itertools.islice(rest, 10_000)]:
            yield "".join(some)


def write_routes(state: Path, routes: dict[Key, dict[str, str]]) -> None:
    write_atomically(state / FILE, (line.encode() for line in lines_of(routes)))


def prefixes_of(listed: Any) -> Iterator[str]:
    """Yield the prefixes of a list of NLRI."""
    for item in listed if isinstance(listed, list) else ():
        prefix = item.get("nlri") if isinstance(item, dict) else item
        if isinstance(prefix, str):
            yield prefix


def unknown_clusters(sessions: Sequence[Session], fleet: Fleet) -> list[str]:
    """Return the clusters of sessions that are not in the fleet; their routes would be refused."""
    known = {cluster.id for cluster in fleet.clusters}
    return sorted({session.cluster for session in sessions} - known)
