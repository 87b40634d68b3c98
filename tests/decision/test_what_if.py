"""Explaining a client's answer step by step, and what it would be if."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from _fastpath.request import Refusal, read_steer_query
from steering.cli import main
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.decision.explain import describe, name_deciding_keys
from steering.decision.refusals import error_of
from steering.decision.snapshot import Snapshot
from steering.decision.what_if import Question, failed_appliances, first_address
from steering.errors import RequestError
from steering.model.fleet import Fleet
from steering.model.policy import RANKING_KEYS
from steering.model.prefix import parse_address
from steering.model.route import Announcement, RouteClass
from steering.settings import Settings
from tests.support.control_app import running_control_app
from tests.support.questions import CLIENT, HOME, sites, what_if

WriteFeed = Callable[..., FeedSource]


# ---- explain


def test_each_ranking_entry_names_the_step_of_the_policy_that_decided(rich: Control, settings: Settings) -> None:
    why = CLIENT.answered_by(Snapshot.map(settings.state))["explain"]
    assert [
        (ranking_entry["cluster"], ranking_entry["rank"], ranking_entry["behind"]) for ranking_entry in why["ranking"]
    ] == [
        ("bom001-a", 0, None),
        ("del001-a", 1, "med"),
        ("bom002-a", 2, "as_path"),
        ("lhr001-a", 3, "prefix"),
    ]
    assert why["versions"]["age_s"] >= 0


def test_refused_rows_that_cover_the_client_are_shown(settings: Settings, fleet: Fleet, write_feed: WriteFeed) -> None:
    strict = settings.model_copy(update={"accept_v4": "8-24"})
    with_rule = "prefixes from /8 to /24 are accepted"
    feed = write_feed(HOME, "203.0.113.0/25,lhr001-a,1,0\n", "203.0.113.128/25,lhr001-a,1,0\n")
    with Control(strict) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([feed], "test")
    why = CLIENT.answered_by(Snapshot.map(settings.state))["explain"]
    assert [(item["row"], item["value"], item["rule"]) for item in why["refused"]] == [(3, "203.0.113.0/25", with_rule)]


FORMS = ["::ffff:203.0.113.9", "::ffff:cb00:7109", "64:ff9b::203.0.113.9", "2002:cb00:7109::1", "2002:cb00:7109:1::"]


@pytest.mark.parametrize("address", FORMS)
def test_an_address_means_one_thing_however_it_is_written(rich: Control, settings: Settings, address: str) -> None:
    snapshot = Snapshot.map(settings.state)
    plain, asked = CLIENT.answered_by(snapshot), Question(address, "80100172", "video").answered_by(snapshot)
    for answer in (plain, asked):
        del answer["explain"]["versions"]
    assert asked == plain
    assert describe(snapshot, ipaddress.ip_address(address).packed) == describe(snapshot, "203.0.113.9")
    looked_up = [
        CliRunner().invoke(main, ["lookup", "--json", "--state", str(settings.state), text], catch_exceptions=False)
        for text in ("203.0.113.9", address)
    ]
    assert looked_up[0].output == looked_up[1].output


def test_the_first_address_of_a_prefix_is_unwrapped() -> None:
    for text in ("203.0.113.0/24", "::ffff:203.0.113.0/120", "64:ff9b::203.0.113.0/120", "2002:cb00:7100::/40"):
        assert first_address(text) == "203.0.113.0"
    with pytest.raises(RequestError, match="a 6to4 prefix has a length up to 48"):
        first_address("2002:cb00:7109:1::/64")


AROUND = [
    ("2002::/15", "2003::"),
    ("64:ff9b::/95", "64:ff9b::1:0:0"),
    ("64:ff9b::/32", "64:ff9b::1:0:0"),
    ("::fffe:0:0/95", "::fffe:0:0"),
    ("2000::/3", "2000::"),
    ("::/0", "::"),
    ("::ffff:0:0/96", "0.0.0.0"),
]


@pytest.mark.parametrize(("text", "address"), AROUND)
def test_a_prefix_around_translated_addresses_is_asked_for_by_one_that_is_answered_by_it(
    text: str, address: str
) -> None:
    assert first_address(text) == address
    assert ipaddress.ip_address(parse_address(address)) == ipaddress.ip_address(address), "it is not unwrapped"


def test_a_mapped_prefix_that_was_refused_is_told(settings: Settings, fleet: Fleet, write_feed: WriteFeed) -> None:
    strict = settings.model_copy(update={"accept_v4": "8-24"})
    feed = write_feed(HOME, "::ffff:203.0.113.0/121,lhr001-a,1,0\n")
    with Control(strict) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([feed], "test")
    why = CLIENT.answered_by(Snapshot.map(settings.state))["explain"]
    assert [item["value"] for item in why["refused"]] == ["203.0.113.0/25"]


STEPS = [
    ({"med": 7}, ("prefix", "as_path", "med", "class", "distance"), "med"),
    ({"route_class": RouteClass.transit}, ("prefix", "as_path", "med", "class", "distance"), "class"),
    ({"origin": 1}, ("origin", "distance"), "origin"),
    ({}, ("prefix", "as_path", "med", "class", "distance"), "distance"),
    ({"med": 7}, ("distance", "med"), "distance or med"),
]


@pytest.mark.parametrize(("attributes", "policy", "step"), STEPS)
def test_the_step_is_the_first_key_that_differs(attributes: dict[str, Any], policy: tuple[str, ...], step: str) -> None:
    assert set(policy) <= set(RANKING_KEYS)
    ranking: list[dict[str, Any]] = [
        {"cluster": "a", "rank": 0, "fallback": False},
        {"cluster": "b", "rank": 1, "fallback": False},
        {"cluster": "c", "rank": 1, "fallback": False},
        {"cluster": "d", "rank": 2, "fallback": True},
    ]
    other = Announcement(1, **{"route_class": RouteClass.embedded, **attributes})
    worse = Announcement(1, RouteClass.transit, hops=9, origin=2, med=9)
    clusters = {"a": Announcement(0, RouteClass.embedded), "b": other, "c": other, "b ": worse}
    routes = [{"cluster": cluster.strip(), "prefix": "10.0.0.0/8"} for cluster in clusters]
    name_deciding_keys(ranking, routes, list(clusters.values()), policy)
    assert [ranking_entry["behind"] for ranking_entry in ranking] == [None, step, None, "no route"]


@pytest.mark.parametrize(
    ("text", "address"), [("10.0.0.1", "10.0.0.1"), ("10.0.0.0/8", "10.0.0.0"), ("2001:db8::/32", "2001:db8::")]
)
def test_a_prefix_is_asked_for_by_its_first_address(text: str, address: str) -> None:
    assert first_address(text) == address


@pytest.mark.parametrize("text", ["", "banana", "10.0.0.1/8", "fe80::1%eth0", "10.0.0.0/33", "fe80::%1/64"])
def test_what_is_neither_address_nor_prefix_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        first_address(text)


FAILED = [
    (None, ()),
    ("c001-bom001", ("c001-bom001",)),
    ("c001-bom001, c1.example", ("c001-bom001", "c1.example")),
    (",".join("abcdefgh"), tuple("abcdefgh")),
]


@pytest.mark.parametrize(("text", "names"), FAILED)
def test_failed_appliances_are_ids_and_hosts_with_commas_between(text: str | None, names: tuple[str, ...]) -> None:
    assert failed_appliances(text) == names


@pytest.mark.parametrize("text", ["", "a,,b", "a b", "a&n=1", ",".join("abcdefghi"), "x" * 254, "\u00e9", "\udcff"])
def test_failed_appliances_are_refused_in_the_words_of_steer(text: str) -> None:
    query = b"title=t&failed=" + quote(text, errors="surrogateescape").encode()
    with pytest.raises(Refusal) as steer:
        read_steer_query(query, "video")
    with pytest.raises(RequestError) as actual:
        failed_appliances(text)
    assert str(actual.value) == str(error_of(steer.value))


# ---- what if


def test_another_table(rich: Control, settings: Settings, write_feed: WriteFeed) -> None:
    rich.tables.publish([write_feed("203.0.113.0/24,lhr001-a,64511,0\n")], "test")
    report = what_if(settings, CLIENT, table=1)
    assert (sites(report["now"])[0], sites(report["then"])[0], report["changed"]) == ("lhr001", "bom001", True)
    assert (report["now"]["table"], report["then"]["table"]) == (2, 1)
    assert not what_if(settings, CLIENT, table=2)["changed"]


def test_appliances_and_sites_off(rich: Control, settings: Settings) -> None:
    assert sites(what_if(settings, CLIENT)["then"])[:2] == ["bom001", "bom001"]
    report = what_if(settings, CLIENT, off=["c001-bom001"])
    assert "c001-bom001" not in [target["appliance"] for target in report["then"]["targets"]]
    assert report["changed"]
    assert sites(what_if(settings, CLIENT, off=["bom001", "del001", "bom002"])["then"]) == [
        "lhr001",
        "lhr001",
        "fallback",
    ]
    assert sites(what_if(settings, CLIENT)["now"])[0] == "bom001"  # nobody was switched off


BAD: list[tuple[dict[str, Any], str]] = [
    ({"table": 7}, "table 7: its files are not kept"),
    ({"off": ["nosuch"]}, "parameter off = 'nosuch'"),
]


@pytest.mark.parametrize(("given", "rule"), BAD, ids=[rule[:30] for _, rule in BAD])
def test_what_cannot_be_is_refused_by_name(rich: Control, settings: Settings, given: dict[str, Any], rule: str) -> None:
    with pytest.raises(RequestError, match=rule.replace("(", r"\(")):
        what_if(settings, CLIENT, **given)


# ---- API and command line


def test_over_http(settings: Settings, fleet: Fleet, write_feed: WriteFeed) -> None:
    with running_control_app(settings) as app, app.client(app.make_token("ops")) as client:
        assert client.get("/v1/explain", params={"ip": "203.0.113.9"}).status_code == 503
        app.thread.submit(app.control.fleet.replace, fleet, "test").result()
        app.thread.submit(app.control.tables.publish, [write_feed(HOME)], "test").result()
        answer = client.get("/v1/explain", params={"ip": "203.0.113.9", "title": "t", "n": 2, "family": "4"})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["targets"]) == 2
        assert answer.json()["explain"]["ranking"][0]["cluster"] == "bom001-a"
        failed = client.get("/v1/explain", params={"ip": "203.0.113.9", "failed": "c001-bom001,c002-bom001"}).json()
        assert "bom001" not in sites(failed)
        refused = client.get("/v1/explain", params={"ip": "203.0.113.9", "failed": "a,,b"})
        assert (refused.status_code, refused.json()["parameter"]) == (400, "failed")
        off = client.get("/v1/what-if", params={"ip": "203.0.113.0/24", "off": ["bom001", "bom002"]}).json()
        assert off["changed"]
        assert sites(off["then"])[0] == "lhr001"
        more = client.get("/v1/what-if", params={"ip": "203.0.113.9", "route": "203.0.113.0/28,del001-a,1"}).json()
        assert sites(more["then"])[0] == "del001"
        for params in ({}, {"ip": "x"}, {"ip": "203.0.113.9", "n": "9"}, {"ip": "203.0.113.9", "family": "5"}):
            assert client.get("/v1/explain", params=params).status_code in (400, 422)
        assert client.get("/v1/what-if", params={"ip": "203.0.113.9", "off": "nosuch"}).status_code == 404


def test_the_commands(rich: Control, settings: Settings) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "--state", str(settings.state)])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "as_path" in run("explain", "203.0.113.0/24")
    assert "failed for this client" in run("explain", "203.0.113.9", "--failed", "c001-bom001")
    explained = json.loads(
        run("explain", "203.0.113.9", "--title", "t", "--failed", "c001-bom001,c002-bom001", "--json")
    )
    snapshot, failed = Snapshot.map(settings.state), ("c001-bom001", "c002-bom001")
    answer = json.loads(snapshot.steer("203.0.113.9", "t", service="video", failed=failed))
    assert explained["targets"] == answer["targets"]
    assert sites(explained)[0] == "del001"  # the site of both is passed over
    assert run("what-if", "203.0.113.9", "--off", "bom001", "--failed", "c001-bom001,c002-bom001").endswith(
        "the same\n"
    )
    assert "the answer now: c00" in run("what-if", "203.0.113.9", "--off", "bom001")
    assert "the answer now is the same" in run("what-if", "203.0.113.9", "--off", "lhr001", "--title", "t")
    report = json.loads(run("what-if", "203.0.113.9", "--route", "203.0.113.0/28,del001-a,1", "--json"))
    assert report["changed"]
