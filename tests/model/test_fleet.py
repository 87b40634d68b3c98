from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from _fastpath.fast_path import Peer
from steering.decision.explain import describe, explain
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet, Site, lies_in, regions_of_sites
from steering.playback.server.connections import Connections
from steering.playback.server.follower import Follower
from steering.settings import Settings
from tests.support.playback_app import Listening

Publish = Callable[..., Path]
AMERICAN, BRITISH, NOWHERE = "8.8.8.8", "81.2.69.142", "192.0.2.1"

ROWS = [
    # region, named, whether it lies in them
    ("IN", ["IN"], True),
    ("IN-MH", ["IN"], True),
    ("IN-MH", ["IN-MH"], True),
    ("IN-MH", ["GB", "IN-KA", "IN-MH"], True),
    ("IN", ["IN-MH"], False),
    ("IN-M", ["IN-MH"], False),
    ("IN-KA", ["IN-MH"], False),
    ("GB", ["IN"], False),
    ("", ["IN"], False),
    ("IN", [], False),
]


@pytest.mark.parametrize(("region", "named", "wanted"), ROWS)
def test_a_region_lies_in_its_country_and_no_country_in_its_parts(region: str, named: list[str], wanted: bool) -> None:
    assert lies_in(region, frozenset(named)) == wanted


def test_a_site_is_in_its_part_of_a_country_where_a_service_names_that(fleet: Fleet) -> None:
    sites = [Site("bom001", "IN", "Mumbai", 0, 0, "IN-MH"), Site("blr001", "IN", "Bengaluru", 0, 0, "IN-KA")]
    service = dataclasses.replace(fleet.services[0], regions=("IN-MH", "GB"))
    assert regions_of_sites(sites, fleet.services) == {"bom001": "IN", "blr001": "IN"}
    assert regions_of_sites(sites, [service]) == {"bom001": "IN-MH", "blr001": "IN"}


@pytest.mark.parametrize(
    ("regions", "wanted"),
    [
        (("IN-MH",), {"bom001", "bom002"}),
        (("IN",), {"bom001", "bom002", "del001"}),
        (("IN-KA",), set()),
        (("GB",), {"lhr001"}),
    ],
)
def test_services_may_be_bound_to_parts_of_countries(
    tmp_path: Path, publish: Publish, fleet: Fleet, regions: tuple[str, ...], wanted: set[str]
) -> None:
    sites = tuple(dataclasses.replace(site, region="IN-MH" if site.city == "Mumbai" else "") for site in fleet.sites)
    bound = dataclasses.replace(fleet.services[0], regions=regions)
    other = dataclasses.replace(fleet.services[0], id="other", regions=("IN-MH",))
    fleet = dataclasses.replace(fleet, sites=sites, services=(other, bound))
    snapshot = Snapshot.map(publish(tmp_path / "state", fleet=fleet))
    answer = json.loads(snapshot.steer("203.0.113.9", "t", service="video", n=8))
    assert {target["site"] for target in answer["targets"] if "site" in target} == wanted


@pytest.fixture
def follower(tmp_path: Path, publish: Publish, fleet: Fleet) -> Follower:
    """Return what serves a service for everybody, one for Britain, and one that sends others elsewhere."""
    video = fleet.services[0]
    services = (
        dataclasses.replace(video, id="britain", client_regions=("GB",)),
        dataclasses.replace(video, id="sends", client_regions=("GB", "US-CA"), refused_url="https://example.com/sorry"),
        video,
    )
    result = Follower(publish(tmp_path / "state", fleet=dataclasses.replace(fleet, services=services)), 0.1)
    result.step()
    return result


def test_the_snapshot_marks_clients_elsewhere(follower: Follower) -> None:
    snapshot = follower.snapshot
    assert snapshot
    asked = {"title": "t", "service": "britain"}
    assert explain(snapshot, AMERICAN, **asked)["explain"]["refused_region"] == "US"
    assert explain(snapshot, NOWHERE, **asked)["explain"]["refused_region"] == ""
    assert explain(snapshot, BRITISH, **asked)["explain"]["refused_region"] is None
    assert explain(snapshot, AMERICAN, "t", service="video")["explain"]["refused_region"] is None
    assert [name for name, service in snapshot.services.items() if service.everywhere] == ["video"]


