"""The ids of the titles that appliances report: an index for each, and how many each reporter may bring.

An appliance may report any id, and what it invents takes room from all others. Three rules bound the damage:

- **An index is used again.** Once a published file shows that nobody holds a title, its index goes to the next new
  title. No bitmap changes by that: the bit of such an index is 0 in all of them.
- **A quota for each appliance.** A new id counts against the appliance that brought it, until another one reports it.
- **A quota for each partner.** It also counts against the partner, until an appliance of another partner reports it.
  The operator's own appliances, at exchanges, have no such quota.

Whoever is over a quota is refused new ids, by name and rule; what it reports of known titles is taken.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from steering.control.fill.holdings_rows import hash_of

MAX_ID: Final = 256  # bytes of UTF-8, as a title has
MAX_SERVICES: Final = 32  # with holdings in one file

Title = tuple[str, str]  # service and id


class RefusedError(Exception):
    """A list that breaks a rule; the message names it."""


class Bringers:
    """Who alone reported each title, by index, and how many titles each alone reported.

    A reporter is the hash of its id, so that it stays the same from file to file; 0 is nobody, or more than one.
    """

    def __init__(self) -> None:
        self.alone = array("Q")
        self.counts: Counter[int] = Counter()

    def begin(self, packed: bytes | memoryview, titles: int) -> None:
        """Begin with what a file has, nobody for the titles beyond it. Raises ValueError."""
        self.alone = array("Q", bytes(packed))
        self.alone = self.alone[:titles]
        self.alone.extend([0] * (titles - len(self.alone)))
        self.counts = Counter(reporter for reporter in self.alone if reporter)

    def bring(self, indexes: Iterable[int], reporter: int) -> None:
        """Count new titles against the one that brought them."""
        for index in indexes:
            if index == len(self.alone):
                self.alone.append(0)
            self.release(index)
            self.alone[index] = reporter
            self.counts[reporter] += reporter != 0

    def confirm(self, indexes: Iterable[int], reporter: int) -> None:
        """Count the titles that this reporter has too against nobody."""
        alone = self.alone
        for index in [index for index in indexes if alone[index] and alone[index] != reporter]:
            self.release(index)

    def release(self, index: int) -> None:
        """Count a title against nobody."""
        if reporter := self.alone[index]:
            self.counts[reporter] -= 1
            if not self.counts[reporter]:
                del self.counts[reporter]
            self.alone[index] = 0


class Reporter:
    """An appliance as one who brings titles: its name, and its partner's, empty for the operator's own."""

    __slots__ = ("name", "name_hash", "partner", "partner_hash")

    def __init__(self, name: str, partner: str) -> None:
        self.name, self.partner = name, partner
        self.name_hash = hash_of(name)
        self.partner_hash = hash_of(partner) if partner else 0


class Titles:
    """The titles of all holdings. Not thread-safe: `HoldingsReported` has the lock."""

    def __init__(self, most: int, most_by_appliance: int, most_by_partner: int) -> None:
        self.most, self.most_by_appliance, self.most_by_partner = most, most_by_appliance, most_by_partner
        self.clear()

    def clear(self) -> None:
        """Forget all titles."""
        self.names: list[Title] = []
        self.hashes = array("Q")
        self.index: dict[str, dict[str, int]] = {}
        self.masks: dict[str, int] = {}  # service -> its titles
        self.by_appliance, self.by_partner = Bringers(), Bringers()
        self.free: set[int] = set()
        self.renamed: set[int] = set()  # since the last file was begun
        self.renamed_in_publish: set[int] = set()

    def __len__(self) -> int:
        return len(self.names)

    def begin(self, names: Sequence[Title], by_appliance: bytes | memoryview, by_partner: bytes | memoryview) -> None:
        """Begin with the titles of a file, and who brought them. Raises ValueError."""
        self.clear()
        self.by_appliance.begin(by_appliance, len(names))
        self.by_partner.begin(by_partner, len(names))
        self.append(names, [hash_of(name) for _, name in names])

    def of(self, service: str) -> Mapping[str, int]:
        """Return the indexes of a service's titles by id."""
        return self.index.get(service, {})

    def mask(self, service: str) -> int:
        """Return the titles of a service as bits."""
        return self.masks.get(service, 0)

    # ---- new titles

    def check_new(
        self, reporter: Reporter, service: str, names: Sequence[str], field: str, known: Iterable[int]
    ) -> list[int]:
        """Return the hashes of new ids. Raises RefusedError for an invalid id, and for too many titles or services.

        `known` are the indexes of the other ids of the list, which are not free from now on.
        """
        for name in names:
            if not 1 <= len(name) <= MAX_ID or len(name.encode()) > MAX_ID or name in (".", ".."):
                raise RefusedError(f"{field} = {name[:64]!r}: 1 to {MAX_ID} bytes of UTF-8, and not . or ..")
        if not names:
            return []
        count = len(names)
        free = len(self.free) - sum(index in self.free for index in known)
        if len(self.names) - free + count > self.most:
            raise RefusedError(f"{field} = {count} new ids: more than {self.most} titles in all (setting max_titles)")
        alone = self.by_appliance.counts[reporter.name_hash]
        if alone + count > self.most_by_appliance:
            most = f"at most {self.most_by_appliance} (setting max_titles_by_appliance)"
            raise RefusedError(f"{field} = {count} new ids: {reporter.name} alone reports {alone} already; {most}")
        alone = self.by_partner.counts[reporter.partner_hash]
        if reporter.partner and alone + count > self.most_by_partner:
            most = f"at most {self.most_by_partner} (setting max_titles_by_partner)"
            raise RefusedError(f"{field} = {count} new ids: {reporter.partner} alone reports {alone} already; {most}")
        if service not in self.index and len(self.index) >= MAX_SERVICES:
            raise RefusedError(f"service = {service!r}: holdings of at most {MAX_SERVICES} services are kept")
        return [hash_of(name) for name in names]

    def add(self, reporter: Reporter, service: str, names: Sequence[str], hashes: Sequence[int]) -> list[int]:
        """Give an index to each new title, and return them: those of titles that nobody holds first."""
        again = [self.free.pop() for _ in range(min(len(names), len(self.free)))]
        count = len(again)
        self.rename(again, service, names[:count], hashes[:count])
        indexes = [*again, *self.append([(service, name) for name in names[count:]], hashes[count:])]
        self.by_appliance.bring(indexes, reporter.name_hash)
        self.by_partner.bring(indexes, reporter.partner_hash)
        return indexes

    def rename(self, indexes: Sequence[int], service: str, names: Sequence[str], hashes: Sequence[int]) -> None:
        """Give the indexes of titles that nobody holds to others."""
        lost: dict[str, list[int]] = defaultdict(list)
        for index, name, hashed in zip(indexes, names, hashes, strict=True):
            old_service, old_name = self.names[index]
            del self.index[old_service][old_name]
            lost[old_service].append(index)
            self.names[index], self.hashes[index] = (service, name), hashed
            self.index.setdefault(service, {})[name] = index
        for old_service, gone in lost.items():
            self.masks[old_service] &= ~bits_of(gone, len(self.names))
        if indexes:
            self.masks[service] = self.mask(service) | bits_of(indexes, len(self.names))
        self.renamed.update(indexes)

    def append(self, titles: Sequence[Title], hashes: Sequence[int]) -> range:
        """Give titles the next indexes, and return those."""
        first = len(self.names)
        fresh: dict[str, list[int]] = defaultdict(list)
        for index, (service, name) in enumerate(titles, first):
            self.index.setdefault(service, {})[name] = index
            fresh[service].append(index)
        self.names += titles
        self.hashes.extend(hashes)
        for service, indexes in fresh.items():
            self.masks[service] = self.mask(service) | bits_of(indexes, len(self.names))
        return range(first, len(self.names))

    def confirm(self, reporter: Reporter, indexes: Sequence[int]) -> None:
        """Note that an appliance holds titles that are known: they are in use, and it is not their only reporter."""
        self.free.difference_update(indexes)
        self.by_appliance.confirm(indexes, reporter.name_hash)
        self.by_partner.confirm(indexes, reporter.partner_hash)

    # ---- publishing

    def begin_publish(self, published: int) -> tuple[tuple[Title, ...], dict[int, Title]]:
        """Return the titles that a file with so many lacks, and those renamed; `end_publish` follows."""
        self.renamed_in_publish, self.renamed = self.renamed, set()
        return tuple(self.names[published:]), {index: self.names[index] for index in self.renamed_in_publish}

    def end_publish(self, is_done: bool) -> None:
        """Forget which names changed before `begin_publish`; keep them for the next one if the file was not made."""
        if not is_done:
            self.renamed |= self.renamed_in_publish
        self.renamed_in_publish = set()

    def set_held(self, held: int, published: int) -> None:
        """Take the titles held, as bits: the others of a published file's so many titles are free from now on."""
        unheld = ~held & ((1 << published) - 1)
        self.free = set(indexes_of(unheld))
        for index in self.free:
            self.by_appliance.release(index)
            self.by_partner.release(index)


# ---- sets of indexes, as integers with a bit for each


def bits_of(indexes: Iterable[int], size: int) -> int:
    """Return an integer of `size` bits with these bits set; the loop is in C, one step an index."""
    digits = bytearray(b"0") * size
    for index in indexes:
        digits[~index] = 49
    return int(digits, 2) if size else 0


def indexes_of(bits: int) -> list[int]:
    """Return which bits are set, ascending."""
    digits = f"{bits:b}"[::-1] if bits else ""
    return [index for index, digit in enumerate(digits) if digit == "1"]


def packed_of(bits: int, size: int) -> bytes:
    """Return an integer of `size` bits as bytes, the lowest bits first."""
    return bits.to_bytes(-(-size // 8), "little")
