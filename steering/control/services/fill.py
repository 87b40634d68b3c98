"""`control.fill`: plays and launches in, plans out, published, rolled back and pinned as tables are."""

from __future__ import annotations

import dataclasses
import time
from itertools import compress
from typing import Any

from steering.control.fill.fill_manifest import mask_of
from steering.control.fill.holdings import HoldingsReported
from steering.control.fill.holdings_rows import Member
from steering.control.records.audit import Entry
from steering.control.records.rows import Rows
from steering.control.records.versions import Pin, Version
from steering.control.routes.build import Progress, quiet
from steering.control.services.catalogue import require_service
from steering.control.services.concern import Concern
from steering.control.services.fill_tasks import CountPlays, FillGuards, MakePlan
from steering.errors import RequestError
from steering.state.current import Current
from steering.state.folder import number_of, versioned_files
from steering.state.plan import ClusterMeta, PlanFile, PlanMeta


class Fill(Concern):
    """`control.fill`. The plan in force is mapped once, and read from any thread."""

    def __post_init__(self) -> None:
        self.mapped: tuple[str, PlanFile] | None = None

    # ---- demand

    def count_plays(self, service: str, body: bytes, who: str, progress: Progress = quiet) -> dict[str, Any]:
        """Count the days of a feed of plays that come after the last one."""
        return self.take_feed(service, body, who, progress, launches=False)

    def use_launches(self, service: str, body: bytes, who: str, progress: Progress = quiet) -> dict[str, Any]:
        """Use what a feed says of launches to come."""
        return self.take_feed(service, body, who, progress, launches=True)

    def take_feed(self, service: str, body: bytes, who: str, progress: Progress, *, launches: bool) -> dict[str, Any]:
        require_service(self.fleet(), service)
        task = CountPlays(self.state, self.fleet(), service, body, launches)
        about: dict[str, Any] = self.run("count plays", task, progress)
        with self.records.transaction() as transaction:
            what = "use launches" if launches else "count plays"
            after = {name: value for name, value in about.items() if isinstance(value, int | str)}
            transaction.audit.add(Entry(self.clock(), who, what, f"services/{service}", None, after))
        return about

    # ---- plans

    def plan(self, who: str, why: str = "", force: str = "", progress: Progress = quiet) -> dict[str, Any]:
        """Make a plan from the forecast, the catalogue, the table and the fleet, and let it be in force."""
        began, current = time.perf_counter(), self.require_table()
        if pin := self.records.plan_pins.get():
            raise RequestError(
                f"plan {pin.table} is pinned by {pin.who}: {pin.why or 'no reason given'}",
                "steering fill unpin",
                status=409,
            )
        written = max((number for _, kind, number in versioned_files(self.state) if kind == "plan"), default=0)
        with self.records.transaction() as transaction:
            version = transaction.plan_versions.take(written)
        settings = self.settings
        guards = FillGuards(settings.guard_fill, settings.guard_offload, settings.guard_plays)
        with self.hand_over.undone_on_error() as made:
            made.append(f"plan.{version}")
            costs = (settings.fill_cost_nearest, settings.fill_cost_sibling, settings.fill_cost_exchange)
            task = MakePlan(self.state, self.fleet(), version, current, costs, self.clock(), guards, force)
            meta, broken = self.run("make a plan", task, progress)
            with self.records.transaction() as transaction:
                counts = {"titles": meta.titles, "added": meta.added}
                transaction.plan_versions.add_written(
                    version, fleet=self.on_record.version(), who=who, why=force or why, sources=[], counts=counts
                )
            self.serve(version, Entry(self.clock(), who, "plan fill", f"plans/{version}", None, counts, force or why))
        return {**described(meta), "guards": broken, "seconds": round(time.perf_counter() - began, 3)}

    def serve(self, version: int, entry: Entry) -> None:
        """Let a written plan be in force, on record first in `current`."""
        current = self.hand_over.switch_plan(f"plan.{version}")
        with self.records.transaction() as transaction:
            transaction.plan_versions.set_published(version, number_of(current.fleet), current.published_at)
            transaction.audit.add(entry)
        self.hand_over.remove_old()

    def list(self) -> Rows:
        """Return every plan that was in force, newest first; safe from any thread."""
        with self.records.reading() as records:
            pin, serving = records.plan_pins.get(), self.number_in_force()
            return [self.about(version, serving, pin) for version in records.plan_versions.all()]

    def about(self, version: Version, serving: int | None, pin: Pin | None) -> dict[str, Any]:
        """Return a plan on record as lists have it."""
        row = {**dataclasses.asdict(version), "plan": version.table, "serving": version.table == serving}
        del row["table"], row["sources"]
        kept = (self.state / f"plan.{version.table}").exists()
        return {**row, "pinned": pin is not None and pin.table == version.table, "kept": kept}

    def rollback(self, version: int, who: str, why: str = "") -> dict[str, Any]:
        """Let a kept plan be in force again, and pin it."""
        if self.records.plan_versions.get(version) is None:
            raise RequestError(f"there is no plan {version}", status=404)
        if not (self.state / f"plan.{version}").exists():
            raise RequestError(f"the file of plan {version} is not kept any more; `retain` keeps more", status=409)
        PlanFile(self.state / f"plan.{version}")
        now = self.clock()
        self.serve(version, Entry(now, who, "roll back fill", f"plans/{version}", None, None, why))
        return self.pin(who, why)

    def pin(self, who: str, why: str = "") -> dict[str, Any]:
        """Pin the plan in force: no other one replaces it."""
        version, now = self.number_in_force(), self.clock()
        if version is None:
            raise RequestError("no plan is in force", "steering fill plan", status=409)
        with self.records.transaction() as transaction:
            transaction.plan_pins.set(Pin(version, now, who, why))
            transaction.audit.add(Entry(now, who, "pin fill", f"plans/{version}", None, None, why))
        return {"plan": version, "pinned": True}

    def unpin(self, who: str) -> dict[str, Any]:
        """Remove the pin."""
        pin = self.records.plan_pins.get()
        with self.records.transaction() as transaction:
            transaction.plan_pins.set(None)
            transaction.audit.add(Entry(self.clock(), who, "unpin fill", "plans"))
        return {"plan": pin.table if pin else None, "pinned": False}

    # ---- what is in force

    def require_table(self) -> Current:
        """Return what serves. Raises RequestError 409 before the first publish."""
        if self.hand_over.current is None:
            raise RequestError("no table serves yet", "steering table publish", status=409)
        return self.hand_over.current

    def number_in_force(self) -> int | None:
        """Return the version of the plan in force."""
        current = self.hand_over.current
        return number_of(current.plan) if current and current.plan else None

    def in_force(self) -> PlanFile:
        """Return the plan in force; safe from any thread. Raises RequestError 404 where there is none."""
        current = self.hand_over.current
        if current is None or not current.plan:
            raise RequestError("no plan is in force", "steering fill plan", status=404)
        mapped = self.mapped
        if mapped is None or mapped[0] != current.plan:
            mapped = self.mapped = current.plan, PlanFile(self.state / current.plan)
        return mapped[1]

    def status(self, count: int = 20) -> dict[str, Any]:
        """Return the plan in force, how much of it is held by cluster, and what is left to fill, most first."""
        plan = self.in_force()
        reported = ReportedByPlan(plan, self.intake)
        rows = [row for row in (progress_of(plan, reported, number) for number in plan.meta.clusters) if row]
        rows.sort(key=lambda row: (-row["bytes_left"], row["cluster"]))
        totals = {name: sum(row[name] for row in rows) for name in ("bytes", "bytes_left", "titles_left")}
        return {**described(plan.meta), **totals, "clusters": rows[:count]}

    def explain(self, service: str, title: str, cluster: str) -> dict[str, Any]:
        """Return why a cluster should hold a title or not: plays, price, copies, holders."""
        plan = self.in_force()
        number = next((number for number, item in plan.meta.clusters.items() if item.id == cluster), None)
        if number is None:
            raise RequestError(f"the plan has no cluster {cluster!r}", status=404)
        index = plan.indexes.get((service, title))
        if index is None:
            raise RequestError(f"the plan has no title {title!r} of service {service!r}", status=404)
        return explained(plan, plan.meta.clusters[number], number, index, self.names_of(number))

    def names_of(self, cluster: int) -> dict[int, str]:
        """Return the ids of a cluster's appliances by slot."""
        ids = {item.id for item in self.fleet().clusters if item.number == cluster}
        return {appliance.slot: appliance.id for appliance in self.fleet().appliances if appliance.cluster in ids}


