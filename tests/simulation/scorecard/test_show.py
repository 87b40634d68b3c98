"""The scorecard as people read it, as a table and as a page."""

from __future__ import annotations

from typing import Any

import pytest

from steering.simulation.scorecard.page import page_of
from steering.simulation.scorecard.show import cells_of, show_parts, show_scorecard

MEDIAN: dict[str, Any] = {
    "scenario": "isp_lost",
    "players": "steered",
    "cost_ratio": 1.6543,
    "rank_0": 0.7123,
    "rank_0_of_oracle": 0.8,
    "fallback": 0.09876,
    "fallback_of_oracle": 0.0,
    "not_delivered": 0.0123,
    "overload_appliance_s": 1234,
    "distance_km": 1517.3,
    "moves_per_session_hour": 51.234,
    "unfairness": 1.234,
    "settled_s": 90,
    "bad_first_targets": 0.0333,
}
REPORT = {
    "appliances": 2000,
    "sessions": 150_000,
    "seeds": [1],
    "scenarios": [{"name": "isp_lost", "text": "all appliances of <one> ISP are lost", "event_s": 30}],
    "rows": [{**MEDIAN, "seed": 1, "at": [0, 30, 60], "cost_ratios": [1.1, 1.7, 9.0]}],
    "medians": [MEDIAN],
}


def test_a_row_has_the_figures() -> None:
    assert cells_of(MEDIAN)[2:] == [
        *("1.654", "0.71", "0.80", "9.88 %", "0.00 %", "1.23 %", "1234 s", "1517", "51.23", "1.23", "90 s", "3.33 %")
    ]
    assert cells_of(MEDIAN | {"settled_s": None})[-2] == ""


def test_the_table_names_its_size_and_its_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    show_scorecard(REPORT)
    output = capsys.readouterr().out
    assert "2,000 appliances, 150,000 sessions at capacity, one seed" in output
    assert "1.654" in output
    assert "all appliances of <one> ISP are lost" in output


def test_each_part_is_a_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with show_parts(3) as tell:
        tell("friday, sticky", 1)
    assert capsys.readouterr().err == "… friday, sticky (1 of 3)\n"


def test_the_page_draws_each_line_and_escapes_texts() -> None:
    page = page_of(REPORT)
    assert page.count("<polyline") == 1
    assert 'points="40.0,145.6 66.2,83.2 92.5,0.0"' in page  # a ratio above the highest is drawn at the top
    assert "&lt;one&gt;" in page
    assert "1.654" in page
    assert "src=" not in page