NAMED = [
    ("IN",),
    ("IN-MH",),
    ("GB", "IN-KA", "IN-MH"),
    ("IN-M",),
    ("I", "IN-MHX"),
    ("GB",),
    tuple(f"{a}{b}" for a in "ABI" for b in "LMN"),
]
ADDRESSES = {"198.18.0.1": "IN-MH", "198.18.1.1": "IN-KA", "198.18.2.1": "IN", BRITISH: "GB", NOWHERE: ""}


@pytest.mark.parametrize("named", NAMED, ids=str)
@pytest.mark.parametrize("shed", [False, True])
def test_the_fast_path_answers_whom_the_service_is_for_and_leaves_others(
    tmp_path: Path, publish: Publish, fleet: Fleet, named: tuple[str, ...], shed: bool
) -> None:
    feed = tmp_path / "geofeed.csv"
    feed.write_text("198.18.0.0/24,IN,IN-MH,,\n198.18.1.0/24,IN,IN-KA,,\n198.18.2.0/24,IN,,,\n")
    named = tuple(region for region in named if len(region) > 1)
    bound = dataclasses.replace(fleet.services[0], client_regions=named)
    state = publish(tmp_path / "state", fleet=dataclasses.replace(fleet, services=(bound,)), geofeeds=(feed,))
    snapshot = Snapshot.map(state)
    connections = Connections(Settings())
    connections.serve(snapshot)
    peer = Peer(bytes([127, 0, 0, 1]), True)
    for address, region in ADDRESSES.items():
        assert describe(snapshot, address)["region"] == (region or None)
        head = f"GET /v1/steer?title=t&ip={address} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
        answered = connections.fast_path.answer(head, 0, peer, shed) is not None
        assert (
            answered
            == lies_in(region, named)
            == (snapshot.refused_region(ipaddress.ip_address(address).packed, "video") is None)
        )


PATHS = [
    # service, client, redirect, status, detail or location
    ("video", AMERICAN, "0", 200, ""),
    ("britain", BRITISH, "0", 200, ""),
    ("britain", AMERICAN, "0", 451, "service britain is not for clients in US"),
    ("britain", NOWHERE, "0", 451, "service britain is not for clients in a region that is not known"),
    ("britain", AMERICAN, "1", 451, "service britain is not for clients in US"),
    ("sends", AMERICAN, "0", 451, "service sends is not for clients in US"),
    ("sends", AMERICAN, "1", 302, "https://example.com/sorry"),
    ("sends", BRITISH, "1", 302, "https://"),
    ("sends", BRITISH, "0", 200, ""),
]


@pytest.mark.parametrize("fast_path", [True, False])
def test_clients_elsewhere_are_refused_or_sent_away_on_both_paths(follower: Follower, fast_path: bool) -> None:
    async def ask() -> list[httpx.Response]:
        listening = Listening(follower, Settings(fast_path=fast_path))
        await listening.start()
        try:
            url = f"http://127.0.0.1:{listening.address[1]}/v1/steer"
            async with httpx.AsyncClient() as client:
                return [
                    await client.get(url, params={"title": "t", "service": service, "ip": ip, "redirect": redirect})
                    for service, ip, redirect, _, _ in PATHS
                ]
        finally:
            await listening.stop()

    for answer, (service, ip, _, status, message) in zip(asyncio.run(ask()), PATHS, strict=True):
        assert answer.status_code == status, (service, ip, answer.text)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["access-control-allow-origin"] == "*"
        if status == 302:
            assert answer.headers["location"].startswith(message)
        if status == 451:
            problem = answer.json()
            assert (problem["title"], problem["detail"]) == ("Unavailable For Legal Reasons", message)
            assert problem["parameter"] == "region"
            assert problem.get("value") == ("US" if ip == AMERICAN else "")
            assert ("hint" in problem) == (service == "sends")
