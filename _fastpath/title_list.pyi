"""The public shape of `title_list.pyx`, which documents it: titles by plays, with sums."""

from typing import Any, Final

LEVELS: Final[int]

class TitleList:
    count: int
    def __init__(self, plays: Any, sizes: Any, levels: Any) -> None: ...
