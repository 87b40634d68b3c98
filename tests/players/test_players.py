"""Real hls.js, Shaka and dash.js in Chromium, steered between appliances on loopback addresses: nothing is simulated.

All four set-ups go through each scene at once. Of media errors there may be none, and nobody's picture may stand still
for longer than a segment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from steering.control.remote import RemoteControl
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Appliance as Machine
from steering.model.fleet import Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Pathway, Service
from steering.settings import read_settings
from tests.bench.servers import free_port
from tests.players.stage import HERE, Appliance, Browser, Front, appliances
from tests.players.tools import SEGMENT_S, make_media, modules, need
from tests.support.certificates import Pair, fingerprint, make_certificate
from tests.support.processes import serving, until
from tests.support.steering_rules import broken_rules

PLAYERS = {
    # name, page's player, protocol, file
    "hls.js": ("hlsjs", "hls", "master.m3u8"),
    "Shaka, HLS": ("shaka", "hls", "master.m3u8"),
    "Shaka, DASH": ("shaka", "dash", "manifest.mpd"),
    "dash.js": ("dashjs", "dash", "manifest.mpd"),
}
NEAR, NEXT, FAR, ORIGIN = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
NAMES = {NEAR: "c001-bom001", NEXT: "c002-bom001", FAR: "c001-del001"}
TTL_S = 4  # Shaka 5.2.12 ends its polls for good where the first is due before it has loaded
PATIENCE_S = 25.0  # on a machine with more to do


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """All that plays: `title` is one whose best appliance is NEAR, and which a tenth of its weight does not bring back."""

    machines: dict[str, Appliance]
    front: Front
    control: RemoteControl
    browser: Browser
    title: str
    public_url: str
    state: Path

    def open(self, *names: str, service: str = "video", reports: str = "") -> None:
        """Let players begin, and report to a URL."""
        urls = {}
        for name in names or PLAYERS:
            player, protocol, file = PLAYERS[name]
            playlist = f"{self.public_url}/v1/{protocol}/{service}/{self.title}/{file}?player={player}"
            reporting = f"&reports={quote(reports, safe='')}" * bool(reports)
            urls[name] = f"{self.front.url}/page.html?player={player}&url={quote(playlist, safe='')}{reporting}"
        self.browser.open(urls)

    def wait_for(self, host: str, names: tuple[str, ...] = tuple(PLAYERS), last: int = 3) -> None:
        """Wait until all get their segments from one host."""

        def there() -> bool:
            return all(self.browser.media(name)[-last:] == [host] * last for name in names)

        self.browser.wait(there, PATIENCE_S)

    def wait_to_play(self, names: tuple[str, ...] = tuple(PLAYERS), seconds: float = 1.0) -> None:
        """Wait until all have played so long."""
        self.browser.wait(lambda: all(self.browser.state(name)["time"] > seconds for name in names), PATIENCE_S)

    def play_on(self, seconds: float, names: tuple[str, ...] = tuple(PLAYERS)) -> None:
        """Let so much more be played."""
        began = {name: self.browser.state(name)["time"] for name in names}
        self.browser.wait(
            lambda: all(self.browser.state(name)["time"] >= began[name] + seconds for name in names), PATIENCE_S
        )

    def wait_for_polls(self, count: int, since: float) -> None:
        """Wait until all have asked for so many steering manifests after a time."""
        self.browser.wait(lambda: all(len(self.browser.polls(name, since)) >= count for name in PLAYERS), PATIENCE_S)

    def wait_until_passed_over(self, address: str) -> float:
        """Wait until new clients are sent elsewhere; return a time at which they already are."""
        until(lambda: self.first_for_new_clients() != NAMES[address], PATIENCE_S)
        return time.time()

    def first_for_new_clients(self) -> str:
        """Return the appliance that a new client gets first. The service is not asked: that would be load."""
        return Snapshot.map(self.state).picks("127.0.0.1", self.title, service="video")[0].appliance

    def check_left_within_a_poll(self, address: str, since: float) -> None:
        """Check that the first poll after a time took every player from an appliance, and that none asked it again."""
        self.wait_for_polls(2, since)
        self.play_on(1.0)
        for name in PLAYERS:
            second = self.browser.polls(name, since)[1]
            tried = self.browser.tried(name)
            others = {host for asked, host in tried if since < asked < second} - {address}
            assert others, f"{name} needed another poll"
            assert address not in {host for asked, host in tried if asked >= second}, f"{name} asked {address} again"

    def report(self, address: str, **health: Any) -> None:
        """Report an appliance's health, as its agent does, and make reports its health source."""
        token = self.control.tokens.make(f"appliance:{NAMES[address]}", "test", "test")["token"]
        row = {"appliance": NAMES[address], "boot": str(time.time()), "seq": 0, "health": health}
        headers = {"authorization": f"Bearer {token}"}
        answer = httpx.post(f"http://{os.environ['STEERING_CONTROL_LISTEN']}/v1/reports", json=row, headers=headers)
        assert answer.json()["result"] == "accepted", answer.text
        self.control.overrides.set_health_source([NAMES[address]], "reported", "test")

    def check(
        self, names: tuple[str, ...] = tuple(PLAYERS), declared: tuple[str, ...] = (*NAMES.values(), "cdn")
    ) -> None:
        """Hold what was played against what is promised."""
        for name in names:
            state = self.browser.state(name)
            assert [error for error in state["errors"] if error["media"] or error["fatal"]] == [], (
                f"{name}: {state['errors']}"
            )
            assert state["longest"] <= SEGMENT_S, f"{name} stood still for {state['longest']:.1f} s"
            for result in self.browser.of(name, "steering"):
                if result["status"] == 200 and result["body"]:
                    headers = {
                        "content-type": result["type"],
                        "cache-control": "no-store",
                        "access-control-allow-origin": "*",
                    }
                    assert broken_rules(200, headers, result["body"].encode(), declared) == []
            assert self.browser.of(name, "pageerror") == []


