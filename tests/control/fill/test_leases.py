"""Leases: no budget is ever over its limit, whatever is granted, renewed, ended and left to run out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from steering.control.fill.leases import (
    LEAST_MBPS,
    MOST_BY_APPLIANCE,
    PATIENCE,
    TTL_S,
    Budget,
    BudgetKind,
    Lease,
    Ledger,
    Request,
    Tier,
    Title,
)

DAY = 86_400.0
FILM = Title("video", "80100174", "sha256-aa")
GIGABYTE = 1_000_000_000


@dataclasses.dataclass
class Limits:
    """Limits that a test sets; a budget that it does not name has none."""

    by_budget: dict[Budget, int] = dataclasses.field(default_factory=dict)

    def __call__(self, budget: Budget, now: float) -> int | None:  # noqa: ARG002 (as limits of the day have it)
        return self.by_budget.get(budget)


def appliance(slot: int) -> Budget:
    return Budget(BudgetKind.appliance, slot)


def source(slot: int) -> Budget:
    return Budget(BudgetKind.source, slot)


SITE = Budget(BudgetKind.site, "bom001")
COPIES = Budget(BudgetKind.copies, FILM)


def request(slot: int = 1, title: Title = FILM, mbps: int = 1200, until: float = DAY, **other: Any) -> Request:
    values = {"bytes": GIGABYTE, "tier": Tier.peer, "sources": (9,), "path": (appliance(slot), source(9))}
    return Request(slot, title, mbps=mbps, until=until, **(values | other))


@pytest.fixture
def limits() -> Limits:
    return Limits({appliance(1): 1200, source(9): 2000})


@pytest.fixture
def ledger(limits: Limits) -> Ledger:
    return Ledger(limits)


def granted(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


def test_a_lease_has_the_rate_that_every_budget_has_room_for(ledger: Ledger) -> None:
    assert granted(ledger.grant(request(1, mbps=5000), 0)).mbps == 1200
    assert granted(ledger.grant(request(2), 0)).mbps == 800
    assert ledger.grant(request(3), 0) is None
    assert ledger.tight(request(3).path, 1200, 0) == source(9)
    assert ledger.used(source(9)) == 2000


def test_a_crumb_of_a_budget_is_not_granted_unless_that_is_all_that_is_asked_for(
    limits: Limits, ledger: Ledger
) -> None:
    limits.by_budget[source(9)] = LEAST_MBPS - 1
    assert ledger.grant(request(), 0) is None
    assert granted(ledger.grant(request(mbps=3), 0)).mbps == 3


def test_copies_from_the_origin_are_counted_not_added_up(limits: Limits, ledger: Ledger) -> None:
    limits.by_budget[COPIES] = 2
    leases = [ledger.grant(request(slot, path=(appliance(slot), COPIES), tier=Tier.origin), 0) for slot in (1, 2, 3)]
    assert [lease is not None for lease in leases] == [True, True, False]
    ledger.end(1, FILM)
    assert ledger.grant(request(3, path=(appliance(3), COPIES), tier=Tier.origin), 0)


def test_a_lease_ends_after_its_ttl_without_progress(ledger: Ledger) -> None:
    lease = granted(ledger.grant(request(bytes=100 * GIGABYTE), 0))
    assert ledger.progress(lease, 1000, 200)
    assert not ledger.progress(lease, 1000, 250), "the same bytes are no progress"
    assert not ledger.progress(lease, 999, 250)
    assert not ledger.progress(lease, 100 * GIGABYTE + 1, 250), "more than the title has"
    assert ledger.expire(200 + TTL_S - 0.1) == []
    assert ledger.expire(200 + TTL_S) == [lease]
    assert len(ledger) == ledger.used(source(9)) == 0
    assert not ledger.progress(lease, 2000, 200 + TTL_S)


def test_a_trickle_does_not_hold_a_lease_for_ever(ledger: Ledger) -> None:
    lease = granted(ledger.grant(request(mbps=800), 0))
    now = 0.0
    while not ledger.expire(now):
        now += 10
        ledger.progress(lease, lease.bytes_done + 1, now)
    assert now == pytest.approx(TTL_S + PATIENCE * 10, abs=10)  # a gigabyte takes 10 s at 0.8 Gbit/s


def test_a_lease_ends_with_its_window(ledger: Ledger) -> None:
    lease = granted(ledger.grant(request(until=100.0), 0))
    assert ledger.progress(lease, 5, 99)
    assert ledger.expire(100) == [lease]
    assert ledger.grant(request(until=100.0), 100) is None


def test_an_appliance_has_so_many_leases(ledger: Ledger) -> None:
    path = (appliance(5),)
    leases = [ledger.grant(request(5, Title("video", str(n)), 10, path=path), 0) for n in range(MOST_BY_APPLIANCE + 1)]
    assert leases[-1] is None
    assert ledger.count(5) == MOST_BY_APPLIANCE


def test_over_a_fallen_limit_nothing_is_granted_or_renewed_until_leases_ran_out(limits: Limits, ledger: Ledger) -> None:
    first, second = granted(ledger.grant(request(1), 0)), granted(ledger.grant(request(2), 10))
    limits.by_budget[source(9)] = 900
    assert not ledger.progress(first, 100, 20)
    assert not ledger.progress(second, 100, 20)
    assert ledger.grant(request(3), 20) is None
    assert ledger.expire(TTL_S) == [first]
    assert ledger.progress(second, 200, TTL_S + 1), "0.8 of 0.9 Gbit/s"


class AnyOrder(RuleBasedStateMachine):
    """The ledger beside a plain list of leases that is added up anew each time."""

    @initialize(limits=st.lists(st.integers(0, 3000), min_size=12, max_size=12), copies=st.integers(1, 3))
    def begin(self, limits: list[int], copies: int) -> None:
        self.budgets = [*map(appliance, range(4)), *map(source, range(4)), SITE, Budget(BudgetKind.partner, "as1")]
        self.budgets += [Budget(BudgetKind.origin, "video"), SITE._replace(subject="del001")]
        self.titles = [Title("video", str(number)) for number in range(4)]
        self.limits = dict(zip(self.budgets, limits, strict=True))
        self.limits |= {Budget(BudgetKind.copies, title): copies for title in self.titles}
        self.highest = dict.fromkeys(self.limits, 0)
        self.lowered: dict[Budget, list[tuple[float, int]]] = {}
        self.now = 0.0
        self.ledger = Ledger(lambda budget, _: self.limits[budget])
        self.ours: list[Lease] = []

    @rule(slot=st.integers(0, 3), title=st.integers(0, 3), mbps=st.integers(1, 2000), data=st.data())
    def grant(self, slot: int, title: int, mbps: int, data: Any) -> None:
        path = data.draw(st.lists(st.sampled_from(self.budgets), unique=True, max_size=4))
        path.append(Budget(BudgetKind.copies, self.titles[title]))
        if ended := self.ledger.end(slot, self.titles[title]):
            self.ours.remove(ended)
        until = self.now + data.draw(st.floats(0, 1000))
        path = [appliance(slot), *(budget for budget in path if budget != appliance(slot))]
        lease = self.ledger.grant(request(slot, self.titles[title], mbps, until, path=tuple(path)), self.now)
        if lease:
            self.ours.append(lease)

    @rule(index=st.integers(0, 100), bytes_done=st.integers(0, GIGABYTE))
    def progress(self, index: int, bytes_done: int) -> None:
        if self.ours:
            self.ledger.progress(self.ours[index % len(self.ours)], bytes_done, self.now)

    @rule(seconds=st.floats(0, 400))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        ended = self.ledger.expire(self.now)
        assert sorted(lease.number for lease in ended) == sorted(
            lease.number for lease in self.ours if lease.expires_at <= self.now
        )
        self.ours = [lease for lease in self.ours if lease.expires_at > self.now]

    @rule(index=st.integers(0, 11), limit=st.integers(0, 3000))
    def change_limit(self, index: int, limit: int) -> None:
        budget = self.budgets[index]
        self.lowered.setdefault(budget, []).append((self.now, self.limits[budget]))
        self.limits[budget] = limit

    @invariant()
    def no_budget_is_over_its_limit(self) -> None:
        for budget, limit in self.limits.items():
            leases = [lease for lease in self.ours if any(account.budget == budget for account in lease.accounts)]
            total = len(leases) if budget.kind is BudgetKind.copies else sum(lease.mbps for lease in leases)
            assert total == self.ledger.used(budget)
            recent = [before for at, before in self.lowered.get(budget, ()) if at > self.now - TTL_S]
            assert total <= max([limit, *recent])

    @invariant()
    def nothing_is_left_over(self) -> None:
        assert len(self.ledger) == len(self.ours)
        assert bool(self.ledger.accounts) == bool(self.ours)


TestAnyOrder = AnyOrder.TestCase


@given(st.integers(1, 50))
def test_a_lease_renewed_often_has_one_entry_to_expire(renewals: int) -> None:
    ledger = Ledger(Limits())
    lease = granted(ledger.grant(request(bytes=10**12), 0))
    for number in range(1, renewals + 1):
        ledger.progress(lease, number, number)
        ledger.expire(number)
    assert len(ledger.expiries) == 1
