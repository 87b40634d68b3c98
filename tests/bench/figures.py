"""The figures of bench.json, each beside a peer in the same run: `make bench`, never part of `make test`.

Ratios are medians of rounds taken in turn, ours and the peer's, on the same addresses.
"""

from __future__ import annotations

import hmac
import io
import ipaddress
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytricia
import radix

import geo_data
from _fastpath import lpm, mrt, prefix_rows, rib
from _fastpath.counters import Counters
from _fastpath.intervals import Chains, sweep
from _fastpath.ranking import Trace
from steering.control.feed_files import read_text
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.control.services.synthetic_fleet import synthesize
from steering.decision.snapshot import Snapshot
from steering.model.service import Service
from steering.playback.signing.tokens import Signing, SigningKey, token_for
from steering.playback.telemetry.cmcd import read_body
from steering.playback.telemetry.player_reports import PlayerReports
from steering.settings import Settings
from tests.bench.measure import COUNT, Report, Table, median_ns
from tests.support import dumps

PAIRS = 7


@pytest.fixture(scope="session")
def peers(table: Table) -> dict[tuple[str, int], Callable[[str], Any]]:
    """Return the lookup of each peer, by (name, family), loaded with the shipped prefixes."""
    tries = {4: pytricia.PyTricia(32), 6: pytricia.PyTricia(128)}
    tree = radix.Radix()
    for prefix, asn in table.rows:
        tries[6 if ":" in prefix else 4][prefix] = asn
        tree.add(prefix).data["asn"] = asn
    return {
        ("pytricia", 4): tries[4].get,
        ("pytricia", 6): tries[6].get,
        ("py-radix", 4): tree.search_best,
        ("py-radix", 6): tree.search_best,
    }


