"""Fuzz what parses bytes from outside: `make fuzz`, or `python tests/fastpath/fuzz.py TARGET -max_total_time=60`.

Needs atheris, which is no dependency of the project. The compiled targets are blind to it, and so are given mutations
of real requests; they run under AddressSanitizer in the other half of `make fuzz`.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["steering"]):
    from steering.control.api import report_format as wire
    from steering.control.fill.holdings import HoldingsReported
    from steering.control.fill.titles import Titles
    from steering.control.playlists.prepare import prepare
    from steering.control.routes.bgp.sessions import LiveRoutes, Session, lines_of
    from steering.control.routes.feeds import FeedSource, read_feed
    from steering.control.routes.feeds.geofeed import read_geofeed
    from steering.control.routes.rpki import read_payloads
    from steering.errors import FeedError, RequestError, SnapshotError
    from steering.model.fleet import Appliance, Cluster, Fleet, Site
    from steering.model.route import RouteClass
    from steering.model.service import Service
    from steering.playback.answers.encoding import takes_gzip
    from steering.playback.telemetry import cmcd as player_reports
    from steering.settings import Settings
    from steering.state.playlists import BASE
    from steering.state.sections import StateFile, write_sections

from _fastpath import mrt as mrt_reader
from _fastpath.body import read_playback_body
from _fastpath.client import Trust
from _fastpath.fast_path import FastPath, Peer
from _fastpath.hints import read_player_request
from _fastpath.request import Refusal, find_client, read_steer_query

TRUST = Trust(Settings().trusted)
FAST_PATH = FastPath(TRUST, "x-forwarded-for")
PEER = Peer(bytes([127, 0, 0, 1]), True)
SEED = (
    b"GET /v1/steer?title=a%20b&n=3&ip=2001:db8::1 HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4, 127.0.0.1\r\n\r\n"
)


SCRATCH = Path(tempfile.mkdtemp(prefix="steering-fuzz-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
FLEET = Fleet(
    partners=(),
    services=(),
    sites=(Site("bom001", "IN", "Mumbai", 19.09, 72.87),),
    clusters=(Cluster("bom001-a", "bom001", RouteClass.exchange, None, ("IN",), True, 0, ("192.0.2.1",)),),
    appliances=(Appliance("c001", "bom001-a", "c001.cdn.example", 100.0, slot=0),),
)
HELD = HoldingsReported(Titles(10_000, 10_000, 10_000))
HELD.use_fleet(dataclasses.replace(FLEET, services=(Service("video", "", ""), Service("games", "", ""))))


def file_of(data: bytes, name: str) -> Path:
    """Return a file that holds the data."""
    path = SCRATCH / name
    path.write_bytes(data)
    return path


def feed(data: bytes, name: str, kind: str) -> None:
    """Read a feed; only a FeedError may come out, and rows that hold together."""
    try:
        result = read_feed(FeedSource(kind, str(file_of(data, name))), FLEET)  # type: ignore[arg-type]
    except FeedError:
        return
    for columns in result.columns.values():
        assert all(value < len(result.set_of) for value in columns.value)
    assert len(result.refusals) <= result.refused


def mrt(data: bytes) -> None:
    """Read a dump, and the data as attributes."""
    feed(data, "dump.mrt", "mrt")
    try:
        path, _, origin, _, communities = mrt_reader.attributes(data)
    except ValueError:
        return
    assert len(path) <= mrt_reader.MAX_PATH
    assert origin <= 2
    assert len(communities) <= mrt_reader.MAX_COMMUNITIES


def zones(data: bytes) -> None:
    """Read coverage zones: the data as a file, and as the networks of a zone."""
    feed(data, "czf.json", "zones")
    text = data.decode("utf-8", "replace").splitlines()
    feed(json.dumps({"coverageZones": {"bom001-a": {"network": text}}}).encode(), "czf.json", "zones")


def routes(data: bytes) -> None:
    """Read routes, as CSV and JSON Lines."""
    feed(b"prefix,cluster,as_path,med\n" + data + b"\n", "routes.csv", "csv")
    feed(data + b"\n", "routes.jsonl", "jsonl")


def geofeed(data: bytes) -> None:
    """Read a geofeed."""
    try:
        result = read_geofeed(
            file_of(data + b"\n", "geofeed.csv"), frozenset({"IN", "IN-MH"}), {("IN", "mumbai"): (19.0, 73.0)}
        )
    except FeedError:
        return
    for columns in result.columns.values():
        assert all(value < len(result.regions) for value in columns.value)


def playlists(data: bytes) -> None:
    """Cut a playlist: every URL that is left leads below the title, and only a FeedError may come out."""
    for kind, head, tail in (
        ("hls", b"#EXTM3U\n", b"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n"),
        ("dash", b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', b"<Period/></MPD>"),
    ):
        for body in (data, head + data, head + data + tail):
            try:
                made = prepare("video", "t", kind, body, "http://o.example/o/t/x")
            except FeedError:
                continue
            lines = made.pathway.splitlines() if kind == "hls" else []
            assert all(line.startswith((BASE, "#")) for line in lines)


def rpki(data: bytes) -> None:
    """Read a validator's payloads."""
    for text in (data, b'{"roas": [' + data + b"]}"):
        try:
            read_payloads(file_of(text, "payloads.json"))
        except FeedError:
            continue


