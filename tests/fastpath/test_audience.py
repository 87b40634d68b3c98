"""The answers to simulated viewers are those of real requests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from _fastpath.audience import FALLBACK, NONE, Audience
from _fastpath.hashing import key_of, viewer_of
from _fastpath.hints import Hints
from _fastpath.request import Client
from _fastpath.status_words import NO_HEADROOM, UNHEALTHY, StatusWords
from steering.decision.snapshot import Snapshot
from steering.playback.answers.players import Asked, compiled, steer
from steering.settings import Settings

ADDRESSES = (
    b"\xcb\x00\x71\x05",
    b"\xcb\x00\x01\x05",
    b"\xc6\x33\x64\x05",
    b"\x20\x01\x0d\xb8" + bytes(12),
    b"\x08" * 4,
)
TITLES = tuple(f"8010{number:04}" for number in range(30))
GAIN = Settings().steer_gain


def mixed(number: int) -> int:
    """Return a number with its bits mixed, as `hashing.h: mix`."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


def asked(snapshot: Snapshot, packed: bytes, titles: tuple[str, ...] = TITLES) -> Audience:
    """Return a viewer of each title at an address."""
    count = len(titles)
    return Audience(
        snapshot.picker,
        np.full(count, snapshot.prefixes.lookup(packed), np.uint32),
        np.array([key_of(title) for title in titles], np.uint64),
        np.array([mixed(viewer_of("s", packed))] * count, np.uint64),
        np.full(count, 4 if len(packed) == 4 else 6, np.uint8),
    )


@pytest.mark.parametrize("packed", ADDRESSES)
def test_picks_without_what_failed_are_those_of_requests(snapshot: Snapshot, packed: bytes) -> None:
    service, picker = snapshot.services["video"], snapshot.picker
    picks = np.full((len(TITLES), 3), NONE, np.int32)
    asked(snapshot, packed).pick(service, 3, picks)
    failed = picks.copy()
    failed[::2, 1:] = NONE
    asked(snapshot, packed).pick(service, 3, picks, failed)
    for title, gone, row in zip(TITLES, failed.tolist(), picks.tolist(), strict=True):
        names = [snapshot.fleet_file.appliance(index)[1] for index in gone if index != NONE]
        made = [index for index, *_ in picker.picks(packed, title, service, 3, 0, "s", failed=names)]
        assert row == made + [NONE] * (3 - len(made))
        assert not set(made) & set(gone)


def test_what_failed_has_a_row_for_each_viewer(snapshot: Snapshot) -> None:
    viewers, service = asked(snapshot, ADDRESSES[0]), snapshot.services["video"]
    picks = np.full((len(TITLES), 3), NONE, np.int32)
    for failed in (np.zeros((1, 3), np.int32), np.zeros((len(TITLES), 9), np.int32)):
        with pytest.raises(ValueError, match="failed has a row of at most 8 for each of 30 viewers"):
            viewers.pick(service, 3, picks, failed)


@pytest.mark.parametrize("packed", ADDRESSES)
def test_picks_are_those_of_requests(snapshot: Snapshot, packed: bytes) -> None:
    picks = np.full((len(TITLES), 4), 7, np.int32)
    asked(snapshot, packed).pick(snapshot.services["video"], 3, picks)
    for title, row in zip(TITLES, picks.tolist(), strict=True):
        made = snapshot.picker.picks(packed, title, snapshot.services["video"], 3, 0, "s")
        expected = [appliance for appliance, *_ in made]
        assert row == expected + [NONE] * (4 - len(expected))


@pytest.mark.parametrize("packed", ADDRESSES)
@pytest.mark.parametrize("full", [(), (0, 1), (0, 1, 2, 3, 4, 5, 6, 7)])
def test_manifests_are_those_of_players(
    state_folder: Path, snapshot: Snapshot, packed: bytes, full: tuple[int, ...]
) -> None:
    declared = np.full((len(TITLES), 3), NONE, np.int32)
    asked(snapshot, packed).pick(snapshot.services["video"], 3, declared)
    current = np.where(declared[:, 1] == NONE, FALLBACK, declared[:, 1]).astype(np.int32)
    status = StatusWords(str(state_folder / snapshot.current.status), writable=True)
    for slot in full:
        status.set_word(slot, status.word(slot) | (NO_HEADROOM if slot % 2 else NO_HEADROOM | UNHEALTHY))
    order = np.zeros((len(TITLES), 4), np.int32)
    ttls, first = np.zeros(len(TITLES), np.uint32), np.zeros(len(TITLES), np.int32)
    manifest = compiled(snapshot, GAIN)["video"]
    asked(snapshot, packed).steer(manifest, current, declared, order, ttls, first)
    for row, title in enumerate(TITLES):
        names = {snapshot.fleet_file.appliance(index)[1]: index for index in declared[row].tolist() if index != NONE}
        used = next((name for name, index in names.items() if index == current[row]), "cdn")
        hints = Hints(pathways=(used,), throughputs=(None,), session="s", declared=tuple(names))
        request = Asked("hls", "video", title, "", hints, Client(packed, False))
        body = json.loads(steer(snapshot, request, Settings()).body)
        usable = [{**names, "cdn": FALLBACK}[name] for name in body["PATHWAY-PRIORITY"] if name in (*names, "cdn")]
        assert order[row].tolist() == usable + [NONE] * (4 - len(usable))
        assert ttls[row] == body["TTL"]
        picked = snapshot.picker.picks(packed, title, snapshot.services["video"], 6, 0, "s")
        assert first[row] == (picked[0][0] if picked else NONE)


REFUSED = [
    ("zones", np.array([999], np.uint32), "viewer 0 is in zone 999"),
    ("families", np.array([5], np.uint8), "viewer 0 has family 5"),
    ("titles", np.zeros(2, np.uint64), "columns of one length"),
]


@pytest.mark.parametrize(("column", "value", "message"), REFUSED)
def test_viewers_that_cannot_be_are_refused(snapshot: Snapshot, column: str, value: np.ndarray, message: str) -> None:
    columns = {
        "zones": np.zeros(1, np.uint32),
        "titles": np.zeros(1, np.uint64),
        "viewers": np.zeros(1, np.uint64),
        "families": np.full(1, 4, np.uint8),
    }
    with pytest.raises(ValueError, match=message):
        Audience(snapshot.picker, **(columns | {column: value}))


def test_appliances_that_do_not_exist_are_refused(snapshot: Snapshot) -> None:
    manifest = compiled(snapshot, GAIN)["video"]
    viewer = asked(snapshot, ADDRESSES[0], TITLES[:1])
    columns = np.zeros((1, 4), np.int32), np.zeros(1, np.uint32), np.zeros(1, np.int32)
    declared = np.array([[0, 1, NONE]], np.int32)
    with pytest.raises(ValueError, match="viewer 0 uses appliance 8"):
        viewer.steer(manifest, np.array([8], np.int32), declared, *columns)
    with pytest.raises(ValueError, match="viewer 0 has declared 8"):
        viewer.steer(manifest, np.array([0], np.int32), declared + 8, *columns)
    with pytest.raises(ValueError, match="one more in the order"):
        viewer.steer(manifest, np.array([0], np.int32), declared[:, :2].copy(), *columns)
    with pytest.raises(ValueError, match="n is 1 to 8"):
        viewer.pick(snapshot.services["video"], 9, np.zeros((1, 9), np.int32))
