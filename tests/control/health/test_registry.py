"""What is said and wished becomes the words that workers read: at once what appliances say, at a tick what is inferred."""

from __future__ import annotations

from pathlib import Path

import pytest

from _fastpath.status_words import DISABLED, IPV4_UP, IPV6_UP, NO_HEADROOM, OVER_LIMIT, STALE, UNHEALTHY
from steering.control.health import registry as vitals
from steering.control.health.ejection_limits import Limits
from steering.control.health.registry import (
    Alarm,
    Maintenance,
    OverrideOrigin,
    StateChange,
    Vitals,
    read_state,
    steady_clock,
)
from steering.control.health.rules import Health, Report, RoutesHeard, Rules
from steering.control.records.database import Override
from steering.errors import RequestError
from steering.model.fleet import Appliance, Cluster, Fleet, Site
from steering.model.route import RouteClass
from steering.state.status import StatusFiles, write_status

BOTH = IPV4_UP | IPV6_UP
BITS = 0xFFFF0000


def make_fleet(**clusters: int) -> Fleet:
    """`bom001=4`: a cluster of four appliances of 100 Gbps, alone at its site."""
    names = [(site, f"c{i}-{site}") for site, count in clusters.items() for i in range(count)]
    return Fleet(
        (),
        tuple(Site(site, "IN", site, 0.0, 0.0) for site in clusters),
        tuple(Cluster(f"{site}-a", site, RouteClass.exchange, number=at) for at, site in enumerate(clusters)),
        tuple(Appliance(name, f"{site}-a", f"{name}.example", 100.0, slot=at) for at, (site, name) in enumerate(names)),
        (),
    )


