"""Replay: what was answered is answered the same again, and what is different is told."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import random
from pathlib import Path

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from _fastpath.hashing import content_key_of
from _fastpath.holdings_builder import HoldingsBuilder
from _fastpath.ranking import Trace
from _fastpath.status_words import DISABLED, HELD_BACK, PACE, StatusWords
from steering.cli import main
from steering.decision.replay import replay
from steering.decision.snapshot import Snapshot
from steering.playback.telemetry.decision_log import decision_of
from steering.settings import read_settings
from steering.state.current import read_current, write_current
from steering.state.decision_log import BYTE_ORDER, HEADER, MAGIC, Decision, encode, log_files, read_decisions
from steering.state.holdings import write_holdings
from tests.support.processes import Served, serving

ADDRESSES = ("203.0.113.7", "203.0.1.1", "198.51.100.9", "2001:db8::7", "8.8.8.8", "2a00::1")


@pytest.fixture
def decisions(snapshot: Snapshot) -> list[Decision]:
    """Return records of real answers, some made while an appliance was drained."""
    weights = StatusWords(str(snapshot.state / snapshot.current.status), writable=True)
    result = []
    for place, address in enumerate(ADDRESSES):
        weights.set_word(place, weights.word(place) | DISABLED)
        for n in range(1, 9):
            packed, trace = ipaddress.ip_address(address).packed, Trace()
            snapshot.steer(packed, f"title {n}", service="video", n=n, trace=trace)
            result.append(decision_of(1.0, snapshot, packed, "video", n, 0, trace))
        weights.set_word(place, weights.word(place) & ~DISABLED)
    return result


def test_every_answer_is_the_same_again_whatever_the_weights_are_now(
    decisions: list[Decision], snapshot: Snapshot
) -> None:
    result = replay(snapshot.state, decisions)
    assert (result.answers, result.different, result.missing) == (48, 0, {})


def test_picks_by_holdings_and_popularity_are_replayed_with_the_holdings_of_that_time(
    state_folder: Path,
) -> None:
    weights = StatusWords(str(state_folder / "status.1"), writable=True)
    result = []
    for version in (1, 2):
        builder = HoldingsBuilder(None, [("video", f"title {number}") for number in range(8)])
        for cluster in range(4):
            builder.set_cluster(
                cluster,
                [2 * cluster, 2 * cluster + 1],
                [{"video"}, {"video"}],
                [bytes([0x55 * version & 0xFF]), b"\xf0"],
            )
        current = read_current(state_folder)
        write_current(
            state_folder, dataclasses.replace(current, holdings=write_holdings(state_folder, version, builder))
        )
        snapshot = Snapshot.map(state_folder)
        weights.set_hot({content_key_of("video", "title 1"): 4 * version})
        for place, address in enumerate(ADDRESSES):
            for n in range(1, 9):
                packed, trace = ipaddress.ip_address(address).packed, Trace()
                snapshot.steer(packed, f"title {n}", service="video", n=n, session="me" * (place % 2), trace=trace)
                result.append(decision_of(1.0, snapshot, packed, "video", n, 0, trace))
    assert {decision.holdings for decision in result} == {1, 2}
    weights.set_hot({})
    report = replay(state_folder, result)
    assert (report.answers, report.different, report.missing) == (96, 0, {})
    swapped = [msgspec.structs.replace(decision, holdings=3 - decision.holdings) for decision in result]
    assert replay(state_folder, swapped).different > 20


def test_answers_under_pressure_are_replayed(snapshot: Snapshot) -> None:
    words = StatusWords(str(snapshot.state / snapshot.current.status), writable=True)
    rnd = random.Random(8)
    result, by_price, fallbacks = [], 0, 0
    for address in ADDRESSES * 4:
        for _, _, members in snapshot.fleet_file.members():
            pace = rnd.choice((0, 0, 64, 80, 120, 255))
            for slot in snapshot.fleet_file.slots[members.start : members.stop]:
                words.set_word(slot, words.word(slot) & ~PACE | pace * HELD_BACK)
        for n in range(1, 9):
            packed, trace = ipaddress.ip_address(address).packed, Trace()
            snapshot.steer(packed, f"title {n}", service="video", n=n, trace=trace)
            result.append(decision_of(1.0, snapshot, packed, "video", n, 0, trace))
            by_price += trace.by_price
            fallbacks += not result[-1].picks
    report = replay(snapshot.state, result)
    assert (report.answers, report.different, report.missing) == (192, 0, {})
    assert by_price > 100
    assert fallbacks > 0


def test_another_word_is_another_answer(decisions: list[Decision], snapshot: Snapshot) -> None:
    changed = []
    for decision in decisions:
        (first, _), *_ = decision.picks
        words = tuple((slot, word | DISABLED if slot == first else word) for slot, word in decision.candidates)
        changed.append(msgspec.structs.replace(decision, candidates=words))
    result = replay(snapshot.state, changed)
    assert result.different == result.first_moved == 48
    assert result.differences[0]["recorded"] != result.differences[0]["replayed"]


def test_versions_that_are_gone_are_named_and_are_no_difference(decisions: list[Decision], snapshot: Snapshot) -> None:
    gone = [msgspec.structs.replace(decision, table=9) for decision in decisions]
    result = replay(snapshot.state, [*gone, decisions[0], msgspec.structs.replace(decisions[0], service="games")])
    assert (result.answers, result.different) == (1, 0)
    assert result.missing == {
        "table.9: No such file or directory": 48,
        "parameter service = 'games': there is no such service": 1,
    }


def run(*arguments: str, code: int = 0) -> str:
    """Return what the command prints."""
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def write(path: Path, decisions: list[Decision]) -> Path:
    path.write_bytes(HEADER.pack(MAGIC, BYTE_ORDER) + b"".join(map(encode, decisions)))
    return path


def test_the_files_of_a_folder_are_taken_in_their_order(tmp_path: Path) -> None:
    for name in ("decisions.2.1", "decisions.1.10", "decisions.1.9", "other"):
        (tmp_path / name).touch()
    assert [path.name for path in log_files([tmp_path, tmp_path / "other"])] == [
        "decisions.1.9", "decisions.1.10", "decisions.2.1", "other",
    ]  # fmt: skip


def test_a_service_that_logs_everything_is_replayed_without_a_difference(served: Served, tmp_path: Path) -> None:
    served.process.terminate()
    served.process.communicate()
    log = tmp_path / "log"
    options = {
        "STEERING_DECISION_LOG": str(log),
        "STEERING_DECISION_SAMPLE": "2",
        "STEERING_DECISION_TITLES": "watched",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in options.items():
            patch.setenv(name, value)
        with serving(served.state) as logging:
            for title in range(60):
                logging.steer(title=str(title), ip=ADDRESSES[title % 6], n=1 + title % 8)
                assert httpx.get(f"{logging.url}/v1/steer?title=watched&session=viewer-7").status_code == 200
            logging.process.terminate()
            logging.process.communicate()
    recorded = [decision for path in log_files([log]) for decision in read_decisions(path)]
    assert not any(word in path.read_bytes() for path in log_files([log]) for word in (b"viewer-7", b"watched"))
    # By content: on a slow machine control finds the title hot, and then it is ranked by several keys.
    watched = [decision.content_key == content_key_of("video", "watched") for decision in recorded]
    assert sum(watched) == 60
    assert 5 <= watched.count(False) <= 60
    settings = read_settings(state=served.state)
    assert replay(settings.state, recorded).different == 0
    assert run("replay", str(log), "--state", str(served.state)).endswith(
        " 0 different, 0 with another appliance first\n"
    )
    report = json.loads(run("replay", str(log), "--state", str(served.state), "--json"))
    assert report["answers"] == len(recorded)
    wrong = [msgspec.structs.replace(decision, picks=decision.picks[:-1]) for decision in recorded]
    path = write(tmp_path / "wrong", wrong)
    assert f"{len(recorded)} different" in run("replay", str(path), "--state", str(served.state), code=1)
    assert run("replay", str(path), "--state", str(served.state), "--table", "1")
    path.write_bytes(path.read_bytes()[:-1])
    assert "is cut off" in run("replay", str(path), "--state", str(served.state), code=1)
