"""The public shape of `playback_json.pyx`."""

from collections.abc import Sequence

from _fastpath.counters import Counters
from _fastpath.ranking import Picker
from _fastpath.service import Service

MAX_FILES: int

def answer_playback(
    picker: Picker,
    address: str | bytes,
    files: list[str],
    service: Service,
    n: int,
    family: int,
    session: str = "",
    title: str = "",
    counters: Counters | None = None,
    failed: Sequence[str] = (),
) -> bytes:
    """Return the answer for many files as compact JSON, and count it.

    With `title`, the files are ranked once, as their title; else each file is ranked as a title. There are 1 to
    MAX_FILES files, all different. Raises ValueError.
    """
