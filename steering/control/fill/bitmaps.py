"""Sets of title indexes as integers with a bit for each."""

from __future__ import annotations

from collections.abc import Iterable


def bits_of(indexes: Iterable[int], size: int) -> int:
    """Return an integer of `size` bits with these bits set; the loop is in C, one step an index."""
    digits = bytearray(b"0") * size
    for index in indexes:
        digits[~index] = 49
    return int(digits, 2) if size else 0


def packed_of(bits: int, size: int) -> bytes:
    """Return bits as bytes, lowest first."""
    return bits.to_bytes(-(-size // 8), "little")


def has(packed: bytes, index: int) -> bool:
    """Return whether a bit is set."""
    return bool(packed[index >> 3] >> (index & 7) & 1)
