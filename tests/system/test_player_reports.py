"""A real service with player reports: failing appliances lose weight, unsigned floods change nothing, operators see both."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from steering.cli import main
from steering.control.remote import RemoteControl
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.model.fleet import Fleet
from steering.settings import read_settings
from tests.support.processes import ASKING, serving, until

MASTER = b'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000,CODECS="avc1.64000c"\nlow.m3u8\n'
WELL, BAD = "c001-bom001", "c002-bom001"


def test_who_fails_its_players_loses_weight_and_whoever_shouts_does_not(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERING_PLAYER_SIGNAL", "0.5")
    monkeypatch.setenv("STEERING_TICK_S", "0.2")
    monkeypatch.setenv("STEERING_CMCD_SAMPLE", "1")
    monkeypatch.setenv("STEERING_PUBLIC_URL", "https://steer.example")
    state, feed = tmp_path / "state", tmp_path / "routes.csv"
    feed.write_text("prefix,cluster,as_path,med\n203.0.0.0/16,bom001-a,64500,0\n")
    with Control(read_settings(state=state)) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([FeedSource("csv", str(feed))], "test")
        control.keys.make("tag-1", "test")
        control.playlists.put("video", "t", "hls", MASTER, "test")
    with serving(state) as served, RemoteControl(read_settings(state=state)) as control:

        def tag_of(client: str) -> str:
            asked = {"x-forwarded-for": client}
            playlist = ASKING.get(f"{served.url}/v1/hls/video/t/master.m3u8?session=s", headers=asked).text
            url = playlist.partition('SERVER-URI="')[2].partition('"')[0]
            assert url.startswith("https://steer.example/v1/hls/video/t?session=s&declared="), playlist
            assert "&tag=tag-1~" in url
            return parse_qs(urlsplit(url).query)["tag"][0]

        def report(client: str, appliance: str, event: str, tag: str = "") -> None:
            body = f'e={event},sid="{client}",url="https://{appliance}.cdn.example/v/t/1.ts",v=2\n'
            headers = {"x-forwarded-for": client, "content-type": "application/cmcd"}
            answer = ASKING.post(f"{served.url}/v1/cmcd", params={"tag": tag}, content=body, headers=headers)
            assert answer.status_code == 204

        def players(appliance: str) -> dict[str, float]:
            result: dict[str, float] = control.client.get(f"/v1/appliances/{appliance}").json()["state"]["players"]
            return result

        def reports(appliance: str) -> int:
            rows = control.quality.list("appliance")
            return next((int(row["reports"]) for row in rows if row["appliance"] == appliance), 0)

        def seen(appliance: str) -> bool:
            report("192.0.2.1", appliance, "t")
            return reports(appliance) >= 20  # every worker has learnt names

        until(lambda: seen(WELL) and seen(BAD))
        before = reports(WELL)
        for _ in range(20):
            assert served.steer(ip="203.0.1.9", CMCD=f'cdn="{WELL}",mtp=3000')["targets"]
        until(lambda: reports(WELL) > before)
        for _ in range(200):
            report("203.0.1.9", WELL, "e")  # without a tag
        for number in range(60):
            client = f"203.0.{number}.9"
            tag = tag_of(client)
            report(client, BAD, "e", tag)
            report(client, WELL, "t", tag)
            report("203.0.1.9", WELL, "e", tag)  # another's tag
        until(lambda: players(BAD)["factor"] < 0.99)
        assert players(BAD)["attested"] > 20
        assert players(WELL)["factor"] == 1.0
        assert players(WELL)["failing"] <= 1

        arguments = ["quality", "--by", "appliance", "--state", str(state)]
        rows = json.loads(CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False).output)
        assert {row["appliance"] for row in rows} == {WELL, BAD}
        assert all(row["errors"] > 0 for row in rows)
        table = CliRunner().invoke(main, arguments, catch_exceptions=False).output
        assert f"{BAD} " in table
        assert "errors/1000" in table
