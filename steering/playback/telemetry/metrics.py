"""The metrics of all workers for Prometheus: the sums of every `worker.<n>` as text (exposition format 0.0.4).

Any worker can answer for all, because the counters lie in files that each of them maps. Nothing is summed or named
while other requests are answered: only `/metrics` does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from _fastpath.counters import BOUNDS, PATHS, QUALITY, Counters
from _fastpath.status_words import REASONS
from steering.decision.snapshot import Snapshot
from steering.escape import for_label
from steering.state.folder import worker_files

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
    "odd_hints": ("steering_odd_hints_total", "steering requests with hints that could not be read"),
}
GAUGES: Final = {
    "generation": ("steering_generation", "generation of the snapshot that the worker serves"),
    "table": ("steering_table_version", "table that the worker serves"),
    "fleet": ("steering_fleet_version", "fleet that the worker serves"),
    "holdings": ("steering_holdings_version", "holdings that the worker serves, 0 where there are none"),
    "refused": ("steering_snapshot_refused", "1 while the newest files are unusable and the last good ones serve"),
    "connections": ("steering_connections", "open connections"),
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
    answers: Counter[Any] = Counter()
    for each in counted:
        answers.update(each.answers())
    yield from about("steering_answers_total", "counter", "answers by path, endpoint and status")
    for (path, endpoint, status), count in sorted(answers.items()):
        yield sample("steering_answers_total", count, path=path, endpoint=endpoint, status=status)
    yield from latency_lines(counted)
    yield from about("steering_targets_total", "counter", "targets given, by rank on the ranking")
    for rank, count in sum((Counter(each.targets()) for each in counted), Counter()).items():
        yield sample("steering_targets_total", count, rank=rank)
    for event, (name, meaning) in EVENTS.items():
        yield from about(name, "counter", meaning)
        yield sample(name, sum(each.events()[event] for each in counted))

    yield from about("steering_passed_over_total", "counter", "requests that passed an appliance over, by the reason")
    for letter, count in sum((Counter(each.reasons()) for each in counted), Counter()).items():
        yield sample("steering_passed_over_total", count, reason=letter, means=REASONS[letter])

    group = "appliance" if per_appliance else "cluster"
    yield from about("steering_first_targets_total", "counter", f"answers that named the {group} first")
    for (name, site), count in sorted(first_targets(counted, snapshot, per_appliance).items()):
        yield sample("steering_first_targets_total", count, **{group: name, "site": site})

    quality = {"partner": quality_of_partners(counted, snapshot), group: quality_of(counted, snapshot, per_appliance)}
    for of, rows in quality.items():
        for index, (name, meaning) in enumerate(REPORTED.values()):
            if of == "partner" and index >= ATTESTED:
                continue
            metric = f"steering_{of}_player_{name}"
            yield from about(metric, "counter", f"by {of}: {meaning}")
            for labels, sums in sorted(rows.items()):
                yield sample(metric, sums[index], **dict(zip((of, "site"), labels, strict=False)))

    yield from gauge_lines(workers, unreadable, now)


def latency_lines(counted: Iterable[Counters]) -> Iterator[str]:
    """Yield the histograms of how long answers took, by path."""
    yield from about(
        "steering_answer_seconds",
        "histogram",
        "from the last byte of a request to its answer handed to the kernel or the transport",
    )
    for path in PATHS:
        buckets, seconds = [0] * (len(BOUNDS) + 1), 0.0
        for each in counted:
            counts, added = each.latency(path)
            buckets, seconds = [a + b for a, b in zip(buckets, counts, strict=True)], seconds + added
        below = 0
        for bound, count in zip((*BOUNDS, "+Inf"), buckets, strict=True):
            below += count
            yield sample("steering_answer_seconds_bucket", below, path=path, le=bound)
        yield sample("steering_answer_seconds_sum", seconds, path=path)
        yield sample("steering_answer_seconds_count", below, path=path)


def gauge_lines(workers: Mapping[int, Counters], unreadable: int, now: float) -> Iterator[str]:
    """Yield the state of each worker, which is not summed."""
    gauges = {number: each.gauges() for number, each in workers.items()}
    for gauge, (name, meaning) in GAUGES.items():
        yield from about(name, "gauge", meaning)
        for number, values in gauges.items():
            yield sample(name, values[gauge], worker=number)
    yield from about(
        "steering_snapshot_age_seconds", "gauge", "age of the snapshot that the worker serves, from its publish"
    )
    for number, values in gauges.items():
        if values["published_at"]:
            age_s = round(max(now - values["published_at"] / 1000, 0), 3)
            yield sample("steering_snapshot_age_seconds", age_s, worker=number)
    yield from about("steering_counting_since_seconds", "gauge", "when the worker's counts began, since the epoch")
    for number, each in workers.items():
        yield sample("steering_counting_since_seconds", round(each.began_at, 3), worker=number)
    yield from about("steering_workers_unreadable", "gauge", "files of counters that could not be read")
    yield sample("steering_workers_unreadable", unreadable)


def first_targets(
    workers: Iterable[Counters], snapshot: Snapshot | None, per_appliance: bool
) -> Counter[tuple[str, str]]:
    """Return how many answers named an appliance, or one of a cluster, first, by its (id, site)."""
    named: Mapping[int, tuple[str, str]] = {}
    if snapshot is not None:
        named = snapshot.names.appliances_by_slot if per_appliance else snapshot.names.clusters_by_slot
    found: Counter[tuple[str, str]] = Counter()
    for each in workers:
        for slot, count in each.appliances().items():
            found[named.get(slot, (f"#{slot}" if per_appliance else "", ""))] += count
    return found


def quality_of(
    workers: Iterable[Counters], snapshot: Snapshot | None, per_appliance: bool
) -> dict[tuple[str, ...], list[int]]:
    """Return the sums of player reports by the (id, site) of the appliance or cluster; ("", "") for any other host."""
    named: Mapping[int, tuple[str, str]] = {}
    if snapshot is not None:
        named = snapshot.names.appliances_by_slot if per_appliance else snapshot.names.clusters_by_slot
    return summed(
        (named.get(slot, ("", "")), row) for each in workers for slot, row in each.quality_of_appliances().items()
    )


def quality_of_partners(workers: Iterable[Counters], snapshot: Snapshot | None) -> dict[tuple[str, ...], list[int]]:
    """Return the sums of player reports by the id of the viewers' partner; empty for viewers of none."""
    partners = snapshot.names.partners if snapshot is not None else {}
    rows = ((number, row) for each in workers for number, row in each.quality_of_partners().items())
    return summed(((partners[number]["id"] if number in partners else "",), row) for number, row in rows)


def summed(rows: Iterable[tuple[tuple[str, ...], tuple[int, ...]]]) -> dict[tuple[str, ...], list[int]]:
    """Return the sums of rows that have the same labels."""
    found: dict[tuple[str, ...], list[int]] = {}
    for labels, row in rows:
        found[labels] = [a + b for a, b in zip(found.get(labels, (0,) * len(row)), row, strict=True)]
    return found


def about(name: str, metric_type: str, meaning: str) -> tuple[str, str]:
    """Return the two lines before a metric's samples."""
    return f"# HELP {name} {meaning}", f"# TYPE {name} {metric_type}"


def sample(name: str, value: float, **labels: object) -> str:
    """Return one sample."""
    pairs = ",".join(f'{key}="{for_label(str(text))}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}"
