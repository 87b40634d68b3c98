"""The control plane's services over one state folder, whose lock `Control` holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from steering.control.auth import Token
from steering.control.services.writer import MAX_TOKEN_NAME, Run, Writer, no_window, run_here
from steering.settings import Settings

__all__ = ["MAX_TOKEN_NAME", "Control", "no_window"]


class Control:
    """Holds the lock of the state folder from here to `close`, and has a service for each concern."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time, run: Run = run_here) -> None:
        self.settings = settings
        self.clock = clock
        self.writer = writer = Writer(settings, clock, run)
        self.sessions: Callable[[], list[dict[str, Any]]] = list
        self.registry = writer.registry
        self.hand_over = writer.hand_over
        self.records = writer.store
        self.playlists = writer.shelf
        self.tables = Tables(writer)
        self.fleet = FleetRecord(writer)
        self.overrides = Overrides(writer)
        self.maintenance = Maintenance(writer)
        self.ejections = Ejections(writer)
        self.tokens = Tokens(writer)
        self.keys = Keys(writer)
        self.holdings = Holdings(writer)
        self.quality = Quality(writer)
        self.audit = Audit(writer)

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and let another process write."""
        self.writer.close()


class Tables:
    """The verbs of `control.tables`."""

    def __init__(self, writer: Writer) -> None:
        self.check = writer.check
        self.publish = writer.publish
        self.reload = writer.reload
        self.publish_live = writer.follow
        self.sources = writer.watched
        self.rollback = writer.rollback
        self.promote = writer.promote
        self.withdraw = writer.withdraw
        self.canary = writer.canary
        self.pin = writer.pin
        self.unpin = writer.unpin
        self.diff = writer.diff
        self.list = writer.tables
        self.get = writer.table
        self.routes = writer.routes
        self.route_report = writer.route_report


class FleetRecord:
    """The verbs of `control.fleet`."""

    def __init__(self, writer: Writer) -> None:
        self.current = writer.fleet
        self.replace = writer.import_fleet
        self.put = writer.put
        self.delete = writer.delete
        self.appliance = writer.appliance
        self.warnings = writer.warnings


class Overrides:
    """The verbs of `control.overrides`."""

    def __init__(self, writer: Writer) -> None:
        self.list = writer.wished
        self.drain = writer.drain
        self.enable = writer.enable
        self.weight = writer.weight
        self.set_health_source = writer.set_health_source
        self.change = writer.override


class Maintenance:
    """The verbs of `control.maintenance`."""

    def __init__(self, writer: Writer) -> None:
        self.add = writer.add_window
        self.cancel = writer.cancel_window
        self.list = writer.windows
        self.get = writer.window
        self.covered = writer.maintenance
        self.writer = writer

    def count_on(self) -> int:
        now = self.writer.clock()
        return sum(window.is_on(now) for window in self.writer.windows_on_record.values())


class Ejections:
    """The verbs of `control.ejections`."""

    def __init__(self, writer: Writer) -> None:
        self.list = writer.held
        self.release = writer.release
        self.keep_states = writer.keep_states


class Tokens:
    """The verbs of `control.tokens`."""

    def __init__(self, writer: Writer) -> None:
        self.make = writer.make_token
        self.make_many = writer.make_tokens
        self.list = writer.list_tokens
        self.revoke = writer.revoke_token
        self.writer = writer

    @property
    def known(self) -> Mapping[int, Token]:
        return self.writer.tokens


class Keys:
    """The verbs of `control.keys`."""

    def __init__(self, writer: Writer) -> None:
        self.make = writer.make_key
        self.list = writer.list_keys
        self.retire = writer.retire_key


class Holdings:
    """The verbs of `control.holdings`."""

    def __init__(self, writer: Writer) -> None:
        self.publish = writer.publish_holdings
        self.missing = writer.missing
        self.intake = writer.holdings


class Quality:
    """The verbs of `control.quality`."""

    def __init__(self, writer: Writer) -> None:
        self.list = writer.quality


class Audit:
    """The verbs of `control.audit`."""

    def __init__(self, writer: Writer) -> None:
        self.list = writer.audit
