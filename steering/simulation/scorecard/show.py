"""The scorecard for people: progress while it runs, and one table, with medians over the seeds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from steering import console
from steering.simulation.scorecard.run import Show

COLUMNS: Final = (
    *("scenario", "players", "cost ratio", "rank 0", "(oracle)", "fallback", "(oracle)", "not delivered"),
    *("overload", "km", "moves an hour", "unfair", "settled", "bad first"),
)


@contextlib.contextmanager
def show_parts(parts: int) -> Iterator[Show]:
    """Give a function that shows which part is done: as a bar on a terminal, otherwise a line for each part."""
    if not sys.stderr.isatty():
        yield lambda part, number: click.echo(f"… {part} ({number} of {parts})", err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bars:
        task = bars.add_task("", total=parts)
        yield lambda part, number: bars.update(task, description=part, completed=number)


def show_nothing(_: str, __: int) -> None:
    """Show nothing: for machines."""


def show_scorecard(report: dict[str, Any]) -> None:
    """Print the table."""
    seeds = len(report["seeds"])
    title = f"{report['appliances']:,} appliances, {report['sessions']:,} sessions at capacity"
    console.print_table(
        COLUMNS,
        [cells_of(row) for row in report["medians"]],
        f"{title}, {'one seed' if seeds == 1 else f'medians of {seeds} seeds'}",
    )
    console.print_facts((scenario["name"], scenario["text"]) for scenario in report["scenarios"])


def cells_of(row: dict[str, Any]) -> list[Any]:
    """Return the cells of a row of medians."""
    settled = row["settled_s"]
    return [
        row["scenario"],
        row["players"],
        f"{row['cost_ratio']:.3f}",
        f"{row['rank_0']:.2f}",
        f"{row['rank_0_of_oracle']:.2f}",
        share_text(row["fallback"]),
        share_text(row["fallback_of_oracle"]),
        share_text(row["not_delivered"]),
        f"{row['overload_appliance_s']:.0f} s",
        f"{row['distance_km']:.0f}",
        f"{row['moves_per_session_hour']:.2f}",
        f"{row['unfairness']:.2f}",
        "" if settled is None else f"{settled:.0f} s",
        share_text(row["bad_first_targets"]),
    ]


def share_text(share: float) -> str:
    """Return a share in per cent with two digits: a tenth of a per cent matters here."""
    return f"{100 * share:.2f} %"