def session(data: bytes) -> None:
    """Take what a speaker says: nothing may come out of it but lines of a feed."""
    live = LiveRoutes([Session("bom001-a", "192.0.2.1", 1, "192.0.2.9", 2, 4)], 1.0, 0.0)
    about = '"neighbor": {"address": {"local": "192.0.2.9", "peer": "192.0.2.1"}'
    live.take(f'{{"type": "state", {about}, "state": "up"}}}}'.encode(), 0.0)
    live.take(data, 0.0)
    live.take(b'{"type": "update", ' + about.encode() + b', "message": {"update": ' + data + b"}}}", 0.0)
    assert "".join(lines_of(live.copied())).endswith("\n")


REPORTS = (
    b'{"appliance":"c001","boot":"b","seq":1,"health":{"components":{"disk":"ok"},"headroom_gbps":1.5,"ipv6":false},'
    b'"routes":{"4":{"count":1,"digest":"00ff"}},"holdings":[{"service":"video","kind":"full","full":["a","b"],"digest":'
    b'"2-1a2b3c4d5e6f7081"},{"service":"video","kind":"delta","base":"1-00000000000000ff","digest":"0-0000000000000000",'
    b'"add":["c"],"remove":["a"]},{"service":"games","kind":"unknown"}]}'
)


def reports(data: bytes) -> None:
    """Take a report, a mutation of a real one, alone, in an array and packed: nothing but RequestError may come out."""
    provider = atheris.FuzzedDataProvider(data)
    at, cut = provider.ConsumeIntInRange(0, len(REPORTS)), provider.ConsumeIntInRange(0, len(REPORTS))
    over = provider.ConsumeBytes(sys.maxsize)
    whole = REPORTS[:at] + over + REPORTS[cut:]
    for body, encoding in ((whole, ""), (b"[" + whole + b"]", ""), (over, ""), (over, "gzip")):
        try:
            parsed = wire.parse(wire.unpack(body, encoding))
        except RequestError:
            continue
        for row in parsed if isinstance(parsed, list) else [parsed]:
            if isinstance(row, wire.Fault):
                assert row.rule
                assert len(str(row)) < 1000
                continue
            wire.report_of(row)
            held = row.holdings if isinstance(row.holdings, list) else [row.holdings] if row.holdings else []
            HELD.take("c001", held)
    assert HELD.digests.keys() <= {(0, 0)}


def state(data: bytes) -> None:
    """Map a state file that something was written over."""
    provider = atheris.FuzzedDataProvider(data)
    path = SCRATCH / "table.1"
    write_sections(path, "table", {"meta": b"{}", "zones": bytes(40)})
    whole = path.read_bytes()
    at = provider.ConsumeIntInRange(0, len(whole))
    over = provider.ConsumeBytes(sys.maxsize)
    path.write_bytes(whole[:at] + over + whole[at + len(over) :])
    try:
        result = StateFile(path, "table")
    except SnapshotError:
        return
    assert bytes(result["meta"]) == b"{}"


def head(data: bytes) -> None:
    """Feed a request head, a mutation of a real one, to the fast_path; health answers show how far it read."""
    provider = atheris.FuzzedDataProvider(data)
    at, cut = provider.ConsumeIntInRange(0, len(SEED)), provider.ConsumeIntInRange(0, len(SEED))
    whole = SEED[:at] + provider.ConsumeBytes(sys.maxsize) + SEED[cut:]
    for request in (whole, whole.replace(b"/v1/steer?", b"/healthz")):
        if FAST_PATH.answer(request, 0, PEER) is not None:
            assert request[: FAST_PATH.end].endswith(b"\r\n\r\n")


def query(data: bytes) -> None:
    """Read a query, strictly and as hints; only a Refusal may come out."""
    assert read_player_request(b"/v1/hls/" + data, data)[4].odd >= 0
    try:
        result = read_steer_query(data, "video")
    except Refusal:
        return
    assert 0 <= result.n <= 8


def forwarded(data: bytes) -> None:
    """Walk both headers; who is trusted was named by trusted hops alone."""
    for name in ("forwarded", "x-forwarded-for"):
        client = find_client("127.0.0.1", [(name.encode(), data)], TRUST, name)
        assert len(client.packed) in (4, 16)
        assert find_client("8.8.8.8", [(name.encode(), data)], TRUST, name).packed == bytes([8, 8, 8, 8])


def playback(data: bytes) -> None:
    """Read the body of a playback request, and Accept-Encoding; only a Refusal may come out."""
    takes_gzip(data)
    try:
        result = read_playback_body(data)
    except Refusal:
        return
    assert 0 <= result.n <= 8
    assert result.family in (0, 4, 6)


def cmcd(data: bytes) -> None:
    """Read what a player reports: nothing is an error, and no more than so much is read."""
    result, unread = player_reports.read_body(data)
    assert len(result) <= player_reports.MAX_REPORTS
    assert unread >= 0
    for each in (
        *result,
        player_reports.read_query(b"CMCD=" + data),
        player_reports.read_headers([(b"cmcd-status", data)]),
    ):
        assert each is None or each.throughput_kbps <= player_reports.MAX_KBPS


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(
            head,
            query,
            forwarded,
            mrt,
            zones,
            routes,
            geofeed,
            playlists,
            rpki,
            session,
            reports,
            state,
            playback,
            cmcd,
        ),
    )
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz.py {'|'.join(TARGETS)} [libFuzzer options]")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
