"""The decision log: one request in so many, and every one for some titles, with all that its answer was made from.

A record says when, which versions, whose region of address space, the keys that appliances were ranked by, each
candidate's word and who was picked: enough for `steering replay` to answer again. It never holds the session or the
title, and of the address only the widest prefix around the client whose clients share a zone. (Where viewers are spread
over copies, the keys of title and session together give away a hash of the session, or without one the /24 or /48.)

A sampled request leaves the fast_path and is answered by FastAPI's door with a trace; the rest happens in a thread of its
own, behind a queue that drops when it is full. Files are named `decisions.<worker>.<number>`:

    0   magic "STEERDL2", byte order mark, 4 unused
    16  records: length, CRC-32 of what follows; then fixed fields, service id, candidates, picks
"""

from __future__ import annotations

import dataclasses
import ipaddress
import logging
import os
import queue
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from _fastpath.ranking import Trace
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError, SteeringError

MAGIC: Final = b"STEERDL2"
MAGIC_BEFORE: Final = b"STEERDL1"  # one key, of the title, and no holdings
BYTE_ORDER: Final = 0x01020304
HEADER: Final = struct.Struct("=8sI4x")
FRAME: Final = struct.Struct("=II")
# Seconds, keys (title, session, content), generation, table, fleet, holdings; scope (address, length, family); family
# asked for, n; lengths of the rest.
FIELDS: Final = struct.Struct("=dQQQQIII16sBBBBBHB")
FIELDS_BEFORE: Final = struct.Struct("=dQQII16sBBBBBHB")
CANDIDATE: Final = struct.Struct("=II")  # slot, word
PICK: Final = struct.Struct("=II")  # slot, rank
MAX_RECORD: Final = 1 << 20
KEPT_FILES: Final = 8
QUEUED: Final = 1000
NAME: Final = re.compile(r"decisions\.([0-9]+)\.([0-9]+)")

logger = logging.getLogger("steering.playback")


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """One answer, and what it was made from.

    `key`, `session_key` and `content_key` are those of the `Trace`; `holdings` is 0 where there were none. `scope` is
    CIDR text; `candidates` are (slot, word) and `picks` (slot, rank), best first.
    """

    at: float
    generation: int
    table: int
    fleet: int
    service: str
    key: int
    scope: str
    family: int
    n: int
    candidates: tuple[tuple[int, int], ...]
    picks: tuple[tuple[int, int], ...]
    session_key: int = 0
    content_key: int = 0
    holdings: int = 0

    @property
    def keys(self) -> tuple[int, int, int]:
        """The keys, as `Snapshot.picks` takes them."""
        return self.key, self.session_key, self.content_key

    @property
    def address(self) -> str:
        """An address that the answer is for: the first of the scope."""
        return self.scope.partition("/")[0]


def encode(decision: Decision) -> bytes:
    """Return a record."""
    network = ipaddress.ip_network(decision.scope)
    service = decision.service.encode()
    fields = FIELDS.pack(
        decision.at,
        *decision.keys,
        decision.generation,
        decision.table,
        decision.fleet,
        decision.holdings,
        network.network_address.packed,
        network.prefixlen,
        network.version,
        decision.family,
        decision.n,
        len(service),
        len(decision.candidates),
        len(decision.picks),
    )
    pairs = b"".join(CANDIDATE.pack(*pair) for pair in decision.candidates)
    pairs += b"".join(PICK.pack(*pair) for pair in decision.picks)
    body = fields + service + pairs
    return FRAME.pack(len(body), zlib.crc32(body)) + body


