"""Files, lines and manifests that were read wrongly in the field, each as it came, with the value that is right."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import geo_data
from _fastpath.client import Trust
from _fastpath.request import find_client
from steering.control.playlists.prepare import prepare
from steering.control.routes.bgp.sessions import read_sessions
from steering.control.routes.feeds import FeedSource, kind_of, read_feed
from steering.control.routes.feeds.geofeed import read_geofeed
from steering.control.services.control import Control
from steering.decision.explain import describe
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.model.route import Region
from steering.playback.answers.playlist import filled
from steering.playback.telemetry.cmcd import Report, read_query
from steering.settings import Settings
from steering.state.routes import prefix_at

PATHWAYS = [("c001", "https://c001.example/v/TITLE/"), ("cdn", "https://cdn.example/v/TITLE/")]
TRUST = Trust([ipaddress.ip_network("127.0.0.0/8")])
FOLDER = "http://127.0.0.1:18650/o/TITLE/"


def published(settings: Settings, fleet: Fleet, path: Path) -> Snapshot:
    """Return the snapshot of a feed."""
    with Control(settings) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([FeedSource(kind_of(path), str(path))], "test")
    return Snapshot.map(settings.state)


def sites(snapshot: Snapshot, address: str) -> list[str]:
    """Return the sites that a client is sent to, best first."""
    targets = json.loads(snapshot.steer(address, "t", service="video"))["targets"]
    return list(dict.fromkeys(target["site"] for target in targets if "site" in target))


# ---- routes

MAPPED = """\
prefix,cluster,as_path
203.0.113.0/24,bom001-a,64500
::ffff:198.51.100.0/120,bom001-a,64500
"""


def test_mapped_prefixes_and_addresses_are_ipv4(tmp_path: Path, settings: Settings, fleet: Fleet) -> None:
    path = tmp_path / "mapped.csv"
    path.write_text(MAPPED)
    feed = read_feed(FeedSource("csv", str(path)), fleet)
    assert [prefix_at(4, feed.columns[4], row) for row in range(2)] == ["203.0.113.0/24", "198.51.100.0/24"]
    assert (feed.accepted, feed.refused, len(feed.columns[6])) == (2, 0, 0)
    snapshot = published(settings, fleet, path)
    for last in ("198.51.100.9", "203.0.113.9"):
        number = int(ipaddress.IPv4Address(last))
        forms = [
            last,
            f"::ffff:{last}",
            f"64:ff9b::{last}",
            str(ipaddress.IPv6Address(0x2002 << 112 | number << 80 | 1)),
        ]
        looked_up = [describe(snapshot, form) for form in forms]
        assert all(row == looked_up[0] for row in looked_up)
        assert looked_up[0]["address"] == last
        clients = [
            find_client("127.0.0.1", [(b"x-forwarded-for", form.encode())], TRUST, "x-forwarded-for") for form in forms
        ]
        assert {client.packed for client in clients} == {ipaddress.IPv4Address(last).packed}
        assert sites(snapshot, last)[0] == "bom001"


ZONES = (
    '{"revision":"1","customerName":"x","coverageZones":{"edge-a":{"network":["203.0.113.0/24"],"network6":'
    '["2001:db8:1::/48"],"coordinates":{"latitude":"19.09","longitude":"72.87"}}}}'
)


def test_coordinates_as_text_lead_to_the_nearest_site(tmp_path: Path, settings: Settings, fleet: Fleet) -> None:
    path = tmp_path / "zones.json"
    path.write_text(ZONES)
    snapshot = published(settings, fleet, path)
    for address in ("203.0.113.9", "2001:db8:1::9"):
        assert sites(snapshot, address) == ["bom002", "lhr001"]  # the open sites of Mumbai and London


def test_an_asn_database_may_have_a_network_around_ipv4(write_mmdb: Callable[..., Path], fleet: Fleet) -> None:
    path = write_mmdb({"::/64": {"autonomous_system_number": [4, 64500]}}, "asn-short-network.mmdb")
    feed = read_feed(FeedSource("mmdb", str(path)), fleet)
    rows = [
        prefix_at(family, feed.columns[family], row) for family in (4, 6) for row in range(len(feed.columns[family]))
    ]
    assert (rows, set(feed.origin_of)) == (["0.0.0.0/0", "::/64"], {64500})


GEOFEED = "203.0.113.0/24,IN,IN-MH,Mumbai,\r\n198.51.100.0/24,DE,DE-HE,Frankfurt,"


def test_a_geofeed_without_a_last_line_end_is_read_to_its_last_row(tmp_path: Path) -> None:
    path = tmp_path / "geofeed.csv"
    path.write_bytes(GEOFEED.encode())
    places = {("IN", "mumbai"): (19.09, 72.87), ("DE", "frankfurt"): (50.1, 8.7)}
    feed = read_geofeed(path, geo_data.read_region_codes(), places)
    rows = {prefix_at(4, feed.columns[4], row): feed.regions[feed.columns[4].value[row]] for row in range(2)}
    assert rows == {
        "203.0.113.0/24": Region("IN-MH", (19.09, 72.87)),
        "198.51.100.0/24": Region("DE-HE", (50.1, 8.7)),
    }
    assert (feed.accepted, feed.refusals, feed.warnings) == (2, [], [])


SESSION = """\
[[session]]
cluster = "del001-a"
peer = "2001:db8::1"      # BIRD: ipv4 { extended next hop on; next hop address 2001:db8::1; };
peer_asn = 64500
local = "2001:db8::9"
asn = 65000
family = 4
port = 18641
ttl = 2
"""
BIRD = """log "{0}/log" all; router id 192.0.2.1; protocol device {{}}
protocol static s4 {{ ipv4; route 203.0.113.0/24 blackhole; route 198.51.100.0/24 blackhole; }}
protocol bgp four {{ local 2001:db8::1 port 18641 as 64500; passive; multihop; graceful restart on;
  neighbor 2001:db8::9 as 65000;
  ipv4 {{ extended next hop on; next hop address 2001:db8::1; export all; import none; }}; }}"""
FOLLOW = """
import asyncio, json, subprocess, sys
from pathlib import Path
from steering.control.routes.bgp.sessions import LiveRoutes, read_sessions
from steering.control.routes.bgp.speaker import speaking
folder = Path(sys.argv[1])
for address in ("2001:db8::1", "2001:db8::9"):
    subprocess.run(["ip", "address", "add", f"{address}/128", "dev", "lo", "nodad"], check=True)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
