"""The metrics of all workers for Prometheus: the sums of every `worker.<n>` as text (exposition format 0.0.4).

Any worker can answer for all, because the counters lie in files that each of them maps. Nothing is summed or named
while other requests are answered: only `/metrics` does it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from _fastpath.counters import BOUNDS, PATHS, QUALITY, Counters
from _fastpath.status_words import REASONS
from steering.decision.snapshot import Snapshot
from steering.escape import for_label
from steering.state.folder import worker_files

Samples = Iterable[tuple[Mapping[str, object], float]]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

EVENTS: Final = {
    "handed_over": ("steering_handed_over_total", "requests that the fast_path left to FastAPI"),
    "shed": (
        "steering_shed_total",
        "requests answered with the fallback alone, or 503, because too many were open or pending",
    ),
    "cut_off": ("steering_cut_off_total", "connections closed because the client was too slow"),
    "unreadable": ("steering_unreadable_total", "connections closed because the bytes received were no request"),
    "failed_open": ("steering_failed_open_total", "answers by appliances that are full, unhealthy or stale"),
    "moved": ("steering_moved_total", "steering manifests that move a player from the pathway that it reported"),
    "unread_reports": ("steering_unread_reports_total", "player reports that could not be read, or were too many"),
    "handshakes": ("steering_tls_handshakes_total", "TLS handshakes that ended well"),
    "failed_handshakes": ("steering_tls_failed_handshakes_total", "TLS handshakes that failed or took too long"),
    "refused_certificates": (
        "steering_tls_refused_certificates_total",
        "changes of certificate files that could not be used, so that the old ones serve on",
    ),
    "odd_hints": ("steering_odd_hints_total", "steering requests with hints that could not be read"),
}
GAUGES: Final = {
    "generation": ("steering_generation", "generation of the snapshot that the worker serves"),
    "table": ("steering_table_version", "table that the worker serves"),
    "fleet": ("steering_fleet_version", "fleet that the worker serves"),
    "holdings": ("steering_holdings_version", "holdings that the worker serves, 0 where there are none"),
    "refused": ("steering_snapshot_refused", "1 while the newest files are unusable and the last good ones serve"),
    "connections": ("steering_connections", "open connections"),
    "certificate_expires_at": (
        "steering_tls_certificate_expires_seconds",
        "when the first of the TLS certificates expires, since the epoch; 0 without TLS",
    ),
    "huge_pages": ("steering_table_huge_pages", "1 where the table lies in huge pages"),
}
ATTESTED: Final = QUALITY.index("attested")  # from there on, of appliances alone
REPORTED: Final = {  # the sums of player reports, in the order of QUALITY
    "reports": ("reports_total", "reports of players"),
    "throughputs": ("throughputs_total", "reports with a throughput"),
    "throughput_kbps": ("throughput_kbps_total", "the sum of the reported throughputs, in kbit/s"),
    "bitrates": ("bitrates_total", "reports with a bitrate"),
    "bitrate_kbps": ("bitrate_kbps_total", "the sum of the reported bitrates, in kbit/s"),
    "stalls": ("stalls_total", "reports of a stall"),
    "errors": ("errors_total", "reports of an error"),
    "starts": ("starts_total", "reports of a start-up"),
    "start_ms": ("start_ms_total", "the sum of the durations of start-ups, in milliseconds"),
    "attested": ("attested_total", "viewers with a session tag that we signed, once a minute each"),
    "failing": ("failing_total", "those of them with a stall or an error"),
}


def metrics_text(state: Path, snapshot: Snapshot | None, per_appliance: bool, now: float) -> str:
    """Return the metrics of all workers; first targets by cluster or by appliance, as the snapshot names them."""
    workers, unreadable = read_workers(state)
    return "".join(f"{line}\n" for line in metrics_lines(workers, unreadable, snapshot, per_appliance, now))


def read_workers(state: Path) -> tuple[dict[int, Counters], int]:
    """Return the counters of each worker by number, and how many files could not be read."""
    workers, unreadable = {}, 0
    for number, path in worker_files(state).items():
        try:
            workers[number] = Counters(str(path))
        except (OSError, ValueError):
            unreadable += 1
    return workers, unreadable


def metrics_lines(
    workers: Mapping[int, Counters], unreadable: int, snapshot: Snapshot | None, per_appliance: bool, now: float
) -> Iterator[str]:
    """Yield the lines, a metric after another."""
    counted = workers.values()
    answers = sum((Counter(each.answers()) for each in counted), Counter())
    yield from metric(
        "steering_answers_total",
        "counter",
        "answers by path, endpoint and status",
        ((dict(zip(("path", "endpoint", "status"), key, strict=True)), n) for key, n in sorted(answers.items())),
    )
    yield from latency_lines(counted)
    targets = sum((Counter(each.targets()) for each in counted), Counter())
    rows: Samples = (({"rank": rank}, count) for rank, count in targets.items())
    yield from metric("steering_targets_total", "counter", "targets given, by rank on the ranking", rows)
    for event, (name, meaning) in EVENTS.items():
        yield from metric(name, "counter", meaning, [({}, sum(each.events()[event] for each in counted))])
    reasons = sum((Counter(each.reasons()) for each in counted), Counter())
    rows = (({"reason": letter, "means": REASONS[letter]}, count) for letter, count in reasons.items())
    meaning = "requests that passed an appliance over, by the reason"
    yield from metric("steering_passed_over_total", "counter", meaning, rows)
    yield from lines_of_slots(counted, snapshot, per_appliance)
    yield from gauge_lines(workers, unreadable, now)


def latency_lines(counted: Iterable[Counters]) -> Iterator[str]:
    """Yield the histograms of how long answers took, by path."""
    name = "steering_answer_seconds"
    meaning = "from the last byte of a request to its answer handed to the kernel or the transport"
    yield from metric(name, "histogram", meaning, ())
    for path in PATHS:
        buckets, seconds = [0] * (len(BOUNDS) + 1), 0.0
        for each in counted:
            counts, added = each.latency(path)
            buckets, seconds = [a + b for a, b in zip(buckets, counts, strict=True)], seconds + added
        below = list(itertools.accumulate(buckets))
        for bound, count in zip((*BOUNDS, "+Inf"), below, strict=True):
            yield sample(f"{name}_bucket", {"path": path, "le": bound}, count)
        yield sample(f"{name}_sum", {"path": path}, seconds)
        yield sample(f"{name}_count", {"path": path}, below[-1])


def lines_of_slots(counted: Collection[Counters], snapshot: Snapshot | None, per_appliance: bool) -> Iterator[str]:
    """Yield first targets, and the sums of player reports by the viewers' partner and by appliance or cluster.

    Rows of names that the snapshot does not have are counted together.
    """
    group = "appliance" if per_appliance else "cluster"
    named: Mapping[int, tuple[str, str]] = {}
    partners: Mapping[int, dict[str, Any]] = {}
    if snapshot is not None:
        named = snapshot.names.appliances_by_slot if per_appliance else snapshot.names.clusters_by_slot
        partners = snapshot.names.partners
    first: Counter[tuple[str, str]] = Counter()
    for each in counted:
        for slot, count in each.appliances().items():
            first[named.get(slot, (f"#{slot}" if per_appliance else "", ""))] += count
    rows: Samples = (({group: name, "site": site}, count) for (name, site), count in sorted(first.items()))
    yield from metric("steering_first_targets_total", "counter", f"answers that named the {group} first", rows)

    by_partner = summed(
        ((partners[number]["id"] if number in partners else "",), row)
        for each in counted
        for number, row in each.quality_of_partners().items()
    )
    by_slot = summed(
        (named.get(slot, ("", "")), row) for each in counted for slot, row in each.quality_of_appliances().items()
    )
    for of, sums, shown in (("partner", by_partner, ATTESTED), (group, by_slot, None)):
        for index, (name, meaning) in enumerate(list(REPORTED.values())[:shown]):
            rows = ((dict(zip((of, "site"), key, strict=False)), row[index]) for key, row in sorted(sums.items()))
            yield from metric(f"steering_{of}_player_{name}", "counter", f"by {of}: {meaning}", rows)


def summed(rows: Iterable[tuple[tuple[str, ...], tuple[int, ...]]]) -> dict[tuple[str, ...], list[int]]:
    """Return the sums of rows that have the same labels."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for labels, row in rows:
        sums[labels] = [a + b for a, b in zip(sums.get(labels, (0,) * len(row)), row, strict=True)]
    return sums


