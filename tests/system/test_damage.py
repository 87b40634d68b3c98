"""Damaged state files: refused by name, or the answers are the same; with right checksums around them, nothing worse.

The cases are drawn from a seed; `--cases` says how many. Under `make fuzz` they are read with AddressSanitizer.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from _fastpath.holdings_builder import HoldingsBuilder
from _fastpath.ranking import Trace
from steering.control.playlists.prepare import prepare
from steering.control.routes.build import quiet
from steering.control.routes.proposed import propose
from steering.control.routes.side_inputs import SideInputs
from steering.control.services.tasks import Diff, ReportRoutes, changes_of
from steering.decision.examples import suggest_requests
from steering.decision.explain import describe, explain
from steering.decision.snapshot import Snapshot
from steering.decision.what_if import Question, what_if
from steering.errors import RequestError, SnapshotError
from steering.model.fleet import Fleet
from steering.playback.telemetry.decision_log import decision_of
from steering.settings import Settings
from steering.state.current import read_current, write_current
from steering.state.holdings import write_holdings
from steering.state.keys import Key, read_keys, write_keys
from steering.state.playlists import write_playlists
from steering.state.sections import StateFile, write_sections
from steering.state.table import read_table

CLIENTS = ["203.0.113.7", "198.51.100.1", "8.8.8.8", "2001:db8::1", "::", "255.255.255.255"]
TITLES = ["80100172", "a b", "t"]
PLAYLIST = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, publish: Callable[..., Path]) -> Path:
    """Return a state folder with a file of every kind that playback reads."""
    state = publish(tmp_path_factory.mktemp("damage") / "state")
    builder = HoldingsBuilder(None, [("video", title) for title in TITLES])
    for number in range(4):
        builder.set_cluster(number, (2 * number, 2 * number + 1), [{"video"}, {"video"}], (b"\x07", b"\x01"))
    current = read_current(state)
    named = {
        "holdings": write_holdings(state, 1, builder),
        "playlists": write_playlists(state, 1, "", [prepare("video", "t", "hls", PLAYLIST)]),
    }
    write_current(state, dataclasses.replace(current, generation=2, **named))
    write_keys(state, {"k1": Key("s" * 43, 1.5)})
    return state


def answers(state: Path) -> list[Any]:
    """Return what a folder answers to players; raises what reading it raises."""
    snapshot = Snapshot.map(state)
    result: list[Any] = [snapshot.steer(client, title, service="video", n=8) for client in CLIENTS for title in TITLES]
    result += [snapshot.playback(client, TITLES, service="video") for client in CLIENTS]
    result.append(snapshot.playlists.find("video", "t", "hls") if snapshot.playlists else None)
    return result


def reasons(state: Path) -> dict[str, Any]:
    """Return why a client is answered so, which reads all of the files."""
    why: dict[str, Any] = explain(Snapshot.map(state), CLIENTS[0], "t", service="video")["explain"]
    return {name: value for name, value in why.items() if name != "versions"}  # which have an age


def outcome(read: Callable[[], Any]) -> Any:
    """Return what reading returns, or the text of the error that it may raise."""
    try:
        return read()
    except (SnapshotError, RequestError) as error:
        return f"{error.message} {error.hint}"


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a file's bytes damaged in one way that disks, copies and people have."""
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.choice([1, 4, 64, 4096]))
    other = chance.randrange(len(data))
    match chance.randrange(9):
        case 0:
            return data[:start] + bytes([data[start] ^ 1 << chance.randrange(8)]) + data[start + 1 :]
        case 1:
            return data[:start] + chance.randbytes(end - start) + data[end:]
        case 2:
            return data[:start] + bytes(end - start) + data[end:]
        case 3:
            return data[:start]
        case 4:
            return data + chance.randbytes(chance.choice([1, 64]))
        case 5:
            return data[:start] + data[end:]
        case 6:
            return data[:start] + data[start:end] + data[start:]
        case 7:
            return data[:start] + data[other : other + end - start] + data[end:]
        case _:
            return data[:start] + b"\xff" * (end - start) + data[end:]


def names_of(state: Path) -> list[str]:
    return ["current", *read_current(state).names()]


