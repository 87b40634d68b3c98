"""The control plane over one state folder: one service a concern, made here and handed what it needs.

A service is called in the one thread that made `Control`. A change is on record before it is in the files and status
words that workers read, so a crash loses neither. Audit entries are written in the transaction of their change.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from steering.control.fill.holdings import HoldingsReported
from steering.control.health.registry import Registry
from steering.control.records.database import NAME, Records
from steering.control.services.ejections import Ejections
from steering.control.services.fleet import FleetService
from steering.control.services.fleet_on_record import FleetOnRecord
from steering.control.services.hand_over import HandOver
from steering.control.services.holdings import Holdings
from steering.control.services.keys import Keys
from steering.control.services.maintenance import MaintenanceWindows
from steering.control.services.overrides import Overrides
from steering.control.services.playlists import PlaylistService
from steering.control.services.reports import Audit, Quality
from steering.control.services.tables import Tables
from steering.control.services.tasks import Run, run_here
from steering.control.services.tokens import Tokens
from steering.errors import SettingsError, SnapshotError
from steering.settings import Settings
from steering.state.current import Current
from steering.state.folder import Lock, make_folder, number_of, remove_unfinished
from steering.state.status import StatusFiles

logger = logging.getLogger("steering.control")


class Control:
    """Holds the lock of the state folder from here to `close`, and has a service for each concern.

    Not to be shared between threads. Raises SettingsError where another process holds the lock, or where the folder or
    the database is unusable.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time, run: Run = run_here) -> None:
        self.settings = settings
        self.clock = clock
        self.sessions: Callable[[], list[dict[str, Any]]] = list  # of live BGP; the job `follow_bgp` sets it
        make_folder(settings.state)
        with contextlib.ExitStack() as on_error:
            self.lock = Lock(settings.state)
            on_error.callback(self.lock.release)
            remove_unfinished(settings.state)
            self.records = Records(settings.state / NAME)
            on_error.callback(self.records.close)
            self.make_services(run)
            self.adopt()
            on_error.pop_all()

    def make_services(self, run: Run) -> None:
        """Make every service, over the records as the last control process left them."""
        settings, records, clock = self.settings, self.records, self.clock
        state = settings.state
        self.registry = Registry(settings)
        intake = HoldingsReported(settings.max_titles)
        self.on_record = FleetOnRecord(records, self.registry, intake)
        fleet = self.on_record.current
        self.maintenance = MaintenanceWindows(records, fleet, clock)
        # Before the status words are stored: an appliance in a window must not take a client for a moment.
        self.registry.set_maintenance(self.maintenance.covered())
        status = self.registry.files = StatusFiles(state)
        self.hand_over = HandOver(
            state=state,
            records=records,
            on_record=self.on_record,
            status=status,
            words=self.registry.status_words,
            clock=clock,
            retain=settings.retain,
        )
        self.fleet = FleetService(
            state=state,
            records=records,
            on_record=self.on_record,
            hand_over=self.hand_over,
            default_service=settings.default_service,
            clock=clock,
        )
        self.tables = Tables(
            settings=settings,
            records=records,
            fleet=self.fleet,
            hand_over=self.hand_over,
            routes_heard=self.registry.routes_heard,
            clock=clock,
            run=run,
        )
        self.overrides = Overrides(
            records=records, on_record=self.on_record, registry=self.registry, hand_over=self.hand_over, clock=clock
        )
        self.ejections = Ejections(records, self.registry, clock)
        self.tokens = Tokens(records, fleet, clock)
        self.keys = Keys(state, records, fleet, clock)
        self.playlists = PlaylistService(
            state=state, records=records, fleet=fleet, clock=clock, serve=self.hand_over.serve_playlists
        )
        self.holdings = Holdings(state=state, intake=intake, fleet=fleet, hand_over=self.hand_over, run=run)
        self.quality = Quality(state, fleet)
        self.audit = Audit(records)

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Put the health states on record, close the database and let another process hold the folder."""
        with contextlib.suppress(SettingsError):  # a full disk: the states stay as they were recorded last
            self.ejections.keep_states(self.registry.take_unsaved(every=True))
        self.records.close()
        self.lock.release()

    def adopt(self) -> None:
        """Take over the folder as the last process left it, also after a kill: finish what it had acknowledged."""
        current = self.hand_over.current
        if current:
            if not self.on_record.version():
                raise SettingsError(
                    f"{self.settings.state}: serves {current.table}, and {NAME} knows of no fleet",
                    hint=f"restore {NAME} from a backup, or begin with an empty state folder",
                )
            with self.records.transaction() as transaction:
                table, fleet = number_of(current.table), number_of(current.fleet)
                transaction.versions.set_published(table, fleet, current.published_at)
            try:
                self.adopt_files(current)
            except SnapshotError as error:
                logger.warning("%s; publish again to replace it", error.message)
            self.hand_over.status.clear_except(self.registry.status_words())
            if (pin := self.records.pins.get()) and pin.table != number_of(current.table):
                with self.records.transaction() as transaction:
                    transaction.pins.set(None)  # a rollback that was killed before it served
        self.hand_over.remove_old()

    def adopt_files(self, current: Current) -> None:
        """Begin with the status words, the holdings and the playlists that serve, and serve the fleet on record."""
        self.hand_over.status.use(current.status)
        self.registry.adopt(self.records.states.all(), self.hand_over.status.word)
        self.adopt_holdings(current)
        self.hand_over.serve_playlists()
        current = self.hand_over.current or current
        if number_of(current.fleet) != self.on_record.version():
            with self.hand_over.undone_on_error() as made:
                if candidate := self.hand_over.prepare_fleet(made):
                    self.hand_over.switch(candidate)

    def adopt_holdings(self, current: Current) -> None:
        """Begin with the holdings that serve. Where they are unusable, serve without, and ask every appliance again."""
        if current.holdings:
            try:
                self.holdings.intake.adopt(self.settings.state / current.holdings)
            except SnapshotError as error:
                logger.warning("%s; every appliance is asked what it holds", error.message)
                self.hand_over.switch_holdings("")