class ReportedByPlan:
    """What appliances report that they hold, by the index of titles in a plan. Needs numpy."""

    def __init__(self, plan: PlanFile, intake: HoldingsReported) -> None:
        import numpy as np

        self.intake = intake
        keys = map(plan.holdings.title, range(plan.holdings.titles))
        indexes = [intake.titles.of(service).get(title) for service, title in keys]
        self.index = np.array([-1 if index is None else index for index in indexes], np.int64)

    def bits(self, member: Member) -> int:
        """Return the planned titles that an appliance reports, a bit each."""
        import numpy as np

        held = self.intake.bits(member)
        if not held or not len(self.index):
            return 0
        size = max(int(self.index.max()) + 1, held.bit_length())
        packed = np.frombuffer(held.to_bytes(-(-size // 8), "little"), np.uint8)
        inside = np.unpackbits(packed, bitorder="little")[np.maximum(self.index, 0)] & (self.index >= 0)
        return int.from_bytes(np.packbits(inside.astype(np.uint8), bitorder="little").tobytes(), "little")


def progress_of(plan: PlanFile, reported: ReportedByPlan, number: int) -> dict[str, Any] | None:
    """Return how far a cluster is; None where its appliances are not planned for."""
    wanted = left = titles = 0
    members = plan.holdings.members(number)
    for slot, _ in members:
        bits = plan.bits(number, slot) or 0
        missing = bits & ~reported.bits((number, slot))
        wanted += bytes_in(plan, bits)
        left += bytes_in(plan, missing)
        titles += missing.bit_count()
    name = plan.meta.clusters[number].id
    row = {"cluster": name, "bytes": wanted, "bytes_left": left, "titles_left": titles}
    return row if members else None


def bytes_in(plan: PlanFile, bits: int) -> int:
    """Return the bytes of a set of titles."""
    return sum(compress(plan.sizes, mask_of(bits, plan.holdings.titles)))


def described(meta: PlanMeta) -> dict[str, Any]:
    """Return a plan in numbers, with its proof."""
    return {
        "plan": meta.version,
        "made_at": meta.made_at,
        "titles": meta.titles,
        "no_recipe": meta.no_recipe,
        "plays": round(meta.plays, 1),
        "offload": round(meta.offload, 6),
        "value": meta.value,
        "bound": meta.bound,
        "gap": round(meta.gap, 6),
        "planned_bytes": sum(cluster.bytes for cluster in meta.clusters.values()),
        "added_bytes": meta.added,
    }


def explained(plan: PlanFile, cluster: ClusterMeta, number: int, index: int, names: dict[int, str]) -> dict[str, Any]:
    """Return why a cluster should hold a title or not."""
    service, title = plan.holdings.title(index)
    holders = [names.get(slot, str(slot)) for slot in plan.holdings.holders(number, index)]
    plays = plan.area_plays(cluster.area, index)
    elsewhere = [
        item.id for other, item in plan.meta.clusters.items() if other != number and plan.holdings.holders(other, index)
    ]
    return {
        "plan": plan.meta.version,
        "service": service,
        "title": title,
        "bytes": plan.sizes[index],
        "recipe": plan.recipes[index],
        "cluster": cluster.id,
        "area": cluster.area,
        "plays_a_day_in_area": round(plays, 3),
        "price": cluster.price,
        "holders": holders,
        "why": reason_of(bool(holders), plays, cluster.price),
        "other_clusters": len(elsewhere),
        "for_example": elsewhere[:5],
    }


def reason_of(is_held: bool, plays: float, price: float) -> str:
    """Return in words what decided: a title is held where its plays there are worth the price of its disk."""
    if is_held:
        return "its plays here are worth more than the price of a byte of disk"
    if plays <= 0:
        return "no plays are expected in this area"
    if price <= 0:
        return "other clusters in reach serve it, or the disk is full"
    return "its plays here are worth less than the price of a byte of disk, or other clusters in reach serve it"
