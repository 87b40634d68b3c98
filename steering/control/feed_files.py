"""The files of feeds: read whole within bounds, unpacked by their ending, and refusals as reports list them.

A rule is a sentence that every row must obey. After a semicolon it may describe the refused row; refusals are counted
by the part before it.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from steering.errors import FeedError
from steering.model.route import Refusal

# Bounds of a feed once it is unpacked. The whole Internet's routes are 1.1 M rows and 70 MB.
MAX_TEXT: Final = 512 << 20  # bytes of a text
MAX_ROWS: Final = 12_000_000  # lines, the empty ones too
MAX_LINE: Final = 16_384  # bytes of a line that is parsed
MAX_JSON: Final = 128 << 20  # bytes of a JSON document
MAX_CONTAINERS: Final = 2_000_000  # objects and lists of a JSON document; the whole RPKI has some 700,000
MAX_ITEMS: Final = 8_000_000  # commas of a JSON document
MAX_XZ_MEMORY: Final = 128 << 20  # of a decompressor; xz -9 needs 65 MiB
CHUNK: Final = 1 << 20
MAX_LISTED: Final = 1000  # refusals listed with their rows; all are counted
CSV_RULE: Final = "a line is CSV (RFC 4180): a quoted field ends with a quote, a line with a line feed"

# Any: the decompressors of the standard library have no common type.
UNPACKERS: Final[dict[str, Callable[[], Any]]] = {
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY),
}


def listed(refusals: Iterable[Refusal]) -> list[dict[str, Any]]:
    """Return refusals, or warnings, of one feed as reports list them."""
    return [{"row": item.row, "value": item.value, "rule": item.rule} for item in refusals]


def rule_of(text: str) -> str:
    """Return a rule without its part about one row."""
    return text.partition(";")[0]


def read_text(path: Path, ends_in_line_end: bool = True) -> tuple[bytes, str]:
    """Return a feed's text, unpacked, and the SHA-256 of the file.

    Raises FeedError if the file cannot be read, is empty or cut off, or is too large. Formats of others may lack the
    last line end (RFC 4180, 2).
    """
    text, digest = read_bytes(path)
    if not text or text.isspace():
        raise FeedError(f"{path.name}: is empty")
    if ends_in_line_end and not text.endswith(b"\n"):
        raise FeedError(f"{path.name}: cut off: its last line has no line end", hint="the sender did not finish it")
    if (rows := text.count(b"\n")) > MAX_ROWS:
        raise FeedError(f"{path.name}: {rows} lines; at most {MAX_ROWS}")
    return text, digest


def lines_of(text: bytes) -> Iterator[bytes]:
    """Yield the lines of a text without their ends, one at a time; a byte order mark is dropped."""
    for line in io.BytesIO(text.removeprefix(b"\xef\xbb\xbf")):
        yield line.removesuffix(b"\n")


def read_json(path: Path, most_items: int = MAX_ITEMS) -> tuple[bytes, str]:
    """Return a JSON document, unpacked, and the SHA-256 of the file. FeedError: it would take too much memory."""
    data, digest = read_bytes(path, MAX_JSON)
    containers, items = data.count(b"{") + data.count(b"["), data.count(b",")
    if containers > MAX_CONTAINERS or items > most_items:
        rule = f"at most {MAX_CONTAINERS} and {most_items}"
        raise FeedError(f"{path.name}: {containers} objects and lists with {items} commas; {rule}")
    return data, digest


def read_bytes(path: Path, most: int = MAX_TEXT) -> tuple[bytes, str]:
    """Return a feed's bytes, unpacked by its ending (.gz, .bz2, .xz), and the SHA-256 of the file. Raises FeedError."""
    try:
        digest = sha256_of(path)
        with path.open("rb") as file:
            data = file.read(most + 1) if path.suffix not in UNPACKERS else unpacked(file, path.suffix, most)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise FeedError(f"{path.name}: cut off or damaged: {error}") from error
    except OSError as error:
        damaged = error.strerror is None  # as bz2 reports damage
        raise FeedError(f"{path.name}: damaged: {error}" if damaged else f"{path}: {error.strerror}") from error
    if len(data) > most:
        raise FeedError(f"{path.name}: over {most >> 20} MiB once unpacked")
    return data, digest


def unpacked(file: BinaryIO, suffix: str, most: int) -> bytes:
    """Return what a file unpacks to, its streams one after the other; over `most` bytes only a part."""
    parts: list[bytes] = []
    size, packed = 0, b""
    unpacker = UNPACKERS[suffix]()
    while size <= most:
        if unpacker.eof:
            packed = unpacker.unused_data.lstrip(b"\0") or file.read(CHUNK).lstrip(b"\0")
            if not packed:
                return b"".join(parts)
            unpacker = UNPACKERS[suffix]()
        elif suffix == ".gz":
            packed = unpacker.unconsumed_tail or file.read(CHUNK)
        else:
            packed = file.read(CHUNK) if unpacker.needs_input else b""
        if not packed and (suffix == ".gz" or unpacker.needs_input):
            raise EOFError("its last stream has no end")
        part = unpacker.decompress(packed, CHUNK)
        size += len(part)
        parts.append(part)
    return b"".join(parts)


def sha256_of(path: Path) -> str:
    if not path.is_file() and path.exists():
        raise FeedError(f"{path}: is no file that can be read to its end")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
