"""The agent with real nginx against a small honest control: it fills, resumes, repairs and removes; no byte is wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fill_stage import (
    ASKING,
    PART,
    PATIENCE_S,
    SERVICE,
    Content,
    Control,
    Machine,
    Origin,
    fill_token,
    until,
)
from tests.support.processes import disk

FILM = Content(1, {"master.m3u8": 700, "a/seg1.ts": 3 * PART + 17, "a/seg2.ts": PART, "a/empty": 0})


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin().running() as origin:
        yield origin


@pytest.fixture
def control(origin: Origin) -> Iterator[Control]:
    origin.asked.clear()
    origin.fault = ""
    with Control().running() as control:
        control.origin_url = f"http://{origin.host}/{{service}}/{{title}}/{{recipe}}/{{path}}"
        yield control


def offer(control: Control, origin: Origin, *contents: Content) -> None:
    control.add(*contents)
    origin.add(*contents)


ORIGIN = {"tier": "origin"}


def test_a_title_goes_from_the_origin_to_one_appliance_and_from_its_nginx_to_the_next(
    tmp_path: Path, control: Control, origin: Origin
) -> None:
    first, second = Machine("c1", tmp_path, control), Machine("c2", tmp_path, control)
    offer(control, origin, FILM)
    control.sources = {"c1": [ORIGIN], "c2": [first.source]}
    control.want("c1", FILM.title("t1"))
    control.want("c2", FILM.title("t1"))
    with first.nginx(), second.nginx(), first.agent_running():
        until(lambda: control.holds("c1", "t1"), first.agent)
        assert first.serves("t1", FILM)
        asked = len(origin.asked)
        with second.agent_running():
            until(lambda: control.holds("c2", "t1"), second.agent)
            assert second.serves("t1", FILM)
            until(lambda: control.last("c2")["fill"]["state"] == "idle", second.agent)
            report = control.last("c2")
        assert len(origin.asked) == asked == 6
        base = f"http://127.0.0.1:{first.fill_port}/fill/{SERVICE}/{FILM.recipe}/"
        good = fill_token(SERVICE, FILM.recipe, int(time.time()) + 60)
        for query, status in (
            ("", 403),
            (good, 200),
            (good.replace("md5=", "md5=A"), 403),
            (fill_token(SERVICE, FILM.recipe, int(time.time()) - 1), 403),
            (fill_token("games", FILM.recipe, int(time.time()) + 60), 403),
        ):
            assert ASKING.get(f"{base}master.m3u8?{query}").status_code == status, query
        assert ASKING.get(f"{base}nothing?{good}").status_code == 404
        for path in ("/receipts/video", "/canary", "/served/v/t1/master.m3u8", f"/fill/video/{FILM.recipe}"):
            assert ASKING.get(f"http://127.0.0.1:{first.fill_port}{path}?{good}").status_code == 404
    assert report["fill"]["window_bytes"] == 0  # a peer's bytes do not cross the uplink
    assert first.settings.capacity_gbps >= report["health"]["headroom_gbps"] > 0
    assert report["health"]["components"] == {"nginx": "ok", "canary": "ok", "disk": "ok"}
    assert report["health"]["connections"] >= 1
    assert report["health"]["ipv4"] is True
    done = [row for document in control.reports["c2"] for row in document["fill"]["done"]]
    assert {"service": SERVICE, "id": "t1"} in done
    assert (304, "") in {row[1:] for row in control.manifests if row[0] == "c1"}


def test_after_kill_9_checked_parts_are_not_fetched_again(tmp_path: Path, control: Control, origin: Origin) -> None:
    film = Content(2, {"film.mp4": 40 * PART + 5})
    machine = Machine("c1", tmp_path, control)
    offer(control, origin, film)
    control.sources = {"c1": [ORIGIN]}
    control.lease_gbps = 0.01  # 1.25 MB/s: 2.1 s for the film
    control.want("c1", film.title("t1"))
    with machine.nginx():
        machine.start()
        until(lambda: len(origin.asked) > 12, machine.agent)
        machine.stop(signal.SIGKILL)
        before = [ranges for _, ranges in origin.asked]
        assert not machine.serves("t1", film)
        assert not any((machine.folder / "fill").rglob("film.mp4"))
        origin.asked.clear()
        control.lease_gbps = 8.0
        with machine.agent_running():
            until(lambda: control.holds("c1", "t1"), machine.agent)
            assert machine.serves("t1", film)
    again = {ranges for _, ranges in origin.asked} & set(before)
    assert again <= set(before[-1:])  # at most the part in flight
    assert len(origin.asked) + len(before) <= 42


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("flipped", "wrong_bytes"),
        ("200", "range_ignored"),
        ("404", "not_found"),
        ("long", "too_long"),
        ("shifted", "wrong_bytes"),
        ("503", "refused"),
        ("redirect", "refused"),
        ("cut", "timeout"),
        ("stall", "timeout"),
    ],
)
def test_a_bad_source_is_named_and_another_one_is_used(
    tmp_path: Path, control: Control, origin: Origin, fault: str, why: str
) -> None:
    film = Content(3, {"film.mp4": 4 * PART})
    machine = Machine("c1", tmp_path, control, stall_s=0.5 if fault == "stall" else 10.0, retry_s=60.0)
    offer(control, origin, film)
    with Origin().running() as bad, machine.nginx():
        bad.add(film)
        bad.fault = fault
        control.sources = {"c1": [{"tier": "tier", "host": bad.host, "appliance": "c9"}, ORIGIN]}
        control.want("c1", film.title("t1"))
        with machine.agent_running():
            until(lambda: control.holds("c1", "t1"), machine.agent)
            until(lambda: control.failed["c1"], machine.agent)
            assert machine.serves("t1", film)
    assert {(row["source"], row["why"]) for row in control.failed["c1"]} == {("c9", why)}
    assert len(bad.asked) == (2 if why == "wrong_bytes" else 1)


def test_a_flipped_byte_on_a_peers_disk_never_gets_further(tmp_path: Path, control: Control, origin: Origin) -> None:
    """The copy that others doubt is hashed again: it leaves the holdings, then nginx, and comes back whole."""
    first, second = Machine("c1", tmp_path, control), Machine("c2", tmp_path, control)
    offer(control, origin, FILM)
    control.sources = {"c1": [ORIGIN], "c2": [first.source, ORIGIN]}
    control.want("c1", FILM.title("t1"))
    with first.nginx(), second.nginx(), first.agent_running(), second.agent_running():
        until(lambda: control.holds("c1", "t1"), first.agent)
        damaged = first.folder / "fill" / SERVICE / FILM.recipe / "a" / "seg1.ts"
        with damaged.open("r+b") as file:
            file.seek(2 * PART + 3)
            file.write(b"\x00\x01")
        control.want("c2", FILM.title("t1"))
        until(lambda: control.holds("c2", "t1"), second.agent)
        assert second.serves("t1", FILM)
        control.sources["c1"] = [second.source]
        asked = len(origin.asked)
        control.want("c1", FILM.title("t1"), check=[{"service": SERVICE, "id": "t1"}])
        until(lambda: control.holds("c1"), first.agent)
        until(lambda: control.holds("c1", "t1"), first.agent)
        assert first.serves("t1", FILM)
        assert len(origin.asked) == asked == 7  # each part once for the first, then the damaged one for the second
    assert {"service": SERVICE, "id": "t1", "source": "c1", "why": "wrong_bytes"} in control.failed["c1"]
    assert len(parts_sent(first)) == 6  # the second asked for the damaged part once, not again
    assert len(parts_sent(second)) == 1  # only the damaged part came back


def parts_sent(machine: Machine) -> list[str]:
    """Return the lines of nginx's log about parts for other appliances."""
    return [line for line in (machine.home / "access.log").read_text().splitlines() if "/fill/" in line]