def make_fleet(machines: dict[str, Appliance]) -> Fleet:
    """Two appliances at a site of the viewers' ISP, one at its next site, and a fallback."""
    port = machines[NEAR].port
    video = Service(
        "video",
        f"http://{{host}}:{port}/v/{{title}}",
        f"http://{machines[ORIGIN].host}:{port}/v/{{title}}",
        steer_ttl_s=TTL_S,
    )
    pathways = (
        Pathway("bombay", clusters=("bom001-a",)),
        Pathway("delhi", clusters=("del001-a",)),
        Pathway("other", host=machines[ORIGIN].host),
    )
    # With clones in it, each manifest makes hls.js begin the segment at hand anew: a busy machine must have time for one.
    mapped = dataclasses.replace(video, id="mapped", pathways=pathways, clones=("hlsjs",), steer_ttl_s=2 * TTL_S)
    homes = {NEAR: "bom001-a", NEXT: "bom001-a", FAR: "del001-a"}
    return Fleet(
        partners=(Partner("as64500", "Example ISP", "IN", (64500,)),),
        sites=(Site("bom001", "IN", "Mumbai", 19.09, 72.87), Site("del001", "IN", "Delhi", 28.57, 77.1)),
        clusters=tuple(Cluster(f"{site}-a", site, RouteClass.embedded, "as64500") for site in ("bom001", "del001")),
        appliances=tuple(
            sorted(
                (
                    Machine(
                        NAMES[address],
                        home,
                        machines[address].host,
                        100.0,
                        addresses=(address,),
                        health_url=f"http://{machines[address].host}:{port}/v/t/master.m3u8",
                    )
                    for address, home in homes.items()
                ),
                key=lambda item: item.id,
            )
        ),
        services=(mapped, video),
    )


def find_title(state: Path) -> str:
    """Return a title whose best appliance is NEAR, by so much that a little weight less does not change it."""
    snapshot = Snapshot.map(state)
    for number in range(1000):
        picks = snapshot.picks("127.0.0.1", f"t{number}", service="video")
        first, second = picks[:2]
        if (first.appliance, second.appliance) == (NAMES[NEAR], NAMES[NEXT]) and 2 < second.draw / first.draw < 5:
            return f"t{number}"
    raise AssertionError("no title is near enough")


