"""The public shape of `mrt.pyx`, which documents it."""

from _fastpath.prefix_rows import Columns

MAX_COMMUNITIES: int
MAX_PATH: int

def read(
    data: bytes,
) -> tuple[
    list[tuple[str, int]],
    dict[int, Columns],
    list[tuple[int, bytes]],
    list[tuple[int, str, str]],
    dict[str, int],
    dict[str, int],
]: ...
def attributes(packed: bytes) -> tuple[tuple[int, ...], bool, int, int, tuple[str, ...]]: ...