def test_titles_that_the_disk_has_no_room_for_are_named(tmp_path: Path, control: Control, origin: Origin) -> None:
    films = [Content(10 + number, {"film.mp4": 16 * PART}) for number in range(3)]
    with disk(tmp_path / "disk", "size=3m,mode=755") as folder:
        machine = Machine("c1", tmp_path, control, folder=folder / "content", disk_bytes="all but 512k")
        offer(control, origin, *films)
        control.sources = {"c1": [ORIGIN]}
        titles = [film.title(f"t{3 - number}", priority=3 - number) for number, film in enumerate(films)]
        control.want("c1", *titles)
        with machine.nginx(), machine.agent_running():
            until(lambda: control.holds("c1", "t1", "t2"), machine.agent)
            until(lambda: control.last("c1")["fill"]["no_room"], machine.agent)
            assert control.last("c1")["fill"]["no_room"] == [{"service": SERVICE, "id": "t3"}]
            assert control.last("c1")["health"]["components"]["disk"] == "ok"
            filler = folder / "other"
            filler.write_bytes(bytes(400_000))  # another program fills the disk
            control.want("c1", titles[1], titles[2], Content(14, {"x": 400_000}).title("t4"))
            until(lambda: {"service": SERVICE, "id": "t4"} in control.last("c1")["fill"]["no_room"], machine.agent)
            assert machine.serves("t1", films[2])
            assert machine.serves("t2", films[1])