def decode(body: bytes, magic: bytes = MAGIC) -> Decision:
    """Return the decision of a record's body, of a file with this magic. Raises ValueError where it is none."""
    session_key = content_key = holdings = 0
    try:
        if magic == MAGIC_BEFORE:
            fields = FIELDS_BEFORE
            at, key, generation, table, fleet, packed, length, version, family, n, *rest = fields.unpack_from(body)
        else:
            fields = FIELDS
            at, key, session_key, content_key, generation, table, fleet, holdings, *more = fields.unpack_from(body)
            packed, length, version, family, n, *rest = more
        service_length, candidates, picks = rest
        start = fields.size + service_length
        middle = start + candidates * CANDIDATE.size
        if middle + picks * PICK.size != len(body):
            raise ValueError("its length is not that of its parts")
        network = ipaddress.ip_network((packed[:4] if version == 4 else packed, length))
        return Decision(
            at=at,
            generation=generation,
            table=table,
            fleet=fleet,
            service=body[fields.size : start].decode(),
            key=key,
            scope=str(network),
            family=family,
            n=n,
            candidates=tuple((slot, word) for slot, word in CANDIDATE.iter_unpack(body[start:middle])),
            picks=tuple((slot, rank) for slot, rank in PICK.iter_unpack(body[middle:])),
            session_key=session_key,
            content_key=content_key,
            holdings=holdings,
        )
    except struct.error as error:
        raise ValueError(str(error)) from error


def read_decisions(path: Path) -> Iterator[Decision]:
    """Yield the decisions of a file, in order. FeedError with offset and rule where it is cut off or damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror}") from error
    magic = data[: len(MAGIC)]
    if len(data) < HEADER.size or magic not in (MAGIC, MAGIC_BEFORE):
        raise FeedError(f"{path}: no decision log that this version reads")
    if HEADER.unpack_from(data)[1] != BYTE_ORDER:
        raise FeedError(f"{path}: written on a machine of the other byte order")
    at = HEADER.size
    while at < len(data):
        try:
            if len(data) - at < FRAME.size:
                raise ValueError("cut off in the length of a record")
            length, checksum = FRAME.unpack_from(data, at)
            body = data[at + FRAME.size : at + FRAME.size + length]
            if length > MAX_RECORD or len(body) < length:
                raise ValueError(f"a record of {length} bytes is cut off")
            if zlib.crc32(body) != checksum:
                raise ValueError("the checksum of a record does not match")
            decision = decode(body, magic)
        except ValueError as error:
            raise FeedError(f"{path} at byte {at}: {error}") from error
        yield decision
        at += FRAME.size + length


class Sampler(Protocol):
    """Who decides which requests are sampled: `_fastpath.fast_path.FastPath`, for its own requests and the others."""

    def is_sampled(self) -> bool:
        """Tell whether the request at hand is one to record."""


class DecisionLog:
    """The log of one worker. `note` never waits and never raises."""

    def __init__(
        self,
        folder: Path,
        worker: int,
        sampler: Sampler,
        titles: Sequence[str] = (),
        file_bytes: int = 64 << 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.worker = worker
        self.sampler = sampler
        self.titles = frozenset(titles)
        self.file_bytes = file_bytes
        self.clock = clock
        self.dropped = 0
        self.written = 0
        self.descriptor = -1
        self.queue: queue.Queue[Callable[[], Decision] | None] = queue.Queue(QUEUED)
        self.thread: threading.Thread | None = None

    def wants(self, title: str) -> bool:
        """Tell whether the answer to this request is to be recorded."""
        return self.sampler.is_sampled() or title in self.titles

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
        """Append a record, to the next file where this one is full."""
        if self.descriptor < 0 or self.written + len(record) > self.file_bytes:
            self.rotate()
        done = os.write(self.descriptor, record)
        self.written += done
        if done < len(record):  # the disk is full: the next record begins a new file
            self.written = self.file_bytes
            raise OSError(f"{done} of {len(record)} bytes written")

    def rotate(self) -> None:
        """Begin the next file, and remove the oldest."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        numbers = sorted(
            int(match[2])
            for path in self.folder.iterdir()
            if (match := NAME.fullmatch(path.name)) and int(match[1]) == self.worker
        )
        for number in numbers[: max(len(numbers) - KEPT_FILES + 1, 0)]:
            (self.folder / f"decisions.{self.worker}.{number}").unlink(missing_ok=True)
        path = self.folder / f"decisions.{self.worker}.{numbers[-1] + 1 if numbers else 1}"
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.written = os.write(self.descriptor, HEADER.pack(MAGIC, BYTE_ORDER))


def decision_of(
    at: float, snapshot: Snapshot, packed: bytes, service: str, n: int, family: int, trace: Trace
) -> Decision:
    """Return the record of an answer; it reads files, and so is called off the request's path."""
    slots = snapshot.slots
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
