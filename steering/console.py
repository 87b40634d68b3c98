"""Output of commands: tables, progress and errors for people, JSON for machines.

Answers go to standard output, progress and errors to standard error, so that a pipe contains answers only.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steering.errors import SteeringError
from steering.escape import for_csv, for_terminal

WIDTH_IN_PIPE: Final = 160  # a pipe has no width, and rich would fold lines at 80

UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
STEP: Final = 1000  # from a unit to the next

AMOUNT: Final = re.compile(rf"(< |[+-])?[0-9.,]+ (%|{'|'.join(UNITS)})")

Progress = Callable[[str], None]
Advance = Callable[[int], None]


def output() -> Console:
    """Return standard output as a console; colours only on a terminal."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_IN_PIPE, highlight=False, soft_wrap=False)


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """Yield a function that takes the name of each step: a moving bar on a terminal, else one line a step."""
    if not sys.stderr.isatty():
        yield lambda step: click.echo(f"… {for_terminal(step)}", err=True)
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None)
        name, began = "", time.monotonic()

        def end_step() -> None:
            if name:
                console.print(Text(f"  ✓ {name} ({time.monotonic() - began:.2f} s)", style="dim"))

        def step(next_name: str) -> None:
            nonlocal name, began
            end_step()
            name, began = for_terminal(next_name), time.monotonic()
            bars.update(task, description=name)

        yield step
        end_step()


@contextlib.contextmanager
def show_bytes(task: str, total: int) -> Iterator[Advance]:
    """Yield a function that takes how many bytes were done: a bar with rate and rest on a terminal, else one line."""
    if not sys.stderr.isatty():
        click.echo(f"… {for_terminal(task)}, {bytes_text(total)}", err=True)
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True, highlight=False)
    with Bars(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        bar = bars.add_task(for_terminal(task), total=total)
        yield lambda count: bars.advance(bar, count)


def print_json(report: Any) -> None:
    """Print a report as one JSON document."""
    click.echo(json_text(report))


def json_text(report: Any) -> str:
    """Return a report as JSON on several lines; where a text has a hidden character, all but ASCII is escaped."""
    text = json.dumps(report, ensure_ascii=False, indent=2)
    return text if text.replace("\n", "").isprintable() else json.dumps(report, indent=2).replace("\x7f", "\\u007f")


def print_error(error: SteeringError, as_json: bool) -> None:
    """Print an error and its hint."""
    if as_json:
        document = {"error": type(error).__name__, "detail": error.message}
        click.echo(json_text(document | ({"hint": error.hint} if error.hint else {})), err=True)
        return
    click.echo(click.style("error: ", fg="red", bold=True) + for_terminal(error.message, lines=True), err=True)
    if error.hint:
        click.echo(click.style("hint:  ", fg="cyan") + for_terminal(error.hint, lines=True), err=True)


def print_done(text: str) -> None:
    """Print that something is done."""
    click.echo(click.style(for_terminal(text), fg="green"))


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings, one a line."""
    for warning in warnings:
        click.echo(click.style("warning: ", fg="yellow") + for_terminal(warning), err=True)


def print_title(title: str) -> None:
    """Print the title of a table, after an empty line. (rich would fold it to the width of the table.)"""
    click.echo("\n" + click.style(title, bold=True))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print rows under their columns, numbers and shares to the right; an empty line stands before a title."""
    from rich.box import SIMPLE_HEAD

    listed = [["" if value is None else value for value in row] for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    if title:
        print_title(title)
    for index, column in enumerate(columns):
        is_number = bool(listed) and all(is_amount(row[index]) for row in listed)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text(for_terminal(shown(value))) for value in row))
    output().print(table)


def table_of(
    *columns: str | tuple[str, str | Callable[[Any], Any]], empty: str = ""
) -> Callable[[Sequence[Any]], None]:
    """Return the function that prints rows as a table, or prints `empty` where there are none.

    A column is a key of the rows, or a heading with a key or with a function of a row.
    """
    pairs = [(column, column) if isinstance(column, str) else column for column in columns]

    def show(rows: Sequence[Any]) -> None:
        if empty and not rows:
            click.echo(empty)
        else:
            listed = [[row[field] if isinstance(field, str) else field(row) for _, field in pairs] for row in rows]
            print_table([heading for heading, _ in pairs], listed)

    return show


def time_of(key: str) -> Callable[[Mapping[str, Any]], str | None]:
    """Return the function that returns the time under a key of a row, None where it is empty."""
    return lambda row: time_text(row[key]) if row[key] else None


def is_amount(value: Any) -> bool:
    """Return whether a field is a number, a share, a size, or empty."""
    return isinstance(value, int | float) or value == "" or (isinstance(value, str) and bool(AMOUNT.fullmatch(value)))


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV, for spreadsheets and scripts."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([for_csv(value) for value in row] for row in rows)


def print_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one pair a line, without values that are None or empty."""
    kept = [(name, value) for name, value in facts if value not in (None, "", [])]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        click.echo(click.style(f"{name:<{width}}  ", dim=True) + for_terminal(shown(value)))


def shown(value: Any) -> str:
    """Return a value as people read it: digits in groups, lists with commas, yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return str(value)


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else "< 0.1 %"


def bytes_text(count: float) -> str:
    """Return a number of bytes with three digits and its decimal unit, as disks are sold: 6.50 TB."""
    power = 0
    while power < len(UNITS) - 1 and count >= STEP - 0.5:
        count, power = count / STEP, power + 1
    whole = power == 0 or count == int(count)
    digits = 0 if whole else max(0, 3 - len(str(int(count))))
    return f"{count:.{digits}f} {UNITS[power]}"


def shortened(text: str, most: int = 60) -> str:
    """Return a text, cut after this many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def time_text(seconds: float) -> str:
    """Return a time since 1970 as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
