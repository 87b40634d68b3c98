"""`status.<epoch>`: one aligned 32-bit word for each appliance slot, which every pick reads, and the hot titles.

A word is changed in place and counts at the next pick of every worker. When slots run out, a larger file of the next
epoch is made, gets the words, and is named in `current`; the one before it is written along until it is out of use.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from _fastpath.status_words import StatusWords
from steering.errors import SnapshotError
from steering.state.folder import versioned_files
from steering.state.sections import write_atomically

FEWEST_SLOTS: Final = 1024  # one page of words


class StatusFiles:
    """The mapped status files: the one in force, and that of the epoch before, written together."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.mapped: dict[str, StatusWords] = {}

    def use(self, name: str) -> None:
        """Make a file the one in force; the one before is written along. Raises SnapshotError where it is unusable."""
        if name in self.mapped:
            return
        try:
            status = StatusWords(str(self.state / name), writable=True)
        except (OSError, ValueError) as error:
            raise SnapshotError(f"{name}: {error}") from error
        self.mapped = dict([*self.mapped.items(), (name, status)][-2:])

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Make a file the one in force; after an error, the one before is in force again."""
        before = self.mapped
        self.use(name)
        try:
            yield
        except BaseException:
            self.mapped = before
            raise

    @property
    def names(self) -> list[str]:
        """The files being written, the one in force last."""
        return list(self.mapped)

    @property
    def in_force(self) -> str:
        """The file in force; empty without one."""
        return next(reversed(self.mapped), "")

    def word(self, slot: int) -> int:
        """Return the word of a slot in the file in force; 0 without one."""
        status = self.mapped.get(self.in_force)
        return status.word(slot) if status and slot < status.slots else 0

    def set_hot(self, fan_outs: Mapping[int, int]) -> None:
        """Store the fan-outs of hot titles by content key."""
        for status in self.mapped.values():
            status.set_hot(fan_outs)

    def set_words(self, words: Mapping[int, int]) -> None:
        """Store words, in every file that has the slot."""
        for status in self.mapped.values():
            for slot, word in words.items():
                if slot < status.slots and status.word(slot) != word:
                    status.set_word(slot, word)

    def clear_except(self, words: Mapping[int, int]) -> None:
        """Store the words, and 0 in every other slot: an appliance that left has no weight and no family."""
        for status in self.mapped.values():
            for slot in range(status.slots):
                word = words.get(slot, 0)
                if status.word(slot) != word:
                    status.set_word(slot, word)


WEIGHT_UNIT_GBPS: Final = 0.1


def room_for(state: Path, in_force: str, slots: int) -> str:
    """Return the name of a file with room for so many slots: the one in force, or a new, larger one of empty words."""
    if in_force and StatusWords(str(state / in_force)).slots >= slots:
        return in_force
    epoch = max((number for _, kind, number in versioned_files(state) if kind == "status"), default=0) + 1
    return write_status(state, epoch, [0] * max(FEWEST_SLOTS, 1 << (2 * slots - 1).bit_length()))


def write_status(state: Path, epoch: int, words: Sequence[int], hot: Mapping[int, int] | None = None) -> str:
    """Write `status.<epoch>` with a word for each slot, and the fan-outs of hot titles, and return its name."""
    path = state / f"status.{epoch}"
    write_atomically(path, [StatusWords.image(array("I", words))])
    if hot:
        StatusWords(str(path), writable=True).set_hot(hot)
    return path.name


def weight_of_capacity(gbps: float) -> int:
    """Return the weight of an appliance at its capacity: units of 100 Mbit/s, 1 to 65,535."""
    return min(max(round(gbps / WEIGHT_UNIT_GBPS), 1), 0xFFFF)
