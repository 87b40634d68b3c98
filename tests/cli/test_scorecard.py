"""The command `steering scorecard`, over a small fleet."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from steering.cli import main

SMALL = ("--appliances", "100", "--sessions", "400", "--processes", "1")


def test_a_small_scorecard_has_rows_medians_and_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ("--scenario", "isp_lost", "--players", "greedy", "--players", "steered", "--seeds", "2")
    ran = CliRunner().invoke(main, ["scorecard", *SMALL, *arguments, "--page", str(page), "--json"])
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    assert [(row["players"], row["seed"]) for row in report["rows"]] == [
        ("steered", 1),
        ("steered", 2),
        ("greedy", 1),
        ("greedy", 2),
    ]
    assert [row["players"] for row in report["medians"]] == ["steered", "greedy"]
    assert all(row["cost_ratio"] >= 1 for row in report["rows"])
    text = page.read_text()
    assert text.count("<polyline") == 2
    assert "http" not in text.replace("http-equiv", "")
    assert "isp_lost" in text


WRONG = [
    (("--scenario", "locusts"), "'locusts' is none of the scenarios: friday, live_event,"),
    (("--players", "lazy"), "'lazy' is no kind of players and no baseline: sticky, steered, greedy,"),
    (("--appliances", "5"), "5 is not in the range"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_argument_is_refused(arguments: tuple[str, ...], message: str) -> None:
    ran = CliRunner().invoke(main, ["scorecard", *arguments])
    assert ran.exit_code == 2
    assert message in ran.output.replace("\n", " ")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("steering.simulation.scorecard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    ran = CliRunner().invoke(main, ["scorecard"])
    assert ran.exit_code == 2
    assert "steering[scorecard]" in ran.output