def test_a_damaged_file_is_refused_by_name_or_changes_no_answer(whole: Path, tmp_path: Path, cases: int) -> None:
    state = Path(shutil.copytree(whole, tmp_path / "state"))
    right = answers(state), reasons(state)
    chance = random.Random(7)
    names = [name for name in names_of(state) if not name.startswith("status.")]
    refused = dict.fromkeys(names, 0)
    for number in range(cases // 2):
        name = names[number % len(names)]
        good = (state / name).read_bytes()
        bad = damaged(good, chance)
        (state / name).write_bytes(bad)
        result = outcome(lambda: (answers(state), reasons(state)))
        refused[name] += name in str(result) and result != right
        assert result == right or name in str(result), (number, result)
        (state / name).write_bytes(good)
    assert (answers(state), reasons(state)) == right
    assert all(refused.values())


@pytest.mark.parametrize("kind", ["table", "fleet", "holdings", "playlists"])
def test_what_is_damaged_behind_right_checksums_is_refused_or_answers(
    whole: Path, tmp_path: Path, cases: int, kind: str
) -> None:
    """What a writer with a fault, or with bad intent, could leave: answers may be others, and nothing else happens."""
    state = Path(shutil.copytree(whole, tmp_path / "state"))
    current = read_current(state)
    path = state / getattr(current, kind)
    file = StateFile(path, kind)
    sections = {name: bytes(file[name]) for name in file.sections}
    chance = random.Random(11)
    for _ in range(cases // 10):
        changed: Mapping[str, bytes] = sections
        for name in chance.sample([name for name, data in sections.items() if data], chance.choice([1, 1, 2])):
            changed = {**changed, name: damaged(sections[name], chance)}
        path.unlink()
        write_sections(path, kind, changed)
        outcome(lambda: answers(state))


@pytest.mark.parametrize("kind", ["routes", "table", "fleet"])
def test_what_is_damaged_behind_right_checksums_is_explained_or_refused(
    whole: Path, tmp_path: Path, cases: int, kind: str, fleet: Fleet
) -> None:
    """No question of operators fails otherwise, and the damage stops neither a start nor a publish."""
    state = Path(shutil.copytree(whole, tmp_path / "state"))
    path = state / getattr(read_current(state), kind)
    file = StateFile(path, kind)
    sections = {name: bytes(file[name]) for name in file.sections}
    settings, question = Settings(state=state), Question(CLIENTS[0], "t", "video")
    built = read_table(whole, 1)
    questions: list[Callable[[], Any]] = [
        lambda: [describe(Snapshot.map(state), client) for client in CLIENTS],
        lambda: [explain(Snapshot.map(state), client, "t", service="video") for client in CLIENTS],
        lambda: what_if(state, question, proposed=propose(settings, ["203.0.113.0/24,bom001-a"])),
        lambda: suggest_requests(Snapshot.map(state)),
        lambda: decision_of(0.0, Snapshot.map(state), bytes([203, 0, 113, 7]), "video", 3, 4, Trace()),
        lambda: ReportRoutes(state / "routes.1", fleet, {}, "")(quiet),
        lambda: Diff(settings, fleet, 1, 1, 5)(quiet),
        lambda: changes_of(settings, fleet, 1, built, quiet, SideInputs(state)),
    ]
    chance = random.Random(19)
    for _ in range(max(cases // 20, 10)):
        names = chance.sample([name for name, data in sections.items() if data], chance.choice([1, 1, 2]))
        path.unlink()
        write_sections(path, kind, sections | {name: damaged(sections[name], chance) for name in names})
        for ask in questions:
            outcome(ask)


def test_damaged_words_of_appliances_only_change_who_is_picked(whole: Path, tmp_path: Path, cases: int) -> None:
    state = Path(shutil.copytree(whole, tmp_path / "state"))
    path = state / read_current(state).status
    good, chance = path.read_bytes(), random.Random(13)
    for _ in range(cases // 10):
        path.write_bytes(damaged(good, chance))
        result = outcome(lambda: answers(state))
        assert not isinstance(result, str) or path.name in result
    path.write_bytes(good)


def test_damaged_keys_are_refused_and_none_of_them_is_shown(whole: Path, tmp_path: Path, cases: int) -> None:
    state = Path(shutil.copytree(whole, tmp_path / "state"))
    right, chance = read_keys(state), random.Random(17)
    good = (state / "keys").read_bytes()
    for _ in range(cases // 2):
        (state / "keys").write_bytes(damaged(good, chance))
        result = outcome(lambda: read_keys(state))
        assert result == right or (isinstance(result, str) and "s" * 9 not in result)
