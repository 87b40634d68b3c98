"""A drill as people read it."""

from __future__ import annotations

import dataclasses

import pytest

from steering.simulation.drill import Figures
from steering.simulation.measure import Row
from steering.simulation.show import show_figures, show_play, show_rows

QUIET = Row(
    *("quiet", 40.0, 1000, 0, {"0": 0.98, "1": 0.015, "fallback": 0.005}, {"H": 0.02, "F": 0.0001}),
    *(0.0, 0, 1.12, 0.7, 0.25, 3, 0, 0, [], None, None),
)
SITE = dataclasses.replace(
    QUIET, fault="site", out=12, alarms=["cluster_down"], acted_s=31.0, recovered_s=9.6, wrong=["not all were back"]
)
FIGURES = Figures(20_000, 1, 7, 30_000, 0.31, 0.2, 0.002, 0.049, (100 << 20, 101 << 20), (200 << 20, 201 << 20))


def test_a_line_shows_the_figures_and_the_broken_promises(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([QUIET, SITE])
    head, _, quiet, site = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head[0] == "rank"
    assert quiet == ["quiet", "98.0", "%", "1.5", "%", "0.5", "%", "H", "2.0", "%", "1.12", "0.25", "0", "0", "ok"]
    assert site[-10:] == ["12", "0", "31", "s", "10", "s", "not", "all", "were", "back"]


def test_the_cost_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_figures(FIGURES, [QUIET, SITE])
    output = capsys.readouterr().out
    assert "30,000, 0 failed" in output
    assert "20,000, 1 failed, at most 7 queued" in output
    assert "31 % of a core, 100 MiB at the start, 101 MiB at the end" in output
    assert "p50 2 ms p99 49 ms" in output
    assert "cluster_down" in output


def test_each_part_is_shown_once_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with show_play(10.0) as progress:
        for now, part in enumerate(("quiet", "quiet", "site")):
            progress(part, float(now))
    assert capsys.readouterr().err == "… quiet\n… site\n"