sessions = read_sessions(folder / "session.toml", 0)
live = LiveRoutes(sessions, 120, 0.0)
(received,) = live.received.values()
rows = []
async def follow():
    async with speaking(sessions, lambda line: live.take(line, 0.0)), asyncio.timeout(60):
        while not received.is_complete:
            await asyncio.sleep(0.05)
        rows.extend([received.is_up, dict(received.routes), received.explained])
with subprocess.Popen(["bird", "-f", "-c", folder / "bird.conf", "-s", folder / "bird.ctl"]) as bird:
    try:
        asyncio.run(follow())
    finally:
        bird.kill()
print(json.dumps(rows))
"""


def test_ipv4_routes_come_over_ipv6(tmp_path: Path) -> None:
    (tmp_path / "session.toml").write_text(SESSION)
    (session,) = read_sessions(tmp_path / "session.toml", 0)
    assert (session.family, session.key, session.ttl) == (4, ("2001:db8::9", "2001:db8::1"), 2)
    if not shutil.which("bird") or not shutil.which("ip"):
        pytest.skip("bird and ip are not on PATH")
    own_network = ["unshare", "--net", "--map-root-user"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*own_network, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("a process may have no network of its own here")
    (tmp_path / "bird.conf").write_text(BIRD.format(tmp_path))
    command = [*own_network, sys.executable, "-c", FOLLOW, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    is_up, routes, reason = json.loads(done.stdout)
    assert is_up
    assert routes == dict.fromkeys(["203.0.113.0/24", "198.51.100.0/24"], "del001-a,64500,igp,0,\n"), reason


# ---- playlists

MPD = (
    '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT8S" '
    'profiles="urn:mpeg:dash:profile:isoff-live:2011">\n{}</MPD>\n'
)
SEGMENTS = (
    '<AdaptationSet mimeType="video/mp4"><SegmentTemplate media="$Number$.m4s" initialization="i.mp4" duration="4" '
    'startNumber="1"/><Representation id="1" codecs="avc1.64001f" bandwidth="389802"/></AdaptationSet>'
)
OWN_FOLDER = MPD.format(f' <BaseURL>{FOLDER}</BaseURL>\n <Period id="0">{SEGMENTS}</Period>\n')
OLD_STEERING = MPD.format(
    ' <BaseURL serviceLocation="alpha">media/</BaseURL>\n <ServiceDescription id="0"><ContentSteering '
    'defaultServiceLocation="alpha">https://old.example/dcsm</ContentSteering></ServiceDescription>\n '
    f'<Period id="0">{SEGMENTS}</Period>\n'
)
OTHERS = [
    # the parts of one manifest that lead to other manifests or hosts, line, value, and rule
    ('<InitializationSet id="1" mimeType="video/mp4" initialization="https://elsewhere.example/i.mp4"/>', "https://elsewhere.example/i.mp4: a URL leads"),
    ("<InitializationPresentation>pre/pre.mpd</InitializationPresentation>", "InitializationPresentation: an unknown element"),
    ('<EssentialProperty schemeIdUri="urn:mpeg:dash:fallback:2016" value="/other/fallback.mpd"/>', "EssentialProperty urn:mpeg:dash:fallback:2016: an unknown scheme"),
    ('<Period id="0"><ImportedMPD uri="https://ads.example/ad.mpd"/></Period>', "ImportedMPD: an unknown element"),
    ('<Period id="1"><EventStream schemeIdUri="urn:mpeg:dash:event:alternativeMPD:insert:2025" timescale="1"><Event id="1" presentationTime="0" duration="2">'
     '<InsertPresentation uri="../ads/pre.mpd"/></Event></EventStream></Period>', "EventStream urn:mpeg:dash:event:alternativempd:insert:2025: an unknown scheme"),
    ('<Period id="1"><EventStream schemeIdUri="urn:mpeg:dash:event:callback:2015" value="1"><Event presentationTime="0">beacon?x=1</Event></EventStream></Period>',
     "EventStream urn:mpeg:dash:event:callback:2015: an unknown scheme"),
]  # fmt: skip


def made(kind: str, text: str, name: str) -> str:
    """Return a playlist as a client of two pathways gets it."""
    playlist = prepare("video", "TITLE", kind, text.encode(), FOLDER + name)
    return filled(playlist, PATHWAYS, "c001", "https://steer.example/x", False)


def test_a_base_url_of_its_own_folder_is_the_folder() -> None:
    text = made("dash", OWN_FOLDER, "manifest.mpd")
    for name, url in PATHWAYS:
        assert f'<BaseURL serviceLocation="{name}">{url}</BaseURL>' in text
    assert text.count("<BaseURL") == 2
    assert "127.0.0.1" not in text


def test_old_steering_is_taken_out_wherever_it_stands() -> None:
    text = made("dash", OLD_STEERING, "manifest.mpd")
    assert "alpha" not in text
    assert "old.example" not in text
    assert text.count("<ContentSteering") == 1
    for name, url in PATHWAYS:
        assert f'<BaseURL serviceLocation="{name}">{url}media/</BaseURL>' in text


@pytest.mark.parametrize(("part", "rule"), OTHERS, ids=[row[1][:40] for row in OTHERS])
def test_a_manifest_that_leads_to_others_is_refused(part: str, rule: str) -> None:
    with pytest.raises(FeedError) as caught:
        made("dash", MPD.format(f' {part}\n <Period id="2">{SEGMENTS}</Period>\n'), "manifest.mpd")
    assert f"dash playlist of video/TITLE: line 3: {rule}" in caught.value.message


def test_a_manifest_with_all_of_them_is_refused_at_the_first() -> None:
    with pytest.raises(FeedError, match=r"line 3: https://elsewhere\.example/i\.mp4: a URL leads to a file below"):
        made("dash", MPD.format("".join(f" {part}\n" for part, _ in OTHERS)), "manifest.mpd")


def test_relative_session_data_are_placed() -> None:
    chapters = '#EXT-X-SESSION-DATA:DATA-ID="com.apple.hls.chapters",URI="{}chapters.json"'
    text = f"#EXTM3U\n{chapters.format('')}\n#EXT-X-STREAM-INF:BANDWIDTH=900000\nv.m3u8\n"
    lines = made("hls", text, "master.m3u8").splitlines()
    assert chapters.format(PATHWAYS[0][1]) in lines
    assert [line for line in lines if not line.startswith("#")] == [f"{url}v.m3u8" for _, url in PATHWAYS]


def test_a_variable_of_a_query_stays() -> None:
    define = '#EXT-X-DEFINE:QUERYPARAM="token"'
    text = f"#EXTM3U\n{define}\n#EXT-X-STREAM-INF:BANDWIDTH=900000\nv.m3u8?token={{$token}}\n"
    lines = made("hls", text, "master.m3u8").splitlines()
    assert lines[1] == define
    assert [line for line in lines if not line.startswith("#")] == [
        f"{url}v.m3u8?token={{$token}}" for _, url in PATHWAYS
    ]


# ---- requests

FORWARDED = [
    ('for="203.0.113.5:_p1"', "203.0.113.5"),
    ('for="[2001:db8:1::9]:_p1"', "2001:db8:1::9"),
    ("for=203.0.113.5;", "203.0.113.5"),
    (";for=203.0.113.5", "203.0.113.5"),
    ("for=203.0.113.5;;proto=https", "203.0.113.5"),
]


@pytest.mark.parametrize(("value", "client"), FORWARDED)
def test_the_client_of_a_forwarded_line_is_found(value: str, client: str) -> None:
    result = find_client("127.0.0.1", [(b"forwarded", value.encode())], TRUST, "forwarded")
    assert (str(ipaddress.ip_address(result.packed)), result.trusted) == (client, False)


CMCD: list[tuple[bytes, dict[str, Any]]] = [
    (b"CMCD=br%253D6000%252Cmtp%253D57500%252Csid%253D%25226e2f%2522",
     {"bitrate_kbps": 6000, "throughput_kbps": 57500, "session": "6e2f"}),
    (b"CMCD=bs%3D0%2Cbr%3D6000", {"bitrate_kbps": 6000, "stalled": False}),
]  # fmt: skip


@pytest.mark.parametrize(("query", "fields"), CMCD)
def test_a_query_of_cmcd_is_read(query: bytes, fields: dict[str, Any]) -> None:
    assert read_query(query) == Report(**fields)
