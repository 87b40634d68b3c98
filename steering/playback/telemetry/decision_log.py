"""The decision log of a worker: one request in so many, and every request for some titles.

A sampled request leaves the fast path and is answered by the fallback path with a trace. A thread of its own makes and
writes the record (`steering/state/decision_log.py`), behind a queue that drops records when it is full.
"""

from __future__ import annotations

import logging
import os
import queue
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from _fastpath.fast_path import FastPath
from _fastpath.ranking import Trace
from steering.decision.snapshot import Snapshot, reading
from steering.errors import SteeringError
from steering.state.decision_log import BYTE_ORDER, HEADER, MAGIC, NAME, Decision, encode

KEPT_FILES: Final = 8
QUEUED: Final = 1000
logger = logging.getLogger("steering.playback")


class DecisionLog:
    """The log of one worker, whose fast path draws the requests to record. `note` never waits and never raises."""

    def __init__(
        self,
        folder: Path,
        worker: int,
        fast_path: FastPath,
        titles: Sequence[str] = (),
        file_bytes: int = 64 << 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.worker = worker
        self.fast_path = fast_path
        self.titles = frozenset(titles)
        self.file_bytes = file_bytes
        self.clock = clock
        self.dropped = 0
        self.written = 0
        self.descriptor = -1
        self.is_new = False  # the file has no record yet, and files beyond KEPT_FILES are still there
        self.queue: queue.Queue[Callable[[], Decision] | None] = queue.Queue(QUEUED)
        self.thread: threading.Thread | None = None

    def wants(self, title: str) -> bool:
        """Tell whether the answer to this request is to be recorded."""
        return self.fast_path.is_sampled() or title in self.titles

    def note(self, snapshot: Snapshot, packed: bytes, service: str, n: int, family: int, trace: Trace) -> None:
        """Record an answer; its trace is as `Snapshot.steer` fills it."""
        at = self.clock()
        try:
            self.queue.put_nowait(lambda: decision_of(at, snapshot, packed, service, n, family, trace))
        except queue.Full:
            self.dropped += 1

    def start(self) -> None:
        """Begin to write. Raises OSError where the folder cannot be had."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.thread = threading.Thread(target=self.run, name="decisions", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Write what is queued, and end."""
        if self.thread is not None:
            self.queue.put(None)
            self.thread.join()
            self.thread = None

    def run(self) -> None:
        """Write what comes, until told to stop. What cannot be written is dropped."""
        failed = False
        while make := self.queue.get():
            try:
                self.write(encode(make()))
                failed = False
            except (OSError, ValueError, struct.error, SteeringError) as error:
                self.dropped += 1
                if not failed:
                    logger.error("decision log: %s", error)
                failed = True
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def write(self, record: bytes) -> None:
        """Append a record, to the next file where this one is full.

        The oldest file goes once the next one has a record: a full disk costs no old records before there is a new one.
        """
        if self.descriptor < 0 or self.written + len(record) > self.file_bytes:
            self.begin_file()
        self.append(record)
        if self.is_new:
            numbers = self.numbers()
            for number in numbers[: max(len(numbers) - KEPT_FILES, 0)]:
                self.path_of(number).unlink(missing_ok=True)
            self.is_new = False

    def append(self, data: bytes) -> None:
        """Write bytes to the end of the file, all or none."""
        done = os.write(self.descriptor, data)
        if done < len(data):
            os.ftruncate(self.descriptor, self.written)
            raise OSError(f"{done} of {len(data)} bytes written")
        self.written += done

    def begin_file(self) -> None:
        """Begin the next file; where that fails, the one before stays in use."""
        path = self.path_of(max(self.numbers(), default=0) + 1)
        before = self.descriptor, self.written
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.written = 0
        try:
            self.append(HEADER.pack(MAGIC, BYTE_ORDER))
        except OSError:
            os.close(self.descriptor)
            self.descriptor, self.written = before
            path.unlink(missing_ok=True)
            raise
        if before[0] >= 0:
            os.close(before[0])
        self.is_new = True

    def numbers(self) -> list[int]:
        """Return the numbers of this worker's files, in order."""
        matches = (NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[2]) for match in matches if match and int(match[1]) == self.worker)

    def path_of(self, number: int) -> Path:
        return self.folder / f"decisions.{self.worker}.{number}"


def decision_of(
    at: float, snapshot: Snapshot, packed: bytes, service: str, n: int, family: int, trace: Trace
) -> Decision:
    """Return the record of an answer; it reads files, and so is called off the request's path."""
    with reading(snapshot):
        slots = snapshot.fleet_file.slots
        picked = sorted(
            (place, slots[appliance], rank) for appliance, rank, _, _, place, _ in trace.candidates if place is not None
        )
        return Decision(
            at=at,
            generation=snapshot.current.generation,
            table=snapshot.table_version,
            fleet=snapshot.fleet_version,
            service=service,
            key=trace.title_key,
            scope=snapshot.routes.scope(packed),
            family=family or (4 if len(packed) == 4 else 6),
            n=n,
            candidates=tuple((slots[appliance], word) for appliance, _, word, *_ in trace.candidates),
            picks=tuple((slot, rank) for _, slot, rank in picked),
            session_key=trace.session_key,
            content_key=trace.content_key,
            holdings=snapshot.holdings_version or 0,
        )
