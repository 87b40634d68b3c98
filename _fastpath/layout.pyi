"""The public shape of `layout.pyx`, which documents it: titles to the appliances of a cluster."""

from collections.abc import Sequence
from typing import Any, Final

BOUND: Final[float]

def lay_out(
    titles: Any,
    loads: Any,
    sizes: Any,
    copies: Any,
    speeds: Sequence[float],
    disks: Sequence[float],
    held: Sequence[bytes | None],
    bitmaps: Sequence[bytearray],
) -> tuple[int, float]: ...
