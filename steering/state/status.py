"""The words that every pick reads: `status.<epoch>`, one aligned 32-bit word for each appliance slot.

A word is changed in place and seen by the next pick of every worker. When slots run out, a larger file of the next
epoch is written and named in `current`; the one before it is written along until it is out of use.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from _fastpath.status_words import StatusWords
from steering.errors import SnapshotError
from steering.state.folder import versioned_files
from steering.state.sections import write_atomically

FEWEST_SLOTS: Final = 1024  # one page of words


class StatusFiles:
    """The mapped words in force, and those of the epoch before, written together."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.mapped: dict[str, StatusWords] = {}

    def use(self, name: str) -> None:
        """Make a file the one in force; the one before stays written. Raises SnapshotError where it is unusable."""
        if name in self.mapped:
            return
        try:
            weights = StatusWords(str(self.state / name), writable=True)
        except (OSError, ValueError) as error:
            raise SnapshotError(f"{name}: {error}") from error
        self.mapped = dict([*self.mapped.items(), (name, weights)][-2:])

    @property
    def names(self) -> list[str]:
        """The files being written, the one in force last."""
        return list(self.mapped)

    def word(self, slot: int) -> int:
        """Return the word in force of a slot; 0 where there is none."""
        weights = self.mapped[self.names[-1]] if self.mapped else None
        return weights.word(slot) if weights and slot < weights.slots else 0

    def set_hot(self, fan_outs: Mapping[int, int]) -> None:
        """Store into how many orders the viewers of hits are dealt, by content key."""
        for weights in self.mapped.values():
            weights.set_hot(fan_outs)

    def find_room(self, words: Mapping[int, int]) -> str:
        """Return the name of a file with room for every slot: the one in force, or a larger new one with the words."""
        needed = max(words, default=-1) + 1
        if self.mapped and self.mapped[self.names[-1]].slots >= needed:
            return self.names[-1]
        epoch = max((number for _, kind, number in versioned_files(self.state) if kind == "status"), default=0) + 1
        slots = max(FEWEST_SLOTS, 1 << (2 * needed - 1).bit_length())
        return write_status(self.state, epoch, [words.get(slot, 0) for slot in range(slots)])

    def fill_empty(self, words: Mapping[int, int]) -> None:
        """Store the words of slots that hold none: nobody reads them yet, and everybody may a moment later."""
        for weights in self.mapped.values():
            for slot, word in words.items():
                if slot < weights.slots and not weights.word(slot):
                    weights.set_word(slot, word)

    def set_words(self, words: Mapping[int, int]) -> None:
        """Store words, in every file that has the slot."""
        for weights in self.mapped.values():
            for slot, word in words.items():
                if slot < weights.slots and weights.word(slot) != word:
                    weights.set_word(slot, word)

    def clear_except(self, words: Mapping[int, int]) -> None:
        """Store the words, and none in every other slot: an appliance that left has no weight and no family."""
        for weights in self.mapped.values():
            for slot in range(weights.slots):
                word = words.get(slot, 0)
                if weights.word(slot) != word:
                    weights.set_word(slot, word)


WEIGHT_UNIT_GBPS: Final = 0.1


def write_status(state: Path, epoch: int, words: Sequence[int], hot: Mapping[int, int] | None = None) -> str:
    """Write `status.<epoch>` with a word for each slot, and the fan_outs of hot titles, and return its name."""
    path = state / f"status.{epoch}"
    write_atomically(path, [StatusWords.image(array("I", words))])
    if hot:
        StatusWords(str(path), writable=True).set_hot(hot)
    return path.name


def weight_of_capacity(gbps: float) -> int:
    """Return the weight of an appliance that is believed at its capacity: units of 100 Mbit/s, 1 to 65,535."""
    return min(max(round(gbps / WEIGHT_UNIT_GBPS), 1), 0xFFFF)
