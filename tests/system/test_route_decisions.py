"""How routes decide, case by case, and the reports that tell an ISP what its announcements do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from _fastpath.status_words import NO_HEADROOM, StatusWords
from steering.cli import main
from steering.control.health.rules import Report
from steering.control.routes.feeds import FeedSource
from steering.control.routes.reports import route_report
from steering.control.services.control import Control
from steering.decision.explain import describe, explain
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass, RoutesHeard
from steering.model.service import Service
from steering.settings import Settings
from steering.state.current import read_current
from steering.state.routes import Routes
from tests.support.control_app import running_control_app

CLIENT = "203.0.113.9"
HEADER = "prefix,cluster,as_path,origin,med\n"


@pytest.fixture
def isp() -> Fleet:
    """An ISP with two sites of one place, two clusters at the first; a private peering and an exchange there too."""
    sites = tuple(Site(name, "IN", "Mumbai", 19.0, 72.8) for name in ("bom001", "bom002", "bom003", "bom004"))
    clusters = (
        Cluster("bom001-a", "bom001", RouteClass.embedded, "as64500"),
        Cluster("bom001-b", "bom001", RouteClass.embedded, "as64500"),
        Cluster("bom002-a", "bom002", RouteClass.embedded, "as64500"),
        Cluster("bom003-a", "bom003", RouteClass.private, "as64511"),
        Cluster("bom004-a", "bom004", RouteClass.exchange, None, ("IN",), True),
    )
    appliances = tuple(
        Appliance(f"c00{i}-{cluster.id}", cluster.id, f"c00{i}-{cluster.id}.cdn.example", 100.0)
        for cluster in clusters
        for i in (1, 2)
    )
    return Fleet(
        (Partner("as64500", "Example ISP", "IN", (64500,)), Partner("as64511", "Another", "IN", (64511,))),
        sites,
        clusters,
        appliances,
        (Service("video", "https://{host}/v/{title}", "https://origin.example/v/{title}"),),
    )


@pytest.fixture
def decided(tmp_path: Path, settings: Settings, isp: Fleet) -> Callable[..., list[tuple[str, int]]]:
    """Return a function that publishes routes and returns the ranking of an address, without the fallback ranking_entries."""

    def make(routes: str, address: str = CLIENT, **more: Any) -> list[tuple[str, int]]:
        path = tmp_path / "routes.csv"
        path.write_text(HEADER + routes)
        with Control(Settings(state=settings.state, **more)) as control:
            control.fleet.replace(isp, "test")
            control.tables.publish([FeedSource("csv", str(path))], "test")
        ranking = describe(Snapshot.map(settings.state), address)["ranking"]
        return [
            (ranking_entry["cluster"], ranking_entry["rank"])
            for ranking_entry in ranking
            if not ranking_entry["fallback"]
        ]

    return make


def report_of(settings: Settings, partner: str = "") -> dict[str, Any]:
    with Control(settings) as control:
        return control.tables.route_report(partner)


# Both presets say the same of these: what decides stands before class and path alike, or is equal.
ALIKE = [
    (
        "a longer prefix at a peering steals from an embedded aggregate",
        "203.0.0.0/16,bom001-a,64500,,0\n203.0.113.0/24,bom003-a,64511 64500,,0\n",
        [("bom003-a", 0), ("bom001-a", 1)],
    ),
    (
        "of an equal prefix, embedded comes before peering",
        "203.0.113.0/24,bom003-a,64511 64500,,0\n203.0.113.0/24,bom001-a,64500,,0\n",
        [("bom001-a", 0), ("bom003-a", 1)],
    ),
    (
        "also where the path is equal",
        "203.0.113.0/24,bom004-a,64500,,0\n203.0.113.0/24,bom003-a,64500,,0\n203.0.113.0/24,bom001-a,64500,,0\n",
        [("bom001-a", 0), ("bom003-a", 1), ("bom004-a", 2)],
    ),
    (
        "the lower MED is first, the other its failover",
        "203.0.113.0/24,bom001-a,64500,,100\n203.0.113.0/24,bom002-a,64500,,0\n",
        [("bom002-a", 0), ("bom001-a", 1)],
    ),
    (
        "a missing MED is the lowest",
        "203.0.113.0/24,bom001-a,64500,,1\n203.0.113.0/24,bom002-a,64500,,\n",
        [("bom002-a", 0), ("bom001-a", 1)],
    ),
    (
        "equals share a rank",
        "203.0.113.0/24,bom001-a,64500,,0\n203.0.113.0/24,bom002-a,64500,,0\n",
        [("bom001-a", 0), ("bom002-a", 0)],
    ),
    (
        "the origin code decides nothing",
        "203.0.113.0/24,bom001-a,64500,incomplete,0\n203.0.113.0/24,bom002-a,64500,igp,0\n",
        [("bom001-a", 0), ("bom002-a", 0)],
    ),
]


@pytest.mark.parametrize("preset", ["prefix_first", "local_first"])
@pytest.mark.parametrize(("routes", "ranking"), [row[1:] for row in ALIKE], ids=[row[0] for row in ALIKE])
def test_both_presets_agree(
    decided: Callable[..., Any], preset: str, routes: str, ranking: list[tuple[str, int]]
) -> None:
    assert decided(routes, ranking_policy=preset) == ranking


PREPENDED = "203.0.113.0/24,bom001-a,64500 64500 64500,,0\n203.0.113.0/24,bom003-a,64511 64500,,0\n"
ORDERS = [
    ("prefix_first", PREPENDED, [("bom003-a", 0), ("bom001-a", 1)]),
    ("local_first", PREPENDED, [("bom001-a", 0), ("bom003-a", 1)]),
    ("prefix, origin, med", "203.0.113.0/24,bom001-a,64500,incomplete,0\n203.0.113.0/24,bom002-a,64500,igp,9\n", [("bom002-a", 0), ("bom001-a", 1)]),
    ("class, prefix", "203.0.0.0/16,bom001-a,64500,,0\n203.0.113.0/24,bom003-a,64511,,0\n", [("bom001-a", 0), ("bom003-a", 1)]),
    ("prefix", "203.0.113.0/24,bom004-a,1 2 3,,9\n203.0.113.0/24,bom001-a,64500,,0\n", [("bom001-a", 0), ("bom004-a", 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("order", "routes", "ranking"), ORDERS, ids=[f"{row[0]}: {row[2][0][0]}" for row in ORDERS])
def test_an_order_is_data(decided: Callable[..., Any], order: str, routes: str, ranking: list[tuple[str, int]]) -> None:
    assert decided(routes, ranking_policy=order) == ranking


def test_a_full_appliance_is_passed_over_and_keeps_its_rank(decided: Callable[..., Any], settings: Settings) -> None:
    decided("203.0.113.0/24,bom001-a,64500,,0\n203.0.113.0/24,bom002-a,64500,,100\n")
    snapshot = Snapshot.map(settings.state)
    weights = StatusWords(str(settings.state / read_current(settings.state).status), writable=True)
    for slot, (name, site) in snapshot.names.appliances_by_slot.items():
        if site == "bom001":
            weights.set_word(slot, weights.word(slot) | NO_HEADROOM)
            assert name.endswith(("-bom001-a", "-bom001-b"))
    why = explain(snapshot, CLIENT, "t", service="video")
    first = why["targets"][0]
    assert (first["site"], first["rank"]) == ("bom002", 1)
    assert {(item["rank"], item["reason"]) for item in why["explain"]["candidates"] if item["site"] == "bom001"} == {
        (0, "H")
    }


# ---- reports


def test_stolen_space_is_told_to_the_partner_that_loses_it(decided: Callable[..., Any], settings: Settings) -> None:
    decided(
        "203.0.0.0/16,bom001-a,64500,,0\n203.0.0.0/16,bom001-b,64500,,0\n203.0.113.0/24,bom003-a,64511 64500,,0\n"
        "203.0.114.0/24,bom002-a,64500,,0\n203.0.113.0/25,bom003-a,64511 64500,,0\n"
    )
    report = report_of(settings)
    assert report["stolen"] == [
        {"partner": "as64500", "cluster": name, "v4": 256, "v6": 0, "first": ["203.0.113.0/24", "203.0.113.0/25"]}
        for name in ("bom001-a", "bom001-b")
    ]
    assert report_of(settings, "as64511")["stolen"] == []


def test_prefixes_of_one_site_and_of_some_clusters_of_a_site_are_told(
    decided: Callable[..., Any], settings: Settings
) -> None:
    decided(
        "203.0.113.0/24,bom001-a,64500,,0\n"  # one site, and not all its clusters
        "203.0.114.0/24,bom001-a,64500,,0\n203.0.114.0/24,bom001-b,64500,,0\n203.0.114.0/24,bom002-a,64500,,0\n"
        "2001:db8::/32,bom001-a,64500,,0\n2001:db8::/32,bom001-b,64500,,0\n"
    )
    report = report_of(settings, "as64500")
    assert report["single_site"] == [
        {"partner": "as64500", "site": "bom001", "v4": 1, "v6": 1, "first": ["203.0.113.0/24", "2001:db8::/32"]}
    ]
    assert report["uneven"] == [{"partner": "as64500", "site": "bom001", "v4": 1, "v6": 0, "first": ["203.0.113.0/24"]}]
    assert report["one_family"] == [{"partner": "as64500", "cluster": "bom002-a", "v4": 1, "v6": 0}]


def test_refused_rows_are_told_by_rule(decided: Callable[..., Any], settings: Settings) -> None:
    decided("203.0.113.0/24,bom001-a,64500,,0\n203.0.113.1/24,bom001-a,64500,,0\n203.0.113.0/24,nosuch,64500,,0\n")
    assert [(row["rule"], row["rows"]) for row in report_of(settings)["refused"]] == [
        ("host bits are set", 1),
        ("a cluster is one of the fleet", 1),
    ]
    assert report_of(settings, "as64500")["refused"] == []


def test_a_table_without_faults_has_none_and_strange_partners_are_refused(
    decided: Callable[..., Any], settings: Settings
) -> None:
    rows = [
        f"{prefix},{name},64500,,0\n"
        for prefix in ("203.0.113.0/24", "2001:db8::/32")
        for name in ("bom001-a", "bom001-b", "bom002-a")
    ]
    decided("".join(rows))
    assert not any(report_of(settings).values())
    with pytest.raises(RequestError, match="partner 'nosuch': the fleet has none of this id"):
        report_of(settings, "nosuch")
    result = CliRunner().invoke(main, ["report", "--state", str(settings.state)])
    assert result.output == "nothing to improve\n"


def test_a_partner_reads_its_own_report(decided: Callable[..., Any], settings: Settings) -> None:
    decided("203.0.0.0/16,bom001-a,64500,,0\n203.0.113.0/24,bom003-a,64511 64500,,0\n")
    with running_control_app(settings) as door:
        with door.client(door.make_token("partner:as64500")) as client:
            assert client.get("/v1/reports/routes").json()["stolen"][0]["cluster"] == "bom001-a"
            assert client.get("/v1/reports/routes", params={"partner": "as64511"}).status_code == 404
        with door.client(door.make_token("partner:as64511")) as client:
            assert "bom001" not in client.get("/v1/reports/routes").text
        found = CliRunner().invoke(main, ["report", "--state", str(settings.state)])
        assert "takes clients away" in found.output
        assert json.loads(CliRunner().invoke(main, ["report", "--json", "--state", str(settings.state)]).output)[
            "stolen"
        ]


def test_clusters_that_left_the_fleet_are_passed_over(
    decided: Callable[..., Any], settings: Settings, isp: Fleet
) -> None:
    decided("203.0.0.0/16,bom001-a,64500,,0\n203.0.113.0/24,bom003-a,64511 64500,,0\n")
    without = dataclasses.replace(isp, clusters=tuple(item for item in isp.clusters if item.id != "bom003-a"))
    routes = Routes(settings.state / read_current(settings.state).routes)
    numbered = [dataclasses.replace(item, number=place) for place, item in enumerate(isp.clusters)]
    gone = dataclasses.replace(without, clusters=tuple(item for item in numbered if item.id != "bom003-a"))
    assert route_report(routes, gone, {})["stolen"][0]["v4"] == 256


def test_clusters_whose_appliances_report_that_they_hear_different_prefixes_are_told(
    decided: Callable[..., Any], settings: Settings
) -> None:
    decided("203.0.113.0/24,bom001-a,64500,,0\n")
    most, fewer, other = RoutesHeard(12, "00ff"), RoutesHeard(11, "00fe"), RoutesHeard(12, "ff00")
    said = {
        "c001-bom001-a": {4: most, 6: most},
        "c002-bom001-a": {4: fewer, 6: most},
        "c001-bom003-a": {4: most},
        "c002-bom003-a": {4: other, 6: other},
        "c001-bom004-a": {6: fewer},
        "c002-bom004-a": {6: most},
    }
    with Control(settings) as control:
        for name, heard in said.items():
            control.registry.report(name, Report("b", 1, None, None, heard))
        every, own = control.tables.route_report()["heard_apart"], control.tables.route_report("as64511")["heard_apart"]
    rows = [
        ("as64500", "bom001-a", "v4", 2, 1, ["c002-bom001-a: 11"]),
        ("as64511", "bom003-a", "v4", 2, 1, ["c002-bom003-a: 12"]),
        (None, "bom004-a", "v6", 2, 1, ["c002-bom004-a: 12"]),
    ]
    names = ("partner", "cluster", "family", "sets", "apart", "first")
    assert every == [dict(zip(names, row, strict=True)) for row in rows]
    assert own == every[1:2]
