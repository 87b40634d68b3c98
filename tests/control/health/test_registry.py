"""Reports and overrides change status words at once, inference and load at a tick."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from _fastpath.status_words import DISABLED, HELD_BACK, IPV4_UP, MOST_HELD_BACK, NO_HEADROOM, STALE, UNHEALTHY
from steering.control.health import ejection_limits, registry
from steering.control.health.appliance_state import Maintenance, OverrideOrigin
from steering.control.health.presenter import describe
from steering.control.health.registry import Registry, read_record, steady_clock
from steering.control.health.rules import Health, Report
from steering.control.records.overrides import Override
from steering.errors import RequestError
from steering.model.route import RoutesHeard
from steering.settings import Settings
from tests.support.appliances import BOTH, MUMBAI, Bench, make_fleet

BITS = 0x007F0000  # the flags of a word
NOBODY_RETURNS = MOST_HELD_BACK * HELD_BACK


def test_an_appliances_own_report_counts_at_once(bench: Bench) -> None:
    assert bench.status("c0-bom001") == 1000 | BOTH
    bench.report("c0-bom001", health=Health("failed", "disk"))
    assert bench.status("c0-bom001") == 1000 | BOTH | UNHEALTHY
    bench.report("c0-bom001", health=Health(headroom_gbps=1.0))
    assert bench.status("c0-bom001") & BITS == BOTH | NO_HEADROOM
    bench.report("c0-bom001", health=Health(ipv6=False))
    assert bench.status("c0-bom001") & BITS == IPV4_UP
    assert bench.status("c1-bom001") == 1000 | BOTH


def test_the_first_report_of_an_assumed_appliance_takes_nothing_away(bench: Bench) -> None:
    bench.report("c0-bom001")
    assert bench.status("c0-bom001") == 1000 | BOTH
    assert bench.states()["c0-bom001"] == "serving"
    assert bench.registry.is_reported("c0-bom001")
    assert not bench.registry.is_reported("c1-bom001")


def test_a_reported_appliance_is_not_usable_before_its_first_report(bench: Bench) -> None:
    bench.registry.set_overrides({"c0-bom001": Override(health_source="reported")}, OverrideOrigin(bench.now, "noc"))
    assert bench.status("c0-bom001") == 1000 | BOTH | STALE
    assert bench.states()["c0-bom001"] == "unknown"
    bench.report("c0-bom001")
    assert bench.status("c0-bom001") == 100 | BOTH | NOBODY_RETURNS, "slow start"
    bench.registry.set_overrides({"c0-bom001": Override(health_source="assumed")}, OverrideOrigin(bench.now, "noc"))
    assert bench.status("c0-bom001") == 1000 | BOTH | NOBODY_RETURNS


def test_a_recovered_appliance_starts_slowly_and_listeners_are_called(bench: Bench) -> None:
    bench.report("c0-bom001")
    bench.report("c0-bom001", health=Health("failed", "disk"))
    bench.report("c0-bom001")
    assert bench.status("c0-bom001") == 100 | BOTH | NOBODY_RETURNS
    weights = []
    for _ in range(60):
        bench.tick()
        bench.report("c0-bom001")
        weights.append(bench.status("c0-bom001") & 0xFFFF)
    assert weights[30] == pytest.approx(600, abs=1)
    assert weights == sorted(weights)
    assert bench.status("c0-bom001") & ~NOBODY_RETURNS == 1000 | BOTH
    assert [(change.before, change.after) for change in bench.changes] == [
        ("serving", "unhealthy"),
        ("unhealthy", "ramping"),
        ("ramping", "serving"),
    ]
    assert bench.changes[0].why == "disk"


def test_weights_follow_headroom_by_a_step_a_tick(bench: Bench) -> None:
    bench.report("c0-bom001", health=Health(headroom_gbps=10.5))
    weights = []
    for _ in range(7):
        bench.tick()
        weights.append(bench.status("c0-bom001") & 0xFFFF)
    assert weights == [900, 800, 700, 600, 500, 500, 500]


def test_an_appliance_silent_for_three_reports_is_stale_until_the_next(bench: Bench) -> None:
    bench.report("c0-bom001", "c1-bom001")
    for _ in range(30):
        bench.tick()
        bench.report("c1-bom001")
    assert bench.status("c0-bom001") & STALE == 0
    bench.tick()
    assert bench.status("c0-bom001") == 1000 | BOTH | STALE
    assert bench.states()["c0-bom001"] == "stale"
    bench.report("c0-bom001")
    assert bench.status("c0-bom001") == 100 | BOTH | NOBODY_RETURNS


def test_when_too_many_fall_silent_their_ejection_is_suppressed_until_released(bench: Bench) -> None:
    every = list(bench.slots)
    bench.report(*every)
    before = {name: bench.status(name) for name in every}
    for _ in range(40):
        bench.tick()
    assert {name: bench.status(name) for name in every} == before
    assert set(bench.states().values()) == {"suppressed"}
    assert [(alarm.kind, alarm.subject, alarm.resolved) for alarm in bench.alarms] == [("suppressed", "fleet", False)]
    assert "24 appliances seem to be down" in bench.alarms[0].text
    assert sorted(bench.registry.release_ejections()) == sorted(every)
    bench.tick()
    assert set(bench.states().values()) == {"stale"}
    bench.report(*every)
    bench.tick()
    assert set(bench.states().values()) == {"ramping"}
    assert bench.registry.alarms() == []
    assert all(
        any(over.resolved and over.subject == alarm.subject for over in bench.alarms)
        for alarm in bench.alarms
        if not alarm.resolved
    )


def test_a_monitor_that_reports_everything_down_ejects_none(bench: Bench) -> None:
    every = list(bench.slots)
    for _ in range(5):
        bench.report(*every, health=Health("failed", "no route"), monitor=0)
        bench.tick()
    assert all(bench.status(name) == 1000 | BOTH for name in every)
    for _ in range(2):
        bench.report(*every, monitor=0)
    bench.tick()
    assert set(bench.states().values()) == {"serving"}
    assert all(bench.status(name) == 1000 | BOTH for name in every), "an appliance that was never out has no slow start"


@pytest.mark.parametrize("repeats", ["one at a time", "late ones too"])
def test_one_report_of_a_monitor_sent_again_and_again_ejects_none(bench: Bench, repeats: str) -> None:
    failed = Health("failed", "no route")
    reports = [Report("m", 2, 100.0, failed)] * 3
    if repeats == "late ones too":
        reports += [Report("m", 1, 99.0, failed), Report("m", 3, 100.0, failed)] * 3
    verdicts = [bench.registry.report("c0-bom001", report, monitor=7) for report in reports]
    bench.tick()
    assert verdicts[0] == "accepted"
    assert set(verdicts[1:]) <= {"repeated", "late"}
    assert bench.status("c0-bom001") == 1000 | BOTH
    for seq in (3, 4):
        assert bench.registry.report("c0-bom001", Report("m", seq, 98.0 + seq, failed), monitor=7) == "accepted"
    bench.tick()
    assert bench.status("c0-bom001") & UNHEALTHY, "three observations"


def test_a_monitor_ejects_one_after_three_observations_and_half_a_cluster_at_most(bench: Bench) -> None:
    for _ in range(3):
        assert bench.status("c0-bom001") == 1000 | BOTH
        bench.report(*MUMBAI[:3], health=Health("failed", "no route"), monitor=0)
        bench.tick()
    assert [bench.states()[name] for name in MUMBAI] == ["unhealthy", "unhealthy", "suppressed", "serving"]
    assert describe(bench.registry, "c2-bom001")["suppressed"] == "cluster bom001-a"
    bench.registry.observe("c3-bom001", False, "refused")
    bench.registry.observe("c3-bom001", False, "refused")
    bench.registry.observe("c3-bom001", False, "refused")
    bench.tick()
    assert {bench.states()[name] for name in MUMBAI} == {"unhealthy"}, "the whole site"
    assert ("cluster_down", "bom001-a") in {(alarm.kind, alarm.subject) for alarm in bench.registry.alarms()}


@pytest.fixture
def isp(tmp_path: Path) -> Bench:
    """Four appliances of the partner `as1` at one site, and forty at exchanges; all have reported."""
    fleet = make_fleet(bom001=4, **{f"del{i:03}": 1 for i in range(40)})
    clusters = [dataclasses.replace(item, partner="as1" if item.site == "bom001" else None) for item in fleet.clusters]
    bench = Bench(tmp_path, dataclasses.replace(fleet, clusters=tuple(clusters)), ejection_limit_fleet=0.1)
    bench.report(*bench.slots)
    return bench


def fall_silent(bench: Bench, *names: str, attested: int = 0, failing: int = 0) -> None:
    """Let these be silent until they are stale; so many viewers of each report in every second."""
    slots = [bench.slots[name] for name in names]
    for _ in range(32):
        bench.report(*(bench.slots.keys() - set(names)))
        bench.tick(attested=dict.fromkeys(slots, attested), failing=dict.fromkeys(slots, failing))


def test_of_a_silent_partner_half_stays_where_no_player_fails(isp: Bench) -> None:
    fall_silent(isp, *MUMBAI, attested=10)
    assert [isp.states()[name] for name in MUMBAI] == ["stale", "stale", "suppressed", "suppressed"]
    described = describe(isp.registry, "c3-bom001")
    assert (described["suppressed"], described["confirmed"]) == ("partner as1", False)
    assert described["why"] == "silent for 3 reports of 10 s; ejection suppressed by the limit of partner as1"
    assert [(alarm.kind, alarm.subject) for alarm in isp.registry.alarms()] == [("suppressed", "partner as1")]
    for _ in range(700):
        isp.report(*(isp.slots.keys() - set(MUMBAI)))
        isp.tick()
    assert [isp.states()[name] for name in MUMBAI] == ["stale", "stale", "suppressed", "suppressed"]


def test_where_players_fail_too_a_whole_partner_goes_and_counts_against_no_limit(isp: Bench) -> None:
    fall_silent(isp, *MUMBAI, attested=1, failing=1)
    assert {isp.states()[name] for name in MUMBAI} == {"stale"}
    described = describe(isp.registry, "c3-bom001")
    assert (described["suppressed"], described["confirmed"]) == (None, True)
    assert described["why"] == "silent for 3 reports of 10 s; its players fail too"
    assert isp.registry.limiter.recent == {}
    elsewhere = [f"c0-del{i:03}" for i in range(4)]
    for _ in range(32):
        isp.report(*(isp.slots.keys() - {*MUMBAI, *elsewhere}))
        isp.tick()
    assert {isp.states()[name] for name in elsewhere} == {"stale"}, "a tenth of the fleet may still go"
    assert {isp.states()[name] for name in MUMBAI} == {"stale"}, "players have left, and what they confirmed holds"
    isp.report(*MUMBAI)
    isp.tick()
    assert {isp.states()[name] for name in MUMBAI} == {"ramping"}
    assert not describe(isp.registry, "c3-bom001")["confirmed"]


def test_players_confirm_what_a_limit_suppressed(isp: Bench) -> None:
    every = list(isp.slots)
    fall_silent(isp, *every, attested=1)
    assert set(isp.states().values()) == {"suppressed"}
    slot = isp.slots["c1-bom001"]
    for _ in range(3):
        isp.tick(attested={slot: 60}, failing={slot: 60})
    assert [isp.states()[name] for name in MUMBAI] == ["suppressed", "stale", "suppressed", "suppressed"]


def test_players_confirm_the_ejection_of_one_that_monitors_find_down(isp: Bench) -> None:
    every = list(isp.slots)
    slot = isp.slots["c2-bom001"]
    for _ in range(3):
        isp.report(*every, health=Health("failed", "no route"), monitor=0)
        isp.tick(attested={slot: 10}, failing={slot: 10})
    assert {name for name, state in isp.states().items() if state != "suppressed"} == {"c2-bom001"}
    assert describe(isp.registry, "c2-bom001")["why"] == "a monitor: no route; its players fail too"


def test_players_alone_eject_none(isp: Bench) -> None:
    for _ in range(60):
        isp.report(*isp.slots)
        isp.tick(attested=dict.fromkeys(isp.slots.values(), 50), failing=dict.fromkeys(isp.slots.values(), 50))
    assert set(isp.states().values()) == {"serving"}
    assert all(isp.status(name) == 1000 | BOTH for name in isp.slots)


def test_what_failed_before_the_last_report_confirms_nothing(isp: Bench) -> None:
    slots = [isp.slots[name] for name in MUMBAI]
    isp.tick(attested=dict.fromkeys(slots, 50), failing=dict.fromkeys(slots, 50))
    isp.report(*MUMBAI)
    fall_silent(isp, *MUMBAI)
    assert [isp.states()[name] for name in MUMBAI] == ["stale", "stale", "suppressed", "suppressed"]


def test_a_good_observation_ends_what_players_witnessed(isp: Bench) -> None:
    every = list(isp.slots)
    slot = isp.slots["c2-bom001"]
    fall_silent(isp, *every)
    isp.registry.observe("c2-bom001", True, "")
    assert isp.states()["c2-bom001"] == "suppressed"
    isp.tick(attested={slot: 15}, failing={slot: 15})
    isp.registry.observe("c2-bom001", True, "")
    isp.tick(attested={slot: 15}, failing={slot: 15})
    assert isp.states()["c2-bom001"] == "suppressed"
    isp.tick(attested={slot: 15}, failing={slot: 15})
    assert isp.states()["c2-bom001"] == "stale"


def test_maintenance_begins_and_ends_by_itself(bench: Bench) -> None:
    bench.tick(maintenance={"c0-bom001": Maintenance(5000.0, "new disks")})
    assert bench.status("c0-bom001") == 1000 | BOTH | DISABLED
    result = describe(bench.registry, "c0-bom001")
    assert (result["state"], result["why"], result["maintenance"]["until"]) == ("maintenance", "new disks", 5000.0)
    bench.tick()
    assert bench.status("c0-bom001") == 1000 | BOTH | NOBODY_RETURNS


def test_viewers_come_back_a_share_at_a_time_to_who_was_drained(bench: Bench) -> None:
    bench.tick(maintenance={"c0-bom001": Maintenance(5000.0, "new disks")})
    bench.tick()
    shares = []
    for _ in range(601):
        bench.tick()
        shares.append(bench.status("c0-bom001") // HELD_BACK & MOST_HELD_BACK)
    assert shares == sorted(shares, reverse=True)
    assert shares[300] == pytest.approx(MOST_HELD_BACK / 2, abs=1)
    assert shares[-1] == 0
    assert describe(bench.registry, "c0-bom001")["returned"] == 1.0
    assert bench.status("c0-bom001") == 1000 | BOTH


def test_a_step_of_the_return_is_not_recorded(bench: Bench) -> None:
    bench.tick(maintenance={"c0-bom001": Maintenance(5000.0, "new disks")})
    bench.tick()
    bench.registry.take_unsaved()
    for _ in range(100):
        bench.tick()
    assert bench.registry.take_unsaved() == {}


def test_a_restart_begins_where_the_last_process_ended(tmp_path: Path, bench: Bench) -> None:
    bench.report(*MUMBAI, health=Health(headroom_gbps=12.5))
    bench.report("c1-bom001", health=Health("failed", "disk"))
    for _ in range(3):
        bench.tick()
    words = {name: bench.status(name) for name in bench.slots}
    states = bench.registry.take_unsaved(every=True)
    again = Bench(tmp_path, make_fleet(bom001=4, **{f"del{i:03}": 1 for i in range(20)}))
    again.now = bench.now + 3600
    again.registry.adopt(states, lambda slot: words[next(n for n, at in bench.slots.items() if at == slot)])
    assert {name: again.registry.status_words()[slot] for name, slot in again.slots.items()} == words
    assert again.changes == []
    for _ in range(30):
        again.tick()
    assert set(again.states().values()) <= {"serving", "unhealthy"}, "silence counts from the restart on"
    assert again.report("c0-bom001") == ["repeated"]


def test_a_record_survives_as_json_and_an_unreadable_one_is_new() -> None:
    registry = Registry(Settings(), clock=lambda: 5.0)
    registry.take_fleet(make_fleet(bom001=1))
    routes = {4: RoutesHeard(9, "ab"), 6: RoutesHeard(0, "")}
    registry.report("c0-bom001", Report("b", 3, 1.0, Health("degraded", "nic", 1.0, 2.0, 3, 0.5, 0.25), routes))
    (text,) = registry.take_unsaved().values()
    assert read_record(text, 5.0) == registry.states["c0-bom001"].record
    assert registry.routes_heard() == {"c0-bom001": routes}
    assert registry.take_unsaved() == {}
    assert not read_record('{"seq": "x"}', 1.0).reports
    assert not read_record("", 1.0).reports


def test_an_appliance_that_leaves_is_forgotten(bench: Bench) -> None:
    bench.report(*MUMBAI, health=Health("failed", "disk"))
    bench.registry.take_fleet(make_fleet(bom001=1))
    bench.tick()
    assert list(bench.registry.states) == ["c0-bom001"]
    assert describe(bench.registry, "c0-bom001")["state"] == "unhealthy"
    with pytest.raises(RequestError, match="c1-bom001"):
        bench.registry.report("c1-bom001", Report("b", 1))
    bench.registry.observe("c1-bom001", False, "ignored")


def test_a_hot_title_gets_its_fan_out_between_two_ticks(bench: Bench) -> None:
    bench.tick(answers={0: 1000}, asked={8: 10})
    bench.now += 0.25
    bench.registry.count_requests({7: 300})
    assert bench.files.mapped[bench.files.names[-1]].hot().keys() == {7}
    bench.tick(0.75, answers={0: 1000}, asked={7: 900})
    assert bench.registry.balancer.fan_outs.keys() == {7}


def test_a_tick_repairs_status_words(bench: Bench) -> None:
    bench.files.set_words({bench.slots["c0-bom001"]: 1})
    bench.tick()
    assert bench.status("c0-bom001") == 1000 | BOTH


def test_the_steady_clock_has_the_time_and_goes_forward() -> None:
    clock = steady_clock()
    first = clock()
    assert clock() >= first > 1.7e9


def let_players_report(seconds: int, bench: Bench, **failing: float) -> None:
    """Let players report for some seconds: 60 a minute of each appliance in Mumbai, of which a share fails."""
    for second in range(seconds):
        fails = {bench.slots[name]: int(second % 10 < 10 * failing.get(name[:2], 0.0)) for name in MUMBAI}
        bench.tick(attested=dict.fromkeys(fails, 1), failing=fails)


def test_an_appliance_that_fails_players_loses_weight_within_the_cap_and_regains_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_fleet(bom001=4), player_signal=0.5)
    let_players_report(120, bench)
    assert {bench.status(name) for name in MUMBAI} == {1000 | BOTH}
    let_players_report(15, bench, c1=1.0)
    assert 500 < bench.status("c1-bom001") & 0xFFFF < 1000
    let_players_report(200, bench, c1=1.0)
    assert 500 <= bench.status("c1-bom001") & 0xFFFF <= 530
    assert [bench.status(name) for name in MUMBAI if name != "c1-bom001"] == [1000 | BOTH] * 3
    described = describe(bench.registry, "c1-bom001")
    assert described["state"] == "serving"
    assert described["players"]["factor"] == pytest.approx((bench.status("c1-bom001") & 0xFFFF) / 1000)
    assert described["why"].startswith("players fail on it: it keeps 5")
    assert [(alarm.kind, alarm.subject, alarm.resolved) for alarm in bench.alarms] == [("players", "bom001-a", False)]
    assert bench.alarms[0].text.startswith("players fail on c1-bom001: of ")
    let_players_report(400, bench)
    assert [(alarm.kind, alarm.resolved) for alarm in bench.alarms[1:]] == [("players", True)]
    assert {bench.status(name) for name in MUMBAI} == {1000 | BOTH}


def test_silent_players_lower_no_weight(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_fleet(bom001=4), player_signal=0.5)
    let_players_report(200, bench, c1=1.0)
    assert 500 <= bench.status("c1-bom001") & 0xFFFF <= 530
    for _ in range(600):
        bench.tick()
    assert bench.status("c1-bom001") == 1000 | BOTH


def test_no_more_of_a_cluster_lose_weight_than_the_ejection_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_fleet(bom001=4), ejection_limit_cluster=0.25, player_signal=0.5)
    let_players_report(200, bench, c1=1.0, c2=0.8)
    lower = [name for name in MUMBAI if bench.status(name) & 0xFFFF < 1000]
    assert len(lower) == 1


def test_without_the_setting_players_decide_nothing(bench: Bench) -> None:
    let_players_report(200, bench, c1=1.0)
    assert bench.status("c1-bom001") == 1000 | BOTH


MANY = ["c0-bom001", "c1-bom001", "c2-bom001", "c3-bom001", "c4-bom001", "c5-bom001"]


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a bench of six appliances, of which a tick does two at a time."""
    for module, name in (
        (registry, "MOVED_AT_ONCE"),
        (registry, "SAVED_AT_ONCE"),
        (registry, "TOLD_AT_ONCE"),
        (ejection_limits, "BEYOND_AT_ONCE"),
    ):
        monkeypatch.setattr(module, name, 2)
    return Bench(tmp_path, make_fleet(bom001=6), return_s=10.0)