class Bench:
    """Vitals of a fleet over a real file of weights, with a clock that is set by hand."""

    def __init__(
        self, folder: Path, fleet: Fleet, rules: Rules | None = None, limits: Limits | None = None, signal: float = 0.0
    ) -> None:
        self.now = 1000.0
        self.vitals = Vitals(rules, limits, clock=lambda: self.now, player_signal=signal)
        self.slots = {appliance.id: appliance.slot for appliance in fleet.appliances}
        self.vitals.take_fleet(fleet, {}, {})
        self.files = StatusFiles(folder)
        self.files.use(write_status(folder, 1, [self.vitals.words().get(slot, 0) for slot in range(64)]))
        self.vitals.files = self.files
        self.changes: list[StateChange] = []
        self.alarms: list[Alarm] = []
        self.vitals.listen(self.changes.append)
        self.vitals.on_alarm(self.alarms.append)
        self.seq = 0

    def word(self, name: str) -> int:
        """Return the word in the file."""
        return self.files.word(self.slots[name])

    def say(self, *names: str, health: Health | None = None, own: bool = True) -> list[str]:
        self.seq += 1
        return [self.vitals.report(name, Report("b", self.seq, health=health or Health()), own) for name in names]

    def tick(self, seconds: float = 1.0, **more: object) -> None:
        self.now += seconds
        self.vitals.tick(**more)  # type: ignore[arg-type]

    def states(self) -> dict[str, str]:
        return {name: self.vitals.describe(name)["state"] for name in self.slots}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Four appliances in Mumbai and twenty elsewhere, one a site."""
    return Bench(tmp_path, make_fleet(bom001=4, **{f"del{i:03}": 1 for i in range(20)}), limits=Limits(0.5, 0.2))


MUMBAI = [f"c{i}-bom001" for i in range(4)]


def test_an_appliances_own_word_acts_at_once(bench: Bench) -> None:
    assert bench.word("c0-bom001") == 1000 | BOTH
    bench.say("c0-bom001", health=Health("failed", "disk"))
    assert bench.word("c0-bom001") == 1000 | BOTH | UNHEALTHY
    bench.say("c0-bom001", health=Health(headroom_gbps=1.0))
    assert bench.word("c0-bom001") & BITS == BOTH | NO_HEADROOM
    bench.say("c0-bom001", health=Health(ipv6=False))
    assert bench.word("c0-bom001") & BITS == IPV4_UP
    assert bench.word("c1-bom001") == 1000 | BOTH


def test_the_first_report_of_an_assumed_appliance_takes_nothing_away(bench: Bench) -> None:
    bench.say("c0-bom001")
    assert bench.word("c0-bom001") == 1000 | BOTH
    assert bench.states()["c0-bom001"] == "serving"
    assert bench.vitals.believed("c0-bom001")
    assert not bench.vitals.believed("c1-bom001")


def test_one_that_is_to_report_and_never_did_is_not_usable(bench: Bench) -> None:
    bench.vitals.set_overrides({"c0-bom001": Override(health_source="reported")}, OverrideOrigin(bench.now, "noc"))
    assert bench.word("c0-bom001") == 1000 | BOTH | STALE
    assert bench.states()["c0-bom001"] == "unknown"
    bench.say("c0-bom001")
    assert bench.word("c0-bom001") == 100 | BOTH, "slow start"
    bench.vitals.set_overrides({"c0-bom001": Override(health_source="assumed")}, OverrideOrigin(bench.now, "noc"))
    assert bench.word("c0-bom001") == 1000 | BOTH


def test_who_recovers_starts_slowly_and_is_told(bench: Bench) -> None:
    bench.say("c0-bom001")
    bench.say("c0-bom001", health=Health("failed", "disk"))
    bench.say("c0-bom001")
    assert bench.word("c0-bom001") == 100 | BOTH
    weights = []
    for _ in range(60):
        bench.tick()
        bench.say("c0-bom001")
        weights.append(bench.word("c0-bom001") & 0xFFFF)
    assert weights[30] == pytest.approx(600, abs=1)
    assert weights == sorted(weights)
    assert bench.word("c0-bom001") == 1000 | BOTH
    assert [(change.before, change.after) for change in bench.changes] == [
        ("serving", "unhealthy"),
        ("unhealthy", "climbing"),
        ("climbing", "serving"),
    ]
    assert bench.changes[0].why == "disk"


def test_weights_follow_headroom_by_a_step_a_tick(bench: Bench) -> None:
    bench.say("c0-bom001", health=Health(headroom_gbps=12.5))
    weights = []
    for _ in range(7):
        bench.tick()
        weights.append(bench.word("c0-bom001") & 0xFFFF)
    assert weights == [900, 800, 700, 600, 500, 500, 500]


def test_who_is_silent_for_three_reports_is_stale_and_back_with_the_next(bench: Bench) -> None:
    bench.say("c0-bom001", "c1-bom001")
    for _ in range(30):
        bench.tick()
        bench.say("c1-bom001")
    assert bench.word("c0-bom001") & STALE == 0
    bench.tick()
    assert bench.word("c0-bom001") == 1000 | BOTH | STALE
    assert bench.states()["c0-bom001"] == "stale"
    bench.say("c0-bom001")
    assert bench.word("c0-bom001") == 100 | BOTH


def test_when_too_many_fall_silent_the_last_good_weights_stand_until_a_person_says(bench: Bench) -> None:
    every = list(bench.slots)
    bench.say(*every)
    before = {name: bench.word(name) for name in every}
    for _ in range(40):
        bench.tick()
    assert {name: bench.word(name) for name in every} == before
    assert set(bench.states().values()) == {"held"}
    assert [(alarm.kind, alarm.subject, alarm.resolved) for alarm in bench.alarms] == [("held", "fleet", False)]
    assert "24 appliances seem to be down" in bench.alarms[0].text
    assert sorted(bench.vitals.release()) == sorted(every)
    bench.tick()
    assert set(bench.states().values()) == {"stale"}
    bench.say(*every)
    bench.tick()
    assert set(bench.states().values()) == {"climbing"}
    assert bench.vitals.alarms() == []
    assert all(
        any(over.resolved and over.subject == alarm.subject for over in bench.alarms)
        for alarm in bench.alarms
        if not alarm.resolved
    )


def test_a_monitor_that_says_everything_is_down_takes_nobody_out(bench: Bench) -> None:
    every = list(bench.slots)
    for _ in range(5):
        bench.say(*every, health=Health("failed", "no route"), own=False)
        bench.tick()
    assert all(bench.word(name) == 1000 | BOTH for name in every)
    for _ in range(2):
        bench.say(*every, own=False)
    bench.tick()
    assert set(bench.states().values()) == {"serving"}
    assert all(bench.word(name) == 1000 | BOTH for name in every), "who never was out does not start slowly"


def test_a_monitor_takes_out_one_after_three_observations_and_half_a_cluster_at_most(bench: Bench) -> None:
    for _ in range(3):
        assert bench.word("c0-bom001") == 1000 | BOTH
        bench.say(*MUMBAI[:3], health=Health("failed", "no route"), own=False)
        bench.tick()
    assert [bench.states()[name] for name in MUMBAI] == ["unhealthy", "unhealthy", "held", "serving"]
    assert bench.vitals.describe("c2-bom001")["held"] == "bom001-a"
    bench.vitals.observe("c3-bom001", False, "refused")
    bench.vitals.observe("c3-bom001", False, "refused")
    bench.vitals.observe("c3-bom001", False, "refused")
    bench.tick()
    assert {bench.states()[name] for name in MUMBAI} == {"unhealthy"}, "the whole site"
    assert ("cluster_down", "bom001-a") in {(alarm.kind, alarm.subject) for alarm in bench.vitals.alarms()}


def test_a_family_that_a_checker_finds_down_is_not_up(bench: Bench) -> None:
    for _ in range(3):
        bench.vitals.observe("c0-bom001", False, "refused", family=6)
        bench.vitals.observe("c0-bom001", True, "", family=4)
    bench.tick()
    assert bench.word("c0-bom001") == 1000 | IPV4_UP
    found = bench.vitals.describe("c0-bom001")
    assert (found["families"], found["state"], found["why"]) == ([4], "partial", "not up over IPv6: refused")
    for _ in range(3):
        for name in MUMBAI:
            bench.vitals.observe(name, False, "refused", family=4)
            bench.vitals.observe(name, False, "refused", family=6)
    bench.tick()
    assert bench.states()["c0-bom001"] == "unhealthy", "no family is left"
    assert ("cluster_down", "bom001-a") in {(alarm.kind, alarm.subject) for alarm in bench.alarms}


def test_maintenance_begins_and_ends_by_itself(bench: Bench) -> None:
    bench.tick(maintenance={"c0-bom001": Maintenance(5000.0, "new disks")})
    assert bench.word("c0-bom001") == 1000 | BOTH | DISABLED
    found = bench.vitals.describe("c0-bom001")
    assert (found["state"], found["why"], found["maintenance"]["until"]) == ("maintenance", "new disks", 5000.0)
    bench.tick()
    assert bench.word("c0-bom001") == 1000 | BOTH


def test_a_drained_appliance_drains_until_it_has_no_connections(bench: Bench) -> None:
    bench.say("c0-bom001", health=Health(connections=9))
    bench.vitals.set_overrides({"c0-bom001": Override(enabled=False)}, OverrideOrigin(bench.now, "noc"))
    assert bench.states()["c0-bom001"] == "draining"
    bench.say("c0-bom001", health=Health(connections=0))
    assert bench.states()["c0-bom001"] == "drained"
    assert bench.vitals.describe("c0-bom001")["wished"]["who"] == "noc"


def test_who_has_far_more_than_its_share_is_passed_over_until_it_is_back(bench: Bench) -> None:
    slots = [bench.slots[name] for name in MUMBAI]
    bench.tick(answers=dict(zip(slots, [700, 100, 100, 100], strict=True)))
    assert [bench.word(name) & OVER_LIMIT for name in MUMBAI] == [OVER_LIMIT, 0, 0, 0]
    assert bench.states()["c0-bom001"] == "over"
    assert bench.vitals.describe("c0-bom001")["share"] == pytest.approx(0.7)
    for _ in range(8):
        bench.tick(answers=dict.fromkeys(slots[1:], 250))
    assert not bench.word("c0-bom001") & OVER_LIMIT


def test_who_has_more_than_its_share_gets_fewer_clients_by_and_by(bench: Bench) -> None:
    slots = [bench.slots[name] for name in MUMBAI]
    for _ in range(20):
        bench.tick(answers=dict(zip(slots, [350, 220, 220, 210], strict=True)))
    weights = [bench.word(name) & 0xFFFF for name in MUMBAI]
    assert 700 < weights[0] < 900
    assert weights[1:] == [1000] * 3
    assert bench.vitals.describe("c0-bom001")["trim"] == weights[0] / 1000
    for _ in range(120):
        bench.tick(answers=dict.fromkeys(slots, 250) | {slots[0]: 150})
    assert bench.word("c0-bom001") & 0xFFFF == 1000


def test_the_clusters_of_a_large_fleet_are_compared_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = make_fleet(bom001=4, del001=4, lhr001=4)
    for name in ("at once", "in turns"):
        (tmp_path / name).mkdir()
    at_once = Bench(tmp_path / "at once", fleet)
    monkeypatch.setattr(vitals, "COMPARED_AT_ONCE", 5)
    in_turns = Bench(tmp_path / "in turns", fleet)
    first = [f"c0-{site}" for site in ("bom001", "del001", "lhr001")]
    slots = [in_turns.slots[name] for name in first]
    quiet = dict.fromkeys(in_turns.slots.values(), 100)

    def over(bench: Bench, busy: int) -> int:
        bench.tick(answers=quiet | dict.fromkeys(slots, busy))
        return sum(bool(bench.word(name) & OVER_LIMIT) for name in first)

    assert [over(at_once, 700) for _ in range(4)] == [3, 3, 3, 3]
    assert [over(in_turns, 700) for _ in range(4)] == [1, 2, 3, 3]
    for bench in (at_once, in_turns):
        assert [over(bench, 100) for _ in range(60)][-1] == 0
        for _ in range(60):
            over(bench, 140)
    for name in first:  # the time between two turns counts whole
        trims = [bench.vitals.describe(name)["trim"] for bench in (at_once, in_turns)]
        assert trims[0] == pytest.approx(trims[1], abs=0.05)
        assert trims[0] < 0.95


def test_hits_are_spread_and_forgotten(bench: Bench) -> None:
    bench.tick(answers={0: 1000}, asked={7: 900, 8: 10})
    assert bench.vitals.hot == {7: 32}
    for _ in range(60):
        bench.tick(answers={0: 1000})
    assert bench.vitals.hot == {}


def test_a_restart_begins_where_the_last_process_ended(tmp_path: Path, bench: Bench) -> None:
    bench.say(*MUMBAI, health=Health(headroom_gbps=12.5))
    bench.say("c1-bom001", health=Health("failed", "disk"))
    for _ in range(3):
        bench.tick()
    words = {name: bench.word(name) for name in bench.slots}
    states = bench.vitals.take_dirty(every=True)
    again = Bench(tmp_path, make_fleet(bom001=4, **{f"del{i:03}": 1 for i in range(20)}))
    again.now = bench.now + 3600
    again.vitals.adopt(states, lambda slot: words[next(n for n, at in bench.slots.items() if at == slot)])
    assert {name: again.vitals.words()[slot] for name, slot in again.slots.items()} == words
    assert again.changes == []
    for _ in range(30):
        again.tick()
    assert set(again.states().values()) <= {"serving", "unhealthy"}, "silence counts from the restart on"
    assert again.say("c0-bom001") == ["repeated"]


def test_what_is_known_survives_as_json_and_what_is_not_ours_is_nothing() -> None:
    vitals = Vitals(clock=lambda: 5.0)
    vitals.take_fleet(make_fleet(bom001=1), {}, {})
    heard = {4: RoutesHeard(9, "ab"), 6: RoutesHeard(0, "")}
    vitals.report("c0-bom001", Report("b", 3, 1.0, Health("degraded", "nic", 1.0, 2.0, 3, 0.5, 0.25), heard), True)
    (text,) = vitals.take_dirty().values()
    assert read_state(text, 5.0) == vitals.entries["c0-bom001"].vital
    assert vitals.routes_heard() == {"c0-bom001": heard}
    assert vitals.take_dirty() == {}
    assert not read_state('{"seq": "x"}', 1.0).reports
    assert not read_state("", 1.0).reports


def test_an_appliance_that_leaves_takes_what_is_known_along(bench: Bench) -> None:
    bench.say(*MUMBAI, health=Health("failed", "disk"))
    bench.vitals.take_fleet(make_fleet(bom001=1), {}, {})
    bench.tick()
    assert list(bench.vitals.describe_all()) == ["c0-bom001"]
    assert bench.vitals.describe("c0-bom001")["state"] == "unhealthy"
    with pytest.raises(RequestError, match="c1-bom001"):
        bench.vitals.report("c1-bom001", Report("b", 1), True)
    bench.vitals.observe("c1-bom001", False, "nobody is told")


def test_the_words_heal_where_somebody_else_stored_another(bench: Bench) -> None:
    bench.files.set_words({bench.slots["c0-bom001"]: 1})
    bench.tick()
    assert bench.word("c0-bom001") == 1000 | BOTH


def test_a_cluster_is_described_by_its_members(bench: Bench) -> None:
    bench.say("c0-bom001", health=Health("failed", "disk", throughput_gbps=3.0))
    bench.tick(answers={bench.slots["c1-bom001"]: 3, 10: 1})
    assert bench.vitals.describe_cluster("bom001-a") == {
        "appliances": 4,
        "states": {"serving": 3, "unhealthy": 1},
        "weight": 3000,
        "capacity_gbps": 400.0,
        "throughput_gbps": 3.0,
        "share": 0.75,
    }


def test_the_steady_clock_tells_the_time_and_goes_forward() -> None:
    clock = steady_clock()
    first = clock()
    assert clock() >= first > 1.7e9


def told(seconds: int, bench: Bench, **failing: float) -> None:
    """Let players tell for so long: 60 a minute of each in Mumbai, of whom a share fails, as they come."""
    for second in range(seconds):
        voices = {bench.slots[name]: (1, int(second % 10 < 10 * failing.get(name[:2], 0.0))) for name in MUMBAI}
        bench.tick(voices=voices)


def test_whom_players_fail_on_loses_weight_within_the_cap_and_gets_it_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_fleet(bom001=4), signal=0.5)
    told(120, bench)
    assert {bench.word(name) for name in MUMBAI} == {1000 | BOTH}
    told(15, bench, c1=1.0)
    assert 500 < bench.word("c1-bom001") & 0xFFFF < 1000
    told(200, bench, c1=1.0)
    assert 500 <= bench.word("c1-bom001") & 0xFFFF <= 530
    assert [bench.word(name) for name in MUMBAI if name != "c1-bom001"] == [1000 | BOTH] * 3
    described = bench.vitals.describe("c1-bom001")
    assert described["state"] == "serving"
    assert described["players"]["kept"] == pytest.approx((bench.word("c1-bom001") & 0xFFFF) / 1000)
    assert described["why"].startswith("players fail on it: it keeps 5")
    assert [(alarm.kind, alarm.subject, alarm.resolved) for alarm in bench.alarms] == [("players", "bom001-a", False)]
    assert bench.alarms[0].text.startswith("players fail on c1-bom001: of ")
    told(400, bench)
    assert [(alarm.kind, alarm.resolved) for alarm in bench.alarms[1:]] == [("players", True)]
    assert {bench.word(name) for name in MUMBAI} == {1000 | BOTH}


def test_players_who_fall_silent_take_nothing_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_fleet(bom001=4), signal=0.5)
    told(200, bench, c1=1.0)
    assert 500 <= bench.word("c1-bom001") & 0xFFFF <= 530
    for _ in range(600):
        bench.tick()
    assert bench.word("c1-bom001") == 1000 | BOTH


def test_no_more_of_a_cluster_than_the_blast_radius_allows(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_fleet(bom001=4), limits=Limits(0.25), signal=0.5)
    told(200, bench, c1=1.0, c2=0.8)
    lower = [name for name in MUMBAI if bench.word(name) & 0xFFFF < 1000]
    assert len(lower) == 1


def test_without_the_setting_players_decide_nothing(bench: Bench) -> None:
    told(200, bench, c1=1.0)
    assert bench.word("c1-bom001") == 1000 | BOTH
