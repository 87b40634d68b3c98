"""Questions about prefixes: judged by comparing with every prefix there is."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steering.control.routes.reports import about_prefix
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.model.prefix import parse_prefix
from steering.state.routes import Routes


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory, publish: Callable[..., Path]) -> Routes:
    state = publish(tmp_path_factory.mktemp("index") / "state")
    return Snapshot.map(state).routes


PREFIXES = [
    ipaddress.ip_network(text) for text in ("203.0.113.0/24", "203.0.0.0/16", "2001:db8::/32", "198.51.100.0/24")
]

ROWS = [
    # asked, exact clusters, covering prefixes, inside
    ("203.0.113.0/24", [0, 2], ["203.0.0.0/16"], []),
    ("203.0.0.0/16", [1], [], ["203.0.113.0/24"]),
    ("203.0.113.7", [], ["203.0.113.0/24", "203.0.113.0/24", "203.0.0.0/16"], []),
    ("203.0.113.128/25", [], ["203.0.113.0/24", "203.0.113.0/24", "203.0.0.0/16"], []),
    ("0.0.0.0/0", [], [], ["198.51.100.0/24", "203.0.0.0/16", "203.0.113.0/24"]),
    ("192.0.2.0/24", [], [], []),
    ("2001:db8::/32", [0, 2], [], []),
    ("2001:db8:1::/48", [], ["2001:db8::/32", "2001:db8::/32"], []),
    ("::/0", [], [], ["2001:db8::/32"]),
]


@pytest.mark.parametrize(("asked", "exact", "covering", "inside"), ROWS, ids=[row[0] for row in ROWS])
def test_a_prefix_is_answered_with_itself_what_covers_it_and_what_lies_inside(
    routes: Routes, asked: str, exact: list[int], covering: list[str], inside: list[str]
) -> None:
    for _ in range(2):  # a question leaves nothing behind
        found = about_prefix(routes, asked)
        assert sorted(route["cluster"] for route in found["exact"]) == exact
        assert [route["prefix"] for route in found["covering"]] == covering
        assert sorted(found["inside"]) == inside
        assert found["inside_count"] == len(inside)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_any_prefix_is_answered_as_by_comparing_with_all(routes: Routes, number: int, length: int) -> None:
    network = ipaddress.ip_network((number, length), strict=False)
    found = about_prefix(routes, str(network))
    known = [other for other in PREFIXES if isinstance(other, ipaddress.IPv4Network)]
    assert isinstance(network, ipaddress.IPv4Network)
    above = [other for other in known if other != network and network.subnet_of(other)]
    below = [other for other in known if other != network and other.subnet_of(network)]
    assert {route["prefix"] for route in found["covering"]} == {str(other) for other in above}
    assert set(found["inside"]) == {str(other) for other in below}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("203.0.113.7/24", "write 203.0.113.0/24"),
        ("203.0.113.0/33", "203.0.113.0/33"),
        ("fe80::1%eth0/64", "zone id"),
        ("2001:db8::1/32", "write 2001:db8::/32"),
        ("what", "what"),
        ("", "''"),
    ],
)
def test_what_is_no_prefix_is_refused_by_name(text: str, rule: str) -> None:
    with pytest.raises(RequestError, match=rule) as caught:
        parse_prefix(text)
    assert caught.value.parameter == "prefix"
