"""Route origin validation, judged route by route against every payload (RFC 6811, section 2)."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.routes.feeds import Feed, FeedSource, read_feed
from steering.control.routes.rpki import Payloads, read_payloads, validated
from steering.control.services.control import Control
from steering.decision.explain import explain
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.model.route import Rpki
from steering.settings import Settings
from steering.state.routes import prefix_text

V4 = st.tuples(st.integers(20, 28), st.integers(0, 2**12)).map(
    lambda drawn: str(ipaddress.ip_network((0xC0000000 | drawn[1] << 4, drawn[0]), strict=False))
)
V6 = st.tuples(st.integers(28, 40), st.integers(0, 2**8)).map(
    lambda drawn: str(ipaddress.ip_network((0x20010D00 << 96 | drawn[1] << 88, drawn[0]), strict=False))
)
PREFIXES = st.one_of(V4, V6)
ASNS = st.sampled_from([0, 64500, 64501])


def judge(prefix: str, origin: int, payloads: list[tuple[str, int, int]]) -> Rpki:
    """Return the state of a route as the RFC says it."""
    route = ipaddress.ip_network(prefix)
    covering = [
        (asn, longest)
        for other, asn, longest in payloads
        if ipaddress.ip_network(other).version == route.version and route.subnet_of(ipaddress.ip_network(other))  # type: ignore[arg-type]
    ]
    if not origin or not covering:
        return Rpki.not_found
    return (
        Rpki.valid if any(asn == origin and route.prefixlen <= longest for asn, longest in covering) else Rpki.invalid
    )


def write_payloads(path: Path, payloads: list[tuple[str, int, int]]) -> Payloads:
    roas = [{"asn": f"AS{asn}", "prefix": prefix, "maxLength": longest, "ta": "x"} for prefix, asn, longest in payloads]
    path.write_text(json.dumps({"metadata": {}, "roas": roas}))
    return read_payloads(path)


@given(
    routes=st.lists(st.tuples(PREFIXES, ASNS), min_size=1, max_size=12),
    drawn=st.lists(st.tuples(PREFIXES, ASNS, st.integers(0, 8)), min_size=1, max_size=12),
)
def test_every_route_has_the_state_of_the_rfc(
    routes: list[tuple[str, int]],
    drawn: list[tuple[str, int, int]],
    fleet: Fleet,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("rpki")
    payloads = [(prefix, asn, int(prefix.rpartition("/")[2]) + more) for prefix, asn, more in drawn]
    payloads = [(prefix, asn, min(longest, 128 if ":" in prefix else 32)) for prefix, asn, longest in payloads]
    path = folder / "routes.csv"
    rows = [f"{prefix},bom001-a,{origin or ''}" for prefix, origin in routes]
    path.write_text("prefix,cluster,as_path\n" + "".join(f"{row}\n" for row in rows))
    feed = validated(read_feed(FeedSource("csv", str(path)), fleet), write_payloads(folder / "vrps.json", payloads))
    expected = [(prefix, origin, judge(prefix, origin, payloads)) for prefix, origin in routes]
    assert sorted(states_of(feed)) == sorted(row for row in expected if row[2] != Rpki.invalid)
    refused = sorted(prefix for prefix, _, state in expected if state == Rpki.invalid)
    assert sorted(refusal.value for refusal in feed.refusals) == refused
    assert feed.refused == len(refused)
    for refusal in feed.refusals:
        prefix, origin, _ = expected[refusal.row - 2]
        assert refusal.value == prefix
        assert refusal.rule == f"RPKI invalid (RFC 6811); its origin is AS{origin}"


def states_of(feed: Feed) -> list[tuple[str, int, Rpki]]:
    """Return prefix, origin and state of each row."""
    assert feed.state_of is not None
    result = []
    for family, columns in feed.columns.items():
        for place in range(len(columns)):
            kind = columns.value[place]
            text = prefix_text(family, columns.high[place] << 64 | columns.low[place], columns.length[place])
            result.append((text, feed.origin_of[kind], Rpki(feed.state_of[kind])))
    return result


BAD_PAYLOADS: list[tuple[Any, str]] = [
    (7, "a payload is an object"),
    ({"prefix": "192.0.2.0/24"}, "asn is a number from 0 to 4294967295, or AS and one"),
    ({"asn": "64500x", "prefix": "192.0.2.0/24"}, "asn is a number from 0 to 4294967295, or AS and one"),
    ({"asn": 2**32, "prefix": "192.0.2.0/24"}, "asn is a number from 0 to 4294967295, or AS and one"),
    ({"asn": True, "prefix": "192.0.2.0/24"}, "asn is a number from 0 to 4294967295, or AS and one"),
    ({"asn": 1}, "a prefix is written address/length"),
    ({"asn": 1, "prefix": "192.0.2.0/24 7"}, "a prefix is written address/length"),
    ({"asn": 1, "prefix": "192.0.2.0"}, "a prefix is written address/length"),
    ({"asn": 1, "prefix": "192.0.2.1/24"}, "host bits are set; write 192.0.2.0/24"),
    (
        {"asn": 1, "prefix": "192.0.2.0/24", "maxLength": 23},
        "maxLength is a number from the prefix's length to that of an address",
    ),
    (
        {"asn": 1, "prefix": "192.0.2.0/24", "maxLength": 33},
        "maxLength is a number from the prefix's length to that of an address",
    ),
    (
        {"asn": 1, "prefix": "192.0.2.0/24", "maxLength": "24"},
        "maxLength is a number from the prefix's length to that of an address",
    ),
    *(
        ({"asn": 1, "prefix": prefix}, "a payload for IPv4 is written as IPv4")
        for prefix in (
            *(
                "::ffff:192.0.2.0/120",
                "::FFFF:c000:200/120",
                "0:0:0:0:0:ffff:192.0.2.0/120",
                "0000::ffff:192.0.2.0/120",
            ),
            *("64:ff9b::192.0.2.0/120", "0064:FF9B::192.0.2.0/120", "64:ff9b:0:0:0:0:c000:200/120", "64:ff9b::/96"),
            *("2002:c000:0200::/40", "2002::/16", "2002:c000:200:1::/64", "::ffff:0:0/96"),
        )
    ),
]


@pytest.mark.parametrize(("item", "rule"), BAD_PAYLOADS, ids=lambda value: str(value)[:50])
def test_a_bad_payload_is_skipped_and_reported(tmp_path: Path, item: Any, rule: str) -> None:
    path = tmp_path / "vrps.json"
    path.write_text(json.dumps({"roas": [{"asn": 64500, "prefix": "198.51.100.0/24"}, item]}))
    payloads = read_payloads(path)
    assert [(refusal.row, refusal.rule) for refusal in payloads.refusals] == [(2, rule)]
    assert payloads.describe()["accepted"] == 1


@pytest.mark.parametrize("prefix", ["::/0", "64:ff9b:1::/48", "2003::/16", "2000::/3", "::ffff:0:0/95", "64::/16"])
def test_payloads_around_translated_addresses_are_of_ipv6(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "vrps.json"
    path.write_text(json.dumps({"roas": [{"asn": 64500, "prefix": str(ipaddress.IPv6Network(prefix, strict=False))}]}))
    assert len(read_payloads(path).columns[6]) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"roas": 7}', '{"roas": []}', '{"roas": [7]}', "[" * 99_999])
def test_what_is_no_validators_export_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vrps.json"
    path.write_text(text)
    with pytest.raises(FeedError, match=r"^vrps\.json: (not JSON|has no list of roas|holds no payload)"):
        read_payloads(path)


DAMAGED_EXPORTS = [
    (b"[" * 99_999, "not JSON: it is nested too deep"),
    (b'{"roas": [{"asn": ' + b"9" * 5000 + b"}]}", "not JSON: a number has too many digits"),
    (b'{"roas": "\xff"}', "not JSON: it is not UTF-8, at byte 10"),
    (b'{"roas": [1,\n2,]}', "not JSON: Expecting value: line 2 column 3"),
    (b'{"roas": [{"asn": NaN, "prefix": "192.0.2.0/24"}]}', "holds no payload that can be used; the first of 1 refused: asn is"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), DAMAGED_EXPORTS, ids=[row[1][:40] for row in DAMAGED_EXPORTS])
def test_a_damaged_export_is_named_with_place_and_rule(tmp_path: Path, text: bytes, reason: str) -> None:
    path = tmp_path / "vrps.json"
    path.write_bytes(text)
    with pytest.raises(FeedError) as caught:
        read_payloads(path)
    assert str(caught.value).startswith(f"vrps.json: {reason}")


def test_the_state_reaches_explain_and_the_invalid_route_is_not_served(
    tmp_path: Path, settings: Settings, fleet: Fleet, write_feed: Callable[..., FeedSource]
) -> None:
    write_payloads(tmp_path / "vrps.json", [("203.0.113.0/24", 64500, 24), ("198.51.100.0/24", 64511, 24)])
    checked = settings.model_copy(update={"rpki": tmp_path / "vrps.json"})
    feed = write_feed(
        "203.0.113.0/24,bom001-a,64500,0\n", "198.51.100.0/24,bom001-a,64500,0\n", "192.0.2.0/24,bom001-a,64500,0\n"
    )
    with Control(checked) as control:
        control.fleet.replace(fleet, "test")
        report = control.tables.publish([feed], "test")
    assert report["feeds"][0]["refused_by"] == {"RPKI invalid (RFC 6811)": 1}
    assert [item["accepted"] for item in report["other_sources"] if item["kind"] == "rpki"] == [2]
    snapshot = Snapshot.map(settings.state)
    result = {}
    for address in ("203.0.113.1", "198.51.100.1", "192.0.2.1"):
        why = explain(snapshot, address, "t", service="video")["explain"]
        result[address] = [(route["prefix"], route["rpki"]) for route in why["routes"]]
    assert result == {
        "203.0.113.1": [("203.0.113.0/24", "valid")],
        "198.51.100.1": [],
        "192.0.2.1": [("192.0.2.0/24", "not_found")],
    }


def test_a_route_that_keeps_its_cluster_away_is_not_validated(tmp_path: Path, fleet: Fleet) -> None:
    path = tmp_path / "routes.csv"
    path.write_text(
        "prefix,cluster,as_path,exclude\n203.0.113.0/24,bom001-a,64511,yes\n203.0.113.0/24,del001-a,64511\n"
        "203.0.113.0/25,del001-a,64500,no\n"
    )
    feed = read_feed(FeedSource("csv", str(path)), fleet)
    payloads = write_payloads(tmp_path / "vrps.json", [("203.0.113.0/24", 64500, 25)])
    result = validated(feed, payloads)
    assert states_of(result) == [("203.0.113.0/24", 64511, Rpki.not_found), ("203.0.113.0/25", 64500, Rpki.valid)]
    assert [item.row for item in result.refusals] == [3]
    assert [item.excludes for members in result.sets for item in members] == [True, False]


def test_without_a_validator_no_state_is_shown(serving: Control, settings: Settings) -> None:
    why = explain(Snapshot.map(settings.state), "203.0.113.1", "t", service="video")["explain"]
    assert [route["rpki"] for route in why["routes"]] == [None]
