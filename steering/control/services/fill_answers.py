"""`control.fill_answers`: what appliances ask for: their fill manifest, and sources for what they lack.

Asked by 19,000 appliances every five minutes, in threads beside the control thread; one lock is around the leases.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from steering.control.fill.failed_sources import ORIGIN
from steering.control.fill.fill_manifest import (
    Held,
    Numbered,
    Outline,
    PollCache,
    Target,
    TitleRow,
    build,
    changes_between,
    etag_of,
    render,
)
from steering.control.fill.fill_tokens import URL, token_for
from steering.control.fill.fill_windows import covered_until, unchanged_until
from steering.control.fill.holdings import ids_of
from steering.control.fill.holdings_rows import Member, digest_text
from steering.control.fill.leases import Lease, Tier, Title
from steering.control.fill.sources import Sources
from steering.control.fill.tiers import Wanted
from steering.control.services.concern import Concern
from steering.control.services.fill import Fill
from steering.control.services.fill_network import MBPS, FillNetwork
from steering.errors import RequestError
from steering.model.fleet import Appliance
from steering.state.keys import read_keys
from steering.state.table import TableFile

KEY: Final = "fill"  # the id of the key that fill tokens are signed with
MOST_TITLES: Final = 1000  # in one request for sources
NEW_RECIPES_S: Final = 14 * 86_400  # that a delta names a title with a new recipe: appliances report ids alone


class Planned:
    """The titles of one service in a plan: those of indexes from `first` on."""

    def __init__(self, first: int, rows: Sequence[TitleRow]) -> None:
        self.first, self.rows = first, rows
        self.numbered = Numbered([row.id for row in rows], rows)
        self.row_of = {row.id: row for row in rows}

    def bits(self, bits: int) -> int:
        """Return a set of the plan's titles as one of this service's."""
        return bits >> self.first & ((1 << len(self.rows)) - 1)

    def target(self, bits: int, renewed: frozenset[str]) -> Target:
        """Return what an appliance should hold of this service."""

        def rows_of(names: Collection[str]) -> Sequence[TitleRow]:
            return sorted((self.row_of[name] for name in names), key=lambda row: row.priority)

        wanted = renewed & {row.id for row in self.numbered.select(bits)} if renewed else renewed
        return Target(lambda: self.numbered.select(bits), rows_of, wanted)

    def changes(self, held: Sequence[str], bits: int) -> tuple[Collection[str], Collection[str]]:
        """Return the ids to add and to remove, from what an appliance reported to a set."""
        return changes_between(held, [row.id for row in self.numbered.select(bits)])


class FillAnswers(Concern):
    """`control.fill_answers`."""

    fill: Fill

    def __post_init__(self) -> None:
        self.polls = PollCache()
        self.lock = threading.Lock()
        self.seen: tuple[str, str] | None = None  # the plan and the table of `network`
        self.network: FillNetwork | None = None
        self.sources: Sources | None = None
        self.planned: dict[str, Planned] = {}
        self.renewed: dict[str, frozenset[str]] = {}
        # Holdings are reported without recipes: of a recipe put since this process began, only those who fetched it
        # are sources. Others may hold the title in an older recipe.
        self.began = self.clock()
        self.fetched: dict[str, set[int]] = {}

    def prepare(self) -> FillNetwork:
        """Return the network of the plan, table and fleet of now. Raises RequestError 404 without a plan."""
        plan = self.fill.in_force()
        current = self.fill.require_table()
        seen, fleet = (current.plan, current.table), self.fleet()
        with self.lock:
            if self.network is None or self.seen != seen or self.network.fleet is not fleet:
                table = TableFile(self.state / current.table)
                word = self.hand_over.status.word
                network = FillNetwork(self.settings, fleet, plan, table, self.intake, word, self.fetched_by)
                if self.network is None or self.seen is None or self.seen[0] != seen[0]:
                    self.number_titles(network)
                if self.sources is None:
                    self.sources = Sources(network)
                else:
                    self.sources.use(network)
                self.network, self.seen = network, seen
                self.polls.clear()
            return self.network

    def number_titles(self, network: FillNetwork) -> None:
        """Read the titles of a plan, by service; the most played have the first priority."""
        plan = network.plan
        order = sorted(range(plan.holdings.titles), key=lambda index: (-plan.plays[index], index))
        priority = [0] * len(order)
        for place, index in enumerate(order, 1):
            priority[index] = place
        rows: dict[str, list[TitleRow]] = {}
        first: dict[str, int] = {}
        for index in range(plan.holdings.titles):
            service, title = plan.holdings.title(index)
            first.setdefault(service, index)
            row = TitleRow(title, plan.sizes[index], plan.recipes[index], priority[index])
            rows.setdefault(service, []).append(row)
        self.planned = {service: Planned(first[service], rows[service]) for service in rows}
        since = self.clock() - NEW_RECIPES_S
        with self.records.reading() as records:
            new = {service: records.catalogue.recipes_since(service, since) for service in rows}
            fresh = {recipe for service in rows for recipe in records.catalogue.recipes_since(service, self.began)}
        self.fetched = {recipe: self.fetched.get(recipe, set()) for recipe in fresh}
        self.renewed = {
            service: frozenset(row.id for row in rows[service] if row.recipe in new[service]) for service in rows
        }

    def fetched_by(self, title: Title) -> set[int] | None:
        """Return the appliances that reported to have fetched a new recipe; None for a recipe that is older."""
        return self.fetched.get(title.recipe)

    # ---- fill manifests

    def manifest(
        self, appliance: str, have: Mapping[str, str], if_none_match: str, now: float | None = None
    ) -> tuple[str, bytes | None]:
        """Return the ETag and the body of an appliance's fill manifest; no body where it is unchanged.

        Raises RequestError 404 where the plan leaves the appliance out.
        """
        now = self.registry.clock() if now is None else now
        network = self.prepare()
        slot = self.slot_of(network, appliance)
        if self.polls.is_unchanged(slot, if_none_match, now):
            return if_none_match, None
        cluster = network.place(slot).cluster
        bits = network.plan.bits(cluster, slot)
        if bits is None:
            raise RequestError(
                f"the plan leaves appliance {appliance} out", "give it disk_bytes in the fleet", status=404
            )
        windows = network.windows(slot, now)
        sets = {service: planned.bits(bits) for service, planned in self.planned.items()}
        digests = tuple(
            (service, digest_text(planned.numbered.digest(sets[service]))) for service, planned in self.planned.items()
        )
        settings = self.settings
        outline = Outline(
            appliance,
            network.plan.meta.version,
            "",
            covered_until(now),
            settings.fill_s,
            settings.remove_after_s,
            windows,
            settings.fill_urgent_gbps,
            digests,
        )
        etag = etag_of(outline)
        self.polls.keep(slot, etag, unchanged_until(windows, now))
        if etag == if_none_match:
            return etag, None
        targets = {
            service: planned.target(sets[service], self.renewed[service] if service in have else frozenset())
            for service, planned in self.planned.items()
        }
        return etag, render(build(outline, targets, have, self.held((cluster, slot), sets)))

    def held(self, member: Member, sets: Mapping[str, int]) -> dict[str, Held]:
        """Return what an appliance reported of the services of a plan, with the way from there."""
        held = {}
        for service, digest in self.intake.digests.get(member, {}).items():
            if service in sets:
                changes = functools.partial(self.changes_of, member, service, sets[service])
                held[service] = Held(digest_text(digest), changes)
        return held

    def changes_of(self, member: Member, service: str, bits: int) -> tuple[Collection[str], Collection[str]]:
        """Return the ids to add and to remove, from what an appliance reported to what it should hold."""
        return self.planned[service].changes(ids_of(self.intake, member, service), bits)

    def slot_of(self, network: FillNetwork, appliance: str) -> int:
        slot = network.index.slots.get(appliance)
        if slot is None:
            raise RequestError(f"there is no appliance {appliance!r}", status=404)
        return slot

    # ---- sources

    def ask(
        self, appliance: str, service: str, titles: Sequence[str], most: int, now: float | None = None
    ) -> dict[str, Any]:
        """Return leases for titles that an appliance lacks, with their sources, and what it waits for."""
        now = self.registry.clock() if now is None else now
        secret = self.secret()
        network = self.prepare()
        slot = self.slot_of(network, appliance)
        rows = self.planned[service].row_of if service in self.planned else {}
        wanted = [
            Wanted(Title(service, title, rows[title].recipe), rows[title].bytes) for title in titles if title in rows
        ]
        refused = {title: "not in the plan" for title in titles if title not in rows}
        with self.lock:
            assert self.sources, "prepare made them"
            answer = self.sources.ask(slot, wanted, most, now)
        origin = next((item.origin for item in self.fleet().services if item.id == service), "")
        leases = {lease.title.id: self.lease_row(network, lease, secret, now, bool(origin)) for lease in answer.leases}
        return {
            "ttl": round(self.sources.ledger.ttl_s),
            "url": URL if self.settings.fill_tls else URL.replace("https:", "http:"),
            **({"origin_url": f"{origin.rstrip('/')}/{{title}}/{{path}}"} if origin else {}),
            "leases": leases,
            "later": {title.id: {"retry_s": later.retry_s, "why": later.why} for title, later in answer.later.items()},
            "refused": refused | {title.id: why for title, why in answer.refused.items()},
        }

    def lease_row(
        self, network: FillNetwork, lease: Lease, secret: str, now: float, has_origin: bool
    ) -> dict[str, Any]:
        """Return a lease as answers have it."""
        sources: list[dict[str, str]] = [
            {
                "host": f"{self.fill_host(network.index.appliances[slot])}:{self.settings.fill_port}",
                "tier": lease.tier.value,
                "appliance": network.name(slot),
            }
            for slot in lease.sources
        ]
        if lease.tier is Tier.origin and has_origin:
            sources.append({"tier": lease.tier.value})
        return {
            "lease": lease.id,
            "sources": sources,
            "gbps": lease.mbps / MBPS,
            "expires_at": round(lease.expires_at, 3),
            "token": token_for(secret, lease.title.service, lease.title.recipe, max(lease.ends_at, now)),
        }

    def fill_host(self, appliance: Appliance) -> str:
        """Return where others fetch from an appliance: its name; without TLS, the first of its addresses."""
        if self.settings.fill_tls or not appliance.addresses:
            return appliance.host
        address = appliance.addresses[0]
        return f"[{address}]" if ":" in address else address

    def secret(self) -> str:
        """Return the secret of fill tokens. Raises RequestError 503 without one."""
        key = read_keys(self.state).get(KEY)
        if key is None:
            raise RequestError(
                f"there is no key {KEY!r} to sign fill tokens with", f"steering key make {KEY}", status=503
            )
        return key.secret

    def take_progress(self, appliance: str, progress: Any, now: float | None = None) -> None:
        """Use the `fill` of a report: progress renews leases, what is done or failed ends them."""
        now = self.registry.clock() if now is None else now
        if self.network is None or (slot := self.network.index.slots.get(appliance)) is None:
            return
        network = self.network
        with self.lock:
            assert self.sources, "prepare made them with the network"
            for item in progress.active:
                if title := self.title_of(item):
                    self.sources.progress(slot, title, item.bytes_done, now)
            for item in progress.done:
                if title := self.title_of(item):
                    self.sources.done(slot, title, now)
                    if title.recipe in self.fetched:
                        self.fetched[title.recipe].add(slot)
            for item in progress.failed:
                source = ORIGIN if item.source == Tier.origin else network.index.slots.get(item.source)
                if (title := self.title_of(item)) and source is not None:
                    self.sources.failed(slot, title, source, item.why, now)

    def title_of(self, item: Any) -> Title | None:
        """Return a title of a report with the plan's recipe, None where the plan lacks it."""
        planned = self.planned.get(item.service)
        row = planned.row_of.get(item.id) if planned else None
        return Title(item.service, item.id, row.recipe) if row else None
