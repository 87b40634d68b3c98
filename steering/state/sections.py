"""The formats of the files in the state folder.

The small files `current` and `keys` are a line of JSON and its checksum. All others are a header and named sections
with checksums, and are never changed in place:

0   magic "STEERING", byte order mark, format, kind, length of the whole file, number of sections
64  one entry a section: name, offset, length, CRC-32
…   CRC-32 of all above; then the sections, each on a 64-byte boundary
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from steering.errors import SnapshotError
from steering.state.folder import read_small

Data: TypeAlias = "bytes | bytearray | memoryview | array[int] | array[float]"

T = TypeVar("T")

MAGIC: Final = b"STEERING"
BYTE_ORDER: Final = 0x01020304
HEADER: Final = struct.Struct("=8sIH10sQI28x")
ENTRY: Final = struct.Struct("=16sQQI4x")
CHECKSUM: Final = struct.Struct("=I")
LINE: Final = 64
SLICE: Final = 1 << 17  # bytes at a time: a tenth of a millisecond
MAX_CHECKED: Final = 1 << 20  # bytes of `current` and of `keys`

# The format of each kind of file that this code writes, and the oldest one that it reads.
FORMATS: Final = {"table": 2, "routes": 1, "fleet": 3, "holdings": 2, "playlists": 1, "plan": 1, "forecast": 1}
OLDEST: Final = {"table": 2, "routes": 1, "fleet": 3, "holdings": 2, "playlists": 1, "plan": 1, "forecast": 1}


def write_atomically(path: Path, parts: Iterable[Data], mode: int = 0o600) -> None:
    """Write a file whole or not at all: beside, fsynced, renamed, and the folder fsynced."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for part in parts:
                view = memoryview(part).cast("B")
                while view:  # one large copy inside the kernel would delay the other processes of this core
                    view = view[file.write(view[:SLICE]) :]
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_checked(path: Path, value: Any) -> None:
    """Write a small file that people can read: a line of JSON, and a line with the CRC-32 of the first."""
    line = msgspec.json.encode(value)
    write_atomically(path, [line, f"\n{zlib.crc32(line):08x}\n".encode()])


def read_checked(path: Path, kind: type[T], forbidden_mode: int = 0) -> T:
    """Return the value of a small file, of a type and within its limits. No error shows a value of the file.

    Raises SnapshotError where it is damaged, or its mode has a forbidden bit; OSError where it cannot be read.
    """
    data, mode = read_small(path, MAX_CHECKED)
    if data is None:
        raise SnapshotError(f"{path}: not a regular file of at most {MAX_CHECKED} bytes")
    if mode & forbidden_mode:
        raise SnapshotError(f"{path}: mode {stat.S_IMODE(mode):04o} lets others read secrets", f"chmod 600 {path}")
    line, _, checksum = data.partition(b"\n")
    if checksum != f"{zlib.crc32(line):08x}\n".encode():
        raise SnapshotError(f"{path}: torn or not ours: the checksum of its first line does not match")
    try:
        return msgspec.json.decode(line, type=kind)
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"{path}: torn or not ours: {error}") from None


def write_sections(path: Path, kind: str, sections: Mapping[str, Data]) -> None:
    """Write a state file of a kind from its sections."""
    offset = padded(HEADER.size + ENTRY.size * len(sections) + CHECKSUM.size)
    entries: list[bytes] = []
    parts: list[Data] = []
    for name, data in sections.items():
        view = memoryview(data).cast("B")
        entries.append(ENTRY.pack(name.encode(), offset, len(view), zlib.crc32(view)))
        pad = padded(len(view)) - len(view)
        parts += [view, bytes(pad)]
        offset += len(view) + pad
    head = HEADER.pack(MAGIC, BYTE_ORDER, FORMATS[kind], kind.encode(), offset, len(sections)) + b"".join(entries)
    head += CHECKSUM.pack(zlib.crc32(head))
    write_atomically(path, [head, bytes(padded(len(head)) - len(head)), *parts])


