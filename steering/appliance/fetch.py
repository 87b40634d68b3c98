"""One part of a file from one source: asked by range, hashed while it is written, refused for anything else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from steering.appliance.leases import Why
from steering.appliance.recipe import Part

CHUNK: Final = 1 << 20  # bytes that are written and hashed at once, in a thread
CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,16})-([0-9]{1,16})/([0-9]{1,16})")
MAX_ETAG: Final = 256
MAX_ETAGS: Final = 10_000
STALLS: Final = 10  # a part may take so many times the pause that ends it, and four times its time at the full rate

Pace = Callable[[int], Awaitable[None]]


class FetchError(Exception):
    """A source failed; `why` is the word for it in reports."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why


class Fetcher:
    """Fetches parts. It holds the ETag of each address, for If-Range: parts of two versions are never mixed."""

    def __init__(self, http: httpx.AsyncClient, stall_s: float) -> None:
        self.http = http
        self.stall_s = stall_s
        self.etags: dict[str, str] = {}

    async def fetch(self, url: str, file: PartFile, rate: float, pace: Pace) -> None:
        """Fetch a part into its file. Raises FetchError; OSError is the disk's.

        `rate` is in bytes a second; `pace` is called with each piece's length and waits for the budget.
        """
        most_s = STALLS * self.stall_s + 4 * file.part.length / max(rate, 1.0)
        try:
            async with asyncio.timeout(most_s):
                await self.stream(url, file, pace)
        except (httpx.TimeoutException, TimeoutError):
            raise FetchError("timeout", "it sent too little for too long") from None
        except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise FetchError("refused", str(error) or type(error).__name__) from None
        except httpx.HTTPError as error:
            raise FetchError("timeout", f"the answer was cut off: {error}") from None

    async def stream(self, url: str, file: PartFile, pace: Pace) -> None:
        part, address = file.part, url.partition("?")[0]
        headers = {"Accept-Encoding": "identity"}
        if not part.is_whole:
            headers["Range"] = f"bytes={part.start}-{part.start + part.length - 1}"
            if etag := self.etags.get(address):
                headers["If-Range"] = etag
        timeout = httpx.Timeout(self.stall_s)
        async with self.http.stream("GET", url, headers=headers, timeout=timeout) as answer:
            if answer.status_code == httpx.codes.OK:
                self.etags.pop(address, None)
            check_answer(answer, part)
            self.keep_etag(address, answer.headers.get("ETag", ""))
            await receive(answer, file, pace)

    def keep_etag(self, address: str, etag: str) -> None:
        """Keep an ETag for If-Range; a weak one is no use there (RFC 9110, 13.1.5)."""
        if etag.startswith('"') and len(etag) <= MAX_ETAG:
            if len(self.etags) >= MAX_ETAGS:
                self.etags.clear()
            self.etags[address] = etag


class PartFile:
    """An open file that a part is written into, and the hash of what was written.

    Writes run in threads, which cannot be cancelled: a lock and `closed` keep a late write from a descriptor that has
    become another file's.
    """

    def __init__(self, descriptor: int, part: Part) -> None:
        self.descriptor = descriptor
        self.part = part
        self.digest = hashlib.sha256()
        self.written = 0
        self.lock = threading.Lock()
        self.closed = False

    def write(self, data: bytes) -> None:
        with self.lock:
            if not self.closed:
                self.digest.update(data)
                write_all(self.descriptor, data, self.part.start + self.written)
                self.written += len(data)

    def sync(self) -> None:
        with self.lock:
            if not self.closed:
                os.fdatasync(self.descriptor)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.closed = True
            os.close(self.descriptor)


async def receive(answer: httpx.Response, file: PartFile, pace: Pace) -> None:
    """Write and hash the body. More bytes than the part has are an error before they are written."""
    part, received, held = file.part, 0, bytearray()
    async for piece in answer.aiter_raw():
        received += len(piece)
        if received > part.length:
            raise FetchError("too_long", f"more than {part.length} bytes")
        held += piece
        if len(held) >= CHUNK:
            await asyncio.to_thread(file.write, bytes(held))
            held.clear()
        await pace(len(piece))
    await asyncio.to_thread(file.write, bytes(held))
    if received != part.length or file.digest.hexdigest() != part.sha256:
        raise FetchError("wrong_bytes", f"{received} bytes with another hash than the recipe's")
    await asyncio.to_thread(file.sync)


def check_answer(answer: httpx.Response, part: Part) -> None:
    """Raise FetchError unless the head of an answer promises exactly this part."""
    status = answer.status_code
    if status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        raise FetchError("not_found", f"it answered {status}")
    if status == httpx.codes.OK and not part.is_whole:
        raise FetchError("range_ignored", "it answered 200 to a range")
    if status == httpx.codes.PARTIAL_CONTENT and not part.is_whole:
        match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        wanted = (part.start, part.start + part.length - 1, part.file.bytes)
        if not match or tuple(map(int, match.groups())) != wanted:
            raise FetchError("wrong_bytes", f"Content-Range {answer.headers.get('Content-Range', '')[:80]!r}")
    elif status != httpx.codes.OK:
        raise FetchError("refused", f"it answered {status}")
    length = answer.headers.get("Content-Length", "")
    if length.isascii() and length.isdecimal() and len(length) <= 20 and int(length) != part.length:
        why: Why = "too_long" if int(length) > part.length else "wrong_bytes"
        raise FetchError(why, f"it has {length} bytes, the part has {part.length}")


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def hash_of(descriptor: int, start: int, length: int) -> str:
    """Return the SHA-256 of bytes of a file; of fewer bytes where the file ends before."""
    digest, offset, end = hashlib.sha256(), start, start + length
    while offset < end and (data := os.pread(descriptor, min(CHUNK, end - offset), offset)):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()


def is_written(descriptor: int, start: int) -> bool:
    """Return whether a byte of a file was ever written: parts that never came are holes, which need no hashing."""
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA) == start
    except OSError:
        return False  # ENXIO: nothing but a hole from here to the end
