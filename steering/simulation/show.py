"""The result of a drill for people: a line for each fault, and the cost."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence

import click

from steering import console
from steering.simulation.drill import Figures, Show
from steering.simulation.measure import Row

COLUMNS = "|rank 0|next|fallback|passed over|overload|switches|out|suppressed|acts|heals|verdict"


@contextlib.contextmanager
def show_play(length_s: float) -> Iterator[Show]:
    """Give a function that shows the current part and time: as a bar on a terminal, otherwise a line for each part."""
    if not sys.stderr.isatty():
        shown = ""

        def show(part: str, _: float) -> None:
            nonlocal shown
            if part != shown:
                click.echo(f"… {part}", err=True)
            shown = part

        yield show
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bars:
        task = bars.add_task("", total=length_s)
        yield lambda part, now: bars.update(task, description=part, completed=now)


def show_nothing(_: str, __: float) -> None:
    """Show nothing: for machines."""


def show_rows(rows: Sequence[Row]) -> None:
    """Print a line for each part."""
    console.print_table(
        COLUMNS.split("|"),
        [
            (
                row.fault,
                console.percent(row.ranks.get("0", 0.0)),
                console.percent(sum(share for rank, share in row.ranks.items() if rank not in ("0", "fallback"))),
                console.percent(row.ranks.get("fallback", 0.0)),
                shares_text(row.reasons),
                f"{row.overload:.2f}",
                f"{row.switches:.2f}",
                row.out,
                row.suppressed,
                seconds_text(row.acted_s),
                seconds_text(row.recovered_s) if row.out or row.suppressed or row.alarms else "",
                "; ".join(row.wrong) or "ok",
            )
            for row in rows
        ],
    )


def shares_text(shares: Mapping[str, float]) -> str:
    """Return reasons with their shares, the largest first."""
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return " ".join(f"{letter} {console.percent(share)}" for letter, share in ordered if share >= 0.001)


def seconds_text(seconds: float | None) -> str:
    """Return a duration as text."""
    return "" if seconds is None else f"{seconds:.0f} s"


def show_figures(figures: Figures, rows: Sequence[Row]) -> None:
    """Print the cost of a drill."""
    reflected = figures.report_to_answer_p50_s, figures.report_to_answer_p99_s
    sizes = (figures.control_bytes, figures.workers_bytes)
    alarms = sorted({alarm for row in rows for alarm in row.alarms})
    queued = f"at most {figures.reports_waiting} queued"
    times = (f"{name} {1000 * s:.0f} ms" for name, s in zip(("p50", "p99"), reflected, strict=True) if s)
    console.print_facts(
        [
            ("requests", f"{figures.requests:,}, {sum(row.failed for row in rows)} failed"),
            ("reports", f"{figures.reports:,}, {figures.reports_failed} failed, {queued}"),
            ("control", f"{100 * figures.control_cpu:.0f} % of a core, {sizes_text(sizes[0])}"),
            ("workers", f"{100 * figures.workers_cpu:.0f} % of a core, {sizes_text(sizes[1])}"),
            ("report to answer", " ".join(times)),
            ("alarms", ", ".join(alarms)),
        ]
    )


def sizes_text(sizes: tuple[int, int]) -> str:
    """Return memory at the start and at the end."""
    return f"{sizes[0] >> 20} MiB at the start, {sizes[1] >> 20} MiB at the end"