@contextlib.contextmanager
def staged(folder: Path, pair: Pair | None = None) -> Iterator[Stage]:
    """Give a stage; with a certificate, the page and the service are reached over https, and nothing stands between."""
    for program in ("node", "npm", "chromium", "ffmpeg"):
        need(program)
    modules()
    make_media(folder / "media")
    front = Front(HERE, pair)
    listen = f"tls:127.0.0.1:{free_port()}" if pair else "127.0.0.1:0"
    public_url = listen.replace("tls:", "https://") if pair else front.url
    changed = {
        "STEERING_PUBLIC_URL": public_url,
        "STEERING_CMCD_SAMPLE": "1",
        "STEERING_RETURN_S": "4",
        "STEERING_CONTROL_LISTEN": f"127.0.0.1:{free_port()}",
        "STEERING_CHECK_S": "0.5",
        "STEERING_DOWN_AFTER": "2",
    }
    if pair:
        changed |= {"STEERING_TLS_CERT": str(pair[0]), "STEERING_TLS_KEY": str(pair[1])}
    before = dict(os.environ)
    os.environ |= changed
    try:
        with appliances([NEAR, NEXT, FAR, ORIGIN], folder / "media") as machines:
            state = folder / "state"
            (folder / "routes.csv").write_text(
                "prefix,cluster,as_path,med\n127.0.0.0/8,bom001-a,64500,0\n127.0.0.0/8,del001-a,64500,100\n"
            )
            settings = read_settings(state=state)
            with Control(settings) as control:
                control.fleet.replace(make_fleet(machines), "test")
                control.tables.publish([FeedSource("csv", str(folder / "routes.csv"))], "test")
            title = find_title(state)
            with Control(settings) as control:
                for kind, name in (("hls", "master.m3u8"), ("dash", "manifest.mpd")):
                    for service in ("mapped", "video"):
                        control.playlists.put(service, title, kind, (folder / "media" / name).read_bytes(), "test")
            with serving(state, listen=listen) as served:
                host, _, port = urlsplit(served.url).netloc.partition(":")
                front.listener = (host, int(port))
                browser = Browser(fingerprint(pair[0]) if pair else "")
                try:
                    with RemoteControl(settings) as control:
                        yield Stage(machines, front, control, browser, title, public_url, state)
                finally:
                    browser.quit()
    finally:
        os.environ.clear()
        os.environ.update(before)
        front.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("players")) as actual:
        yield actual


@pytest.fixture
def scene(stage: Stage) -> Iterator[Stage]:
    """Give the stage with everything in its place, and clear it afterwards."""
    yield stage
    stage.browser.close_pages()
    stage.front.mode = "ok"
    stage.front.hanging.set()
    stage.front.hanging.clear()
    for address, name in NAMES.items():
        stage.machines[address].broken = False
        if stage.machines[address].server is None:
            stage.machines[address].start()
        stage.control.overrides.enable([name], "test")
        stage.control.overrides.weight([name], None, "test")
        stage.control.overrides.set_health_source([name], "assumed", "test")
    until(lambda: stage.first_for_new_clients() == NAMES[NEAR], PATIENCE_S)


def test_players_begin_at_the_best_leave_it_on_a_drain_and_are_won_back_when_it_is_whole_again(scene: Stage) -> None:
    scene.open()
    scene.wait_to_play()
    for name in PLAYERS:
        assert set(scene.browser.media(name)) == {NEAR}, name
    scene.control.overrides.drain([NAMES[NEAR]], "test")
    scene.check_left_within_a_poll(NEAR, scene.wait_until_passed_over(NEAR))
    scene.wait_for(NEXT)
    # It comes back with a tenth of its weight, as after a failure.
    scene.control.overrides.weight([NAMES[NEAR]], 100, "test")
    scene.control.overrides.enable([NAMES[NEAR]], "test")
    scene.play_on(2.5 * TTL_S)
    for name in PLAYERS:
        assert scene.browser.media(name)[-1] == NEXT, f"{name} left what plays well for one that has just begun"
    scene.control.overrides.weight([NAMES[NEAR]], None, "test")
    scene.wait_for(NEAR)
    scene.check()
    for name in PLAYERS:
        asked = scene.browser.of(name, "steering")
        took = asked[-1]["at"] - asked[0]["at"]
        assert abs(len(asked) - 1 - took / TTL_S) <= 2, f"{name} asked {len(asked)} times in {took:.0f} s"


@pytest.mark.parametrize("fault", ["is gone", "answers 503"])
def test_viewers_leave_a_failed_appliance_within_a_poll_and_miss_no_segment(scene: Stage, fault: str) -> None:
    scene.open()
    scene.wait_to_play(seconds=2.0)
    if fault == "is gone":
        scene.machines[NEAR].fail()
    else:
        scene.machines[NEAR].broken = True
    scene.check_left_within_a_poll(NEAR, scene.wait_until_passed_over(NEAR))  # by the checker's observations
    scene.wait_for(NEXT)
    scene.check()


def test_viewers_stay_on_a_full_appliance_while_new_ones_go_elsewhere(scene: Stage) -> None:
    scene.open()
    scene.wait_to_play()
    scene.report(NEXT, headroom_gbps=100)  # so the cluster is not short of room, which alone would keep viewers
    scene.report(NEAR, headroom_gbps=0)
    since = scene.wait_until_passed_over(NEAR)
    scene.wait_for_polls(2, since)
    scene.play_on(2 * SEGMENT_S)
    for name in PLAYERS:
        assert {host for asked, host in scene.browser.tried(name) if asked > since} == {NEAR}, f"{name} left"
    scene.check()


