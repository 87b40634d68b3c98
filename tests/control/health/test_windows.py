"""Maintenance windows begin and end by themselves, over whom they name and nobody else."""

from __future__ import annotations

import dataclasses
import math

import pytest

from steering.control.health.windows import (
    AHEAD_S,
    LONGEST_S,
    SHORTEST_S,
    check_window,
    covers_only,
    in_maintenance,
)
from steering.control.records.windows import Window
from steering.errors import RequestError
from steering.model.fleet import Fleet

NOW = 1_750_000_000.0
HOUR, DAY = 3600.0, 86_400.0


def window(kind: str, subject: str, begins: float = 0.0, hours: float = 6.0, number: int = 1) -> Window:
    return Window(number, kind, subject, NOW + begins, NOW + begins + hours * HOUR, NOW - DAY, "ann", "new disks")


COVERS = [
    ("appliance", "c001-bom001", {"c001-bom001"}),
    ("cluster", "bom001-a", {"c001-bom001", "c002-bom001"}),
    ("site", "del001", {"c001-del001", "c002-del001"}),
    ("site", "nosuch", set()),
    ("appliance", "bom001", set()),
    ("cluster", "c001-bom001", set()),
]


@pytest.mark.parametrize(("kind", "subject", "out"), COVERS, ids=[f"{row[0]} {row[1]}" for row in COVERS])
def test_a_window_covers_whom_it_names(fleet: Fleet, kind: str, subject: str, out: set[str]) -> None:
    result = in_maintenance([window(kind, subject)], fleet, NOW)
    assert result.keys() == out
    assert all((one.ends_at, one.why) == (NOW + 6 * HOUR, "new disks") for one in result.values())


EDGES = [
    ("a moment before", -0.001, "to come", False),
    ("at its first second", 0.0, "on", True),
    ("in the middle", 3 * HOUR, "on", True),
    ("in its last moment", 6 * HOUR - 0.001, "on", True),
    ("at its end", 6 * HOUR, "over", False),
]


@pytest.mark.parametrize(("after", "state", "is_on"), [row[1:] for row in EDGES], ids=[row[0] for row in EDGES])
def test_it_begins_and_ends_by_itself(fleet: Fleet, after: float, state: str, is_on: bool) -> None:
    one = window("site", "bom001")
    assert one.state(NOW + after) == state
    assert bool(in_maintenance([one], fleet, NOW + after)) is is_on
    assert one.is_open(NOW + after) is (after < 6 * HOUR)


def test_what_is_cancelled_never_begins_and_what_is_ended_early_is_over_from_then_on(fleet: Fleet) -> None:
    cancelled = dataclasses.replace(window("site", "bom001"), cancelled_at=NOW - HOUR)
    ended = dataclasses.replace(window("site", "bom001"), cancelled_at=NOW + HOUR)
    assert (cancelled.state(NOW + HOUR), ended.state(NOW + 2 * HOUR)) == ("cancelled", "ended early")
    assert in_maintenance([cancelled, ended], fleet, NOW + 2 * HOUR) == {}


def test_of_windows_that_overlap_the_last_to_end_is_shown(fleet: Fleet) -> None:
    windows = [
        window("site", "bom001", 0, 6, 1),
        window("appliance", "c001-bom001", -HOUR, 30, 2),
        window("cluster", "bom001-a", 0, 9, 3),
        window("cluster", "bom001-a", 0, 8, 4),
    ]
    for order in (windows, windows[::-1]):
        result = {name: one.id for name, one in in_maintenance(order, fleet, NOW).items()}
        assert result == {"c001-bom001": 2, "c002-bom001": 3}


REFUSED = [
    ("an unknown kind", "partner", "as64500", 0, 6 * HOUR, "kind"),
    ("an unknown subject", "site", "nosuch", 0, 6 * HOUR, "subject"),
    ("an appliance as a site", "site", "c001-bom001", 0, 6 * HOUR, "subject"),
    ("yesterday", "site", "bom001", -DAY, 6 * HOUR, "begins_at"),
    ("too far ahead", "site", "bom001", AHEAD_S + 1, 6 * HOUR, "begins_at"),
    ("too short", "site", "bom001", 0, SHORTEST_S - 1, "ends_at"),
    ("too long", "site", "bom001", 0, LONGEST_S + 1, "ends_at"),
    ("backwards", "site", "bom001", DAY, -DAY, "ends_at"),
    ("beginning never", "site", "bom001", math.nan, DAY, "begins_at"),
    ("ending never", "site", "bom001", 0, math.inf, "ends_at"),
]


@pytest.mark.parametrize(
    ("kind", "subject", "begins", "lasts", "blamed"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_a_window_that_breaks_a_rule_is_refused_by_name(
    fleet: Fleet, kind: str, subject: str, begins: float, lasts: float, blamed: str
) -> None:
    with pytest.raises(RequestError) as caught:
        check_window(kind, subject, NOW + begins, NOW + begins + lasts, fleet, NOW)
    assert caught.value.parameter == blamed


@pytest.mark.parametrize(
    ("begins", "lasts"),
    [(0, SHORTEST_S), (AHEAD_S, LONGEST_S), (-60, DAY)],
    ids=["shortest", "longest, last", "a slow clock"],
)
def test_a_window_at_the_edge_of_the_rules_is_taken(fleet: Fleet, begins: float, lasts: float) -> None:
    check_window("site", "bom001", NOW + begins, NOW + begins + lasts, fleet, NOW)


def test_a_site_where_others_stand_is_nobodys_alone(fleet: Fleet) -> None:
    assert covers_only("site", "bom001", fleet, {"bom001-a"})
    assert not covers_only("site", "bom001", fleet, {"del001-a"})
    assert covers_only("cluster", "bom001-a", fleet, set())
