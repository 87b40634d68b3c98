"""Fill windows: when appliances of a site may fill, and at which rate, as absolute times.

A rule stands at a cluster or a partner: `{"window": "02:00-14:00", "gbps": 1.2, "tb": 6.5, "urgent_gbps": 0}`. Its
times are those of a clock on the wall at the site. An appliance gets absolute times, so its own clock and time zone
do not matter.

**Daylight saving time.** Every second of a window reads as a time inside the rule's window on the wall clock. So where
the clock is set back over an edge of the window, the window begins at the later reading and ends at the earlier one;
where the clock is set forward over an edge, the window is shorter by up to the length of that step.

**Without a window** in the rule, the site fills in the twelve hours of least demand.
"""

from __future__ import annotations

import datetime
import math
import re
import zoneinfo
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from steering.errors import FeedError

HOURS: Final = 24
QUIET_HOURS: Final = 12
AHEAD_S: Final = 48 * 3600
STEP_S: Final = (
    6 * 3600
)  # the end of what a fill manifest covers moves in such steps, so its ETag stays the same between
USUAL: Final = (2 * 60, 14 * 60)  # without a rule and without a demand curve: minutes of the local day
TIMES: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
TIMES_RULE: Final = "two different times of day such as 02:00-14:00; 24:00 may be the second"

Gbps = Annotated[float, Meta(ge=0, le=10_000, description="Gbit/s, a number from 0 to 10000")]


