"""The live screen of the fleet, readable at first sight: alarms first, then the worst clusters.

A frame shows one report of `GET /v1/state` and fits the terminal: rows that do not fit are counted.
"""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from steering.errors import SteeringError
from steering.escape import for_terminal

MOST_ROWS: Final = 100
HEAD_ROWS: Final = 3
FEWEST_CHANGES: Final = 4
SPACIOUS: Final = 20  # a frame of this many lines has blank lines between its parts

SERVING: Final = ("serving", "ramping", "suppressed", "overloaded", "partial")
# States of appliances, worst first, and their colours.
STATES: Final = {
    "unhealthy": "bold red",
    "stale": "red",
    "unknown": "red",
    "suppressed": "bold yellow",
    "partial": "yellow",
    "full": "yellow",
    "overloaded": "yellow",
    "ramping": "cyan",
    "weightless": "dim",
    "maintenance": "blue",
    "draining": "blue",
    "drained": "blue",
    "serving": "green",
}


def watch(look: Callable[[], dict[str, Any]], every_s: float) -> None:
    """Show frame after frame until `q` or Ctrl-C; a failed request is shown and tried again."""
    console = Console(highlight=False)
    report: dict[str, Any] | None = None
    with (
        keys() as pressed,
        Live(console=console, screen=True, auto_refresh=False) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            trouble = ""
            try:
                report = look()
            except SteeringError as error:
                trouble = for_terminal(error.message)
            width, height = console.size
            if report:
                live.update(frame(report, width, height, trouble), refresh=True)
            else:
                live.update(Text(trouble, style="bold red"), refresh=True)
            if pressed(every_s) == "q":
                return


@contextlib.contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """Yield a function that waits some seconds for a key and returns it, empty for none; echo is off meanwhile."""
    if not sys.stdin.isatty():
        yield slept
        return
    before = termios.tcgetattr(sys.stdin)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return sys.stdin.read(1) if ready else ""

    try:
        tty.setcbreak(sys.stdin)
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def slept(seconds: float) -> str:
    """Wait some seconds and return no key: standard input is no terminal."""
    time.sleep(seconds)
    return ""


def frame(report: Mapping[str, Any], width: int, height: int = 0, trouble: str = "") -> RenderableType:
    """Return one frame of this size; with a height of 0, of as many lines as it needs."""
    alarms, worst, changes = report["alarms"], report["worst"], report["changes"]
    rows = share_out(height - HEAD_ROWS - bool(trouble), len(alarms), len(worst), len(changes), height)
    space = [""] if height >= SPACIOUS or not height else []
    parts: list[RenderableType] = [*head_of(report, width, live=bool(height))]
    if trouble:
        parts.append(line(Text(f"not live: {for_terminal(trouble)}", style="bold white on red"), width))
    if alarms:
        parts += [*space, heading("ALARMS", len(alarms), rows[0], "bold red")]
        parts.append(rows_of([alarm_row(row) for row in alarms[: rows[0]]], width))
    parts += [*space, heading("WORST CLUSTERS", report["clusters_hurt"], rows[1])]
    if worst:
        parts.append(worst_table(worst[: rows[1]], width))
    else:
        parts.append(Text("none: every appliance that is not drained serves", style="green"))
    parts += [*space, heading("LAST CHANGES", len(changes), rows[2])]
    if changes:
        parts.append(rows_of([change_row(row) for row in changes[: rows[2]]], width))
    else:
        parts.append(Text("none since control began", style="dim"))
    return Group(*parts)


def share_out(room: int, alarms: int, worst: int, changes: int, height: int) -> tuple[int, int, int]:
    """Return how many rows of alarms, clusters and changes fit; all of them when `height` is 0."""
    if not height:
        return alarms, worst, changes
    heads = 1 + (height >= SPACIOUS)
    room -= 2 * heads + bool(worst) + heads * bool(alarms)
    shown_alarms = min(alarms, max(room // 4, 1))
    room -= shown_alarms
    shown_changes = min(max(changes, 1), max(FEWEST_CHANGES, room - max(worst, 1)))
    shown_worst = min(worst, max(room - shown_changes, 1))
    return shown_alarms, shown_worst, max(min(changes, room - max(shown_worst, 1)), 1)


def head_of(report: Mapping[str, Any], width: int, live: bool) -> Iterator[Text]:
    """Yield the lines of totals."""
    serving = report["serving"]
    versions = f"table {serving['table']}, fleet {serving['fleet']}" if serving else "nothing is published"
    left = Text.assemble(
        ("steering  ", "bold"),
        f"{report['appliances']:,} appliances in {report['clusters']:,} clusters, {versions}",
    )
    yield line(left, width, Text(time.strftime("%H:%M:%S", time.localtime(report["at"]))))
    counts = Text()
    for state, style, count in reversed(list(counted(report["states"]))):
        counts.append(f"{count:,} {state}", style).append("  ")
    yield line(counts, width)
    totals = [f"{report['answers_per_s']:,.0f} answers/s", f"{gbps(report['capacity_gbps'])} capacity"]
    if report["throughput_gbps"]:
        totals[1] = f"{gbps(report['throughput_gbps'])} of {gbps(report['capacity_gbps'])} reported"
    if report["clusters_pressed"]:
        totals.append(f"{report['clusters_pressed']:,} clusters under pressure")
    if report["windows_on"]:
        totals.append(f"{report['windows_on']} window{'s' * (report['windows_on'] > 1)} open")
    yield line(Text("  ".join(totals), style="dim"), width, Text("q exits", style="dim") if live else None)


def counted(states: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Yield (state, colour, count) of the present states, worst first, and before them any state unknown here."""
    for state in (*(states.keys() - STATES.keys()), *STATES):
        if states.get(state):
            yield state, STATES.get(state, "bold magenta"), states[state]


def heading(name: str, count: int, shown: int, style: str = "bold") -> Text:
    """Return the heading of a part, with the number of its rows when not all are shown."""
    return Text.assemble((name, style), (f"  {shown} of {count}" if count > shown else "", "dim"))


def worst_table(worst: list[Mapping[str, Any]], width: int) -> Table:
    """Return the worst clusters: how many appliances serve, their share of answers, and the states of the others."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, width=width, header_style="dim")
    table.add_column("cluster", no_wrap=True, overflow="ellipsis", max_width=max(width // 3, 16))
    table.add_column("site", no_wrap=True, overflow="ellipsis", max_width=max(width // 6, 8))
    table.add_column("serving", justify="right", no_wrap=True)
    table.add_column("answers", justify="right", no_wrap=True)
    table.add_column("others", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in worst:
        serving = sum(row["states"].get(state, 0) for state in SERVING)
        others = Text()
        for state, style, count in counted(row["states"]):
            if state != "serving":
                others.append(f"{count} {state}", style).append(" ")
        if row["pressure"]:
            others.append(f"pressure {row['pressure']:.0%} ", "yellow")
        if row["learned_gbps"] is not None:
            others.append(f"delivers {gbps(row['learned_gbps'])} of {gbps(row['capacity_gbps'])} ", "yellow")
        table.add_row(
            Text(for_terminal(row["cluster"])),
            Text(for_terminal(f"{row['city']} {row['country']}")),
            Text(f"{serving}/{row['appliances']}", style="bold red" if not serving else ""),
            Text(f"{100 * row['share']:.1f} %"),
            others,
        )
    return table


def alarm_row(row: Mapping[str, Any]) -> tuple[Text, Text]:
    """Return the row of an alarm."""
    return clock(row["at"]), Text(for_terminal(row["text"]), style="red")


def change_row(row: Mapping[str, Any]) -> tuple[Text, Text, Text]:
    """Return the row of a change."""
    became = Text.assemble(
        (row["before"], "dim"), " → ", (row["after"], STATES.get(row["after"], "")), f"  {for_terminal(row['why'])}"
    )
    return clock(row["at"]), Text(for_terminal(row["appliance"])), became


def rows_of(rows: Sequence[tuple[Text, ...]], width: int) -> Table:
    """Return rows of a time, in some a name, and a text, which is cut where it does not fit."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, show_header=False, width=width)
    table.add_column(no_wrap=True)
    if len(rows[0]) > 2:
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width // 3, 16))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*row)
    return table


def line(left: Text, width: int, right: Text | None = None) -> Text:
    """Return one line, cut where it does not fit, with something at its right end."""
    left.truncate(width - (len(right) + 1 if right else 0), overflow="ellipsis")
    if right:
        left.append(" " * (width - len(left) - len(right))).append_text(right)
    left.no_wrap = True
    return left


def clock(seconds: float) -> Text:
    """Return a time of today as hours, an older time with its day."""
    local = time.localtime(seconds)
    is_today = local[:3] == time.localtime()[:3]
    return Text(time.strftime("%H:%M:%S" if is_today else "%m-%d %H:%M", local), style="dim")


def gbps(value: float) -> str:
    """Return a rate with its unit."""
    return f"{value / 1000:,.1f} Tbit/s" if value >= 1000 else f"{value:,.0f} Gbit/s"
