"""Appliances and clusters as people read them: a state, its reason, and the figures behind it."""

from __future__ import annotations

from _fastpath.status_words import IPV4_UP
from steering.control.health.appliance_state import OverrideOrigin
from steering.control.health.presenter import describe, describe_cluster
from steering.control.health.rules import Health
from steering.control.records.overrides import Override
from tests.support.appliances import MUMBAI, Bench


def test_a_family_that_a_checker_finds_down_is_not_up(bench: Bench) -> None:
    for _ in range(3):
        bench.registry.observe("c0-bom001", False, "refused", family=6)
        bench.registry.observe("c0-bom001", True, "", family=4)
    bench.tick()
    assert bench.status("c0-bom001") == 1000 | IPV4_UP
    result = describe(bench.registry, "c0-bom001")
    assert (result["families"], result["state"], result["why"]) == ([4], "partial", "not up over IPv6: refused")
    for _ in range(3):
        for name in MUMBAI:
            bench.registry.observe(name, False, "refused", family=4)
            bench.registry.observe(name, False, "refused", family=6)
    bench.tick()
    assert bench.states()["c0-bom001"] == "unhealthy", "no family is left"
    assert ("cluster_down", "bom001-a") in {(alarm.kind, alarm.subject) for alarm in bench.alarms}


def test_a_drained_appliance_drains_until_it_has_no_connections(bench: Bench) -> None:
    bench.report("c0-bom001", health=Health(connections=9))
    bench.registry.set_overrides({"c0-bom001": Override(enabled=False)}, OverrideOrigin(bench.now, "noc"))
    assert bench.states()["c0-bom001"] == "draining"
    bench.report("c0-bom001", health=Health(connections=0))
    assert bench.states()["c0-bom001"] == "drained"
    assert describe(bench.registry, "c0-bom001")["overridden"]["who"] == "noc"


def test_a_cluster_is_described_by_its_members(bench: Bench) -> None:
    bench.report("c0-bom001", health=Health("failed", "disk", throughput_gbps=3.0))
    bench.tick(answers={bench.slots["c1-bom001"]: 3, 10: 1})
    assert describe_cluster(bench.registry, "bom001-a") == {
        "appliances": 4,
        "states": {"serving": 3, "unhealthy": 1},
        "weight": 3000,
        "capacity_gbps": 400.0,
        "throughput_gbps": 3.0,
        "learned_gbps": None,
        "pressure": 0.0,
        "share": 0.75,
    }


def test_a_cluster_is_under_as_much_pressure_as_its_appliances(bench: Bench) -> None:
    bench.report("c0-bom001", health=Health(headroom_gbps=1.0))
    bench.report("c1-bom001", health=Health(throughput_gbps=60.0, headroom_gbps=1.0))
    bench.tick()
    assert describe(bench.registry, "c1-bom001")["pressure"] == describe_cluster(bench.registry, "bom001-a")["pressure"]
    assert describe_cluster(bench.registry, "bom001-a")["pressure"] == 1.0
