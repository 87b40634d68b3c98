"""`decisions.<worker>.<number>`: the records of a worker's decision log, for `steering replay`.

A record has the time, the versions, the widest prefix around the client whose clients share a zone, the keys that
appliances were ranked by, each candidate's word, and the picks: enough to answer again. It never has the session or the
title. (Where viewers spread over copies, the keys of title and session together give away a hash of the session, or
without one the /24 or /48.)

    0   magic "STEERDL3", byte order mark, 4 unused
    16  records: length, CRC-32 of what follows; then the fields of a `Decision` as an array of MessagePack
"""

from __future__ import annotations

import ipaddress
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from steering.errors import FeedError

MAGIC: Final = b"STEERDL3"
BYTE_ORDER: Final = 0x01020304
HEADER: Final = struct.Struct("=8sI4x")
FRAME: Final = struct.Struct("=II")
MAX_RECORD: Final = 1 << 20
NAME: Final = re.compile(r"decisions\.([0-9]+)\.([0-9]+)")

Number = Annotated[int, msgspec.Meta(ge=0)]
Word = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class Decision(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One answer, and what it was made from.

    `key`, `session_key` and `content_key` are those of a `Trace`; `holdings` is 0 where there were none. `scope` is
    CIDR text; `candidates` are (slot, word) and `picks` (slot, rank), best first.
    """

    at: float
    generation: Number
    table: Number
    fleet: Number
    service: str
    key: Number
    scope: str
    family: Number
    n: Number
    candidates: tuple[tuple[Word, Word], ...]
    picks: tuple[tuple[Word, Word], ...]
    session_key: Number = 0
    content_key: Number = 0
    holdings: Number = 0

    @property
    def keys(self) -> tuple[int, int, int]:
        """The keys, as `Snapshot.picks_of_keys` takes them."""
        return self.key, self.session_key, self.content_key

    @property
    def address(self) -> str:
        """An address that the answer is for: the first of the scope."""
        return self.scope.partition("/")[0]


def encode(decision: Decision) -> bytes:
    """Return a record."""
    body = msgspec.msgpack.encode(decision)
    return FRAME.pack(len(body), zlib.crc32(body)) + body


def decode(body: bytes) -> Decision:
    """Return the decision of a record's body. Raises ValueError for a damaged one."""
    decision = msgspec.msgpack.decode(body, type=Decision)
    ipaddress.ip_network(decision.scope)
    return decision


def read_decisions(path: Path) -> Iterator[Decision]:
    """Yield the decisions of a file, in order. FeedError with offset and rule where it is cut off or damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror}") from error
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise FeedError(f"{path}: no decision log that this version reads")
    if HEADER.unpack_from(data)[1] != BYTE_ORDER:
        raise FeedError(f"{path}: written on a machine of the other byte order")
    offset = HEADER.size
    while offset < len(data):
        try:
            if len(data) - offset < FRAME.size:
                raise ValueError("cut off in the length of a record")
            length, checksum = FRAME.unpack_from(data, offset)
            body = data[offset + FRAME.size : offset + FRAME.size + length]
            if length > MAX_RECORD or len(body) < length:
                raise ValueError(f"a record of {length} bytes is cut off")
            if zlib.crc32(body) != checksum:
                raise ValueError("the checksum of a record does not match")
            decision = decode(body)
        except ValueError as error:
            raise FeedError(f"{path} at byte {offset}: {error}") from error
        yield decision
        offset += FRAME.size + length


def log_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of a decision log: those named, and of folders all, by worker and number."""
    for path in paths:
        if path.is_dir():
            named = ((NAME.fullmatch(item.name), item) for item in path.iterdir())
            yield from (item for *_, item in sorted((int(m[1]), int(m[2]), item) for m, item in named if m))
        else:
            yield path