def test_an_appliance_at_its_limit_keeps_its_viewers_and_a_drained_site_gives_them_to_the_next(scene: Stage) -> None:
    scene.open()
    scene.wait_to_play()
    scene.control.overrides.weight([NAMES[NEAR], NAMES[NEXT]], 0, "test")
    scene.play_on(2.5 * TTL_S)
    for name in PLAYERS:
        assert set(scene.browser.media(name)) == {NEAR}, f"{name} left an appliance that takes no new clients"
    scene.control.overrides.drain([NAMES[NEAR], NAMES[NEXT]], "test")
    scene.wait_for(FAR)
    scene.check()


def test_mapped_pathways_move_players_and_clones_move_those_that_take_them(scene: Stage) -> None:
    scene.open(service="mapped")
    scene.wait_to_play()
    began = scene.browser.of("hls.js", "steering")[0]["body"]
    assert '"PATHWAY-PRIORITY":["bombay",' in began, "steering moved a player that had just begun at its best"
    scene.control.overrides.drain([NAMES[NEAR]], "test")
    scene.wait_for(NEXT, ("hls.js",))  # by a clone: the only form that names one appliance of many
    cloned = scene.browser.of("hls.js", "steering")[-1]["body"]
    assert '"PATHWAY-CLONES":[{"BASE-ID":"bombay","ID":"c002-bom001.' in cloned
    scene.control.overrides.drain([NAMES[NEXT]], "test")
    scene.wait_for(FAR)
    scene.control.overrides.drain([NAMES[FAR]], "test")
    scene.wait_for(ORIGIN)
    scene.check(declared=("bombay", "delhi", "other"))


def test_503_in_mid_session_recovers(scene: Stage) -> None:
    scene.open()
    scene.wait_to_play()
    scene.browser.wait(lambda: all(scene.browser.of(name, "steering") for name in PLAYERS), PATIENCE_S)
    scene.front.mode = "503"
    refused: Callable[[], bool] = lambda: all(  # noqa: E731
        any(result["status"] == 503 for result in scene.browser.of(name, "steering")) for name in PLAYERS
    )
    scene.browser.wait(refused, PATIENCE_S)
    scene.play_on(1.0)
    scene.control.overrides.drain([NAMES[NEAR]], "test")
    scene.front.mode = "ok"
    scene.wait_for(NEXT)
    scene.check()


def test_a_service_that_hangs_delays_only_players_that_wait_for_it(scene: Stage) -> None:
    scene.front.mode = "hang"
    names = ("hls.js", "Shaka, DASH", "dash.js")  # Shaka waits in HLS; what stands before the service has to fail fast
    scene.open(*names)
    scene.wait_to_play(names, 2.0)
    scene.check(names)


def test_a_service_that_fails_fast_delays_no_start(scene: Stage) -> None:
    scene.front.mode = "503"
    scene.open()
    scene.wait_to_play(seconds=2.0)
    for name in PLAYERS:
        assert set(scene.browser.media(name)) == {NEAR}, "the playlist says where to begin"
    scene.check()


def test_what_players_report_is_counted_where_it_belongs(scene: Stage) -> None:
    """They post to the service itself, which for the page is another origin; dash.js tells by its steering requests, too.

    What a browser makes of an appliance's host is no name of the fleet here, so responses are of nobody's appliance.
    """
    scene.open(reports="http://{}:{}/v1/cmcd".format(*scene.front.listener))

    def rows(by: str) -> dict[str | None, dict[str, Any]]:
        return {row[by]: row for row in scene.control.quality.list(by)}

    def counted() -> bool:
        viewers, at = rows("partner").get("as64500"), rows("appliance").get(NAMES[NEAR])
        return bool(viewers and at and viewers["throughput_kbps"] and viewers["starts"] >= 2 and at["reports"] >= 2)

    scene.browser.wait(counted, PATIENCE_S)
    scene.play_on(1.0)
    scene.check()
    assert rows("partner")["as64500"]["start_ms"] < PATIENCE_S * 1000
    assert rows("appliance")[None]["errors"] == 0
    for name in PLAYERS:
        posted = [result for result in scene.browser.of(name, "response") if result["url"].endswith("/v1/cmcd")]
        assert {result["status"] for result in posted} == {204}, name


def test_players_on_an_https_page_play_from_a_tls_listener(tmp_path: Path) -> None:
    """No front relays: the browsers speak TLS with the service, whose certificate they were told to trust."""
    with staged(tmp_path, make_certificate(tmp_path, "127.0.0.1")) as scene:
        assert scene.public_url.startswith("https://127.0.0.1:")
        scene.open()
        scene.wait_to_play(seconds=2 * TTL_S)
        for name in PLAYERS:
            assert set(scene.browser.media(name)) == {NEAR}, name
            asked = scene.browser.of(name, "steering")
            assert {row["url"].partition("/v1/")[0] for row in asked} == {scene.public_url}
        scene.control.overrides.drain([NAMES[NEAR]], "test")
        scene.wait_for(NEXT)
        scene.check()
