"""A snapshot: the mapped files of a state folder that belong together, and the answers made from them.

`current` names the files. Control writes each file beside its place, syncs and renames it, and never changes it again;
then it advances `current`. A worker that sees `current` change maps the named files, checks them whole, and replaces
its snapshot with one assignment. Only the status words change under a snapshot, so the same request on the same
snapshot and words gives the same bytes. Tables, fleets and holdings name clusters and slots by number, so each can
change alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Required, TypedDict, TypeVar, Unpack

from _fastpath.counters import Counters
from _fastpath.holdings import Holdings
from _fastpath.playback_json import answer_playback
from _fastpath.ranking import MAX_PICKS, Picker, Trace
from _fastpath.service import Service as CompiledService
from _fastpath.status_words import StatusWords
from _fastpath.steer_json import answer_steer, target_urls
from steering.decision.names import FleetNames
from steering.decision.refusals import refusal_of
from steering.errors import SnapshotError
from steering.model.fleet import lies_in
from steering.model.service import Service, jitter_s
from steering.state.current import Current, read_current
from steering.state.fleet import FleetFile
from steering.state.holdings import HoldingsFile
from steering.state.playlists import Playlists
from steering.state.routes import Routes
from steering.state.sections import FORMATS, written_by_us
from steering.state.table import TableFile, Zone

Sign = Callable[[bytes, int, int], bytes | None]  # as `_fastpath.service.Service` takes it
T = TypeVar("T")


class Options(TypedDict, total=False):
    """What a request names besides a title; `n` 0 is the service's, `family` 0 the address's.

    `failed` are the ids or hosts of appliances that the player could not play from.
    """

    service: Required[str]
    session: str
    n: int
    family: int
    failed: Sequence[str]
    counters: Counters | None


class Signs(Protocol):
    """What signs the URLs and sessions of services."""

    def sign_of(self, service: Service) -> Sign | None:
        """Return what makes the tokens of a service, None where its URLs are not signed."""

    def tag_of(self, service: str) -> Sign | None:
        """Return what makes the tags of a service's sessions."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pick:
    """An appliance of an answer. `partner` is empty for none. Within a rank the lowest `draw` comes first."""

    slot: int
    appliance: str
    site: str
    host: str
    rank: int
    cluster: str
    route_class: str
    partner: str
    draw: float


