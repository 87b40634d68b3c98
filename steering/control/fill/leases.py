"""Leases: who may fetch which title at which rate until when, within every budget on the way.

    grant ─> lease ─> progress renews it ─> end (done, failed)
                 └──> expires: no progress for `ttl_s`, its window closes, or it takes four times as long as it should

**Budgets.** A lease's rate is charged to each budget on its path: the receiving appliance, each source that the lease
names, and, where the source is outside, the uplinks of the site and of the partner, and the origin. One more budget
counts leases in place of rates: how many copies of a title may leave the origin at once. Rates are whole Mbit/s, so
sums are exact. No grant takes a budget over its limit at that time.

**A limit that falls** (a source becomes full) ends no lease, because its appliance would not know: it goes on until its
lease runs out. Nothing is granted, and no lease on that budget is renewed, until the sum is within the limit. So a sum
is never over the highest limit of the last `ttl_s`.

Times are of one monotonic clock, given by the caller. Each operation takes a few steps for each budget of the lease.
An appliance has at most `MOST_BY_APPLIANCE` leases, so 19,000 appliances have at most 152,000, of 0.6 kB each.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

MOST_BY_APPLIANCE: Final = 8
TTL_S: Final = 300.0
LEAST_MBPS: Final = 10  # a budget with less room grants no lease, so that leases are not cut into crumbs
PATIENCE: Final = 4  # a lease may take so many times as long as its bytes take at its rate
UNLIMITED: Final = 1 << 40


class Title(NamedTuple):
    """A title in one recipe."""

    service: str
    id: str
    recipe: str = ""


class BudgetKind(enum.StrEnum):
    """What a budget limits. `copies` counts leases, all others add up rates in Mbit/s."""

    appliance = "appliance"
    site = "site uplink"
    partner = "partner uplink"
    source = "source"
    origin = "origin"
    copies = "copies from the origin"


class Budget(NamedTuple):
    """A budget by its kind and the slot, id or title that it is of."""

    kind: BudgetKind
    subject: int | str | Title


class Tier(enum.StrEnum):
    """Where a lease's sources stand: in the appliance's cluster, in another cluster, or at the origin."""

    peer = "peer"
    tier = "tier"
    origin = "origin"


class Request(NamedTuple):
    """A lease that an appliance may have: at most `mbps`, until `until`, charged to each budget of `path`."""

    slot: int
    title: Title
    bytes: int
    tier: Tier
    sources: tuple[int, ...]
    path: tuple[Budget, ...]
    mbps: int
    until: float


class Account:
    """A budget with the sum that its leases have taken."""

    __slots__ = ("budget", "used")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.used = 0


class Lease:
    """A granted request. `ends_at` is when it ends in spite of progress."""

    __slots__ = (
        "accounts", "bytes", "bytes_done", "ends_at", "expires_at", "granted_at", "mbps", "number", "slot", "sources",
        "tier", "title",
    )  # fmt: skip

    def __init__(self, request: Request, number: int, mbps: int, accounts: tuple[Account, ...], now: float) -> None:
        self.slot, self.title, self.bytes = request.slot, request.title, request.bytes
        self.tier, self.sources, self.accounts = request.tier, request.sources, accounts
        self.number, self.mbps, self.granted_at, self.bytes_done = number, mbps, now, 0
        self.ends_at = self.expires_at = now

    @property
    def id(self) -> str:
        """The lease's name towards the appliance."""
        return f"{self.slot}-{self.number}"


