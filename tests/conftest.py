"""A tiny fleet over documentation prefixes, numbered as the store would, and published into a temporary state folder."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from _fastpath.status_words import IPV4_UP, IPV6_UP
from steering.control.routes.build import build_table
from steering.control.routes.feeds import FeedSource, read_feed
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Service
from steering.settings import Settings
from steering.state.current import Current, write_current
from steering.state.fleet import write_fleet
from steering.state.status import weight_of_capacity, write_status
from steering.state.table import BuiltTable, write_table
from tests.support.processes import Served, publish_tiny_fleet, serving

pytest_plugins = ["tests.support.control_fixtures"]


def pytest_configure() -> None:
    """Set what the tests' services have in common: no control listener over TCP, and documentation prefixes are routes."""
    os.environ.setdefault("STEERING_CONTROL_LISTEN", "")
    os.environ.setdefault("STEERING_SPECIAL_PREFIXES", "accept")
    os.environ.setdefault("STEERING_LOAD_EXCESS", "10")  # a test's few titles are no load to be bounded
    # A property is about what is right; on a busy machine anything may take long.
    hypothesis.settings.register_profile("steering", deadline=None)
    # CI draws the same examples for the same sources: where it fails, the change is at fault.
    hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
    hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "steering")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=int, default=500, help="how many cases the parity property runs")


@pytest.fixture(scope="session")
def cases(pytestconfig: pytest.Config) -> int:
    """Return how many cases a property over real sockets runs."""
    return int(pytestconfig.getoption("--cases"))


# An ISP with two sites, an exchange with its routes too, and an open exchange far away.
ROUTES = """\
prefix,cluster,as_path,med
203.0.113.0/24,bom001-a,64500,0
203.0.113.0/24,del001-a,64500,100
203.0.0.0/16,bom002-a,64510 64500,0
2001:db8::/32,bom001-a,64500,0
2001:db8::/32,del001-a,64500,100
198.51.100.0/24,lhr001-a,64511,0
"""


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """Two embedded sites of one partner in India, an exchange in Mumbai and one in London; two appliances each."""
    sites = (
        Site("bom001", "IN", "Mumbai", 19.09, 72.87),
        Site("bom002", "IN", "Mumbai", 19.1, 72.9),
        Site("del001", "IN", "Delhi", 28.57, 77.1),
        Site("lhr001", "GB", "London", 51.47, -0.45),
    )
    clusters = (
        Cluster("bom001-a", "bom001", RouteClass.embedded, "as64500", number=0),
        Cluster("bom002-a", "bom002", RouteClass.exchange, None, ("IN",), True, number=1),
        Cluster("del001-a", "del001", RouteClass.embedded, "as64500", number=2),
        Cluster("lhr001-a", "lhr001", RouteClass.exchange, None, ("GB",), True, number=3),
    )
    appliances = tuple(
        Appliance(f"c{i:03}-{site.id}", f"{site.id}-a", f"c{i:03}-{site.id}.cdn.example", 100.0, slot=2 * place + i - 1)
        for place, site in enumerate(sites)
        for i in (1, 2)
    )
    return Fleet(
        partners=(Partner("as64500", "Example ISP", "IN", (64500,), 1),),
        sites=sites,
        clusters=clusters,
        appliances=tuple(sorted(appliances, key=lambda appliance: appliance.id)),
        services=(Service("video", "https://{host}/v/{title}", "https://origin.example/v/{title}"),),
    )


@pytest.fixture(scope="session")
def build(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., BuiltTable]:
    """Return a function that builds the table of a CSV text for the tiny fleet, or another."""

    def make(routes: str = ROUTES, fleet: Fleet = fleet, **settings: object) -> BuiltTable:
        path = tmp_path_factory.mktemp("feed") / "routes.csv"
        path.write_text(routes)
        return build_table([read_feed(FeedSource("csv", str(path)), fleet)], fleet, Settings(**settings))  # type: ignore[arg-type]

    return make


Publish = Callable[..., Path]


