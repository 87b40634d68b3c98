"""Which jobs run, by the settings. A new job is its module and one line here."""

from __future__ import annotations

from steering.control.jobs.check_appliances import CheckAppliances
from steering.control.jobs.clockwork import Call, Job
from steering.control.jobs.follow_bgp import FollowBgp
from steering.control.jobs.health_tick import HealthTick
from steering.control.jobs.publish_holdings import PublishHoldings
from steering.control.jobs.refresh_playlists import RefreshPlaylists
from steering.control.jobs.send_alarms import SendAlarms
from steering.control.jobs.watch_sources import WatchSources
from steering.control.services.control import Control


def jobs_of(control: Control, call: Call) -> list[Job]:
    settings = control.settings
    jobs: tuple[tuple[bool, type[Job]], ...] = (
        (True, HealthTick),
        (True, PublishHoldings),
        (True, RefreshPlaylists),
        (bool(settings.check_s), CheckAppliances),
        (bool(settings.alarm_url), SendAlarms),
        (bool(settings.bgp), FollowBgp),
        (settings.watch, WatchSources),
    )
    return [job(control, call) for enabled, job in jobs if enabled]
