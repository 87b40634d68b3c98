"""From a catalogue and plays to a plan in force, its fill manifests, and sources for what is missing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from steering.control.fill.holdings_rows import digest_of
from steering.control.services.control import Control
from steering.errors import FeedError, RequestError
from steering.model.fleet import Fleet
from steering.settings import Settings
from tests.support.control_fixtures import Clock, WriteFeed

TITLES = 40
SIZE = 1_000_000
NIGHT = 1_796_013_000.0  # 2026-11-30 04:30 UTC: a fill window is open in Mumbai and in London
PLAYS = "day,area,title,plays\n"


def recipe_of(title: str) -> bytes:
    """Return the document of a title's recipe: one file."""
    digest = hashlib.sha256(title.encode()).hexdigest()
    files = [{"path": "media.bin", "bytes": SIZE, "sha256": digest, "parts": [digest]}]
    return json.dumps({"part_bytes": 67108864, "files": files}).encode()


def name_of(title: str) -> str:
    return f"sha256-{hashlib.sha256(recipe_of(title)).hexdigest()}"


def titles() -> list[str]:
    return [f"t{number:03}" for number in range(TITLES)]


def catalogue() -> bytes:
    rows = (f"{title},{SIZE},{name_of(title)},film\n" for title in titles())
    return ("title,bytes,recipe,kind\n" + "".join(rows)).encode()


def plays(day: int, scale: float = 1.0) -> bytes:
    """Return plays of a day of November 2026 in India, most for the first titles."""
    rows = (f"2026-11-{day:02},IN,{title},{scale * 1000 / (number + 1):.1f}\n" for number, title in enumerate(titles()))
    return (PLAYS + "".join(rows)).encode()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"fill_window": "00:00-24:00"})


@pytest.fixture
def planned(control: Control, fleet: Fleet, write_feed: WriteFeed, clock: Clock) -> Control:
    """Return a control with a catalogue and two days of plays. Each appliance has room for ten titles."""
    clock.now = NIGHT
    control.registry.clock = clock
    room = 10 * SIZE + SIZE // 2
    services = tuple(dataclasses.replace(item, origin="http://127.0.0.1:1/v") for item in fleet.services)
    appliances = tuple(dataclasses.replace(item, disk_bytes=room) for item in fleet.appliances)
    control.fleet.replace(dataclasses.replace(fleet, appliances=appliances, services=services), "test")
    control.tables.publish([write_feed("203.0.113.0/24,bom001-a,64500,0\n")], "test", "first")
    control.catalogue.put("video", catalogue(), "test")
    for title in titles():
        control.catalogue.put_recipe("video", name_of(title), recipe_of(title), "test")
    for day in (28, 29):
        control.fill.count_plays("video", plays(day), "test")
    control.keys.make("fill", "test")
    return control


def manifest(control: Control, appliance: str, etag: str = "", **have: str) -> tuple[str, dict[str, object]]:
    tag, body = control.fill_answers.manifest(appliance, have, etag)
    return tag, json.loads(body) if body else {}


def wanted(control: Control, appliance: str) -> list[str]:
    _, document = manifest(control, appliance)
    (service,) = document["services"]  # type: ignore[misc]
    return [row["id"] for row in service["titles"]]  # type: ignore[index]


def test_a_plan_holds_the_most_played_titles_and_proves_how_good_it_is(planned: Control) -> None:
    report = planned.fill.plan("test", "first")
    assert report["titles"] == TITLES
    assert report["no_recipe"] == 0
    assert 0 <= report["gap"] <= 0.02
    assert set(wanted(planned, "c001-bom001")) | set(wanted(planned, "c002-bom001")) >= set(titles()[:15])
    explained = planned.fill.explain("video", "t000", "bom001-a")
    assert explained["holders"]
    assert planned.fill.explain("video", "t039", "bom001-a")["holders"] == []
    assert planned.fill.list()[0]["serving"]


def test_the_same_plays_again_plan_no_new_bytes(planned: Control) -> None:
    planned.fill.plan("test")
    assert planned.fill.plan("test")["added_bytes"] == 0