def test_nothing_is_fetched_outside_the_window_but_urgent_titles(
    tmp_path: Path, control: Control, origin: Origin
) -> None:
    film, launch = Content(20, {"film.mp4": 40 * PART}), Content(21, {"film.mp4": 2 * PART})
    machine = Machine("c1", tmp_path, control)
    offer(control, origin, film, launch)
    control.sources = {"c1": [ORIGIN]}
    with machine.nginx(), machine.agent_running():
        until(lambda: control.last("c1"), machine.agent)
        now, began = int(time.time()), time.monotonic()
        window = {"from": now - 10, "until": now + 600, "gbps": 0.002, "bytes": 1 << 40}  # 0.25 MB/s: 10 s for the film
        control.want("c1", film.title("t1"), windows=[window])
        until(lambda: control.last("c1")["fill"]["window_bytes"], machine.agent)
        control.want("c1", film.title("t1"), windows=[window | {"until": int(time.time()) + 2}])
        until(lambda: control.last("c1")["fill"]["state"] == "outside_window", machine.agent)
        until(lambda: not control.last("c1")["fill"]["active"], machine.agent)
        spent, asked = control.last("c1")["fill"]["window_bytes"], len(origin.asked)
        assert 0 < spent <= (time.monotonic() - began) * 250_000 + PART
        assert asked < 40
        control.want("c1", film.title("t1"), launch.title("t2", urgent=True), urgent_gbps=1.0)
        until(lambda: control.holds("c1", "t2"), machine.agent)
        assert len(origin.asked) == asked + 2
        opened = {"from": now - 10, "until": now + 600, "gbps": 8.0, "bytes": spent + 5 * PART}
        control.want("c1", film.title("t1"), launch.title("t2"), windows=[opened])
        until(lambda: control.last("c1")["fill"]["window_bytes"] > spent + 3 * PART, machine.agent)
        until(lambda: control.last("c1")["fill"]["state"] == "outside_window", machine.agent)
        assert control.last("c1")["fill"]["window_bytes"] <= spent + 5 * PART  # the bytes of the window are used up
        control.want("c1", film.title("t1"), launch.title("t2"), windows=[opened | {"bytes": 1 << 40}])
        until(lambda: control.holds("c1", "t1", "t2"), machine.agent)
        assert machine.serves("t1", film)
    assert len(origin.asked) == 42


def test_a_reencode_and_a_removal_show_no_player_a_404(tmp_path: Path, control: Control, origin: Origin) -> None:
    old, new = Content(30, {"film.mp4": 2 * PART}), Content(31, {"film.mp4": 3 * PART})
    machine = Machine("c1", tmp_path, control)
    offer(control, origin, old, new)
    control.sources = {"c1": [ORIGIN]}
    control.want("c1", old.title("t1"))
    served = {old.files["film.mp4"], new.files["film.mp4"]}

    def watch() -> bytes:
        answer = machine.get("t1", "film.mp4")
        assert answer.status_code == 200
        assert answer.content in served
        return answer.content

    with machine.nginx(), machine.agent_running():
        until(lambda: control.holds("c1", "t1"), machine.agent)
        control.want("c1", new.title("t1", changed=True))
        until(lambda: watch() == new.files["film.mp4"], machine.agent)
        folders = machine.folder / "fill" / SERVICE
        until(lambda: watch() and not (folders / old.recipe).exists(), machine.agent)
        control.want("c1", remove_after_s=60)
        until(lambda: watch() and control.holds("c1"), machine.agent)
        asked = len(origin.asked)
        control.want("c1", new.title("t1"))
        until(lambda: watch() and control.holds("c1", "t1"), machine.agent)  # wanted again: nothing was deleted
        assert len(origin.asked) == asked
        control.want("c1", remove_after_s=1)
        until(lambda: watch() and control.holds("c1"), machine.agent)
        gone_at = time.monotonic()
        while machine.get("t1", "film.mp4").status_code == 200:
            assert time.monotonic() - gone_at < PATIENCE_S
        assert time.monotonic() - gone_at > 0.9
        until(lambda: not any(folders.iterdir()), machine.agent)
    kinds = {row[2] for row in control.manifests}
    assert kinds == {"full", "delta", ""}


