"""Fill windows: rules checked, and absolute times that the wall clock at the site agrees with, on every day."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.fill.fill_windows import (
    AHEAD_S,
    STEP_S,
    FillRule,
    covered_until,
    daily_windows,
    minutes_of,
    rate_now,
    read_fill_rule,
    windows_ahead,
    zone_of,
)
from steering.errors import FeedError

NIGHT = FillRule(window="02:00-14:00")
MUMBAI = zoneinfo.ZoneInfo("Asia/Kolkata")
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")
ZONES = ["Asia/Kolkata", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo"]


def unix(text: str, zone: datetime.tzinfo = datetime.UTC) -> int:
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


WRONG_RULES: list[tuple[str, Any, str]] = [
    ("no object", [], "fill = []: an object"),
    ("hour", {"window": "25:00-14:00"}, "fill.window = '25:00-14:00': two different times of day"),
    ("minute past midnight", {"window": "02:00-24:01"}, "fill.window = '02:00-24:01'"),
    ("same", {"window": "02:00-02:00"}, "fill.window = '02:00-02:00'"),
    ("type", {"window": 2}, "fill.window = '2'"),
    ("rate", {"gbps": 0}, "fill.gbps = '0': Gbit/s, a number over 0"),
    ("boolean", {"gbps": True}, "fill.gbps = 'True'"),
    ("not finite", {"tb": float("nan")}, "fill.tb = 'nan'"),
    ("negative", {"site_gbps": -1}, "fill.site_gbps = '-1': Gbit/s, a number from 0"),
    ("zone", {"timezone": "Asia/Nowhere"}, "fill.timezone = 'Asia/Nowhere': an IANA time zone"),
    ("path as a zone", {"timezone": "../../etc/passwd"}, "fill.timezone = '../../etc/passwd'"),
    ("field", {"speed": 1}, "fill.speed: no such field; window, gbps"),
    ("two", {"gbps": -1, "tb": -1}, "fill.gbps = '-1': Gbit/s, a number over 0 and at most 10000; fill.tb = '-1'"),
]


@pytest.mark.parametrize(("value", "message"), [row[1:] for row in WRONG_RULES], ids=[row[0] for row in WRONG_RULES])
def test_a_broken_rule_is_named_with_field_and_value(value: Any, message: str) -> None:
    with pytest.raises(FeedError) as error:
        read_fill_rule(value)
    assert message in str(error.value)


def test_a_rule_is_read() -> None:
    rule = read_fill_rule({"window": "22:00-06:00", "gbps": 2, "tb": 10, "urgent_gbps": 0.5, "partner_gbps": 40})
    assert rule == FillRule("22:00-06:00", 2.0, 10.0, 0.5, None, 40.0)
    assert read_fill_rule({}) == FillRule(gbps=1.2, tb=6.5)


ROWS = [
    # name, window, zone, now, first two windows in local time of the zone with offsets
    ("before", "02:00-14:00", MUMBAI, "2026-03-10T00:30", ["03-10T02:00+0530", "03-10T14:00+0530", "03-11T02:00+0530"]),
    ("inside", "02:00-14:00", MUMBAI, "2026-03-10T13:59", ["03-10T02:00+0530", "03-10T14:00+0530", "03-11T02:00+0530"]),
    (
        "over midnight",
        "22:00-06:00",
        MUMBAI,
        "2026-03-10T05:00",
        ["03-09T22:00+0530", "03-10T06:00+0530", "03-10T22:00+0530"],
    ),
    (
        "all day",
        "00:00-24:00",
        MUMBAI,
        "2026-03-10T05:00",
        ["03-10T00:00+0530", "03-11T00:00+0530", "03-11T00:00+0530"],
    ),
    (
        "clock forward inside",
        "01:00-05:00",
        NEW_YORK,
        "2026-03-08T00:00",
        ["03-08T01:00-0500", "03-08T05:00-0400", "03-09T01:00-0400"],
    ),
    (
        "begins in the gap",
        "02:30-05:00",
        NEW_YORK,
        "2026-03-08T00:00",
        ["03-08T03:30-0400", "03-08T05:00-0400", "03-09T02:30-0400"],
    ),
    (
        "ends in the gap",
        "00:30-02:30",
        NEW_YORK,
        "2026-03-08T00:00",
        ["03-08T00:30-0500", "03-08T01:30-0500", "03-09T00:30-0400"],
    ),
    (
        "clock back inside",
        "00:30-05:00",
        NEW_YORK,
        "2026-11-01T00:00",
        ["11-01T00:30-0400", "11-01T05:00-0500", "11-02T00:30-0500"],
    ),
    (
        "begins in the doubled hour",
        "01:30-05:00",
        NEW_YORK,
        "2026-11-01T00:00",
        ["11-01T01:30-0500", "11-01T05:00-0500", "11-02T01:30-0500"],
    ),
    (
        "ends in the doubled hour",
        "00:30-01:30",
        NEW_YORK,
        "2026-11-01T00:00",
        ["11-01T00:30-0400", "11-01T01:30-0400", "11-02T00:30-0500"],
    ),
]


@pytest.mark.parametrize(("window", "zone", "now", "times"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_windows_are_absolute_times(window: str, zone: zoneinfo.ZoneInfo, now: str, times: list[str]) -> None:
    windows = windows_ahead(FillRule(window=window), zone, unix(now, zone))
    first, second = windows[:2]
    expected = [int(datetime.datetime.strptime(f"2026-{time}", "%Y-%m-%dT%H:%M%z").timestamp()) for time in times]
    assert [first.begins_at, first.ends_at, second.begins_at] == expected
    assert (first.gbps, first.bytes) == (1.2, 6_500_000_000_000)


@given(
    st.sampled_from(ZONES),
    st.integers(unix("2026-01-01"), unix("2027-12-31")),
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.integers(0, AHEAD_S),
)
def test_every_second_of_a_window_reads_inside_it_on_the_wall_clock(
    name: str, now: int, begins: int, ends: int, later: int
) -> None:
    if begins == ends or (begins == 0 and ends == 1440):
        return
    zone = zoneinfo.ZoneInfo(name)
    text = f"{begins // 60:02}:{begins % 60:02}-{ends // 60:02}:{ends % 60:02}"
    windows = windows_ahead(FillRule(window=text), zone, now)
    assert len(windows) in (1, 2, 3, 4)

    def reads_inside(instant: int) -> bool:
        local = datetime.datetime.fromtimestamp(instant, zone)
        minute = local.hour * 60 + local.minute
        return begins <= minute < ends if begins < ends else minute >= begins or minute < ends

    for window in windows:
        steps = range(window.begins_at, window.ends_at, 1800)
        assert all(map(reads_inside, [*steps, window.ends_at - 1]))
    instant = now + later
    changes = {datetime.datetime.fromtimestamp(instant + hours * 3600, zone).utcoffset() for hours in range(-26, 27, 2)}
    if len(changes) == 1:  # away from a change of the clock, a window is as long as the rule says
        assert reads_inside(instant) == any(window.begins_at <= instant < window.ends_at for window in windows)


def test_without_a_window_the_twelve_quietest_hours_fill() -> None:
    evening = [float(hour if hour < 22 else 22 - hour / 4) for hour in range(24)]  # hours 0 to 9 and 0 at night
    windows = daily_windows(FillRule(), evening)
    assert windows == [(0, 720, 1.0)]
    two_peaks = [9, 2, 1, 1, 1, 2, 7, 9, 9, 7, 2, 1, 1, 2, 3, 4, 7, 9, 9, 9, 9, 9, 8, 9]
    windows = daily_windows(FillRule(), two_peaks)
    assert windows == [(60, 420, 0.5), (600, 960, 0.5)]


@given(st.lists(st.floats(0, 100), min_size=24, max_size=24))
def test_the_default_has_twelve_hours_and_never_the_three_busiest(demand: list[float]) -> None:
    windows = daily_windows(FillRule(), demand)
    hours = [
        hour % 24
        for begins, ends, _ in windows
        for hour in range(begins // 60, (ends if ends > begins else ends + 1440) // 60)
    ]
    assert len(hours) == len(set(hours)) == 12
    assert sum(share for *_, share in windows) == pytest.approx(1)
    if max(demand) > 0:
        assert max(demand[hour] for hour in hours) <= min(demand[hour] for hour in set(range(24)) - set(hours))


def test_without_demand_either_the_usual_night_fills() -> None:
    assert daily_windows(FillRule()) == daily_windows(FillRule(), [0.0] * 24) == [(120, 840, 1.0)]
    assert daily_windows(NIGHT, [1.0] * 24) == [(120, 840, 1.0)]


def test_a_site_without_a_time_zone_has_whole_hours_by_its_longitude() -> None:
    assert zone_of(NIGHT, 72.87).utcoffset(None) == datetime.timedelta(hours=5)
    assert zone_of(NIGHT, -179.9).utcoffset(None) == datetime.timedelta(hours=-12)
    assert zone_of(FillRule(timezone="Asia/Kolkata"), 72.87) is MUMBAI


def test_windows_and_their_end_change_only_as_time_passes_an_edge() -> None:
    now = unix("2026-03-10T03:00", MUMBAI)
    hours = [windows_ahead(NIGHT, MUMBAI, now + hour * 3600) for hour in range(24)]
    assert len(set(hours)) <= 24 * 3600 // STEP_S + 1
    assert all(covered_until(now + hour * 3600) >= now + hour * 3600 + AHEAD_S for hour in range(24))


def test_the_rate_now_is_the_windows_or_the_urgent_one() -> None:
    rule = FillRule(window="02:00-14:00", gbps=1.2, urgent_gbps=0.2)
    now = unix("2026-03-10T01:00", MUMBAI)
    windows = windows_ahead(rule, MUMBAI, now)
    opens_at, closes_at = windows[0].begins_at, windows[0].ends_at
    assert rate_now(rule, windows, now, urgent=False) == (0.0, opens_at)
    assert rate_now(rule, windows, now, urgent=True) == (0.2, opens_at)
    assert rate_now(rule, windows, opens_at, urgent=True) == (1.2, closes_at)
    assert rate_now(rule, windows, closes_at, urgent=False) == (0.0, windows[1].begins_at)


def test_minutes() -> None:
    assert minutes_of("00:00-24:00") == (0, 1440)
    assert minutes_of("22:30-06:15") == (1350, 375)
    assert minutes_of("2:00-14:00") is None