@pytest.mark.parametrize("family", [4, 6])
def test_lookup(benchmark: Any, report: Report, table: Table, snapshot: Snapshot, peers: Any, family: int) -> None:
    addresses = table.addresses[family]
    lookup = snapshot.prefixes.lookup
    for name in ("pytricia", "py-radix"):
        ours, theirs = [], []
        for _ in range(PAIRS if name == "pytricia" else 3):
            ours.append(median_ns(lookup, addresses, 3))
            theirs.append(median_ns(peers[name, family], addresses, 3))
        report.add(f"lookup_v{family}", statistics.median(ours), "ns", name, statistics.median(theirs))

    def look_up_all() -> None:
        for address in addresses:
            lookup(address)

    benchmark.pedantic(look_up_all, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("family", [4, 6])
def test_lookup_many(benchmark: Any, report: Report, table: Table, snapshot: Snapshot, family: int) -> None:
    packed = table.packed(family) * 5
    zones = array("I", bytes(4 * COUNT * 5))
    times = []
    for _ in range(15):
        start = time.perf_counter_ns()
        snapshot.prefixes.lookup_many(packed, zones, family)
        times.append((time.perf_counter_ns() - start) / len(zones))
    report.add(f"lookup_many_v{family}", statistics.median(times), "ns")
    benchmark.pedantic(snapshot.prefixes.lookup_many, (packed, zones, family), rounds=5)


def test_steer(benchmark: Any, report: Report, table: Table, tmp_path: Path) -> None:
    """Lookup, pick of 3 from 16 candidates of one rank, and the answer's bytes, on the full-size table."""
    fleet = sixteen_candidates()
    with Control(Settings(state=tmp_path / "state")) as control:
        control.fleet.replace(fleet, who="bench")
        control.tables.publish([FeedSource("asn")], who="bench", why="bench")
    snapshot = Snapshot.map(tmp_path / "state")
    addresses = [address for address in table.addresses[4] if candidates(snapshot, address) == 16][:50_000]
    assert len(addresses) == 50_000
    requests = [(address, str(80_000_000 + index)) for index, address in enumerate(addresses)]

    def steer_all() -> None:
        steer = snapshot.steer
        for address, title in requests:
            steer(address, title, service="video")

    times = []
    for _ in range(PAIRS):
        start = time.perf_counter_ns()
        steer_all()
        times.append((time.perf_counter_ns() - start) / len(requests))
    report.add("steer", statistics.median(times), "ns")
    benchmark.pedantic(steer_all, rounds=3)


def sixteen_candidates() -> Any:
    """Return a fleet whose one exchange in the United States has sixteen appliances, at eight sites in one city."""
    from steering.model.fleet import Appliance, Cluster, Fleet, Site
    from steering.model.route import RouteClass
    from steering.model.service import Service

    sites = [Site(f"jfk{i:03}", "US", "New York", 40.64, -73.78) for i in range(1, 9)]
    clusters = [Cluster(f"{site.id}-a", site.id, RouteClass.exchange, None, ("US",), True) for site in sites]
    appliances = [
        Appliance(f"c{i:03}-{site.id}", f"{site.id}-a", f"c{i:03}-{site.id}.cdn.example", 100.0)
        for site in sites
        for i in (1, 2)
    ]
    service = Service("video", "https://{host}/v/{title}", "https://origin.example/v/{title}")
    ordered = tuple(sorted(appliances, key=lambda appliance: appliance.id))
    return Fleet((), tuple(sites), tuple(clusters), ordered, (service,))


def candidates(snapshot: Snapshot, address: str) -> int:
    """Return how many candidates the address's first rank has."""
    trace = Trace()
    snapshot.steer(address, "t", service="video", trace=trace)
    return sum(rank == 0 for _, rank, *_ in trace.candidates)


def test_sign(benchmark: Any, report: Report) -> None:
    """A path token, bound to the client, for each of many titles; the peer is HMAC-SHA256 of the same bytes alone."""
    secret = "s" * 43
    keys = {"k1": SigningKey("k1", secret)}
    url = "https://{host}/{token}/v/{title}"
    how = Signing.of(Service("video", url, url, token="path", token_bind=True, keys=("k1",)))
    assert how
    paths = [f"/v/{80_000_000 + index}" for index in range(50_000)]
    client, now = b"\x31\x24\x01\x01", 1_767_225_600.0
    messages = [f"path\nk1\n1767268800\n312401\n{path}".encode() for path in paths]

    def sign(path: str) -> str | None:
        return token_for(how, keys, path, client, now)

    def code(message: bytes) -> bytes:
        return hmac.digest(secret.encode(), message, "sha256")

    ours, theirs = [], []
    for _ in range(PAIRS):
        ours.append(median_ns(sign, paths, 1))
        theirs.append(median_ns(code, messages, 1))
    report.add("sign_ns", statistics.median(ours), "ns", "hmac.digest", statistics.median(theirs))
    benchmark.pedantic(sign, (paths[0],), rounds=100)


EVENTS = (
    'cid="80100172",e=ps,mtp=({mtp}),pr=1,sf=h,sid="{sid}",sn=1,st=v,sta=p,ts={ts},v=2\n',
    'bl=(21300),br=(3200),cid="80100172",d=4004,dl=18500,e=rr,mtp=({mtp}),nor=("seg-{sn}.m4s"),ot=v,rc=200,sf=h,'
    'sid="{sid}",sn={sn},st=v,sta=p,tb=(6000),ts={ts},ttfb=24,ttlb=301,url="https://{host}/v/80100172/seg-{sn}.m4s",v=2\n',
    'bl=(9100),br=(3200),cid="80100172",e=t,mtp=({mtp}),sf=h,sid="{sid}",sn={sn},st=v,sta=p,ts={ts},v=2\n',
)


def test_player_reports(benchmark: Any, report: Report, table: Table, snapshot: Snapshot, tmp_path: Path) -> None:
    """Batches of twenty events as players send them, each from another viewer: parsed, attributed and counted."""
    hosts = [name for name in snapshot.appliances_by_name if "." in name]
    clients = [ipaddress.ip_address(address).packed for family in (4, 6) for address in table.addresses[family][:500]]
    rnd = random.Random(1)
    bodies = []
    for index in range(len(clients)):
        fields = {
            "sid": f"6e2fb550-c457-11e9-bb97-{index:012}",
            "mtp": rnd.randrange(20, 900) * 100,
            "host": rnd.choice(hosts),
        }
        events = [EVENTS[0], *rnd.choices(EVENTS[1:], (4, 1), k=19)]
        lines = (event.format(**fields, sn=sn, ts=1_767_225_600_000 + sn * 4000) for sn, event in enumerate(events))
        bodies.append("".join(lines).encode())
    reports = PlayerReports(Counters(str(tmp_path / "worker.1"), 1 << 16, writable=True))

    def take_all() -> None:
        for packed, body in zip(clients, bodies, strict=True):
            reports.count(snapshot, read_body(body)[0], packed)

    seconds = []
    for _ in range(PAIRS):
        began = time.process_time()
        take_all()
        seconds.append(time.process_time() - began)
    report.add("cmcd_reports_per_s", 20 * len(bodies) / statistics.median(seconds), "1/s")
    benchmark.pedantic(take_all, rounds=3)
    assert sum(row[0] for row in reports.counters.quality_of_appliances().values()) == 20 * len(bodies) * (PAIRS + 3)


def test_table_build(benchmark: Any, report: Report) -> None:
    """732 k prefixes in random order: sorted, grouped, swept, built."""
    text = read_text(geo_data.ASN_PREFIXES)[0]
    lines = text.splitlines(keepends=True)
    __import__("random").Random(1).shuffle(lines)
    columns, tails, _, _ = prefix_rows.read(b"".join(lines))

    def build() -> lpm.PrefixTable:
        chains = Chains()
        intervals = {
            family: sweep(rib.group_by_prefix(prefix_rows.sort(columns[family]), len(tails))[0], chains)
            for family in (4, 6)
        }
        return lpm.PrefixTable.build(intervals[4], intervals[6], len(chains))

    times = []
    for _ in range(5):
        start = time.perf_counter()
        build()
        times.append(time.perf_counter() - start)
    report.add("table_build", statistics.median(times), "s")
    benchmark.pedantic(build, rounds=3)


def test_mrt_read(report: Report) -> None:
    """A dump of 1.3 M routes, two routers' full views: parsed, with each distinct set of attributes decoded once."""
    lines = read_text(geo_data.ASN_PREFIXES)[0].decode().splitlines()
    announced = [(prefix, int(asn)) for prefix, asn in (line.split() for line in lines)]
    rows = [(prefix, asn) for prefix, asn in announced if prefix != "2002::/16"][:650_000]  # that one is refused
    data = dumps.full_view(rows, 2)

    def read() -> int:
        _, columns, attributes, _, _, _ = mrt.read(data)
        for _, packed in attributes:
            mrt.attributes(packed)
        return len(columns[4]) + len(columns[6])

    ours = []
    for _ in range(5):
        start = time.perf_counter()
        count = read()
        ours.append(count / (time.perf_counter() - start))
    assert count == 1_300_000
    part = dumps.full_view(rows[:10_000], 2)
    start = time.perf_counter()
    read_by_peer = sum(
        len(item.data.get("rib_entries", ())) for item in dumps.import_mrtparse().Reader(io.BytesIO(part))
    )
    theirs = read_by_peer / (time.perf_counter() - start)
    report.add("mrt_read", statistics.median(ours), "routes/s", "mrtparse", theirs)


def test_publish(benchmark: Any, report: Report, tmp_path: Path) -> None:
    """The shipped file to a published table, for the fleet of 19,000 appliances."""

    def publish() -> None:
        control.tables.publish([FeedSource("asn")], who="bench", why="bench", force="measure a publish")

    with Control(Settings(state=tmp_path / "state")) as control:
        control.fleet.replace(synthesize(), who="bench")
        times = []
        for _ in range(5):
            start = time.perf_counter()
            publish()
            times.append(time.perf_counter() - start)
        report.add("publish", statistics.median(times), "s")
        benchmark.pedantic(publish, rounds=3)


# For a fresh Python process: a forked child starts with the peak memory of its parent.
PUBLISH = """
import json, re, sys, time
from pathlib import Path
from steering.control.services.synthetic_fleet import synthesize
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.settings import Settings

with Control(Settings(state=sys.argv[1], max_prefixes=16_000_000)) as control:
    control.fleet.replace(synthesize(), who="bench")
    start = time.perf_counter()
    control.tables.publish([FeedSource("csv", path) for path in sys.argv[2:]], who="bench", why="bench")
    seconds = time.perf_counter() - start
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([seconds, int(peak[1]) << 10]))
"""


def test_publish_16_sites(report: Report, tmp_path: Path) -> None:
    """A million prefixes, each announced at sixteen sites, in two feeds: time and memory, in a process of its own."""
    fleet = synthesize()
    cluster_ids = [cluster.id for cluster in random.Random(1).sample(fleet.clusters, 16)]
    lines = read_text(geo_data.ASN_PREFIXES)[0].decode().splitlines()
    prefixes = dict.fromkeys(line.split()[0] for line in lines)
    for prefix in list(prefixes):
        network = ipaddress.ip_network(prefix)
        if len(prefixes) < 1_000_000 and network.version == 4 and network.prefixlen < 24:
            prefixes |= dict.fromkeys(map(str, network.subnets(1)))
    feeds = [tmp_path / "routes-1.csv", tmp_path / "routes-2.csv"]  # a feed has at most 12 million lines
    for part, feed in enumerate(feeds):
        with feed.open("w") as file:
            file.write("prefix,cluster,as_path,med\n")
            for row, prefix in enumerate(itertools.islice(prefixes, 1_000_000)):
                asn = 64_500 + row // 8 % 4000
                sites = list(enumerate(cluster_ids))[part::2]
                file.writelines(f"{prefix},{name},{asn},{(row >> site % 4) % 8}\n" for site, name in sites)

    command = [sys.executable, "-c", PUBLISH, str(tmp_path / "state"), *map(str, feeds)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-1000:]
    seconds, peak = json.loads(child.stdout)
    report.add("publish_16_sites", seconds, "s")
    report.add("publish_16_sites_rss", peak, "bytes")


def test_diff_and_rollback(report: Report, tmp_path: Path) -> None:
    """Two tables of 732 k rows, of which a tenth differ: compared, and rolled back to the first."""
    lines = read_text(geo_data.ASN_PREFIXES)[0].splitlines(keepends=True)
    other = tmp_path / "other.txt"
    other.write_bytes(b"".join(line for row, line in enumerate(lines) if row % 10))
    with Control(Settings(state=tmp_path / "state")) as control:
        control.fleet.replace(synthesize(), who="bench")
        control.tables.publish([FeedSource("asn")], who="bench", why="bench")
        control.tables.publish([FeedSource("asn", str(other))], who="bench", why="bench")
        compared, rolled = [], []
        for turn in range(6):
            start = time.perf_counter()
            control.tables.diff(1, 2)
            compared.append(time.perf_counter() - start)
            start = time.perf_counter()
            control.tables.rollback(1 + turn % 2, who="bench")
            rolled.append(time.perf_counter() - start)
        report.add("diff", statistics.median(compared), "s")
        report.add("rollback", statistics.median(rolled), "s")


def test_table_bytes(report: Report, published: Path, snapshot: Snapshot) -> None:
    """Lookup structure, rankings and fleet, as mapped and shared by all workers."""
    size = sum((published / name).stat().st_size for name in (snapshot.current.table, snapshot.current.fleet))
    report.add("table_bytes", size, "bytes")
