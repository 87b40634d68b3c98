"""No request makes a drain or a report wait: with 19,000 appliances, every verb is asked while one is drained."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.app import divide_time
from steering.control.fill.recipes import PART_BYTES, name_of
from steering.control.health.rules import Health, Report
from steering.control.records.documents import format_fleet
from steering.control.records.fleet_objects import SINGULAR
from steering.control.records.playlists import PlaylistRow
from steering.control.routes.build import quiet
from steering.control.services.playlists import Arrived, Prepare
from steering.control.services.run import run_here
from steering.control.services.synthetic_fleet import synthesize
from steering.control.verbs import BY_NAME
from steering.model.fleet import Fleet
from steering.settings import read_settings
from tests.support.control_app import ControlApp, running_control_app
from tests.support.stretches import Stretches, measure_locks, measured

MOST_S = 0.05  # that a drain or a report may wait for another request
ROUND_S = 0.3  # a drain and a report, on a busy machine
APPLIANCES = 19_000
PLAYLISTS = 5_000
SIZE = 1_000_000_000  # bytes of a title
LONG = httpx.Timeout(250)
HLS = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=250000\nlow/v.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=950000\nhigh/v.m3u8\n"


class Operator:
    """Drains and enables one appliance, which reports, again and again, as fast as answers come."""

    def __init__(self, app: ControlApp, appliance: str) -> None:
        self.app = app
        self.appliance = appliance
        self.done_at = [time.monotonic()]  # each round
        self.errors: list[str] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        with (
            self.app.client(self.app.make_token("ops")) as ops,
            self.app.client(self.app.make_token(f"appliance:{self.appliance}")) as own,
        ):
            while not self.ended.wait(0.002):
                number = len(self.done_at)
                override = {"appliances": [self.appliance], "enabled": bool(number % 2)}
                report = {"appliance": self.appliance, "boot": "b", "seq": number, "health": {"headroom_gbps": 50}}
                answers = [ops.post("/v1/overrides", json=override), own.post("/v1/reports", json=report)]
                self.errors += [answer.text for answer in answers if answer.status_code != 200]
                self.done_at.append(time.monotonic())

    def wait_for_round(self) -> None:
        """Wait until a round that begins from now on is done."""
        rounds = len(self.done_at)
        while len(self.done_at) < rounds + 2 and self.thread.is_alive():
            time.sleep(0.005)

    def longest_gap(self, began: float, ended: float) -> float:
        """Return the longest time between two moments in which no round ended."""
        times = [began, *(at for at in self.done_at if began < at < ended), ended]
        return max(after - before for before, after in itertools.pairwise(times))


@dataclasses.dataclass
class Service:
    """Control with 19,000 appliances, and what its requests are measured by."""

    app: ControlApp
    fleet: Fleet
    folder: Path
    stretches: Stretches
    operator: Operator
    ops: httpx.Client
    asked: set[str] = dataclasses.field(default_factory=set)

    def ask(self, verb: str, path: str = "", *, expected: int = 200, **request: Any) -> httpx.Response:
        """Send the request of a verb, and check what waits for it."""
        self.asked.add(verb)
        self.operator.wait_for_round()
        self.stretches.begin()
        began = time.monotonic()
        answer = self.ops.request(BY_NAME[verb].method, path or BY_NAME[verb].path, **request)
        ended = time.monotonic()
        self.operator.wait_for_round()
        assert answer.status_code == expected, (verb, answer.text[:300])
        too_long = {what: round(seconds, 3) for what, seconds in self.stretches.longest.items() if seconds > MOST_S}
        assert too_long == {}, verb
        # Elapsed time says little on a full machine; but drains that all wait until the answer show in it.
        gap = self.operator.longest_gap(began, ended)
        assert gap < ROUND_S + (ended - began) / 2, f"{verb}: no drain in {gap:.1f} of {ended - began:.1f} s"
        assert self.operator.errors == []
        return answer

    def feed(self, *prefixes: str) -> list[dict[str, str]]:
        """Write a feed of prefixes at the fleet's first cluster, and return the sources of a publish."""
        path = self.folder / f"{len(list(self.folder.iterdir()))}.csv"
        path.write_text("prefix,cluster\n" + "".join(f"{prefix},{self.fleet.clusters[0].id}\n" for prefix in prefixes))
        return [{"kind": "csv", "path": str(path)}]

    @property
    def table(self) -> int:
        """The table that serves."""
        serving = self.app.control.hand_over.serving()
        assert serving
        return int(serving["table"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return control with 19,000 appliances and as many tokens, 5,000 playlists, two tables and suppressed ejections."""
    folder = tmp_path_factory.mktemp("feeds")
    settings = read_settings(state=tmp_path_factory.mktemp("large") / "state", feed_sources=(str(folder),))
    switch_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    divide_time()
    with (
        pytest.MonkeyPatch.context() as patch,
        measured(patch) as stretches,
        running_control_app(settings, loop="asyncio") as app,
        httpx.Client(base_url=app.url, headers=app.make_token("ops"), timeout=LONG) as ops,
    ):
        measure_locks(app, stretches)
        fleet = synthesize(APPLIANCES)
        app.thread.submit(app.control.fleet.replace, fleet, "test").result()
        names = [appliance.id for appliance in fleet.appliances]
        app.thread.submit(app.control.tokens.make_many, [f"appliance:{name}" for name in names], "x", "test").result()
        app.thread.submit(register_playlists, app).result()
        operator = Operator(app, names[100])
        service = Service(app, fleet, folder, stretches, operator, ops)
        for prefix in ("203.0.113.0/24", "198.51.100.0/24"):
            assert ops.post("/v1/tables/publish", json={"sources": service.feed(prefix)}).status_code == 200
        operator.thread.start()
        try:
            yield service
        finally:
            operator.ended.set()
            operator.thread.join()
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(switch_s)


def register_playlists(app: ControlApp) -> None:
    (cut,) = Prepare([Arrived("video", "t", "hls", "", HLS)])(quiet)
    assert isinstance(cut, str)
    with app.control.records.transaction() as transaction:
        for number in range(PLAYLISTS):
            row = PlaylistRow("video", f"t{number:06}", "hls", HLS + b"#" * 4000, cut, "", 1.0, "test")
            transaction.playlists.set(row)


def recipe_of(title: str) -> bytes:
    """Return the document of a title's recipe: one file."""
    digest = hashlib.sha256(title.encode()).hexdigest()
    parts = [digest] * -(-SIZE // PART_BYTES)
    return json.dumps({"files": [{"path": "media", "bytes": SIZE, "sha256": digest, "parts": parts}]}).encode()


def plays() -> bytes:
    """Return plays of yesterday in three countries."""
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    rows = (
        f"{day},{area},t{number:06},{1000 / (number + 1):.3f}"
        for area in ("IN", "DE", "US")
        for number in range(TITLES)
    )
    return ("day,area,title,plays\n" + "\n".join(rows) + "\n").encode()


def import_fleets(service: Service) -> None:
    fleet = service.fleet
    moved = [dataclasses.replace(item, host=f"x-{item.host}") for item in fleet.appliances]
    half = dataclasses.replace(fleet, appliances=(*moved[:1000], *moved[1000::2]))
    for other in (half, fleet):
        service.ask("fleet.replace", content=format_fleet(other).encode())
    assert service.app.control.fleet.current().appliances[1001].host == fleet.appliances[1001].host


def put_and_delete(service: Service) -> None:
    site = {"country": "IN", "city": "Zed", "latitude": 1, "longitude": 2}
    service.ask("sites.put", "/v1/sites/zz", expected=201, json=site, headers={"If-None-Match": "*"})
    service.ask("sites.delete", "/v1/sites/zz", expected=204, headers={"If-Match": "*"})


def move_cluster(service: Service) -> None:
    """Put the largest cluster, whose appliances the registry takes anew."""
    sizes = Counter(appliance.cluster for appliance in service.fleet.appliances)
    path, tag = f"/v1/clusters/{max(sizes, key=sizes.__getitem__)}", {"If-Match": "*"}
    row = {name: value for name, value in service.ops.get(path).json().items() if name != "state"}
    service.ask("clusters.put", path, json={**row, "site": service.fleet.sites[0].id}, headers=tag)
    service.ask("clusters.put", path, json=row, headers=tag)


def change_overrides(service: Service) -> None:
    names = [appliance.id for appliance in service.fleet.appliances]
    for change in ({"enabled": False}, {"enabled": True, "weight": 7}):
        service.ask("overrides.change", json={"appliances": names, **change})
    service.ask("overrides.change", json={"appliances": [f"{names[9000]}x"], "enabled": False}, expected=404)


def release_ejections(service: Service) -> None:
    app = service.app
    for number in range(app.control.settings.down_after):
        down = Report("boot", number + 1, None, Health("failed", "no uplink"))
        for appliance in service.fleet.appliances[1000::2]:
            app.control.registry.report(appliance.id, down, monitor=1)
        app.in_loop(app.control.registry.tick)
    assert len(service.ask("ejections.list").json()) > APPLIANCES // 3
    assert len(service.ask("ejections.release", json={}).json()["released"]) > APPLIANCES // 3


def publish(service: Service) -> None:
    service.ask("tables.publish", json={"sources": service.feed("192.0.2.0/24")})
    sources = service.feed("192.0.2.0/24", "203.0.113.0/24")
    service.ask("tables.publish", json={"sources": sources, "canary": 0.5})
    service.ask("tables.withdraw", json={})
    service.ask("tables.unpin")


def promote(service: Service) -> None:
    sources = service.feed("192.0.2.0/25", "198.51.100.0/24")
    assert service.ops.post("/v1/tables/publish", json={"sources": sources, "canary": 0.5}).status_code == 200
    service.ask("tables.promote", json={})


def roll_back(service: Service) -> None:
    service.ask("tables.rollback", f"/v1/tables/{service.table - 1}/rollback", json={})
    service.ask("tables.pin", json={})
    service.ask("tables.unpin")


def plan_maintenance(service: Service) -> None:
    window = {"kind": "site", "subject": service.fleet.sites[0].id, "ends_at": time.time() + 86_400, "why": "disks"}
    number = service.ask("maintenance.add", json=window, expected=201).json()["id"]
    service.ask("maintenance.list", params={"ended": True})
    service.ask("maintenance.cancel", f"/v1/windows/{number}")


def make_token(service: Service) -> None:
    number = service.ask("tokens.make", json={"role": "ops"}, expected=201).json()["id"]
    service.ask("tokens.revoke", f"/v1/tokens/{number}")


def make_key(service: Service) -> None:
    service.ask("keys.make", json={"id": "k1"}, expected=201)
    service.ask("keys.retire", "/v1/keys/k1")


def put_playlist(service: Service) -> None:
    service.ask("playlists.put", "/v1/playlists/video/new/hls", content=HLS, expected=201)
    service.ask("playlists.get", "/v1/playlists/video/new/hls")
    service.ask("playlists.delete", "/v1/playlists/video/new/hls")


def put_titles(service: Service) -> None:
    """Put a catalogue, and record recipes for some of it."""
    path = f"/v1/catalogue/{SERVICE}"
    service.ask("catalogue.put", path, content=CATALOGUE)
    for title in FILLED:
        name = name_of(recipe_of(title))
        service.ask("catalogue.put_recipe", f"{path}/{name}", content=recipe_of(title))
    service.ask("catalogue.recipe", f"{path}/{name_of(recipe_of('t000000'))}")
    service.ask("catalogue.rows", path, params={"count": 10_000})
    service.ask("catalogue.remove", f"{path}/titles/t{TITLES - 1:06}")


def plan_fill(service: Service) -> None:
    """Count plays, make two plans, and go back to the first."""
    put_titles(service)
    service.ask("fill.count_plays", f"/v1/fill/plays/{SERVICE}", content=plays())
    service.ask("fill.use_launches", f"/v1/fill/launches/{SERVICE}", content=LAUNCHES)
    first = service.ask("fill.plan", json={"why": "first"}, expected=201).json()["plan"]
    service.ask("fill.plan", json={"force": "a test"}, expected=201)
    service.ask("fill.list")
    service.ask("fill.rollback", f"/v1/fill/plans/{first}/rollback", json={})
    service.ask("fill.pin", json={})
    service.ask("fill.unpin")


def ask_about_fill(service: Service) -> None:
    plan_fill(service)
    cluster = service.fleet.clusters[0].id
    service.ask("fill.status", params={"count": 10_000})
    service.ask("fill.explain", params={"service": SERVICE, "title": "t000000", "cluster": cluster})
    service.ask("fill.manifest", params={"appliance": service.operator.appliance})
    service.app.thread.submit(service.app.control.keys.make, "fill", "test").result()
    own = service.app.make_token(f"appliance:{service.operator.appliance}")
    service.ask("fill.sources", json={"service": SERVICE, "titles": list(FILLED)}, headers=own)


def report(service: Service) -> None:
    rows = [{"appliance": item.id, "boot": "m", "seq": 1} for item in service.fleet.appliances[1000:6000]]
    service.ask("reports", json=rows)


def listen(service: Service) -> None:
    service.asked.add("events")
    with service.ops.stream("GET", "/v1/events") as events:
        assert next(events.iter_bytes())
    service.operator.wait_for_round()


def ask_in_turn(service: Service) -> None:
    """Send the requests that change nothing and take parameters alone."""
    for verb, parameters in QUESTIONS.items():
        service.ask(verb, params=parameters)
    for kind in SINGULAR:
        service.ask(f"{kind}.list", params={"count": 10_000})
        service.ask(f"{kind}.get", f"/v1/{kind}/{getattr(service.fleet, kind)[-1].id}")


def ask_about_tables(service: Service) -> None:
    service.ask("tables.check", json={"sources": service.feed("192.0.2.0/24")})
    service.ask("tables.reload")
    service.ask("tables.get", f"/v1/tables/{service.table}")
    service.ask("tables.diff", "/v1/tables/1/diff/2")


SERVICE = "video"
TITLES = 20_000
FILLED = [f"t{number:06}" for number in range(10)]  # titles with a recipe
CATALOGUE = b"title,bytes,recipe\n" + b"".join(
    f"t{number:06},{SIZE},{name_of(recipe_of(f't{number:06}')) if number < len(FILLED) else ''}\n".encode()
    for number in range(TITLES)
)
LAUNCHES = b"title,at,areas,plays_first_week\nt000001,2027-01-01,*,5000\n"
ADDRESS = {"ip": "203.0.113.7"}
QUESTIONS: dict[str, dict[str, Any]] = {
    "tables.list": {},
    "tables.routes": {"prefix": "0.0.0.0/0"},
    "tables.route_report": {},
    "sessions": {},
    "explain": ADDRESS,
    "what_if": ADDRESS,
    "fleet.current": {},
    "overrides.list": {},
    "overview": {"count": 1000},
    "alarms": {"resolved": True},
    "holdings.missing": {"count": 10_000},
    "quality.list": {"count": 10_000, "by": "appliance"},
    "tokens.list": {},
    "keys.list": {},
    "playlists.rows": {"count": 10_000},
    "audit.list": {"count": 10_000},
}
REQUESTS: list[tuple[str, Callable[[Service], None], Iterable[str]]] = [
    ("questions", ask_in_turn, [*QUESTIONS, *(f"{kind}.{verb}" for kind in SINGULAR for verb in ("list", "get"))]),
    ("tables", ask_about_tables, ("tables.check", "tables.reload", "tables.get", "tables.diff")),
    ("publish", publish, ("tables.publish", "tables.withdraw", "tables.unpin")),
    ("promote", promote, ("tables.promote",)),
    ("rollback", roll_back, ("tables.rollback", "tables.pin", "tables.unpin")),
    ("import", import_fleets, ("fleet.replace",)),
    ("object", put_and_delete, ("sites.put", "sites.delete")),
    ("a large cluster", move_cluster, ("clusters.put",)),
    ("overrides", change_overrides, ("overrides.change",)),
    ("windows", plan_maintenance, ("maintenance.list", "maintenance.add", "maintenance.cancel")),
    ("ejections", release_ejections, ("ejections.list", "ejections.release")),
    ("events", listen, ("events",)),
    ("reports", report, ("reports",)),
    ("token", make_token, ("tokens.make", "tokens.revoke")),
    ("key", make_key, ("keys.make", "keys.retire")),
    ("playlist", put_playlist, ("playlists.get", "playlists.put", "playlists.delete")),
    ("catalogue", put_titles, (*(f"catalogue.{verb}" for verb in ("rows", "put", "recipe", "put_recipe", "remove")),)),
    (
        "plan",
        plan_fill,
        (*(f"fill.{verb}" for verb in ("count_plays", "use_launches", "plan", "list", "rollback", "pin", "unpin")),),
    ),
    ("fill", ask_about_fill, (*(f"fill.{verb}" for verb in ("status", "explain", "manifest", "sources")),)),
]


def test_every_verb_is_asked_here() -> None:
    asked = {verb for _, _, verbs in REQUESTS for verb in verbs}
    alike = {f"{kind}.{verb}" for kind in SINGULAR for verb in ("put", "delete")}  # one method does them for all kinds
    assert asked | alike == BY_NAME.keys()


@pytest.mark.parametrize(("name", "send", "verbs"), REQUESTS, ids=[row[0] for row in REQUESTS])
def test_no_request_makes_a_drain_or_a_report_wait(
    service: Service, name: str, send: Callable[[Service], None], verbs: Iterable[str]
) -> None:
    service.asked.clear()
    send(service)
    assert service.asked >= set(verbs), name


def test_what_does_not_give_way_is_noticed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.app.control.fleet, "run", run_here)
    site = {"country": "IN", "city": "Zed", "latitude": 1, "longitude": 2}
    with pytest.raises(AssertionError, match="'control': "):
        service.ask("sites.put", "/v1/sites/zy", expected=201, json=site, headers={"If-None-Match": "*"})