@pytest.fixture(scope="session")
def publish(build: Callable[..., BuiltTable], fleet: Fleet) -> Publish:
    """Return a function that publishes the tiny fleet into a folder and returns it."""

    def make(
        state: Path,
        routes: str = ROUTES,
        version: int = 1,
        generation: int = 1,
        fleet: Fleet = fleet,
        **settings: object,
    ) -> Path:
        state.mkdir(mode=0o700, exist_ok=True)
        words = {
            appliance.slot: weight_of_capacity(appliance.capacity_gbps)
            | appliance.ipv4 * IPV4_UP
            | appliance.ipv6 * IPV6_UP
            for appliance in fleet.appliances
        }
        weights = write_status(state, 1, [words.get(slot, 0) for slot in range(max(words, default=-1) + 1)])
        names = write_table(state, version, build(routes, fleet, **settings))
        write_current(state, Current(generation, *names, write_fleet(state, 1, fleet), weights, time.time()))
        return state

    return make


@pytest.fixture
def state_folder(tmp_path: Path, publish: Publish) -> Path:
    """Return a state folder in which the tiny fleet is published."""
    return publish(tmp_path / "state")


@pytest.fixture
def snapshot(state_folder: Path) -> Snapshot:
    """Return the published tiny fleet, mapped."""
    return Snapshot.map(state_folder)


@pytest.fixture
def served(tmp_path: Path, fleet: Fleet) -> Iterator[Served]:
    """Return a service of two workers that serves the tiny fleet."""
    with serving(publish_tiny_fleet(tmp_path, fleet)) as result:
        yield result


@pytest.fixture
def renamed() -> Callable[[Fleet], Fleet]:
    """Return a function that gives a fleet another service, for tests that need a second version."""

    def make(fleet: Fleet) -> Fleet:
        return dataclasses.replace(
            fleet, services=(*fleet.services, dataclasses.replace(fleet.services[0], id="games"))
        )

    return make


@pytest.fixture
def write_mmdb(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an MMDB: {prefix: record}, a record a dict of strings and dicts."""

    def encode(value: object) -> bytes:
        match value:
            case str():
                size = bytes([2 << 5 | len(value)]) if len(value) < 29 else bytes([2 << 5 | 29, len(value) - 29])
                return size + value.encode()
            case dict():
                pairs = b"".join(encode(key) + encode(item) for key, item in value.items())
                return bytes([7 << 5 | len(value)]) + pairs
            case float():
                return bytes([3 << 5 | 8]) + struct.pack(">d", value)
            case [dict(), *_]:  # an array
                return bytes([len(value), 11 - 7]) + b"".join(encode(item) for item in value)
            case []:
                return bytes([0, 11 - 7])
            case [size, number]:  # an unsigned number of so many bytes
                kind = {2: 5, 4: 6, 8: 9}[size]
                head = bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])
                return head + number.to_bytes(size, "big")
        raise TypeError(value)

    def make(records: dict[str, object], name: str = "countries.mmdb", version: int = 6) -> Path:
        nodes: list[list[int | None]] = [[None, None]]
        ends: list[tuple[int, int, bytes]] = []
        for prefix, record in records.items():
            network = ipaddress.ip_network(prefix)
            bits = format(int(network.network_address), f"0{network.max_prefixlen}b")[: network.prefixlen]
            if network.version < version:
                bits = "0" * 96 + bits
            node = 0
            for bit in bits[:-1]:
                if nodes[node][int(bit)] is None:
                    nodes[node][int(bit)] = len(nodes)
                    nodes.append([None, None])
                node = nodes[node][int(bit)] or 0
            ends.append((node, int(bits[-1]), encode(record)))
        data = b""
        for node, side, packed in ends:
            nodes[node][side] = len(nodes) + 16 + len(data)
            data += packed
        tree = b"".join((len(nodes) if at is None else at).to_bytes(3, "big") for node in nodes for at in node)
        about = {
            "binary_format_major_version": (2, 2),
            "binary_format_minor_version": (2, 0),
            "build_epoch": (8, 1_781_654_400),
            "database_type": "Test-Country",
            "description": {},
            "ip_version": (2, version),
            "languages": [],
            "node_count": (4, len(nodes)),
            "record_size": (2, 24),
        }
        path = tmp_path / name
        path.write_bytes(tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + encode(about))
        return path

    return make
