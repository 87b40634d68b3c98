"""First fillers: for a title that nobody in a scope holds, the one that fetches it from outside; all others wait.

A scope is a cluster, where appliances share a first filler, or a group (a partner's clusters, or all exchanges), where
clusters share one. A first filler is named once, and waited for: while its lease lives, and else for `wait_s` from when
it was named. Then, or as soon as its lease failed or ran out, the next member of the scope that asks takes its place
(**escalation**). `opened_at` stays: it is when the scope began to wait for those above it.

An entry ends when a member of the scope holds the title. At most `most` entries are kept, of 0.4 kB each; beyond them
the oldest is forgotten. A forgotten first filler may cost a second fetch from outside, and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from steering.control.fill.leases import Title

NOBODY: Final = -1  # the last first filler failed


class FirstFiller:
    """The member of a scope (a slot, or the number of a cluster) that fetches a title of so many bytes."""

    __slots__ = ("bytes", "member", "named_at", "opened_at")

    def __init__(self, member: int, size: int, now: float, opened_at: float) -> None:
        self.member, self.bytes, self.named_at, self.opened_at = member, size, now, opened_at


class FirstFillers:
    """The first fillers of all scopes of one sort, oldest first."""

    def __init__(self, wait_s: float, most: int) -> None:
        self.wait_s, self.most = wait_s, most
        self.entries: dict[tuple[Title, int | str], FirstFiller] = {}
        self.assigned: Counter[int] = Counter()  # bytes that each member is to fetch

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, title: Title, scope: int | str) -> FirstFiller | None:
        """Return the first filler of a title in a scope."""
        return self.entries.get((title, scope))

    def name(self, title: Title, scope: int | str, member: int, size: int, now: float) -> FirstFiller:
        """Name a first filler in the place of any before it."""
        before = self.drop(title, scope)
        if len(self.entries) >= self.most:
            self.drop(*next(iter(self.entries)))
        filler = FirstFiller(member, size, now, before.opened_at if before else now)
        self.entries[title, scope] = filler
        if member != NOBODY:
            self.assigned[member] += size
        return filler

    def drop(self, title: Title, scope: int | str) -> FirstFiller | None:
        """Forget the first filler of a title in a scope, and return it."""
        filler = self.entries.pop((title, scope), None)
        if filler and filler.member != NOBODY:
            self.assigned[filler.member] -= filler.bytes
            if not self.assigned[filler.member]:
                del self.assigned[filler.member]
        return filler

    def fail(self, title: Title, scope: int | str, member: int, now: float) -> None:
        """Let the next one that asks take the place of a member, if that is the first filler."""
        filler = self.get(title, scope)
        if filler and filler.member == member:
            self.name(title, scope, NOBODY, filler.bytes, now)

    def finish(self, title: Title, scope: int | str, member: int, now: float) -> None:
        """Wait from now on for the report that shows that a first filler holds the title."""
        filler = self.get(title, scope)
        if filler and filler.member == member:
            self.name(title, scope, member, filler.bytes, now)

    def wait_left_s(self, filler: FirstFiller, now: float) -> float:
        """Return for how long others wait for a first filler without a lease."""
        return 0.0 if filler.member == NOBODY else max(filler.named_at + self.wait_s - now, 0.0)

    def forget(self, now: float, waits: float, is_filling: Callable[[Title, int], bool]) -> None:
        """Forget the first fillers that were named so many waits ago and are not filling."""
        while self.entries:
            (title, scope), filler = next(iter(self.entries.items()))
            if filler.named_at > now - waits * self.wait_s:
                return
            if is_filling(title, filler.member):
                self.name(title, scope, filler.member, filler.bytes, now)
            else:
                self.drop(title, scope)