class FillRule(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the appliances of a cluster or partner may fill.

    `gbps` and `tb` (10^12 bytes a window) are for each appliance, `site_gbps` and `partner_gbps` for all of a site and
    of a partner together, None without a limit. Urgent titles may fill outside windows at `urgent_gbps`.
    """

    window: Annotated[str, Meta(description=TIMES_RULE)] = ""
    gbps: Annotated[float, Meta(gt=0, le=10_000, description="Gbit/s, a number over 0 and at most 10000")] = 1.2
    tb: Annotated[float, Meta(gt=0, le=100_000, description="10^12 bytes, a number over 0 and at most 100000")] = 6.5
    urgent_gbps: Gbps = 0.0
    site_gbps: Gbps | None = None
    partner_gbps: Gbps | None = None
    timezone: Annotated[str, Meta(description="an IANA time zone such as Asia/Kolkata, or none")] = ""


class FillWindow(NamedTuple):
    """A window in Unix time, with the rate and the bytes that an appliance may fill in it."""

    begins_at: int
    ends_at: int
    gbps: float
    bytes: int


RULES: Final = {field.name: field.type for field in msgspec.structs.fields(FillRule)}


def rule_text(name: str) -> str:
    """Return the rule of a field in words."""
    hint = RULES[name]
    types = getattr(hint, "__args__", (hint,)) if not hasattr(hint, "__metadata__") else (hint,)
    return next(str(meta.description) for part in types for meta in getattr(part, "__metadata__", ()))


def read_fill_rule(value: Any, name: str = "fill") -> FillRule:
    """Return the checked rule. Raises one FeedError with all broken rules: field, value and rule of each."""
    if not isinstance(value, dict):
        raise FeedError(f'{name} = {value!r}: an object such as {{"window": "02:00-14:00", "gbps": 1.2}}')
    errors = [f"{name}.{field!s:.64}: no such field; {', '.join(RULES)}" for field in value if field not in RULES]
    for field in value.keys() & RULES.keys():
        try:
            msgspec.convert(value[field], RULES[field])
            is_right = not isinstance(value[field], bool) and is_valid(field, value[field])
        except msgspec.ValidationError:
            is_right = False
        if not is_right:
            errors.append(f"{name}.{field} = {str(value[field])[:64]!r}: {rule_text(field)}")
    if errors:
        raise FeedError("; ".join(sorted(errors)))
    return msgspec.convert(value, FillRule)


def is_valid(field: str, value: Any) -> bool:
    """Return whether a value of the right type keeps the rule that its type does not have."""
    if field == "window":
        return value == "" or minutes_of(value) is not None
    if field == "timezone":
        return value == "" or zone_named(value) is not None
    return value is None or math.isfinite(value)


def minutes_of(window: str) -> tuple[int, int] | None:
    """Return the two times of a window in minutes of the day, None for an invalid one."""
    match = TIMES.fullmatch(window)
    if match is None:
        return None
    begins, ends = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    return (begins, ends) if begins != ends and ends <= HOURS * 60 else None


def zone_named(name: str) -> datetime.tzinfo | None:
    """Return the time zone of a name, None for one that the machine does not know."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def zone_of(rule: FillRule, longitude: float) -> datetime.tzinfo:
    """Return the time zone of a site: the rule's, else whole hours by the longitude."""
    named = zone_named(rule.timezone) if rule.timezone else None
    return named or datetime.timezone(datetime.timedelta(hours=round(longitude / 15)))


def daily_windows(rule: FillRule, demand: Sequence[float] | None = None) -> list[tuple[int, int, float]]:
    """Return the windows of a local day: two times in minutes of the day, and the share of the rule's bytes.

    A second time that is not after the first is on the next day. `demand` is by local hour; it counts where the rule
    has no window: the twelve quietest hours are one window or several, none of them among the three busiest hours.
    """
    times = minutes_of(rule.window) if rule.window else None
    if times is None and (demand is None or max(demand) <= 0):
        times = USUAL
    if times is not None or demand is None:
        return [(*(times or USUAL), 1.0)]
    quiet = set(sorted(range(HOURS), key=lambda hour: (demand[hour], hour))[:QUIET_HOURS])
    windows = []
    for hour in sorted(quiet):
        if (hour - 1) % HOURS not in quiet:
            length = next(hours for hours in range(1, HOURS) if (hour + hours) % HOURS not in quiet)
            ends = (hour + length) % HOURS
            windows.append((hour * 60, ends * 60 or HOURS * 60, length / QUIET_HOURS))
    return windows


def covered_until(now: float) -> int:
    """Return until when a fill manifest made now has windows and is valid: at least 48 hours ahead."""
    return (math.floor(now / STEP_S) + 1) * STEP_S + AHEAD_S


def windows_ahead(
    rule: FillRule, zone: datetime.tzinfo, now: float, demand: Sequence[float] | None = None
) -> tuple[FillWindow, ...]:
    """Return the windows that are open or to come within 48 hours, in order, each whole."""
    today = datetime.datetime.fromtimestamp(now, zone).date()
    until = covered_until(now)
    windows = []
    for days in range(-1, 4):
        date = today + datetime.timedelta(days=days)
        for begins, ends, share in daily_windows(rule, demand):
            begins_at = max(instants(date, begins, zone))
            ends_at = min(instants(date, ends if ends > begins else ends + HOURS * 60, zone))
            if begins_at < ends_at and ends_at > now and begins_at < until:
                windows.append(FillWindow(begins_at, ends_at, rule.gbps, round(rule.tb * 1e12 * share)))
    return tuple(sorted(windows))


def instants(date: datetime.date, minutes: int, zone: datetime.tzinfo) -> tuple[int, int]:
    """Return the Unix times at which a wall clock shows a time: twice the same but where the clock is changed.

    For a time that the clock skips, they are before the step and after it.
    """
    day, minute = divmod(minutes, HOURS * 60)
    time = datetime.time(*divmod(minute, 60))
    naive = datetime.datetime.combine(date + datetime.timedelta(days=day), time, zone)
    return int(naive.timestamp()), int(naive.replace(fold=1).timestamp())


def open_window(windows: Sequence[FillWindow], now: float) -> FillWindow | None:
    """Return the window that is open."""
    return next((window for window in windows if window.begins_at <= now < window.ends_at), None)


def rate_now(rule: FillRule, windows: Sequence[FillWindow], now: float, *, urgent: bool) -> tuple[float, float]:
    """Return the Gbit/s at which an appliance may fill now, and until when; 0 until a window opens."""
    window = open_window(windows, now)
    if window:
        return window.gbps, window.ends_at
    opens_at = min((window.begins_at for window in windows if window.begins_at > now), default=covered_until(now))
    return (rule.urgent_gbps if urgent else 0.0), opens_at


def unchanged_until(windows: Sequence[FillWindow], now: float) -> float:
    """Return until when `windows_ahead` and `covered_until` return the same for a rule."""
    ends = [window.ends_at for window in windows if window.ends_at > now]
    return min([*ends, (math.floor(now / STEP_S) + 1) * STEP_S])
