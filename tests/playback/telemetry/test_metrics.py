"""The collector: all workers summed up in text that Prometheus reads, and the board that asks for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from _fastpath.counters import BOUNDS, Counters
from _fastpath.status_words import DISABLED, StatusWords
from steering.decision.snapshot import Snapshot
from steering.playback.telemetry.metrics import metrics_text, sample

ROOT = Path(__file__).parents[3]
NOW = 1_800_000_000.0

# Prometheus text exposition 0.0.4: a name, maybe labels in quotes, a number.
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? ([0-9.e+-]+)')


def read(text: str) -> dict[str, dict[str, float]]:
    """Return {metric: {labels: value}}; AssertionError where a line is not of the format, or a family is split."""
    found: dict[str, dict[str, float]] = {}
    kinds: dict[str, str] = {}
    family = ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in kinds, f"{family} twice"
        elif line.startswith("# TYPE "):
            _, _, name, kinds[family] = line.split()
            assert name == family
            assert kinds[name] in ("counter", "gauge", "histogram")
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1].removeprefix(family) in ("", "_bucket", "_sum", "_count"), line
            assert kinds[family] == "histogram" or match[1] == family
            assert (match[2] or "") not in found.setdefault(match[1], {}), f"{line} twice"
            found[match[1]][match[2] or ""] = float(match[3])
    return found


@pytest.fixture
def state(tmp_path: Path, snapshot: Snapshot) -> Path:
    """Return a folder in which two workers counted, while one appliance was drained."""
    weights = StatusWords(str(snapshot.state / snapshot.current.status), writable=True)
    weights.set_word(7, weights.word(7) | DISABLED)
    for number in (1, 2):
        counters = Counters(str(tmp_path / f"worker.{number}"), 8, writable=True)
        for _ in range(number):
            counters.note("steer", 200, 0.0004)
        counters.note("other", 404, 2.0)
        counters.note_event("handed_over")
        snapshot.steer("203.0.113.7", "t", service="video", n=8, counters=counters)
        counters.set_gauge("table", 40 + number)
        counters.set_gauge("published_at", round(NOW * 1000) - 5000 * number)
    return tmp_path


def test_all_workers_are_summed_up_and_gauges_are_each_ones_own(state: Path) -> None:
    found = read(metrics_text(state, None, False, NOW))
    assert found["steering_answers_total"] == {
        'path="fallback",endpoint="other",status="404"': 2,
        'path="fallback",endpoint="steer",status="200"': 3,
    }
    ranks = {"0": 4, "1": 4, "2": 4, "3": 2, "fallback": 2}
    assert found["steering_targets_total"] == {f'rank="{rank}"': count for rank, count in ranks.items()}
    assert found["steering_passed_over_total"] == {'reason="D",means="disabled or draining"': 2}
    assert found["steering_handed_over_total"] == {"": 2}
    assert found["steering_table_version"] == {'worker="1"': 41, 'worker="2"': 42}
    assert found["steering_snapshot_age_seconds"] == {'worker="1"': 5, 'worker="2"': 10}
    assert found["steering_workers_unreadable"] == {"": 0}


def test_what_players_report_is_told_by_partner_and_by_cluster_or_appliance(state: Path, snapshot: Snapshot) -> None:
    for number in (1, 2):
        counters = Counters(str(state / f"worker.{number}"), 8, writable=True)
        counters.note_report(0, 1, 10, True, False, 3000, 500, 800)
        counters.note_report(1, 7, 1, False, True)
        counters.note_report(-1, 0, 1, False, False)
        counters.note_attested(1, False)
    found = read(metrics_text(state, snapshot, False, NOW))
    assert found["steering_partner_player_reports_total"] == {'partner=""': 4, 'partner="as64500"': 20}
    assert found["steering_cluster_player_reports_total"] == {
        'cluster="",site=""': 2,
        'cluster="bom001-a",site="bom001"': 22,
    }
    home = 'cluster="bom001-a",site="bom001"'
    figures = {name.removeprefix("steering_cluster_player_"): of.get(home) for name, of in found.items()}
    figures = {name: count for name, count in figures.items() if not name.startswith("steering_")}
    assert figures == {
        "reports_total": 22,
        "throughputs_total": 20,
        "throughput_kbps_total": 60_000,
        "bitrates_total": 20,
        "bitrate_kbps_total": 10_000,
        "stalls_total": 20,
        "errors_total": 2,
        "starts_total": 20,
        "start_ms_total": 16_000,
        "attested_total": 2,
        "failing_total": 0,
    }
    found = read(metrics_text(state, snapshot, True, NOW))
    assert found["steering_appliance_player_errors_total"]['appliance="c002-bom001",site="bom001"'] == 2
    assert found["steering_partner_player_stalls_total"]['partner="as64500"'] == 20


def test_first_targets_are_told_by_cluster_and_where_it_is_wished_by_appliance(state: Path, snapshot: Snapshot) -> None:
    found = read(metrics_text(state, snapshot, False, NOW))["steering_first_targets_total"]
    assert found == {'cluster="bom001-a",site="bom001"': 2}
    found = read(metrics_text(state, snapshot, True, NOW))["steering_first_targets_total"]
    (label,) = found
    assert re.fullmatch('appliance="c00[12]-bom001",site="bom001"', label)
    assert read(metrics_text(state, None, False, NOW))["steering_first_targets_total"] == {'cluster="",site=""': 2}


def test_the_histogram_is_cumulative_and_ends_with_all(state: Path) -> None:
    found = read(metrics_text(state, None, False, NOW))
    buckets = found["steering_answer_seconds_bucket"]
    values = [buckets[f'path="fallback",le="{bound}"'] for bound in (*BOUNDS, "+Inf")]
    assert values == sorted(values)
    assert values[-1] == found["steering_answer_seconds_count"]['path="fallback"'] == 5
    assert buckets['path="fallback",le="0.0005"'] == 3
    assert found["steering_answer_seconds_sum"]['path="fallback"'] == pytest.approx(4.0012)


def test_a_file_that_cannot_be_read_is_counted_and_the_others_are_told(state: Path) -> None:
    (state / "worker.2").write_bytes(b"x")
    (state / "worker.old").write_bytes(b"not one")
    found = read(metrics_text(state, None, False, NOW))
    assert found["steering_workers_unreadable"] == {"": 1}
    assert found["steering_table_version"] == {'worker="1"': 41}


def test_no_worker_at_all_is_still_text(tmp_path: Path) -> None:
    assert read(metrics_text(tmp_path, None, False, NOW))["steering_workers_unreadable"] == {"": 0}


def test_labels_are_escaped() -> None:
    assert sample("x", {"title": 'a"b\\c\nd\x9b\u202e'}, 1) == r'x{title="a\"b\\c\nd��"} 1'


def test_the_board_asks_for_nothing_that_is_not_told(state: Path) -> None:
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    told = set(re.findall(r"^# TYPE (\S+)", metrics_text(state, None, False, NOW), re.MULTILINE))
    targets = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    asked = {name for expression in targets for name in re.findall(r"steering_[a-z_]+", expression)}
    assert {re.sub("_(bucket|sum|count)$", "", name) if name not in told else name for name in asked} <= told
    assert len(targets) >= 8
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