def test_a_restart_reports_what_lies_on_the_disk_with_a_good_receipt(
    tmp_path: Path, control: Control, origin: Origin
) -> None:
    films = {f"t{number}": Content(40 + number, {"film.mp4": PART + 1}) for number in range(3)}
    machine = Machine("c1", tmp_path, control)
    offer(control, origin, *films.values())
    control.sources = {"c1": [ORIGIN]}
    control.want("c1", *(film.title(name) for name, film in films.items()))
    with machine.nginx():
        with machine.agent_running():
            until(lambda: control.holds("c1", *films), machine.agent)
            with control.lock:
                control.holdings["c1"] = None  # control was restored from a backup
            control.want("c1", *(film.title(name) for name, film in films.items() if name != "t0"))
            until(lambda: control.holds("c1", "t1", "t2"), machine.agent)
        control.holdings.clear()
        changed = machine.folder / "fill" / SERVICE / films["t1"].recipe / "film.mp4"
        changed.write_bytes(b"x" * (PART + 1))
        (machine.folder / "receipts" / SERVICE / films["t2"].recipe).unlink()
        control.want("c1", windows=[])
        control.want("c1", *(film.title(name) for name, film in films.items() if name != "t0"))
        with machine.agent_running():
            until(lambda: control.holds("c1", "t2"), machine.agent)  # it was hashed again
            until(lambda: machine.get("t1", "film.mp4").status_code == 404, machine.agent)
            assert machine.serves("t2", films["t2"])
            control.want("c1", films["t1"].title("t1"), films["t2"].title("t2"), windows=default_windows())
            origin.asked.clear()
            until(lambda: control.holds("c1", "t1", "t2"), machine.agent)
            until(lambda: machine.serves("t1", films["t1"]), machine.agent)
        assert len(origin.asked) == 2


def default_windows() -> list[dict[str, Any]]:
    return [{"from": 0, "until": 4e9, "gbps": 8.0, "bytes": 1 << 40}]


def test_a_link_in_the_folder_is_never_written_through(tmp_path: Path, control: Control, origin: Origin) -> None:
    film, other = Content(50, {"a/film.mp4": PART}), Content(51, {"film.mp4": PART})
    machine = Machine("c1", tmp_path, control)
    offer(control, origin, film, other)
    outside = tmp_path / "outside"
    outside.mkdir()
    (machine.folder / "filling" / SERVICE / film.recipe).mkdir(parents=True)
    (machine.folder / "filling" / SERVICE / film.recipe / "a").symlink_to(outside)
    control.sources = {"c1": [ORIGIN]}
    control.want("c1", film.title("t1"), other.title("t2"))
    with machine.nginx(), machine.agent_running():
        until(lambda: control.holds("c1", "t2"), machine.agent)
        until(lambda: control.failed["c1"], machine.agent)
    assert control.failed["c1"][0]["why"] == "disk"
    assert list(outside.iterdir()) == []


def test_a_title_is_served_from_the_report_that_names_it_on(tmp_path: Path, control: Control, origin: Origin) -> None:
    """Players ask for it all the time from before the fill; nginx must not remember that it was not there."""
    machine = Machine("c1", tmp_path, control)
    offer(control, origin, FILM)
    control.sources = {"c1": [ORIGIN]}
    statuses: dict[bool, set[int]] = {False: set(), True: set()}

    def ask() -> bool:
        held = control.holds("c1", "t1")
        statuses[held] |= {machine.get("t1", path).status_code for path in FILM.files}
        return held

    with machine.nginx(), machine.agent_running():
        until(lambda: control.reports["c1"] and ask() is False, machine.agent)
        until(lambda: statuses[False] == {404}, machine.agent)
        control.want("c1", FILM.title("t1"))
        until(ask, machine.agent)
        until(lambda: ask() and len(control.reports["c1"]) > 8, machine.agent)
    assert 404 in statuses[False]
    assert statuses[True] == {200}


def test_a_title_that_nginx_may_not_read_is_not_reported(tmp_path: Path, control: Control, origin: Origin) -> None:
    if os.geteuid():
        pytest.skip("another user for nginx needs root")
    machine = Machine("c1", tmp_path, control)
    offer(control, origin, FILM)
    control.sources = {"c1": [ORIGIN]}
    control.want("c1", FILM.title("t1"))
    with machine.nginx(user="nobody nogroup"), machine.agent_running():
        until(lambda: control.failed["c1"], machine.agent)
        reports = len(control.reports["c1"])
        until(lambda: len(control.reports["c1"]) > reports + 1, machine.agent)
    assert control.failed["c1"] == [{"service": SERVICE, "id": "t1", "source": "", "why": "disk"}]
    assert control.holds("c1")
    assert f"/served/v/t1/{next(path for path in FILM.files if '/' in path)}" in machine.log()
