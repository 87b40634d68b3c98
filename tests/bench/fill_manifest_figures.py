"""The figures of fill manifests: 19,000 appliances of 20,000 titles each. Part of `make bench`, never of `make test`.

CPU time of control's part without HTTP: query, ETag, digests, changes and JSON.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from collections.abc import Collection, Sequence
from itertools import compress, count

from steering.control.fill.fill_manifest import (
    Held,
    Numbered,
    Outline,
    PollCache,
    Target,
    TitleRow,
    build,
    etag_of,
    mask_of,
    read_have,
    render,
)
from steering.control.fill.fill_windows import FillRule, covered_until, unchanged_until, windows_ahead, zone_of
from steering.control.fill.holdings_rows import Digest, digest_text
from tests.bench.measure import SEED, Report

APPLIANCES = 19_000
ROUND_S = 300.0  # each appliance polls once
CATALOGUE = 100_000
HELD = 20_000
CHANGED = 200  # titles added and as many removed by a night's plan: 1 %
SAMPLE = 200  # appliances whose manifests are built; their mean counts for all
NOW = 1_796_000_000.0
RULE = FillRule(window="02:00-14:00", timezone="Asia/Kolkata")


@dataclasses.dataclass
class Polled:
    """An appliance with the set it holds and the set a new plan gives it, as bits."""

    slot: int
    held: int
    wanted: int
    digest: Digest


class Control:
    """Control's part of a poll, over targets that are bits by a title's index."""

    def __init__(self) -> None:
        ids = [str(80_000_000 + index) for index in range(CATALOGUE)]
        self.ids = Numbered(ids, ids)
        self.index = {name: index for index, name in enumerate(ids)}
        self.bytes = [28_311_552_000] * CATALOGUE
        self.recipes = [f"sha256-{index:064x}" for index in range(CATALOGUE)]
        self.cache = PollCache()

    def rows(self, bits: int) -> Sequence[TitleRow]:
        """Return the rows of a whole set, column by column."""
        mask = mask_of(bits, CATALOGUE)
        columns = [compress(column, mask) for column in (self.ids.items, self.bytes, self.recipes)]
        return list(map(TitleRow, *columns, count(1)))

    def rows_of(self, names: Collection[str]) -> Sequence[TitleRow]:
        return [
            TitleRow(name, self.bytes[index], self.recipes[index], 1) for name in names for index in (self.index[name],)
        ]

    def poll(self, one: Polled, have: str, if_none_match: str, now: float) -> tuple[str, bytes]:
        """Return the ETag and the body of an answer, both empty for a 304."""
        if self.cache.is_unchanged(one.slot, if_none_match, now):
            return "", b""
        windows = windows_ahead(RULE, zone_of(RULE, 72.9), now)
        digest = digest_text(self.ids.digest_after(one.digest, one.held, one.wanted))
        until = covered_until(now)
        outline = Outline(f"c{one.slot}", 31, "7", until, 300, 14_400, windows, RULE.urgent_gbps, (("video", digest),))
        etag = etag_of(outline)
        self.cache.keep(one.slot, etag, unchanged_until(windows, now))
        target = Target(lambda: self.rows(one.wanted), self.rows_of)
        named = read_have([have]) if have else {}
        held = Held(named.get("video", ""), lambda: self.ids.changes(one.held, one.wanted))
        return etag, render(build(outline, {"video": target}, named, {"video": held}))


def bits_of(indexes: Collection[int]) -> int:
    digits = bytearray(b"0") * CATALOGUE
    for index in indexes:
        digits[~index] = 49
    return int(digits, 2)


def appliances(ids: Numbered[str]) -> list[Polled]:
    """Return the sample: each appliance holds another set, and a new plan changes one title in a hundred."""
    rnd = random.Random(SEED)
    result = []
    for slot in range(SAMPLE):
        chosen = rnd.sample(range(CATALOGUE), HELD + CHANGED)
        held = bits_of(chosen[:HELD])
        result.append(Polled(slot, held, bits_of(chosen[CHANGED:]), ids.digest(held)))
    return result


def test_fill_manifest_polls(report: Report) -> None:
    """The share of a core that 19,000 polls in 300 s take: all unchanged, after a new plan, and after a lost base."""
    control = Control()
    sample = appliances(control.ids)
    digests = {one.slot: f"video:{digest_text(one.digest)}" for one in sample}
    began = time.process_time()
    etags = [control.poll(one, digests[one.slot], "", NOW) for one in sample]
    new_plan_s = (time.process_time() - began) / SAMPLE
    assert all(b'"kind":"delta"' in body for _, body in etags)
    seconds = []
    for round_ in range(5):
        began = time.process_time()
        for slot in range(APPLIANCES):
            etag, _ = etags[slot % SAMPLE]
            assert control.poll(sample[slot % SAMPLE], digests[slot % SAMPLE], etag, NOW + round_) == ("", b"")
        seconds.append(time.process_time() - began)
    control.cache.clear()
    began = time.process_time()
    for one in sample:
        assert b'"kind":"full"' in control.poll(one, "", "", NOW)[1]
    full_s = (time.process_time() - began) / SAMPLE
    report.add("fill_manifest_polls_cpu", statistics.median(seconds) / ROUND_S, "cores")
    report.add("fill_manifest_new_plan_cpu", new_plan_s * APPLIANCES / ROUND_S, "cores")
    report.add("fill_manifest_full_ms", 1e3 * full_s, "ms")