def test_a_guard_stops_a_plan_of_an_empty_feed(planned: Control) -> None:
    before = planned.fill.plan("test")["plan"]
    for day in range(1, 15):
        planned.fill.count_plays("video", plays(30, 0.0).replace(b"2026-11-30", f"2026-12-{day:02}".encode()), "test")
    with pytest.raises(FeedError, match="guard_plays"):
        planned.fill.plan("test")
    assert planned.fill.number_in_force() == before
    assert planned.fill.plan("test", force="the service has ended")["guards"]


def test_a_manifest_is_a_list_then_a_delta_then_304(planned: Control) -> None:
    planned.fill.plan("test")
    etag, document = manifest(planned, "c001-bom001")
    (service,) = document["services"]  # type: ignore[misc]
    ids = [row["id"] for row in service["titles"]]  # type: ignore[index]
    assert service["kind"] == "full"  # type: ignore[index]
    assert service["digest"] == digest_of(ids)  # type: ignore[index]
    assert manifest(planned, "c001-bom001", etag) == (etag, {})
    with pytest.raises(RequestError, match="no appliance"):
        manifest(planned, "c777-bom001")


def test_appliances_are_answered_from_any_thread(planned: Control) -> None:
    """The endpoints run in threads of their own; a connection to the records belongs to one thread."""
    planned.fill.plan("test")
    with ThreadPoolExecutor(1) as other:
        _, document = other.submit(manifest, planned, "c001-bom001").result()
        answer = other.submit(planned.fill_answers.ask, "c001-bom001", "video", ["t000"], 8).result()
        assert other.submit(planned.fill.status).result()["plan"] == 1
        assert other.submit(planned.fill.explain, "video", "t000", "bom001-a").result()["holders"]
        assert other.submit(planned.fill.list).result()[0]["serving"]
    assert document["plan"] == 1
    assert answer["leases"] or answer["refused"]


def test_a_lease_names_a_peer_that_holds_the_title_and_else_the_origin(planned: Control) -> None:
    planned.fill.plan("test")
    title = wanted(planned, "c001-bom001")[0]
    answer = planned.fill_answers.ask("c001-bom001", "video", [title, "t-unknown"], 8)
    (lease,) = answer["leases"].values()
    assert [source["tier"] for source in lease["sources"]] == ["origin"]
    assert answer["origin_url"] == "http://127.0.0.1:1/v/{title}/{path}"
    assert answer["refused"] == {"t-unknown": "not in the plan"}
    assert "expires=" in lease["token"]


def test_titles_that_are_not_in_the_manifest_get_no_lease(planned: Control) -> None:
    planned.fill.plan("test")
    other = next(title for title in titles() if title not in wanted(planned, "c001-bom001"))
    assert planned.fill_answers.ask("c001-bom001", "video", [other], 8)["refused"] == {
        other: "not in your fill manifest"
    }


def test_a_pinned_plan_stays_and_a_rollback_pins(planned: Control) -> None:
    first = planned.fill.plan("test")["plan"]
    planned.fill.count_plays("video", plays(30), "test")
    second = planned.fill.plan("test")["plan"]
    planned.fill.rollback(first, "test", "worse")
    assert planned.fill.number_in_force() == first
    with pytest.raises(RequestError, match="is pinned by test: worse"):
        planned.fill.plan("test")
    planned.fill.unpin("test")
    assert planned.fill.plan("test")["plan"] > second


def test_status_counts_what_is_left(planned: Control) -> None:
    planned.fill.plan("test")
    status = planned.fill.status()
    assert status["bytes_left"] == status["planned_bytes"] > 0
    assert {row["cluster"] for row in status["clusters"]} <= {
        "bom001-a",
        *(c.id for c in planned.fleet.current().clusters),
    }


def test_a_plan_survives_a_restart(planned: Control, settings: Settings) -> None:
    version = planned.fill.plan("test")["plan"]
    ids = wanted(planned, "c001-bom001")
    planned.close()
    with Control(settings) as again:
        assert again.fill.number_in_force() == version
        assert wanted(again, "c001-bom001") == ids


def test_a_recipe_has_the_name_of_its_bytes(planned: Control) -> None:
    with pytest.raises(RequestError, match="the name of the document is sha256-"):
        planned.catalogue.put_recipe("video", f"sha256-{0:064}", recipe_of("x"), "test")
    assert planned.catalogue.recipe("video", name_of("t000")) == recipe_of("t000")
    with pytest.raises(RequestError, match="no recipe"):
        planned.catalogue.recipe("video", "../../etc/passwd")
