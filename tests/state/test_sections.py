"""State files: written whole or not at all, and refused by name when anything about them is wrong."""

from __future__ import annotations

import struct
import zlib
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering.errors import SnapshotError
from steering.state.sections import ENTRY, HEADER, StateFile, write_atomically, write_sections
from tests.support.processes import disk

SECTIONS = {"meta": b'{"version":1}', "numbers": array("I", range(100)), "empty": b""}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "table.1"
    write_sections(file, "table", SECTIONS)
    return file


def test_sections_read_back_as_they_were_written(path: Path) -> None:
    file = StateFile(path, "table")
    assert bytes(file["meta"]) == SECTIONS["meta"]
    assert list(file["numbers"].cast("I")) == list(range(100))
    assert len(file["empty"]) == 0
    assert path.stat().st_size % 64 == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_equal_sections_give_equal_bytes(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    write_sections(again, "table", SECTIONS)
    assert again.read_bytes() == path.read_bytes()


def header(data: bytes, place: int, value: int, size: int) -> bytes:
    """Change a header field and make the header's checksum right again."""
    changed = bytearray(data)
    changed[place : place + size] = value.to_bytes(size, "little")
    end = HEADER.size + ENTRY.size * len(SECTIONS)
    changed[end : end + 4] = struct.pack("=I", zlib.crc32(changed[:end]))
    return bytes(changed)


ROWS = [
    ("empty", lambda data: data[:0], "cut off in its header"),
    ("cut off in the header", lambda data: data[:63], "cut off in its header"),
    ("cut off in the sections", lambda data: data[:-64], "its header promises"),
    ("longer than it says", lambda data: data + b"x", "its header promises"),
    ("another file", lambda data: b"SQLite format 3\0" + data[16:], "not a state file"),
    ("other byte order", lambda data: data[:8] + data[8:12][::-1] + data[12:], "other byte order"),
    ("a format from the future", lambda data: header(data, 12, 99, 2), "table format 99; this version reads format"),
    ("format zero", lambda data: header(data, 12, 0, 2), "table format 0"),
    (
        "a bit of the header flipped",
        lambda data: data[:70] + bytes([data[70] ^ 1]) + data[71:],
        "checksum of its header",
    ),
    ("a bit of a section flipped", lambda data: data[:-80] + bytes([data[-80] ^ 1]) + data[-79:], "section numbers"),
    ("another count of sections", lambda data: data[:32] + b"\xff\xff\0\0" + data[36:], "checksum of its header"),
]


@pytest.mark.parametrize(("name", "damage", "rule"), ROWS, ids=[row[0] for row in ROWS])
def test_a_wrong_file_is_refused_by_name_and_rule(path: Path, name: str, damage: object, rule: str) -> None:
    data = path.read_bytes()
    path.write_bytes(damage(data))  # type: ignore[operator]
    with pytest.raises(SnapshotError, match=rule) as caught:
        StateFile(path, "table")
    assert "table.1" in str(caught.value)


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    with pytest.raises(SnapshotError, match="holds a 'table', not a fleet"):
        StateFile(path, "fleet")


def test_an_absent_file_or_section_is_refused(path: Path) -> None:
    with pytest.raises(SnapshotError, match="No such file"):
        StateFile(path.with_name("table.9"), "table")
    with pytest.raises(SnapshotError, match="has no section zones"):
        StateFile(path, "table")["zones"]


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_no_flipped_byte_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, place: int, change: int) -> None:
    path = tmp_path_factory.mktemp("state") / "table.1"
    write_sections(path, "table", SECTIONS)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= change
    path.write_bytes(data)
    try:
        file = StateFile(path, "table")
    except SnapshotError:
        return
    # Only padding is not under a checksum.
    assert {name: bytes(file[name]) for name in SECTIONS} == {
        name: bytes(memoryview(part)) for name, part in SECTIONS.items()
    }


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(path: Path) -> None:
    before = path.read_bytes()

    def parts():  # type: ignore[no-untyped-def]
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, parts())
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["table.1"]


def test_a_mapping_outlives_the_file_name(path: Path) -> None:
    section = StateFile(path, "table")["numbers"]
    path.unlink()
    assert section.cast("I")[99] == 99


def test_a_file_shows_whether_it_lies_in_huge_pages(path: Path, tmp_path: Path) -> None:
    size = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    if not size.exists():
        pytest.skip("this kernel has no transparent huge pages")
    assert not StateFile(path, "table").lies_in_huge_pages()
    with disk(tmp_path / "disk", "huge=always,size=64m") as folder:
        large = folder / "table.2"
        write_sections(large, "table", {"numbers": bytes(4 * int(size.read_text()))})
        assert StateFile(large, "table").lies_in_huge_pages()
