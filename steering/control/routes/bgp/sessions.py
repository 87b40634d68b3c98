"""Live BGP sessions: which there are, and what each has announced, by the JSON lines of the speaker.

A session that goes down keeps its routes for a while (graceful restart, RFC 4724): when it comes back, what it does not
announce again until its End-of-RIB is dropped; when it does not, all is. So a reset empties no table. The routes are
written as a native CSV feed into the state folder; a control process that starts reads them back as those of sessions
that are down.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import itertools
import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from steering.errors import SettingsError
from steering.model.fleet import Fleet
from steering.state.sections import write_atomically

FILE: Final = "bgp.csv"
HEADER: Final = "prefix,cluster,as_path,origin,med,communities\n"
SESSION_LINE: Final = "# session "
MAX_PATH: Final = 255
MAX_COMMUNITIES: Final = 64
MAX_SESSIONS: Final = 10_000

Key = tuple[str, str]  # our address, the peer's


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """One BGP session: the cluster that hears it, both ends, and the family that is spoken (4 or 6)."""

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
        """What the speaker names it by."""
        return self.local, self.peer


def read_sessions(path: Path, asn: int) -> list[Session]:
    """Return the sessions of a TOML file, `[[session]]` each. Raises SettingsError with session, field and rule."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("session", [])
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    if not isinstance(found, list) or not found or len(found) > MAX_SESSIONS:
        raise SettingsError(f"{path}: has 1 to {MAX_SESSIONS} tables [[session]]")
    sessions = [read_session(f"{path}: session {place}", item, asn) for place, item in enumerate(found, 1)]
    keys = [session.key for session in sessions]
    for place, key in enumerate(keys, 1):
        if key in keys[: place - 1]:
            raise SettingsError(
                f"{path}: session {place}: {key[0]} to {key[1]} is session {keys.index(key) + 1} already",
                hint="two sessions of one pair, one for each family, need two addresses",
            )
    return sessions


def read_session(where: str, item: Any, asn: int) -> Session:
    """Return one session. Raises SettingsError."""
    given = dict(item) if isinstance(item, dict) else {}
    local = given.get("local", "")
    rules: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
        "cluster": (None, lambda value: isinstance(value, str) and value != "", "the id of a cluster"),
        "peer": (None, is_address, "an IP address"),
        "peer_asn": (None, lambda value: is_number(value, 1, 2**32 - 2), "an ASN"),
        "local": (None, is_address, "an IP address, ours"),
        "asn": (asn or None, lambda value: is_number(value, 1, 2**32 - 2), "an ASN, ours; or the setting asn"),
        "family": (6 if ":" in str(local) else 4, lambda value: value in (4, 6), "4 or 6"),
        "port": (179, lambda value: is_number(value, 1, 65535), "a port"),
        "ttl": (1, lambda value: is_number(value, 1, 255), "a number of hops, from 1 to 255"),
        "password_file": ("", lambda value: isinstance(value, str) and value[:1] in ("", "/"), "an absolute path"),
    }
    if unknown := sorted(given.keys() - rules):
        raise SettingsError(f"{where}: {unknown[0]}: no such field; one of {', '.join(rules)}")
    values = {}
    for name, (default, takes, rule) in rules.items():
        values[name] = given.get(name, default)
        if not takes(values[name]):
            raise SettingsError(f"{where}: {name} = {values[name]!r}: {rule}")
    return Session(**values)


def is_address(value: Any) -> bool:
    """Tell whether it is an IP address in its shortest form."""
    try:
        return isinstance(value, str) and "%" not in value and str(ipaddress.ip_address(value)) == value
    except ValueError:
        return False


def is_number(value: Any, least: int, most: int) -> bool:
    """Tell whether it is a whole number in a range."""
    return type(value) is int and least <= value <= most


@dataclasses.dataclass(slots=True)
class Heard:
    """What one session said: `said` by prefix; `stale` prefixes are from before it came up, or down, last."""

    is_up: bool = False
    since: float = 0.0
    reason: str = "not connected yet"
    routes: dict[str, str] = dataclasses.field(default_factory=dict)
    stale: set[str] = dataclasses.field(default_factory=set)
    refused: int = 0