def test_of_many_that_operators_drain_a_tick_reports_some_and_some_are_recorded_at_a_time(busy: Bench) -> None:
    busy.tick()
    busy.tick()
    busy.tick()
    busy.changes.clear()
    busy.registry.take_unsaved(every=True)
    busy.registry.unsaved.clear()
    busy.registry.set_overrides(dict.fromkeys(MANY, Override(enabled=False)), OverrideOrigin(1.0, "ann"))
    assert all(busy.status(name) & DISABLED for name in MANY), "words change at once"
    recorded = []
    for number in (2, 4, 6, 6):
        busy.tick()
        recorded += busy.registry.take_unsaved()
        assert [len(busy.changes), len(recorded)] == [number, number]
    assert [change.appliance for change in busy.changes] == MANY
    assert sorted(recorded) == MANY


def test_of_many_that_operators_enable_each_gets_its_viewers_back_in_its_turn(busy: Bench) -> None:
    origin = OverrideOrigin(1.0, "ann")
    busy.registry.set_overrides(dict.fromkeys(MANY, Override(enabled=False)), origin)
    busy.tick()
    busy.registry.set_overrides(dict.fromkeys(MANY, Override()), origin)
    shares = []
    for _ in range(8):
        before = {name: busy.registry.states[name].record.returned for name in MANY}
        busy.tick()
        after = {name: busy.registry.states[name].record.returned for name in MANY}
        assert sum(after[name] != before[name] for name in MANY) <= 2
        shares.append(sum(after.values()) / len(MANY))
    assert shares[-1] == pytest.approx(0.8, abs=0.2), "as fast as one by itself: a tenth a second"
    for _ in range(12):
        busy.tick()
    assert {busy.registry.states[name].record.returned for name in MANY} == {1.0}


def test_of_many_whose_ejection_is_released_some_are_ejected_in_a_tick(busy: Bench) -> None:
    for _ in range(busy.registry.settings.down_after):
        for name in MANY:
            busy.registry.observe(name, False, "refused")
    busy.tick()
    assert sorted(busy.registry.release_ejections()) == MANY
    for number in (2, 4, 6):
        busy.tick()
        assert sum(bool(busy.status(name) & UNHEALTHY) for name in MANY) == number
