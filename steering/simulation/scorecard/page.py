"""The scorecard as one HTML page without any other file: bars of the cost ratios, and their course over time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Final

from steering.simulation.scorecard.scenarios import LENGTH_S
from steering.simulation.scorecard.show import COLUMNS, cells_of

COLOURS: Final = {
    "sticky": "#1f6f8b",
    "steered": "#c8553d",
    "greedy": "#5b8c5a",
    "ranking": "#8d6a9f",
    "geographic": "#b08d57",
    "random": "#777777",
}
WIDTH: Final = 460
HEIGHT: Final = 180
LEFT: Final = 40
BOTTOM: Final = 24
HIGHEST: Final = 2.5  # of a ratio that is drawn; the numbers stand in the table
STYLE: Final = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:2em;color:#222;background:#fff}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.2em .7em;text-align:right}"
    "td:first-child,td:nth-child(2),th:first-child,th:nth-child(2){text-align:left}tr:nth-child(even){background:#f5f5f5}"
    "figure{display:inline-block;margin:1em 1.5em 1em 0}figcaption{max-width:460px}svg text{font-size:11px;fill:#444}"
)


def page_of(report: dict[str, Any]) -> str:
    """Return the page of a report."""
    figures = "".join(
        figure_of(scenario, [row for row in report["rows"] if row["scenario"] == scenario["name"]])
        for scenario in report["scenarios"]
    )
    heading = "".join(f"<th>{escape(column)}</th>" for column in COLUMNS)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells_of(row))}</tr>" for row in report["medians"]
    )
    facts = f"{report['appliances']:,} appliances, {report['sessions']:,} sessions, seeds {report['seeds']}"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Steering scorecard</title>"
        f"<style>{STYLE}</style><h1>Steering scorecard</h1><p>{escape(facts)}. The cost ratio is the cost of what was "
        "served over the least possible cost: 1 is as good as possible.</p>"
        f"<table><thead><tr>{heading}</tr></thead><tbody>{lines}</tbody></table>"
        f"<h2>Cost ratio over time</h2>{figures}</html>\n"
    )


def figure_of(scenario: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Return the course of the cost ratio in one scenario, of the first seed."""
    seed = rows[0]["seed"]
    drawn = [row for row in rows if row["seed"] == seed]
    lines = "".join(line_of(row) for row in drawn)
    legend = " ".join(
        f'<span style="color:{COLOURS.get(row["players"], "#000")}">&#9632; {escape(row["players"])}</span>'
        for row in drawn
    )
    return (
        f'<figure><svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(scenario["name"])}">'
        f"{axes()}{event_of(scenario['event_s'])}{lines}</svg>"
        f"<figcaption><b>{escape(scenario['name'])}</b>: {escape(scenario['text'])}<br>{legend}</figcaption></figure>"
    )


def x_of(at: float) -> float:
    return LEFT + (WIDTH - LEFT) * at / LENGTH_S


def y_of(ratio: float) -> float:
    return (HEIGHT - BOTTOM) * (1 - (min(ratio, HIGHEST) - 1) / (HIGHEST - 1))


def axes() -> str:
    """Return the grid with its labels."""
    ratios = [1.0, 1.5, 2.0, 2.5]
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y_of(ratio):.1f}" y2="{y_of(ratio):.1f}" stroke="#ddd"/>'
        f'<text x="4" y="{y_of(ratio) + 4:.1f}">{ratio:g}</text>'
        for ratio in ratios
    )
    times = "".join(
        f'<text x="{x_of(at):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{at // 60} min</text>'
        for at in range(180, LENGTH_S, 180)
    )
    return grid + times


def event_of(event_s: float | None) -> str:
    """Return the mark of the scenario's event."""
    if event_s is None:
        return ""
    x = f"{x_of(event_s):.1f}"
    return f'<line x1="{x}" x2="{x}" y1="0" y2="{HEIGHT - BOTTOM}" stroke="#999" stroke-dasharray="3 3"/>'


def line_of(row: dict[str, Any]) -> str:
    """Return one policy's line."""
    points = " ".join(
        f"{x_of(at):.1f},{y_of(ratio):.1f}" for at, ratio in zip(row["at"], row["cost_ratios"], strict=True)
    )
    colour = COLOURS.get(row["players"], "#000")
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