class LiveRoutes:
    """The routes of all sessions. `changed` counts up with whatever would change the feed."""

    def __init__(self, sessions: Sequence[Session], hold_s: float, now: float) -> None:
        self.sessions = {session.key: session for session in sessions}
        self.heard = {session.key: Heard(since=now) for session in sessions}
        self.hold_s = hold_s
        self.changed = 0
        self.texts: dict[str, str] = {}

    # ---- what the speaker tells

    def take(self, line: bytes, now: float) -> None:
        """Take one JSON line of the speaker; what is about nothing of ours is passed over."""
        try:
            event = json.loads(line)
            neighbor = event["neighbor"]
            address = neighbor["address"]
            key = (str(address["local"]), str(address["peer"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        heard = self.heard.get(key)
        if heard is None:
            return
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # of another shape than ours
            if event["type"] == "state" and neighbor["state"] in ("up", "down"):
                self.set_state(heard, neighbor["state"] == "up", str(neighbor.get("reason", "")), now)
            elif event["type"] == "update" and heard.is_up:
                message = neighbor["message"]
                if "eor" in message:
                    self.drop_stale(heard)
                else:
                    self.update(key, heard, message["update"])

    def set_state(self, heard: Heard, is_up: bool, reason: str, now: float) -> None:
        """Note that a session came up or went down; what it said before is stale from here on."""
        if is_up or heard.is_up:
            heard.is_up, heard.reason, heard.since = is_up, reason, now
            heard.stale = set(heard.routes)

    def all_down(self, reason: str, now: float) -> None:
        """Note that the speaker is gone."""
        for heard in self.heard.values():
            self.set_state(heard, is_up=False, reason=reason, now=now)

    def expire(self, now: float) -> None:
        """Drop the stale routes of sessions that have been down, or up without an End-of-RIB, for too long."""
        for heard in self.heard.values():
            if heard.stale and now - heard.since >= self.hold_s:
                self.drop_stale(heard)

    def drop_stale(self, heard: Heard) -> None:
        """Drop what a session said before and did not say again."""
        for prefix in heard.stale:
            del heard.routes[prefix]
        self.changed += bool(heard.stale)
        heard.stale = set()

    def update(self, key: Key, heard: Heard, update: dict[str, Any]) -> None:
        """Take the withdrawals and announcements of an UPDATE."""
        family = f"ipv{self.sessions[key].family} unicast"
        for prefix in prefixes_of(update.get("withdraw", {}).get(family, [])):
            self.withdraw(heard, prefix)
        announced = update.get("announce", {}).get(family, {})
        if not announced:
            return
        try:
            said = self.said(key, update.get("attribute", {}))
        except ValueError:
            said = None
        for prefix in (prefix for listed in announced.values() for prefix in prefixes_of(listed)):
            heard.stale.discard(prefix)
            if said is None:  # treated as withdrawn (RFC 7606, RFC 9774)
                heard.refused += 1
                self.withdraw(heard, prefix)
            elif heard.routes.get(prefix) != said:
                heard.routes[prefix] = said
                self.changed += 1

    def withdraw(self, heard: Heard, prefix: str) -> None:
        """Forget a prefix."""
        heard.stale.discard(prefix)
        if heard.routes.pop(prefix, None) is not None:
            self.changed += 1

    def said(self, key: Key, attributes: dict[str, Any]) -> str:
        """Return what a session says of prefixes, as the feed has it, one text for all that are alike."""
        path: list[int] = []
        for segment in attributes.get("as-path", {}).values():
            if segment["element"] not in ("as-sequence", "as-confed-sequence"):
                raise ValueError("a path has no AS_SET")
            if segment["element"] == "as-sequence":
                path += segment["value"]
        if len(path) > MAX_PATH:
            raise ValueError(f"a path has at most {MAX_PATH} ASNs")
        communities = [
            ":".join(map(str, community))
            for name in ("community", "large-community")
            for community in attributes.get(name, [])
            if isinstance(community, list)
        ]
        fields = (
            self.sessions[key].cluster,
            " ".join(map(str, path)),
            str(attributes.get("origin", "incomplete")),
            str(attributes.get("med", 0)),
            " ".join(communities[:MAX_COMMUNITIES]),
        )
        text = ",".join(fields) + "\n"
        return self.texts.setdefault(text, text)

    # ---- the feed

    def copied(self) -> dict[Key, dict[str, str]]:
        """Return what each session says, to be written while they go on."""
        return {key: heard.routes.copy() for key, heard in self.heard.items()}

    def read_back(self, state: Path) -> None:
        """Take what was written last as the routes of sessions that are down."""
        heard: Heard | None = None
        try:
            lines = (state / FILE).read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines[1:]:
            if line.startswith(SESSION_LINE):
                local, _, peer = line.removeprefix(SESSION_LINE).strip().partition(" ")
                heard = self.heard.get((local, peer))
            elif heard is not None:
                prefix, _, said = line.partition(",")
                heard.routes[prefix] = self.texts.setdefault(said, said)
        for found in self.heard.values():
            found.stale = set(found.routes)

    def describe(self) -> list[dict[str, Any]]:
        """Return the state of each session."""
        return [
            {
                "cluster": session.cluster,
                "peer": session.peer,
                "peer_asn": session.peer_asn,
                "local": session.local,
                "family": session.family,
                "state": "up" if self.heard[key].is_up else "down",
                "since": self.heard[key].since,
                "reason": self.heard[key].reason,
                "routes": len(self.heard[key].routes),
                "stale": len(self.heard[key].stale),
                "refused": self.heard[key].refused,
            }
            for key, session in self.sessions.items()
        ]


def lines_of(routes: dict[Key, dict[str, str]]) -> Iterator[str]:
    """Yield the feed's lines."""
    yield HEADER
    for key, said in routes.items():
        yield f"{SESSION_LINE}{key[0]} {key[1]}\n"
        rest = iter(said.items())
        while some := [f"{prefix},{text}" for prefix, text in itertools.islice(rest, 10_000)]:
            yield "".join(some)


def write_routes(state: Path, routes: dict[Key, dict[str, str]]) -> None:
    """Write the feed into the state folder."""
    write_atomically(state / FILE, (line.encode() for line in lines_of(routes)))


def prefixes_of(listed: Any) -> Iterator[str]:
    """Yield the prefixes of a list of NLRI."""
    for item in listed if isinstance(listed, list) else ():
        prefix = item.get("nlri") if isinstance(item, dict) else item
        if isinstance(prefix, str):
            yield prefix


def unknown_clusters(sessions: Sequence[Session], fleet: Fleet) -> list[str]:
    """Return the clusters of sessions that the fleet has none of: their routes would be refused."""
    known = {cluster.id for cluster in fleet.clusters}
    return sorted({session.cluster for session in sessions} - known)