class Ledger:
    """All leases. `limit_of` returns the limit of a budget at a time, None without one. Not thread-safe."""

    def __init__(self, limit_of: Callable[[Budget, float], int | None], ttl_s: float = TTL_S) -> None:
        self.limit_of = limit_of
        self.ttl_s = ttl_s
        self.numbers = itertools.count(1)
        self.leases: dict[int, dict[Title, Lease]] = {}  # slot -> its leases
        self.accounts: dict[Budget, Account] = {}  # those in use
        self.expiries: list[tuple[float, int, Lease]] = []  # one entry a lease; a renewed lease is put back when due

    def __len__(self) -> int:
        return sum(map(len, self.leases.values()))

    def lease(self, slot: int, title: Title) -> Lease | None:
        """Return the lease of an appliance for a title."""
        leases = self.leases.get(slot)
        return leases.get(title) if leases else None

    def count(self, slot: int) -> int:
        """Return how many leases an appliance has."""
        return len(self.leases.get(slot, ()))

    def used(self, budget: Budget) -> int:
        """Return the sum that the leases on a budget have taken."""
        account = self.accounts.get(budget)
        return account.used if account else 0

    def room(self, budget: Budget, now: float) -> int:
        """Return what a budget has left; below 0 where its limit fell."""
        limit = self.limit_of(budget, now)
        return (UNLIMITED if limit is None else limit) - self.used(budget)

    def tight(self, path: Iterable[Budget], mbps: int, now: float) -> Budget | None:
        """Return the first budget without room for a lease of `mbps`, or of the least rate if that is less."""
        least = max(min(mbps, LEAST_MBPS), 1)
        for budget in path:
            if self.room(budget, now) < (1 if budget.kind is BudgetKind.copies else least):
                return budget
        return None

    def grant(self, request: Request, now: float) -> Lease | None:
        """Return a new lease at the rate that all budgets have room for; None where one has none.

        The caller has ended an earlier lease of the appliance for the title.
        """
        if request.mbps < 1 or request.until <= now or self.count(request.slot) >= MOST_BY_APPLIANCE:
            return None
        if self.tight(request.path, request.mbps, now):
            return None
        rates = [self.room(budget, now) for budget in request.path if budget.kind is not BudgetKind.copies]
        mbps = min(request.mbps, *rates)
        accounts = tuple([self.accounts.setdefault(budget, Account(budget)) for budget in request.path])
        lease = Lease(request, next(self.numbers), mbps, accounts, now)
        lease.ends_at = min(now + self.ttl_s + PATIENCE * request.bytes * 8 / (mbps * 1e6), request.until)
        lease.expires_at = min(now + self.ttl_s, lease.ends_at)
        for account in accounts:
            account.used += 1 if account.budget.kind is BudgetKind.copies else mbps
        self.leases.setdefault(lease.slot, {})[lease.title] = lease
        heapq.heappush(self.expiries, (lease.expires_at, lease.number, lease))
        return lease

    def progress(self, lease: Lease, bytes_done: int, now: float) -> bool:
        """Renew a lease whose bytes became more; return whether it was renewed.

        Nothing is renewed while a budget on its path is over its limit.
        """
        if not lease.bytes_done < bytes_done <= lease.bytes or lease.expires_at <= now:
            return False
        lease.bytes_done = bytes_done
        return self.renew(lease, now)

    def renew(self, lease: Lease, now: float) -> bool:
        """Renew a lease that its appliance asks for again; return whether it was renewed, as with progress."""
        if lease.expires_at <= now or any(self.room(account.budget, now) < 0 for account in lease.accounts):
            return False
        lease.expires_at = min(now + self.ttl_s, lease.ends_at)
        return True

    def end(self, slot: int, title: Title) -> Lease | None:
        """End a lease, and return it."""
        leases = self.leases.get(slot)
        lease = leases.pop(title, None) if leases else None
        if lease is None:
            return None
        if not leases:
            del self.leases[slot]
        for account in lease.accounts:
            account.used -= 1 if account.budget.kind is BudgetKind.copies else lease.mbps
            if not account.used:
                del self.accounts[account.budget]
        return lease

    def expire(self, now: float) -> Sequence[Lease]:
        """End the leases that ran out, and return them."""
        ended = []
        while self.expiries and self.expiries[0][0] <= now:
            _, number, lease = heapq.heappop(self.expiries)
            if self.lease(lease.slot, lease.title) is not lease:
                continue
            if lease.expires_at > now:
                heapq.heappush(self.expiries, (lease.expires_at, number, lease))
            else:
                self.end(lease.slot, lease.title)
                ended.append(lease)
        return ended