def gauge_lines(workers: Mapping[int, Counters], unreadable: int, now: float) -> Iterator[str]:
    """Yield the state of each worker, which is not summed."""
    gauges = {number: each.gauges() for number, each in workers.items()}
    for gauge, (name, meaning) in GAUGES.items():
        yield from metric(
            name, "gauge", meaning, [({"worker": number}, values[gauge]) for number, values in gauges.items()]
        )
    ages: Samples = (
        ({"worker": number}, round(max(now - values["published_at"] / 1000, 0), 3))
        for number, values in gauges.items()
        if values["published_at"]
    )
    meaning = "age of the snapshot that the worker serves, from its publish"
    yield from metric("steering_snapshot_age_seconds", "gauge", meaning, ages)
    begun: Samples = (({"worker": number}, round(each.began_at, 3)) for number, each in workers.items())
    meaning = "when the worker's counts began, since the epoch"
    yield from metric("steering_counting_since_seconds", "gauge", meaning, begun)
    meaning = "files of counters that could not be read"
    yield from metric("steering_workers_unreadable", "gauge", meaning, [({}, unreadable)])


def metric(name: str, metric_type: str, meaning: str, samples: Samples) -> Iterator[str]:
    """Yield the lines of a metric."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {metric_type}"
    for labels, value in samples:
        yield sample(name, labels, value)


def sample(name: str, labels: Mapping[str, object], value: float) -> str:
    """Return the line of one sample."""
    pairs = ",".join(f'{key}="{for_label(str(text))}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}"
