"""The control plane over one state folder: one service a concern, made here and handed what it needs.

A service is called in the one thread that made `Control`. A change is on record before it is in the files and status
words that workers read, so a crash loses neither. Audit entries are written in the transaction of their change.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from steering.control.fill.holdings import HoldingsReported
from steering.control.fill.titles import Titles
from steering.control.health.registry import Registry
from steering.control.records.database import NAME, RESTORE, UNREADABLE, Records, RecordsError
from steering.control.services.catalogue import CatalogueService
from steering.control.services.concern import Concern
from steering.control.services.ejections import Ejections
from steering.control.services.fill import Fill
from steering.control.services.fill_answers import FillAnswers
from steering.control.services.fleet import FleetService
from steering.control.services.fleet_on_record import FleetOnRecord
from steering.control.services.hand_over import HandOver
from steering.control.services.holdings import Holdings
from steering.control.services.keys import Keys
from steering.control.services.maintenance import MaintenanceWindows
from steering.control.services.overrides import Overrides
from steering.control.services.playlists import PlaylistService
from steering.control.services.reports import Audit, Quality
from steering.control.services.run import GiveWay, Run, run_here
from steering.control.services.tables import Tables
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

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        run: Run = run_here,
        give_way: GiveWay = lambda: None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.sessions: Callable[[], list[dict[str, Any]]] = list  # of live BGP; the job `follow_bgp` sets it
        make_folder(settings.state)
        with contextlib.ExitStack() as on_error:
            self.lock = Lock(settings.state)
            on_error.callback(self.lock.release)
            remove_unfinished(settings.state)
            require_records(settings.state)
            self.records = Records(settings.state / NAME)
            on_error.callback(self.records.close)
            try:
                self.make_services(run, give_way)
                self.adopt()
            except UNREADABLE as error:
                message = f"{settings.state / NAME}: is damaged: {type(error).__name__}: {error}"
                raise RecordsError(message, RESTORE) from error
            on_error.pop_all()

    def make_services(self, run: Run, give_way: GiveWay) -> None:
        """Make every service, over the records as the last control process left them."""
        settings, records = self.settings, self.records
        self.registry = Registry(settings)
        self.intake = HoldingsReported(
            Titles(settings.max_titles, settings.max_titles_by_appliance, settings.max_titles_by_partner)
        )
        self.on_record = FleetOnRecord(records, self.registry, self.intake, give_way)
        self.registry.files = StatusFiles(settings.state)
        self.hand_over = HandOver(
            settings=settings,
            records=records,
            on_record=self.on_record,
            status=self.registry.files,
            store_words=self.registry.store_words,
            clock=self.clock,
            run=run,
        )
        shared = Concern(
            settings=settings,
            records=records,
            registry=self.registry,
            intake=self.intake,
            on_record=self.on_record,
            hand_over=self.hand_over,
            clock=self.clock,
            run=run,
            give_way=give_way,
        )
        self.maintenance = MaintenanceWindows.of(shared)
        # Before the status words are stored: an appliance in a window must not take a client for a moment.
        self.registry.set_maintenance(self.maintenance.covered())
        self.fleet = FleetService.of(shared)
        self.tables = Tables.of(shared)
        self.catalogue = CatalogueService.of(shared)
        self.fill = Fill.of(shared)
        self.fill_answers = FillAnswers.of(shared)
        self.fill_answers.fill = self.fill
        self.overrides = Overrides.of(shared)
        self.ejections = Ejections.of(shared)
        self.tokens = Tokens.of(shared)
        self.keys = Keys.of(shared)
        self.playlists = PlaylistService.of(shared)
        self.holdings = Holdings.of(shared)
        self.quality = Quality.of(shared)
        self.audit = Audit.of(shared)

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
                raise lost_records(self.settings.state, "knows of no fleet")
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
        if self.hand_over.is_behind:
            self.hand_over.serve_fleet()

    def adopt_holdings(self, current: Current) -> None:
        """Begin with the holdings that serve. Where they are unusable, serve without, and ask every appliance again."""
        if current.holdings:
            try:
                self.intake.adopt(self.settings.state / current.holdings)
            except SnapshotError as error:
                logger.warning("%s; every appliance is asked what it holds", error.message)
                self.hand_over.switch_holdings("")


def require_records(state: Path) -> None:
    """Raise RecordsError where files are served and the database that they came from is gone."""
    with contextlib.suppress(OSError):
        if (state / NAME).stat().st_size:
            return
    if (state / "current").exists():
        raise lost_records(state, "is lost")


def lost_records(state: Path, what: str) -> RecordsError:
    """Return the error for a database that cannot be the one of the files that serve."""
    return RecordsError(
        f"{state / NAME}: {what}, and the folder serves a published table. Without it there are no overrides, windows,"
        " tokens, pins, registered playlists and audit log, and slots would be given twice",
        f"{RESTORE}; without a backup, begin with an empty state folder",
    )
