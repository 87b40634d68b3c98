# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Intervals: all address space of a family, cut where a value changes.

    prefixes   10.0.0.0/8: a        10.64.0.0/10: b
    intervals  0.0.0.0: -   10.0.0.0: a   10.64.0.0: b   10.128.0.0: a   11.0.0.0: -

Sorted prefixes nest, so one pass with a stack (`sweep`) cuts them into intervals. An interval's value is a *chain*: the
list of the sets of routes on all prefixes that cover it, longest prefix first. A chain is stored as the pair (chain of
the shorter prefixes, set of the longest), so a table of a million prefixes has as many chains as it has different
coverings. `overlay` lays two cuts together: routes and regions, or two tables.
"""

import os

cimport cython
from cpython cimport array as c_array
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from _fastpath.prefix_rows cimport uninitialized, zeros
from _fastpath.wide cimport high_of, last_of, low_of, wide, wide_of


class Intervals:
    """Address space cut where the value changes: high, low (Q), value (I); the first begins at address 0."""

    __slots__ = ("high", "low", "value")

    def __init__(self, high, low, value):
        self.high = high
        self.low = low
        self.value = value

    def __len__(self):
        return len(self.high)


cdef class Pairs:
    """Distinct (left, right) pairs, numbered in order of first use: open addressing, at most half full."""

    def __cinit__(self):
        self.factor = int.from_bytes(os.urandom(8), "little") | 1  # so that no feed can choose what collides
        self.mask = (1 << 12) - 1
        self.slots = <uint64_t*> calloc(self.mask + 1, sizeof(uint64_t))
        if self.slots == NULL:
            raise MemoryError
        self.left = zeros("I", 1 << 11)
        self.right = zeros("I", 1 << 11)

    def __dealloc__(self):
        free(self.slots)

    def __len__(self):
        return self.count

    def intern(self, uint32_t left, uint32_t right):
        """Return the pair's number."""
        return self.number(left, right)

    cdef uint64_t slot_of(self, uint32_t left, uint32_t right) noexcept:
        cdef uint64_t slot = ((<uint64_t> left << 32 | right) * self.factor) >> 20 & self.mask
        cdef uint64_t pair
        while True:
            pair = self.slots[slot]
            if pair == 0 or (self.left.data.as_uints[pair - 1] == left and self.right.data.as_uints[pair - 1] == right):
                return slot
            slot = slot + 1 & self.mask

    cdef uint32_t number(self, uint32_t left, uint32_t right) except? 0xFFFFFFFF:
        cdef uint64_t slot = self.slot_of(left, right)
        if self.slots[slot] == 0:
            if self.count * 2 > self.mask:
                self.grow()
                slot = self.slot_of(left, right)
            self.left.data.as_uints[self.count] = left
            self.right.data.as_uints[self.count] = right
            self.count += 1
            self.slots[slot] = self.count
        return <uint32_t> self.slots[slot] - 1

    cdef int grow(self) except -1:
        cdef uint32_t i
        free(self.slots)
        self.mask = self.mask * 2 + 1
        self.slots = <uint64_t*> calloc(self.mask + 1, sizeof(uint64_t))
        if self.slots == NULL:
            raise MemoryError
        c_array.resize(self.left, (self.mask + 1) // 2 + 1)
        c_array.resize(self.right, (self.mask + 1) // 2 + 1)
        for i in range(self.count):
            self.slots[self.slot_of(self.left.data.as_uints[i], self.right.data.as_uints[i])] = i + 1
        return 0


def pair_up(left, right, Pairs pairs not None):
    """Return the number of each pair of two arrays of one length (an array of I), added to `pairs`."""
    cdef const uint32_t[::1] a = left, b = right
    cdef Py_ssize_t i
    numbers = uninitialized("I", a.shape[0])
    cdef uint32_t[::1] out = numbers
    for i in range(a.shape[0]):
        out[i] = pairs.number(a[i], b[i])
    return numbers


@cython.final
cdef class CutWriter:
    """Fills Intervals from (start, value) in address order; a later value at one start wins, equal neighbours join."""

    cdef c_array.array high, low, value
    cdef Py_ssize_t count

    def __cinit__(self, Py_ssize_t limit):
        self.high, self.low = uninitialized("Q", limit), uninitialized("Q", limit)
        self.value = uninitialized("I", limit)

    cdef void cut(self, wide start, uint32_t value) noexcept:
        cdef Py_ssize_t last = self.count - 1
        cdef uint64_t high = high_of(start), low = low_of(start)
        if last >= 0 and self.high.data.as_ulonglongs[last] == high and self.low.data.as_ulonglongs[last] == low:
            self.count = last
            last -= 1
        if last >= 0 and self.value.data.as_uints[last] == value:
            return
        self.high.data.as_ulonglongs[self.count] = high
        self.low.data.as_ulonglongs[self.count] = low
        self.value.data.as_uints[self.count] = value
        self.count += 1

    def finish(self):
        for column in (self.high, self.low, self.value):
            c_array.resize(column, self.count)
        return Intervals(self.high, self.low, self.value)


cdef struct covering:
    uint64_t last_high
    uint64_t last_low
    uint32_t chain


class Chains:
    """Chains by number: `parent` is the chain of the shorter prefixes, `value` the longest's set. Chain 0 is empty."""

    def __init__(self):
        self.pairs = Pairs()
        self.pairs.intern(0, 0xFFFFFFFF)

    def __len__(self):
        return len(self.pairs)

    @property
    def parent(self):
        return self.pairs.left

    @property
    def value(self):
        return self.pairs.right

    def values(self, chain):
        """Return the chain's sets, the longest prefix's first."""
        sets = []
        while chain:
            sets.append(self.pairs.right[chain])
            chain = self.pairs.left[chain]
        return sets


def sweep(columns, chains):
    """Return the Intervals of sorted columns with one row a prefix; their values are chains, added to `chains`."""
    cdef const uint64_t[::1] high = columns.high
    cdef const uint64_t[::1] low = columns.low
    cdef const uint8_t[::1] length = columns.length
    cdef const uint32_t[::1] value = columns.value
    cdef Py_ssize_t count = high.shape[0], i
    cdef Pairs pairs = chains.pairs
    cdef CutWriter cuts = CutWriter(2 * count + 2)
    cdef covering open_[129]  # a stack of nested prefixes: each is longer than the one below
    cdef int depth = 0
    cdef uint32_t chain = 0
    cdef wide start, last
    cuts.cut(0, 0)
    for i in range(count):
        start = wide_of(high[i], low[i])
        if length[i] > 128 or (
            i and not comes_after(start, length[i], wide_of(high[i - 1], low[i - 1]), length[i - 1])
        ):
            raise ValueError(f"row {i}: the columns are not sorted, or hold a prefix twice")
        while depth and wide_of(open_[depth - 1].last_high, open_[depth - 1].last_low) < start:
            depth = close_one(open_, depth, cuts)
        chain = open_[depth - 1].chain if depth else 0
        chain = pairs.number(chain, value[i])
        last = last_of(start, length[i])
        open_[depth] = covering(high_of(last), low_of(last), chain)
        depth += 1
        cuts.cut(start, chain)
    while depth:
        depth = close_one(open_, depth, cuts)
    return cuts.finish()


cdef bint comes_after(wide start, unsigned length, wide start_before, unsigned length_before) noexcept:
    return start_before < start or (start_before == start and length_before < length)


cdef int close_one(const covering* open_, int depth, CutWriter cuts) noexcept:
    """End the innermost prefix; the prefix around it, if any, continues after it. Return the new depth."""
    cdef const covering* top = open_ + depth - 1
    if ~(top.last_high & top.last_low):
        cuts.cut(wide_of(top.last_high, top.last_low) + 1, open_[depth - 2].chain if depth > 1 else 0)
    return depth - 1


def overlay(left, right, Pairs pairs not None):
    """Return the Intervals of two overlaid; their values are numbers of (left value, right value), added to `pairs`."""
    cdef const uint64_t[::1] left_high = left.high, left_low = left.low, right_high = right.high, right_low = right.low
    cdef const uint32_t[::1] left_value = left.value, right_value = right.value
    cdef Py_ssize_t i = 0, j = 0, n = left_high.shape[0], m = right_high.shape[0]
    cdef CutWriter cuts = CutWriter(n + m)
    cdef wide start = 0, after_left, after_right
    while True:
        cuts.cut(start, pairs.number(left_value[i], right_value[j]))
        if i + 1 == n and j + 1 == m:
            return cuts.finish()
        after_left = wide_of(left_high[i + 1], left_low[i + 1]) if i + 1 < n else ~(<wide> 0)
        after_right = wide_of(right_high[j + 1], right_low[j + 1]) if j + 1 < m else ~(<wide> 0)
        if j + 1 == m or (i + 1 < n and after_left <= after_right):
            i += 1
            start = after_left
            if j + 1 < m and after_right == after_left:
                j += 1
        else:
            j += 1
            start = after_right


def relabel_intervals(intervals, labels):
    """Return the Intervals with each value replaced by `labels[value]` (an array of I), equal neighbours joined."""
    cdef const uint64_t[::1] high = intervals.high
    cdef const uint64_t[::1] low = intervals.low
    cdef const uint32_t[::1] value = intervals.value
    cdef const uint32_t[::1] label = labels
    cdef CutWriter cuts = CutWriter(high.shape[0])
    cdef Py_ssize_t i
    for i in range(high.shape[0]):
        if value[i] >= label.shape[0]:
            raise ValueError(f"interval {i} has value {value[i]}, there are {label.shape[0]} labels")
        cuts.cut(wide_of(high[i], low[i]), label[value[i]])
    return cuts.finish()


def measure(intervals, int family, uint32_t values):
    """Return how much address space has each value below `values` (an array of d): IPv4 addresses, or IPv6 /48s."""
    cdef const uint64_t[::1] high = intervals.high, low = intervals.low
    cdef const uint32_t[::1] value = intervals.value
    cdef Py_ssize_t i, n = high.shape[0]
    cdef wide size
    cdef double unit = 2.0 ** 96 if family == 4 else 2.0 ** 80
    sizes = zeros("d", values)
    cdef double[::1] out = sizes
    for i in range(n):
        if value[i] >= values:
            raise ValueError(f"interval {i} has value {value[i]}, there are {values}")
        # The last interval ends at 2**128, which is 0 in 128 bits.
        size = (wide_of(high[i + 1], low[i + 1]) if i + 1 < n else <wide> 0) - wide_of(high[i], low[i])
        out[value[i]] += (2.0 ** 128 if not size else <double> high_of(size) * 2.0 ** 64 + <double> low_of(size)) / unit
    return sizes


cdef inline wide end_of(const uint64_t[::1] high, const uint64_t[::1] low, Py_ssize_t i) noexcept:
    """Return the last address of an interval."""
    return wide_of(high[i + 1], low[i + 1]) - 1 if i + 1 < high.shape[0] else last_of(0, 0)


cdef inline uint64_t hash_of(wide block) noexcept nogil:
    cdef uint64_t x = high_of(block) ^ low_of(block) * 0x9E3779B97F4A7C15u
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u
    x = (x ^ x >> 27) * 0x94D049BB133111EBu
    return x ^ x >> 31


cdef inline unsigned block_bits(wide start, wide end, unsigned bits) noexcept nogil:
    """Return how many bits an address has inside its block, so that an interval has 4,096 blocks at most."""
    while (end >> bits) - (start >> bits) >= 4096:
        bits += 1
    return bits


def mix(both, Pairs pairs not None, same, uint32_t split, unsigned length, uint64_t share):
    """Return the Intervals of a canary: each block of address space has its pair's left value, or `split` + its right.

    A block has the left value if `same[pair]` (an array of B) is not 0, or if the hash of its address, below 2^32, is
    not below `share`. Blocks have prefix length `length`, or a shorter one if an interval would have over 4,096.
    """
    cdef const uint64_t[::1] high = both.high, low = both.low
    cdef const uint32_t[::1] value = both.value
    cdef const uint8_t[::1] flag = same
    cdef Py_ssize_t i, n = high.shape[0], blocks = 0
    cdef wide start, end
    cdef unsigned bits
    if flag.shape[0] != pairs.count:
        raise ValueError(f"{flag.shape[0]} flags for {pairs.count} pairs")
    for i in range(n):
        start, end = wide_of(high[i], low[i]), end_of(high, low, i)
        bits = block_bits(start, end, 128 - length)
        blocks += 1 if flag[value[i]] else <Py_ssize_t> ((end >> bits) - (start >> bits)) + 1
    cdef CutWriter cuts = CutWriter(blocks)
    for i in range(n):
        start = wide_of(high[i], low[i])
        if flag[value[i]]:
            cuts.cut(start, pairs.left.data.as_uints[value[i]])
            continue
        end = end_of(high, low, i)
        bits = block_bits(start, end, 128 - length)
        while True:
            if hash_of(start >> bits) & 0xFFFFFFFF < share:
                cuts.cut(start, split + pairs.right.data.as_uints[value[i]])
            else:
                cuts.cut(start, pairs.left.data.as_uints[value[i]])
            if end >> bits == start >> bits:
                break
            start = (start >> bits) + 1 << bits
    return cuts.finish()