# What reading a file may raise whose content is none of ours.
UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, struct.error)


@contextlib.contextmanager
def written_by_us(name: str) -> Iterator[None]:
    """Raise SnapshotError where a file has right checksums, but content that this version does not write."""
    try:
        yield
    except SnapshotError:
        raise
    except UNREADABLE as error:
        raise SnapshotError(f"{name} is unusable: {type(error).__name__}: {error}") from error


def padded(length: int) -> int:
    """Return the length rounded up to the next cache line."""
    return -(-length // LINE) * LINE


def checksum_of(section: memoryview) -> int:
    """Return the CRC-32 of a section, in slices, so that the worker's thread that answers runs in between."""
    checksum = 0
    for start in range(0, len(section), SLICE):
        checksum = zlib.crc32(section[start : start + SLICE], checksum)
        os.sched_yield()
    return checksum


class StateFile:
    """A mapped state file, its header, lengths and checksums checked, so its pages are in memory.

    Sections are views of the mapping, which lives as long as any of them. Raises SnapshotError naming file and rule.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.sections: dict[str, memoryview] = {}
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < HEADER.size:
                    raise SnapshotError(f"{path.name}: {size} bytes, cut off in its header")
                self.inode = os.fstat(file.fileno()).st_ino
                mapping = mmap.mmap(file.fileno(), size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except OSError as error:
            raise SnapshotError(f"{path.name}: {error.strerror}") from error
        with contextlib.suppress(OSError):  # few file systems have huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
        view = memoryview(mapping)
        magic, byte_order, self.format, written_kind, length, count = HEADER.unpack_from(view)
        if magic != MAGIC:
            raise SnapshotError(f"{path.name}: not a state file (it begins {bytes(magic)!r})")
        if byte_order != BYTE_ORDER:
            raise SnapshotError(f"{path.name}: written on a machine of the other byte order")
        holds = written_kind.rstrip(b"\0").decode("ascii", "replace")
        if holds != kind:
            raise SnapshotError(f"{path.name}: holds a {holds!r}, not a {kind}")
        if not OLDEST[kind] <= self.format <= FORMATS[kind]:
            raise SnapshotError(
                f"{path.name}: {kind} format {self.format}; this version reads format {FORMATS[kind]}",
                hint="publish again: `steering reload`",
            )
        if length != size:
            raise SnapshotError(f"{path.name}: {size} bytes, its header promises {length}; cut off or written over")
        head = HEADER.size + ENTRY.size * count
        if head + CHECKSUM.size > size or CHECKSUM.unpack_from(view, head)[0] != zlib.crc32(view[:head]):
            raise SnapshotError(f"{path.name}: the checksum of its header does not match")
        for i in range(count):
            name, offset, extent, checksum = ENTRY.unpack_from(view, HEADER.size + ENTRY.size * i)
            label = name.rstrip(b"\0").decode()
            section = view[offset : offset + extent]
            if len(section) != extent or checksum_of(section) != checksum:
                raise SnapshotError(f"{path.name}: the checksum of section {label} does not match")
            self.sections[label] = section

    def __getitem__(self, name: str) -> memoryview:
        try:
            return self.sections[name]
        except KeyError:
            raise SnapshotError(f"{self.path.name}: has no section {name}") from None

    def lies_in_huge_pages(self) -> bool:
        """Return whether any of the file is mapped in huge pages, by /proc/self/smaps; False on a kernel without it."""
        try:
            lines = Path("/proc/self/smaps").read_text().splitlines()
        except OSError:
            return False
        is_here = False
        for line in lines:
            words = line.split()
            if not words[0].endswith(":"):  # "7f…-7f… r--s 00000000 fe:00 1234 /path": a mapping
                is_here = int(words[4]) == self.inode and line.endswith(f"/{self.path.name}")
            elif is_here and words[0] in ("FilePmdMapped:", "ShmemPmdMapped:") and words[1] != "0":
                return True
        return False