class Snapshot:
    """One consistent set of mapped files. Frozen but for the status words, which control changes.

    From the snapshot `before` it takes over equal holdings, which take longest to check, and known names.
    """

    def __init__(
        self, state: Path, current: Current, before: Snapshot | None = None, signer: Signs | None = None
    ) -> None:
        self.state = state
        self.current = current
        self.loaded_at = time.time()
        self.table_file = TableFile(state / current.table)
        self.fleet_file = FleetFile(state / current.fleet)
        self.prefixes = self.table_file.prefixes
        self.table_version = self.table_file.version
        self.fleet_version = self.fleet_file.version
        self.rules = self.fleet_file.services
        self.holdings: Holdings | None = None
        self.holdings_version: int | None = None
        is_newer = before is not None and before.current.generation <= current.generation  # no restored backup
        if is_newer and before and (before.state, before.current.holdings) == (state, current.holdings):
            self.holdings, self.holdings_version = before.holdings, before.holdings_version
        elif current.holdings:
            file = HoldingsFile(state / current.holdings)
            self.holdings, self.holdings_version = file.holdings, file.version
        try:
            self.status = StatusWords(str(state / current.status))
            self.picker = self.make_picker()
        except (OSError, ValueError) as error:
            names = ", ".join(filter(None, (current.table, current.fleet, current.status, current.holdings)))
            raise SnapshotError(f"{names}: {error}") from error
        if (
            is_newer
            and before
            and (before.state, before.current.fleet) == (state, current.fleet)
            and before.knows_names
        ):
            self.appliances_by_name = before.appliances_by_name
        self.playlists = Playlists(state / current.playlists) if current.playlists else None
        self.services = {name: self.compile(service, signer) for name, service in self.rules.items()}

    @classmethod
    def map(cls, state: Path, before: Snapshot | None = None, signer: Signs | None = None) -> Snapshot:
        """Return the snapshot that `current` names, checked and read into memory. Raises SnapshotError.

        Without `signer`, URLs of services with tokens keep `{token}`, and sessions have no tags.
        """
        return cls.of(state, read_current(state), before, signer)

    @classmethod
    def of(cls, state: Path, current: Current, before: Snapshot | None = None, signer: Signs | None = None) -> Snapshot:
        """Return the snapshot of these files, likewise. Raises SnapshotError."""
        with written_by_us(f"one of {', '.join(current.names())}"):
            return cls(state, current, before, signer)

    def make_picker(self) -> Picker:
        """Return what picks from these files. Raises ValueError where a record points outside the others."""
        table, fleet = self.table_file, self.fleet_file
        records = (fleet["clusters"], fleet["appliances"], fleet["sites"], fleet["text"])
        return Picker(self.prefixes, table.zones, table["ranking_entries"], *records, self.status, self.holdings)

    def compile(self, service: Service, signer: Signs | None) -> CompiledService:
        """Return a service made ready for ranking and renderers."""
        allowed = [number for number, region in enumerate(self.fleet_file.regions) if lies_in(region, service.regions)]
        return CompiledService(
            service.id,
            service.url,
            service.fallback,
            service.ttl_s,
            self.table_version,
            regions=allowed if service.regions else None,
            holdings=self.holdings,
            fail_open=service.fail_open,
            sign=signer.sign_of(service) if signer else None,
            client_regions=service.client_regions,
            n=service.n,
            covers_service=service.token_covers == "service",  # noqa: S105 (no password)
            fleet=self.fleet_version,
            held=self.holdings_version,
            by_file=service.holdings == "file",
            tag=signer.tag_of(service.id) if signer else None,
            jitter_s=jitter_s(service.ttl_s, service.ttl_jitter),
        )

    # ---- answers

    def steer(
        self, address: str | bytes, title: str, *, trace: Trace | None = None, **options: Unpack[Options]
    ) -> bytes:
        """Return the answer as compact JSON: table version, ttl, targets best first; and count it.

        `address` is text, or packed in 4 or 16 bytes. Viewers of a session spread over the appliances that hold the
        title, and over the orders of a hot one; without a session, the client's /24 or /48 is the viewer. `trace` is
        filled. Raises RequestError naming the wrong parameter.
        """
        return self.ask(answer_steer, address, title, trace, **options)

    def target_urls(
        self, address: str | bytes, title: str, *, trace: Trace | None = None, **options: Unpack[Options]
    ) -> list[str]:
        """Return the URLs of the targets that `steer` answers with; it counts and raises as `steer`."""
        return self.ask(target_urls, address, title, trace, **options)

    def picks(
        self, address: str | bytes, title: str, *, trace: Trace | None = None, **options: Unpack[Options]
    ) -> list[Pick]:
        """Return the appliances that `steer` answers with, best first, unsigned, MAX_PICKS where n is absent."""
        options.setdefault("n", MAX_PICKS)
        return [self.pick_of(*pick) for pick in self.ask(Picker.picks, address, title, trace, **options)]

    def pick_of(self, index: int, site: int, rank: int, draw: float) -> Pick:
        """Return an appliance by its number in the fleet file."""
        slot, name, host = self.fleet_file.appliance(index)
        return Pick(slot, name, self.fleet_file.site(site), host, rank, *self.fleet_file.cluster_of(index), draw)

    def playback(self, address: str | bytes, files: list[str], *, title: str = "", **options: Unpack[Options]) -> bytes:
        """Return the servers of each of many files as compact JSON (`playback_json.pyx`), and count the answer.

        A file's servers are numbers in the list of servers, best first; the fallback serves where there are fewer than
        n. They are the picks of `steer` for the title, or without a title for the file; where appliances report files,
        those that hold the file. `tokens` are for `{token}` in the URLs of each file that has picks; a token for the
        whole service stands in `url`. `tag` is the session's. Raises RequestError.
        """
        return self.ask(answer_playback, address, files, title, **options)

    def ask(
        self,
        answer: Callable[..., T],
        address: str | bytes,
        subject: str | list[str],
        extra: Trace | str | None,
        *,
        service: str,
        session: str = "",
        n: int = 0,
        family: int = 0,
        failed: Sequence[str] = (),
        counters: Counters | None = None,
    ) -> T:
        """Return what a compiled `answer` makes of a title and a trace, or of files and their title."""
        try:
            compiled = self.services[service]
            wanted = n or compiled.n
            return answer(self.picker, address, subject, compiled, wanted, family, session, extra, counters, failed)
        except (KeyError, ValueError):
            title, files = (str(extra), subject) if isinstance(subject, list) else (subject, None)
            raise refusal_of(self.prefixes, self.services, address, title, service, session, n, files) from None

    def picks_of_keys(
        self, address: str, keys: tuple[int, int, int], *, service: str, n: int, family: int
    ) -> list[tuple[int, int]]:
        """Return the picks for a trace's keys of title, session and content as (slot, rank), best first.

        Raises RequestError.
        """
        try:
            picked = self.picker.picks_of_keys(address, *keys, self.services[service], n, family)
        except (KeyError, ValueError):
            raise refusal_of(self.prefixes, self.services, address, "a title", service, "", n) from None
        return [(self.fleet_file.slots[index], rank) for index, rank in picked]

    # ---- what an address resolves to

    def zone_of(self, packed: bytes) -> Zone:
        """Return the zone that an address falls in."""
        return self.table_file.zone(self.prefixes.lookup(packed))

    def refused_region(self, packed: bytes, service: str) -> str | None:
        """Return the region of a client that a service refuses, empty where it is unknown; None for other clients."""
        compiled = self.services.get(service)
        region = self.zone_of(packed).region
        return None if compiled is None or compiled.serves_region(region) else region

    def clusters_of(self, zone: Zone) -> frozenset[int]:
        """Return the clusters on a zone's ranking."""
        return frozenset(cluster for cluster, *_ in self.table_file.ranking(zone))

    @cached_property
    def routes(self) -> Routes:
        """The accepted routes, mapped on first use. Raises SnapshotError."""
        return Routes(self.state / self.current.routes)

    @cached_property
    def routes_before(self) -> Routes:
        """The accepted routes of the table that served before a canary, mapped on first use. Raises SnapshotError."""
        return Routes(self.state / f"routes.{self.table_file.meta['canary']['before']}")

    # ---- names and versions

    @cached_property
    def names(self) -> FleetNames:
        """The fleet's names, read on first use. Raises SnapshotError."""
        with written_by_us(self.current.fleet):
            return FleetNames(self.fleet_file)

    @property
    def knows_names(self) -> bool:
        """Whether `appliances_by_name` has been read: that takes 40 ms for 19,000 appliances, in any thread."""
        return "appliances_by_name" in self.__dict__

    @cached_property
    def appliances_by_name(self) -> dict[str, tuple[int, int]]:
        """The slot and cluster of each appliance, by its id and by its host in lower case; read on first use."""
        named: dict[str, tuple[int, int]] = {}
        for number, _, indexes in self.fleet_file.members():
            for index in indexes:
                slot, name, host = self.fleet_file.appliance(index)
                named[name] = named[host.lower()] = slot, number
        return named

    def describe_version(self) -> dict[str, Any]:
        """Return the versions that are served, for people and monitors."""
        return {
            "generation": self.current.generation,
            "table": self.table_version,
            "fleet": self.fleet_version,
            "holdings": self.holdings_version,
            "published_at": self.current.published_at,
            "formats": FORMATS,
        }


def reading(snapshot: Snapshot) -> contextlib.AbstractContextManager[None]:
    """Return a context for what reads all files of a snapshot: content that is none of ours is a SnapshotError."""
    return written_by_us(f"one of {', '.join(snapshot.current.names())}")
