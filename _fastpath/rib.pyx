# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Everything slow about building a table: route text to columns, columns to intervals, routes to rankings.

A prefix of either family is a left-aligned 128-bit number (`high`, `low`) and a length, so one piece of code serves
both: an IPv4 address fills the top 32 bits of `high`. The walk, each step a function:

    text --read--> Columns, by family: high, low, length, value, row       value: which tail the row had
         --sort--> the same, by (prefix, value, row)
        --group--> one row a prefix                                        value: which set of routes it has
        --sweep--> Intervals of address space: high, low, value            value: which chain covers it
      --overlay--> with the regions' intervals                             value: which (chain, region) it has
      --rankings--> for each (chain, region) a ranking; equal ones kept once

A *chain* is the list of route sets on the prefixes that cover an address, longest first. Chains are interned as
(parent chain, set), so a table of a million prefixes has as many chains as it has different coverings.
Nothing here runs on the request path.
"""

import os
from array import array

cimport cython
from cpython cimport array as c_array
from libc.math cimport acos
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memchr, memcmp

from _fastpath.address cimport parse_v4, parse_v6
from _fastpath.texts cimport text_table, texts_begin, texts_end, texts_number

cdef extern from *:
    """
    typedef unsigned __int128 wide;
    static inline wide wide_of(uint64_t high, uint64_t low) { return (wide)high << 64 | low; }
    static inline uint64_t high_of(wide x) { return (uint64_t)(x >> 64); }
    static inline uint64_t low_of(wide x) { return (uint64_t)x; }
    static inline wide last_of(wide start, unsigned length)
    {
        return length == 128 ? start : start | ~(wide)0 >> length;
    }
    """
    ctypedef unsigned long long wide
    wide wide_of(uint64_t high, uint64_t low) noexcept nogil
    uint64_t high_of(wide x) noexcept nogil
    uint64_t low_of(wide x) noexcept nogil
    wide last_of(wide start, unsigned length) noexcept nogil

KEY_NAMES = ("prefix", "as_path", "origin", "med", "class", "distance")
EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG

cdef uint32_t FALLBACK_BIT = 1 << 31  # as pick.FALLBACK

cdef enum:
    KEYS = 6  # the ranking keys there are; see KEY_NAMES
    KEPT = 1000  # how many refusals or duplicates are kept with their rows; the rest are counted
    NONE = 0xFFFFFFFF  # no number of a pair


cdef c_array.array zeros(str code, Py_ssize_t count):
    # Of none, clone would zero a null pointer, which C leaves undefined.
    return c_array.clone(array(code), count, zero=True) if count else array(code)


cdef c_array.array room(str code, Py_ssize_t count):
    """Return an array to be filled from its start, and cut where that ends: pages never written cost nothing."""
    return c_array.clone(array(code), count, zero=False) if count else array(code)


class Columns:
    """Prefix rows of one family, as arrays of one length: high, low (Q), length (B), value, row (I)."""

    __slots__ = ("high", "length", "low", "row", "value")

    def __init__(self, count=0):
        self.high = zeros("Q", count)
        self.low = zeros("Q", count)
        self.length = zeros("B", count)
        self.value = zeros("I", count)
        self.row = zeros("I", count)

    def __len__(self):
        return len(self.high)

    def extend(self, other):
        """Append another's rows, for one table out of several feeds."""
        for name in self.__slots__:
            getattr(self, name).extend(getattr(other, name))


cdef columns_with_room(Py_ssize_t count):
    out = Columns()
    out.high, out.low, out.length = room("Q", count), room("Q", count), room("B", count)
    out.value, out.row = room("I", count), room("I", count)
    return out


class Intervals:
    """Address space cut where the value changes: high, low (Q), value (I); the first begins at address 0."""

    __slots__ = ("high", "low", "value")

    def __init__(self, high, low, value):
        self.high = high
        self.low = low
        self.value = value

    def __len__(self):
        return len(self.high)


# ---- text to columns


cdef inline bint is_space(char character) noexcept nogil:
    return character == b" " or character == b"\t" or character == b"\r"


cdef class Texts:
    """Distinct pieces of a text that outlives this, numbered in the order first seen."""

    cdef text_table table

    def __cinit__(self):
        if not texts_begin(&self.table, int.from_bytes(os.urandom(8), "little")):
            raise MemoryError

    def __dealloc__(self):
        texts_end(&self.table)

    cdef int64_t number(self, const char* at, Py_ssize_t length) except -1:
        cdef int64_t found = texts_number(&self.table, 0, at, length)
        if found < 0:
            raise MemoryError
        return found

    cdef list all(self):
        cdef uint32_t i
        return [self.table.pieces[i].at[:self.table.pieces[i].length] for i in range(self.table.count)]


def read(bytes text not None, uint32_t first_row=1, Py_ssize_t start=0):
    """Return ({4: Columns, 6: Columns}, tails, refusals, refused_by) of lines `prefix<space, tab or comma>tail`.

    The first line begins at byte `start`.

    Each row's value is the place of its tail (the rest of the line, bytes, ends stripped) in `tails`. Empty lines and
    lines that begin with `#` are passed over. Refusals are (row, text, rule), the first 1,000; `refused_by` counts them
    all by rule, without what a rule says of its row behind a semicolon.
    """
    cdef const char* data = text
    cdef const char* end = data + len(text)
    cdef const char* line
    cdef const char* stop
    cdef const char* split
    cdef const char* slash
    cdef const char* tail
    cdef const char* last = NULL  # the prefix that was read last: feeds say many things of one
    cdef Py_ssize_t lines = text.count(b"\n") + 1, last_length = -1
    cdef uint32_t row = first_row, four
    cdef int64_t value
    cdef uint64_t high = 0, low = 0
    cdef unsigned length = 0, digit
    cdef int family = 0
    cdef Py_ssize_t n4 = 0, n6 = 0
    cdef str rule
    cdef Texts tails = Texts()
    cdef dict refused_by = {}
    cdef list refusals = []
    v4, v6 = columns_with_room(lines), columns_with_room(lines)
    v4.low = zeros("Q", lines)
    cdef uint64_t[::1] high4 = v4.high, high6 = v6.high, low6 = v6.low
    cdef uint8_t[::1] length4 = v4.length, length6 = v6.length
    cdef uint32_t[::1] value4 = v4.value, value6 = v6.value, row4 = v4.row, row6 = v6.row
    if not 0 <= start <= len(text):
        raise ValueError(f"byte {start} lies outside of {len(text)} bytes")
    line = data + start
    while line < end:
        stop = <const char*> memchr(line, b"\n", end - line)
        if stop == NULL:
            stop = end
        next_line = stop + 1
        while line < stop and is_space(line[0]):
            line += 1
        while stop > line and is_space((stop - 1)[0]):
            stop -= 1
        if line < stop and line[0] != b"#":
            split = line
            while split < stop and split[0] != b"," and not is_space(split[0]):
                split += 1
            rule = None
            if split - line != last_length or memcmp(line, last, last_length) != 0:
                slash = <const char*> memchr(line, b"/", split - line)
                length = 0
                if slash == NULL:
                    rule = "a prefix is written address/length"
                else:
                    tail = slash + 1
                    if tail == split or split - tail > 3 or (tail[0] == b"0" and split - tail > 1):
                        rule = "the length is a decimal number without leading zeros"
                    while rule is None and tail < split:
                        digit = <unsigned> (<unsigned char> tail[0]) - 48
                        if digit > 9:
                            rule = "the length is a decimal number without leading zeros"
                        length = length * 10 + digit
                        tail += 1
                if rule is None:
                    if parse_v4(line, slash - line, &four):
                        family = 4
                        high, low = <uint64_t> four << 32, 0
                    elif parse_v6(line, slash - line, &high, &low):
                        family = 6
                    else:
                        family = 0
                    if family == 0:
                        rule = "no IPv4 or IPv6 address"
                    elif length > (32 if family == 4 else 128):
                        rule = f"an IPv{family} length is at most {32 if family == 4 else 128}"
                    elif wide_of(high, low) & last_of(0, length):
                        rule = f"host bits are set; write {network_text(high, low, length, family)}"
                last, last_length = line, split - line if rule is None else -1
            if rule is not None:
                if len(refusals) < KEPT:
                    refusals.append((row, line[:min(split - line, 80)].decode("utf-8", "replace"), rule))
                rule = rule.partition(";")[0]
                refused_by[rule] = refused_by.get(rule, 0) + 1
            else:
                if split < stop and split[0] == b",":
                    split += 1
                else:
                    while split < stop and is_space(split[0]):
                        split += 1
                value = tails.number(split, stop - split)
                if family == 4:
                    high4[n4], length4[n4], value4[n4], row4[n4] = high, length, <uint32_t> value, row
                    n4 += 1
                else:
                    high6[n6], low6[n6], length6[n6], value6[n6], row6[n6] = high, low, length, <uint32_t> value, row
                    n6 += 1
        row += 1
        line = next_line
    return {4: shorten(v4, n4), 6: shorten(v6, n6)}, tails.all(), refusals, refused_by


def shared(columns):
    """Return other Columns over the same arrays."""
    out = Columns()
    for name in Columns.__slots__:
        setattr(out, name, getattr(columns, name))
    return out


cdef shorten(columns, Py_ssize_t count):
    for name in ("high", "low", "length", "value", "row"):
        c_array.resize(getattr(columns, name), count)
    return columns


cdef str network_text(uint64_t high, uint64_t low, unsigned length, int family):
    """Return the network that an address with host bits set lies in, as text."""
    import ipaddress

    cdef object address = ((<object> high) << 64 | <object> low) >> (96 if family == 4 else 0)
    cdef int bits = 32 if family == 4 else 128
    address = address >> (bits - length) << (bits - length)
    return f"{ipaddress.IPv4Address(address) if family == 4 else ipaddress.IPv6Address(address)}/{length}"


# ---- sorting and grouping


cdef struct row_run:  # rows of one prefix that stand together
    uint64_t high
    uint64_t low
    Py_ssize_t start
    uint32_t length
    uint32_t count


cdef inline int compare_prefixes(
    uint64_t high, uint64_t low, uint32_t length, uint64_t other_high, uint64_t other_low, uint32_t other_length
) noexcept nogil:
    if high != other_high:
        return -1 if high < other_high else 1
    if low != other_low:
        return -1 if low < other_low else 1
    return (length > other_length) - (length < other_length)


cdef int compare_runs(const void* left, const void* right) noexcept nogil:
    cdef const row_run* a = <const row_run*> left
    cdef const row_run* b = <const row_run*> right
    cdef int order = compare_prefixes(a.high, a.low, a.length, b.high, b.low, b.length)
    return order if order else (a.start > b.start) - (a.start < b.start)


cdef int compare_numbers(const void* left, const void* right) noexcept nogil:
    cdef uint64_t a = (<const uint64_t*> left)[0], b = (<const uint64_t*> right)[0]
    return (a > b) - (a < b)


cdef void sort_numbers(uint64_t* numbers, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef uint64_t number
    if count > 32:
        qsort(numbers, count, sizeof(uint64_t), compare_numbers)
        return
    for i in range(1, count):
        number = numbers[i]
        j = i
        while j and numbers[j - 1] > number:
            numbers[j] = numbers[j - 1]
            j -= 1
        numbers[j] = number


@cython.boundscheck(False)  # all columns have `count` rows, which is looked at first; runs lie within them
def sort(columns):
    """Return the columns ordered by (prefix, length, value, row); the same object where they are already.

    Feeds say many things of one prefix, one behind another: such runs are sorted as one, and then the rows of each
    prefix. Where prefixes are in order already, their columns are shared.
    """
    cdef const uint64_t[::1] high = columns.high, low = columns.low
    cdef const uint8_t[::1] length = columns.length
    cdef const uint32_t[::1] value = columns.value, row = columns.row
    cdef Py_ssize_t count = high.shape[0], used = 0, most = 0, i, size
    cdef bint ordered = True, prefixes_ordered = True
    cdef int order
    if not count == low.shape[0] == length.shape[0] == value.shape[0] == row.shape[0]:
        raise ValueError("columns have one length")
    for i in range(count):
        order = compare_prefixes(high[i - 1], low[i - 1], length[i - 1], high[i], low[i], length[i]) if i else -1
        if order:
            used += 1
            prefixes_ordered &= order < 0
        else:
            ordered &= value[i - 1] < value[i] or (value[i - 1] == value[i] and row[i - 1] <= row[i])
    if ordered and prefixes_ordered:
        return columns
    cdef row_run* runs = <row_run*> malloc((used + 1) * sizeof(row_run))
    cdef uint64_t* rows = NULL  # of one prefix: value and row
    try:
        if runs == NULL:
            raise MemoryError
        used = 0
        for i in range(count):
            if i and not compare_prefixes(high[i - 1], low[i - 1], length[i - 1], high[i], low[i], length[i]):
                runs[used - 1].count += 1
            else:
                runs[used] = row_run(high[i], low[i], i, length[i], 1)
                used += 1
        if not prefixes_ordered:
            with nogil:
                qsort(runs, used, sizeof(row_run), compare_runs)
        i = 0
        while i < used:
            i = after_run(runs, used, i, &size)
            most = max(most, size)
        rows = <uint64_t*> malloc(most * sizeof(uint64_t))
        if rows == NULL:
            raise MemoryError
        return sorted_columns(columns, runs, used, rows, prefixes_ordered)
    finally:
        free(runs)
        free(rows)


cdef Py_ssize_t after_run(const row_run* runs, Py_ssize_t used, Py_ssize_t i, Py_ssize_t* rows) noexcept nogil:
    """Return the place behind the runs of one prefix, and put how many rows they have into `rows`."""
    cdef const row_run* first = runs + i
    rows[0] = 0
    while i < used and not compare_prefixes(
        first.high, first.low, first.length, runs[i].high, runs[i].low, runs[i].length
    ):
        rows[0] += runs[i].count
        i += 1
    return i


@cython.boundscheck(False)  # the runs have all rows of the columns, each once
cdef sorted_columns(columns, const row_run* runs, Py_ssize_t used, uint64_t* rows, bint shares_prefixes):
    cdef const uint32_t[::1] value = columns.value, row = columns.row
    cdef Py_ssize_t count = value.shape[0], at = 0, i = 0, j, k, size
    out = shared(columns) if shares_prefixes else columns_with_room(count)
    out.value, out.row = room("I", count), room("I", count)
    cdef uint32_t[::1] out_value = out.value, out_row = out.row
    cdef uint64_t[::1] out_high, out_low
    cdef uint8_t[::1] out_length
    if not shares_prefixes:
        out_high, out_low, out_length = out.high, out.low, out.length
    while i < used:
        j = after_run(runs, used, i, &size)
        if not shares_prefixes:
            for k in range(at, at + size):
                out_high[k], out_low[k], out_length[k] = runs[i].high, runs[i].low, <uint8_t> runs[i].length
        size = 0
        while i < j:
            for k in range(runs[i].start, runs[i].start + runs[i].count):
                rows[size] = <uint64_t> value[k] << 32 | row[k]
                size += 1
            i += 1
        sort_numbers(rows, size)
        for k in range(size):
            out_value[at + k], out_row[at + k] = <uint32_t> (rows[k] >> 32), <uint32_t> rows[k]
        at += size
    return out


ctypedef fused label:
    uint8_t
    uint32_t


cdef relabel(const uint32_t[::1] value, const label[::1] labels, label[::1] out):
    cdef Py_ssize_t i
    for i in range(value.shape[0]):
        if value[i] >= labels.shape[0]:
            raise ValueError(f"row {i} has value {value[i]}, there are {labels.shape[0]} labels")
        out[i] = labels[value[i]]


def relabelled(values, labels):
    """Return an array with each value (I) replaced by `labels[value]`; labels are I or B, and so is what they make."""
    out = room(labels.typecode, len(values))
    if labels.typecode == "B":
        relabel[uint8_t](values, labels, out)
    else:
        relabel[uint32_t](values, labels, out)
    return out


def keep(columns, wanted):
    """Return the rows whose value is wanted: `wanted[value]` (an array of B) is not 0."""
    cdef const uint32_t[::1] value = columns.value
    cdef const uint8_t[::1] flag = wanted
    cdef Py_ssize_t i
    chosen = room("B", value.shape[0])
    cdef uint8_t[::1] out = chosen
    for i in range(value.shape[0]):
        out[i] = flag[value[i]]
    return keep_rows(columns, chosen)


def keep_rows(columns, chosen):
    """Return the rows that are chosen: `chosen[row]` (an array of B) is not 0."""
    cdef const uint64_t[::1] high = columns.high
    cdef const uint64_t[::1] low = columns.low
    cdef const uint8_t[::1] length = columns.length
    cdef const uint32_t[::1] value = columns.value
    cdef const uint32_t[::1] row = columns.row
    cdef const uint8_t[::1] flag = chosen
    cdef Py_ssize_t i, kept = 0
    out = columns_with_room(high.shape[0])
    cdef uint64_t[::1] out_high = out.high, out_low = out.low
    cdef uint8_t[::1] out_length = out.length
    cdef uint32_t[::1] out_value = out.value, out_row = out.row
    for i in range(high.shape[0]):
        if flag[i]:
            out_high[kept], out_low[kept], out_length[kept] = high[i], low[i], length[i]
            out_value[kept], out_row[kept] = value[i], row[i]
            kept += 1
    return shorten(out, kept)


def divide(columns, first, shares):
    """Deal each value's rows in contiguous runs of the order they stand in, and number the runs, in place.

    A row whose value is v becomes `first[v] + k`, where k runs from 0 to `shares[v] - 1` and grows along v's rows.
    """
    cdef uint32_t[::1] value = columns.value
    cdef const uint32_t[::1] start = first
    cdef const uint32_t[::1] share = shares
    cdef Py_ssize_t values = start.shape[0], i
    cdef uint64_t* totals = <uint64_t*> calloc(2 * values + 1, sizeof(uint64_t))
    cdef uint64_t* seen = totals + values
    cdef uint32_t v
    if totals == NULL:
        raise MemoryError
    try:
        for i in range(value.shape[0]):
            if value[i] >= values:
                raise ValueError(f"row {i} has value {value[i]}, there are {values}")
            totals[value[i]] += 1
        for i in range(value.shape[0]):
            v = value[i]
            value[i] = start[v] + <uint32_t> (seen[v] * share[v] // totals[v])
            seen[v] += 1
    finally:
        free(totals)


def group(columns, uint32_t sets):
    """Return (one row a prefix, combinations, duplicates) of sorted columns whose values are below `sets`.

    A prefix on several rows gets, as its value, `sets` + the place of its distinct values among `combinations`
    (tuples, ascending). Duplicates are (row, row of its like) where prefix and value both repeat: the first 1,000, and
    last their count.
    """
    cdef const uint64_t[::1] high = columns.high
    cdef const uint64_t[::1] low = columns.low
    cdef const uint8_t[::1] length = columns.length
    cdef uint32_t[::1] value = columns.value
    cdef const uint32_t[::1] row = columns.row
    cdef Py_ssize_t count = high.shape[0], i = 0, j, k, used = 0
    cdef uint64_t repeated = 0
    cdef list duplicates = []
    cdef dict places = {}
    cdef Pairs values = Pairs()  # a combination: (the one without its last value, that value)
    cdef uint32_t combination, several
    out = columns_with_room(count)
    cdef uint64_t[::1] out_high = out.high, out_low = out.low
    cdef uint8_t[::1] out_length = out.length
    cdef uint32_t[::1] out_value = out.value, out_row = out.row
    while i < count:
        j = i + 1
        while j < count and high[j] == high[i] and low[j] == low[i] and length[j] == length[i]:
            j += 1
        out_high[used], out_low[used], out_length[used] = high[i], low[i], length[i]
        out_value[used], out_row[used] = value[i], row[i]
        if j > i + 1:
            combination, several = values.number(NONE, value[i]), 0
            for k in range(i + 1, j):
                if value[k] == value[k - 1]:
                    if repeated < KEPT:
                        duplicates.append((row[k], row[k - 1]))
                    repeated += 1
                else:
                    combination, several = values.number(combination, value[k]), 1
            if several:
                place = places.get(combination)
                if place is None:
                    place = places[combination] = len(places)
                out_value[used] = sets + <uint32_t> place
        used += 1
        i = j
    return shorten(out, used), [chained(values, number) for number in places], (duplicates, repeated)


cdef tuple chained(Pairs values, uint32_t number):
    """Return the values of a combination."""
    cdef list found = []
    while number != NONE:
        found.append(values.right.data.as_uints[number])
        number = values.left.data.as_uints[number]
    return tuple(reversed(found))


def rows_with(columns, values, Py_ssize_t limit=KEPT):
    """Return the places of the first rows whose value is in the set `values`."""
    cdef const uint32_t[::1] value = columns.value
    cdef list found = []
    cdef Py_ssize_t i
    for i in range(value.shape[0]):
        if value[i] in values:
            found.append(i)
            if len(found) == limit:
                break
    return found


def mark(columns, unsigned least, unsigned most, special):
    """Return each row's mark (an array of B): 1 where its length is not from `least` to `most`, 2 inside a prefix of
    `special` (Columns of the same family), else 0.
    """
    cdef const uint64_t[::1] high = columns.high
    cdef const uint64_t[::1] low = columns.low
    cdef const uint8_t[::1] length = columns.length
    cdef const uint64_t[::1] special_high = special.high
    cdef const uint64_t[::1] special_low = special.low
    cdef const uint8_t[::1] special_length = special.length
    cdef Py_ssize_t i, k
    cdef wide start, first
    marks = zeros("B", high.shape[0])
    cdef uint8_t[::1] out = marks
    for i in range(high.shape[0]):
        if i and not compare_prefixes(high[i - 1], low[i - 1], length[i - 1], high[i], low[i], length[i]):
            out[i] = out[i - 1]
            continue
        if length[i] < least or length[i] > most:
            out[i] = 1
            continue
        start = wide_of(high[i], low[i])
        for k in range(special_high.shape[0]):
            first = wide_of(special_high[k], special_low[k])
            if length[i] >= special_length[k] and first <= start <= last_of(first, special_length[k]):
                out[i] = 2
                break
    return marks


def count(columns, uint32_t values):
    """Return how many rows have each value below `values` (an array of I)."""
    cdef const uint32_t[::1] value = columns.value
    cdef Py_ssize_t i
    counts = zeros("I", values)
    cdef uint32_t[::1] out = counts
    for i in range(value.shape[0]):
        if value[i] < values:
            out[value[i]] += 1
    return counts


def extents(intervals, int family, uint32_t values):
    """Return how much address space has each value below `values` (an array of d): IPv4 addresses, or IPv6 /48s."""
    cdef const uint64_t[::1] high = intervals.high, low = intervals.low
    cdef const uint32_t[::1] value = intervals.value
    cdef Py_ssize_t i, n = high.shape[0]
    cdef wide size
    cdef double unit = 2.0 ** 96 if family == 4 else 2.0 ** 80
    found = zeros("d", values)
    cdef double[::1] out = found
    for i in range(n):
        if value[i] >= values:
            raise ValueError(f"interval {i} has value {value[i]}, there are {values}")
        # The last one ends where the address space does, at 2**128, which is 0 in 128 bits.
        size = (wide_of(high[i + 1], low[i + 1]) if i + 1 < n else <wide> 0) - wide_of(high[i], low[i])
        out[value[i]] += (2.0 ** 128 if not size else <double> high_of(size) * 2.0 ** 64 + <double> low_of(size)) / unit
    return found


def compare(before, after, Py_ssize_t limit):
    """Return (added, removed, changed, counts): prefixes only in `after`, only in `before`, and in both with other
    values. Columns are sorted by prefix and length; values of one prefix are a set. `low` may be empty where it is 0.

    The first three are places of a row of the first `limit` prefixes, in the Columns that has them; counts are of
    (before, after, added, removed, changed) prefixes.
    """
    cdef const uint64_t[::1] high = before.high, low = before.low, other_high = after.high, other_low = after.low
    cdef const uint8_t[::1] length = before.length, other_length = after.length
    cdef const uint32_t[::1] value = before.value, other_value = after.value
    cdef Py_ssize_t i = 0, j = 0, n = high.shape[0], m = other_high.shape[0], end, other_end
    cdef Py_ssize_t prefixes = 0, others = 0, added = 0, removed = 0, changed = 0
    cdef int order
    cdef list places_added = [], places_removed = [], places_changed = []
    while i < n or j < m:
        if i == n or j == m:
            order = 1 if i == n else -1
        elif high[i] != other_high[j]:
            order = -1 if high[i] < other_high[j] else 1
        elif low.shape[0] and low[i] != other_low[j]:
            order = -1 if low[i] < other_low[j] else 1
        else:
            order = <int> length[i] - <int> other_length[j]
        end, other_end = i, j
        if order <= 0:
            prefixes += 1
            end = after_prefix(high, low, length, i)
        if order >= 0:
            others += 1
            other_end = after_prefix(other_high, other_low, other_length, j)
        if order < 0:
            removed += 1
            if removed <= limit:
                places_removed.append(i)
        elif order > 0:
            added += 1
            if added <= limit:
                places_added.append(j)
        elif not same_set(value, i, end, other_value, j, other_end):
            changed += 1
            if changed <= limit:
                places_changed.append(j)
        i, j = end, other_end
    return places_added, places_removed, places_changed, (prefixes, others, added, removed, changed)


cdef inline Py_ssize_t after_prefix(
    const uint64_t[::1] high, const uint64_t[::1] low, const uint8_t[::1] length, Py_ssize_t place
) noexcept:
    """Return the place behind the rows of one prefix."""
    cdef Py_ssize_t i = place + 1
    while (i < high.shape[0] and high[i] == high[place] and length[i] == length[place]
            and (not low.shape[0] or low[i] == low[place])):
        i += 1
    return i


cdef bint same_set(
    const uint32_t[::1] some, Py_ssize_t i, Py_ssize_t end,
    const uint32_t[::1] others, Py_ssize_t j, Py_ssize_t other_end,
):
    """Tell whether two runs hold the same values."""
    if end - i == 1 and other_end - j == 1:
        return some[i] == others[j]
    if end - i > 32 or other_end - j > 32:
        return {some[k] for k in range(i, end)} == {others[k] for k in range(j, other_end)}
    return lies_in(some, i, end, others, j, other_end) and lies_in(others, j, other_end, some, i, end)


cdef inline bint lies_in(
    const uint32_t[::1] some, Py_ssize_t i, Py_ssize_t end,
    const uint32_t[::1] others, Py_ssize_t j, Py_ssize_t other_end,
) noexcept:
    """Tell whether each value of one run is in another."""
    cdef Py_ssize_t k
    while i < end:
        k = j
        while k < other_end and others[k] != some[i]:
            k += 1
        if k == other_end:
            return False
        i += 1
    return True


def validate(columns, origins, payloads, asns, longest):
    """Return by row what route origin validation finds (RFC 6811, an array of B): 0 not found, 1 valid, 2 invalid.

    Both columns are sorted. A row's origin AS is in `origins`, 0 where it is not known, which is not validated; a
    payload's value is a place in `asns` and `longest`, the length up to which it allows its AS (arrays of I).
    """
    cdef const uint64_t[::1] high = columns.high, low = columns.low, p_high = payloads.high, p_low = payloads.low
    cdef const uint8_t[::1] length = columns.length, p_length = payloads.length
    cdef const uint32_t[::1] origin = origins, p_value = payloads.value, asn = asns, most = longest
    cdef Py_ssize_t i, j = 0, k, depth = 0, n = high.shape[0], m = p_high.shape[0]
    cdef Py_ssize_t* open_ = <Py_ssize_t*> malloc((m + 1) * sizeof(Py_ssize_t))
    cdef wide start, other
    states = zeros("B", n)
    cdef uint8_t[::1] out = states
    if open_ == NULL:
        raise MemoryError
    try:
        for i in range(n):
            start = wide_of(high[i], low[i])
            while j < m:
                other = wide_of(p_high[j], p_low[j])
                if other > start or (other == start and p_length[j] > length[i]):
                    break
                depth = covering_payloads(open_, depth, p_high, p_low, p_length, other)
                open_[depth] = j
                depth += 1
                j += 1
            depth = covering_payloads(open_, depth, p_high, p_low, p_length, start)
            if origin[i]:
                for k in range(depth):
                    out[i] = 2
                    if asn[p_value[open_[k]]] == origin[i] and length[i] <= most[p_value[open_[k]]]:
                        out[i] = 1
                        break
    finally:
        free(open_)
    return states


cdef inline Py_ssize_t covering_payloads(
    const Py_ssize_t* open_, Py_ssize_t depth, const uint64_t[::1] high, const uint64_t[::1] low,
    const uint8_t[::1] length, wide address,
) noexcept:
    """Return how many of the payloads on the stack still cover an address."""
    cdef Py_ssize_t top
    while depth:
        top = open_[depth - 1]
        if last_of(wide_of(high[top], low[top]), length[top]) >= address:
            break
        depth -= 1
    return depth


def shifted(values, steps, uint32_t by):
    """Return an array of I with `by` times its step (an array of B) added to each value."""
    cdef const uint32_t[::1] value = values
    cdef const uint8_t[::1] step = steps
    cdef Py_ssize_t i
    if value.shape[0] != step.shape[0]:
        raise ValueError(f"{value.shape[0]} values and {step.shape[0]} steps")
    found = room("I", value.shape[0])
    cdef uint32_t[::1] out = found
    for i in range(value.shape[0]):
        out[i] = value[i] + step[i] * by
    return found


# ---- interning: pairs of numbers to small numbers


cdef class Pairs:
    """Distinct (left, right) pairs, numbered in the order first seen: open addressing, kept under half full."""

    cdef uint64_t* slots      # number + 1 of the pair kept there, 0 where empty
    cdef uint64_t mask
    cdef readonly c_array.array left, right
    cdef uint32_t count

    def __cinit__(self):
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

    cdef uint64_t place(self, uint32_t left, uint32_t right) noexcept:
        cdef uint64_t at = ((<uint64_t> left << 32 | right) * 0x9E3779B97F4A7C15u) >> 20 & self.mask
        cdef uint64_t kept
        while True:
            kept = self.slots[at]
            if kept == 0 or (self.left.data.as_uints[kept - 1] == left and self.right.data.as_uints[kept - 1] == right):
                return at
            at = at + 1 & self.mask

    cdef uint32_t number(self, uint32_t left, uint32_t right) except? 0xFFFFFFFF:
        cdef uint64_t at = self.place(left, right)
        if self.slots[at] == 0:
            if self.count * 2 > self.mask:
                self.grow()
                at = self.place(left, right)
            self.left.data.as_uints[self.count] = left
            self.right.data.as_uints[self.count] = right
            self.count += 1
            self.slots[at] = self.count
        return <uint32_t> self.slots[at] - 1

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
            self.slots[self.place(self.left.data.as_uints[i], self.right.data.as_uints[i])] = i + 1
        return 0


def pair_up(left, right, Pairs pairs not None):
    """Return the number of each pair of two arrays of one length (an array of I), interned into `pairs`."""
    cdef const uint32_t[::1] a = left, b = right
    cdef Py_ssize_t i
    numbers = room("I", a.shape[0])
    cdef uint32_t[::1] out = numbers
    for i in range(a.shape[0]):
        out[i] = pairs.number(a[i], b[i])
    return numbers


# ---- sweeping


cdef class Cutter:
    """Collects (start, value) in address order into Intervals; a later start at the same place wins."""

    cdef c_array.array high, low, value
    cdef Py_ssize_t count

    def __cinit__(self, Py_ssize_t limit):
        self.high, self.low, self.value = room("Q", limit), room("Q", limit), room("I", limit)

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

    def intervals(self):
        for column in (self.high, self.low, self.value):
            c_array.resize(column, self.count)
        return Intervals(self.high, self.low, self.value)


cdef struct covering:
    uint64_t last_high
    uint64_t last_low
    uint32_t chain


class Chains:
    """Chains by number: `parent` (the chain of the shorter prefixes) and `value` (the longest's set). 0 is no route."""

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
        found = []
        while chain:
            found.append(self.pairs.right[chain])
            chain = self.pairs.left[chain]
        return found


def sweep(columns, chains):
    """Return the Intervals of sorted columns with one row a prefix; values are chains, interned into `chains`."""
    cdef const uint64_t[::1] high = columns.high
    cdef const uint64_t[::1] low = columns.low
    cdef const uint8_t[::1] length = columns.length
    cdef const uint32_t[::1] value = columns.value
    cdef Py_ssize_t count = high.shape[0], i
    cdef Pairs pairs = chains.pairs
    cdef Cutter cutter = Cutter(2 * count + 2)
    cdef covering open_[129]  # prefixes around one another: each is longer than the one before
    cdef int depth = 0
    cdef uint32_t chain = 0
    cdef wide start, last
    cutter.cut(0, 0)
    for i in range(count):
        start = wide_of(high[i], low[i])
        if length[i] > 128 or (i and not is_behind(start, length[i], wide_of(high[i - 1], low[i - 1]), length[i - 1])):
            raise ValueError(f"row {i}: the columns are not sorted, or hold a prefix twice")
        while depth and wide_of(open_[depth - 1].last_high, open_[depth - 1].last_low) < start:
            depth = close_one(open_, depth, cutter)
        chain = open_[depth - 1].chain if depth else 0
        chain = pairs.number(chain, value[i])
        last = last_of(start, length[i])
        open_[depth] = covering(high_of(last), low_of(last), chain)
        depth += 1
        cutter.cut(start, chain)
    while depth:
        depth = close_one(open_, depth, cutter)
    return cutter.intervals()


cdef bint is_behind(wide start, unsigned length, wide start_before, unsigned length_before) noexcept:
    return start_before < start or (start_before == start and length_before < length)


cdef int close_one(const covering* open_, int depth, Cutter cutter) noexcept:
    """End the innermost prefix: the one around it, if any, goes on behind its last address. Return the new depth."""
    cdef const covering* top = open_ + depth - 1
    if ~(top.last_high & top.last_low):
        cutter.cut(wide_of(top.last_high, top.last_low) + 1, open_[depth - 2].chain if depth > 1 else 0)
    return depth - 1


def overlay(left, right, Pairs pairs not None):
    """Return the Intervals of two together; values are (left value, right value), interned into `pairs`."""
    cdef const uint64_t[::1] left_high = left.high, left_low = left.low, right_high = right.high, right_low = right.low
    cdef const uint32_t[::1] left_value = left.value, right_value = right.value
    cdef Py_ssize_t i = 0, j = 0, n = left_high.shape[0], m = right_high.shape[0]
    cdef Cutter cutter = Cutter(n + m)
    cdef wide here = 0, after_left, after_right
    while True:
        cutter.cut(here, pairs.number(left_value[i], right_value[j]))
        if i + 1 == n and j + 1 == m:
            return cutter.intervals()
        after_left = wide_of(left_high[i + 1], left_low[i + 1]) if i + 1 < n else ~(<wide> 0)
        after_right = wide_of(right_high[j + 1], right_low[j + 1]) if j + 1 < m else ~(<wide> 0)
        if j + 1 == m or (i + 1 < n and after_left <= after_right):
            i += 1
            here = after_left
            if j + 1 < m and after_right == after_left:
                j += 1
        else:
            j += 1
            here = after_right


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


def mixed(both, Pairs pairs not None, same, uint32_t split, unsigned length, uint64_t share):
    """Return the Intervals of a canary: of each pair of values its left, or `split` + its right.

    The left where the pair is the same (an array of B by pair) or the block's hash is not below `share` of 2^32. Blocks
    have prefix length `length`, or a shorter one where an interval would have over 4,096.
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
    cdef Cutter cutter = Cutter(blocks)
    for i in range(n):
        start = wide_of(high[i], low[i])
        if flag[value[i]]:
            cutter.cut(start, pairs.left.data.as_uints[value[i]])
            continue
        end = end_of(high, low, i)
        bits = block_bits(start, end, 128 - length)
        while True:
            if hash_of(start >> bits) & 0xFFFFFFFF < share:
                cutter.cut(start, split + pairs.right.data.as_uints[value[i]])
            else:
                cutter.cut(start, pairs.left.data.as_uints[value[i]])
            if end >> bits == start >> bits:
                break
            start = (start >> bits) + 1 << bits
    return cutter.intervals()


def rename(intervals, labels):
    """Return the Intervals with each value replaced by `labels[value]` (an array of I), equal neighbours joined."""
    cdef const uint64_t[::1] high = intervals.high
    cdef const uint64_t[::1] low = intervals.low
    cdef const uint32_t[::1] value = intervals.value
    cdef const uint32_t[::1] label = labels
    cdef Cutter cutter = Cutter(high.shape[0])
    cdef Py_ssize_t i
    for i in range(high.shape[0]):
        if value[i] >= label.shape[0]:
            raise ValueError(f"interval {i} has value {value[i]}, there are {label.shape[0]} labels")
        cutter.cut(wide_of(high[i], low[i]), label[value[i]])
    return cutter.intervals()


# ---- rankings


cdef struct ranking_entry:
    uint32_t key[KEYS]  # in the policy's order
    uint32_t cluster
    uint32_t depth      # 0 on the longest prefix


cdef int compare_ranking_entries(const void* left, const void* right) noexcept nogil:
    cdef const ranking_entry* a = <const ranking_entry*> left
    cdef const ranking_entry* b = <const ranking_entry*> right
    cdef int order = compare_keys(a, b)
    return order if order else (a.cluster > b.cluster) - (a.cluster < b.cluster)


cdef inline int compare_keys(const ranking_entry* a, const ranking_entry* b) noexcept nogil:
    cdef int i
    for i in range(KEYS):
        if a.key[i] != b.key[i]:
            return -1 if a.key[i] < b.key[i] else 1
    return 0


cdef inline uint32_t distance_step(const double* a, const double* b, double step_km) noexcept nogil:
    cdef double cosine = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return <uint32_t> (EARTH_RADIUS_KM_C * acos(max(-1.0, min(1.0, cosine))) / step_km)


cdef double EARTH_RADIUS_KM_C = EARTH_RADIUS_KM


class Rankings:
    """Distinct rankings, and which one each (chain, region) has.

    `ranking_entries` (I) holds cluster and rank in turn, the rank with FALLBACK set where no route leads; `first` (I, one more
    than there are rankings) says at which ranking_entry each ranking begins. `ranking` and `partner` (I) are by (chain, region).
    """

    __slots__ = ("first", "ranking", "partner", "ranking_entries")


def rankings(
    Pairs wanted not None, chains, set_first, set_members, routes, cluster_places, cluster_partners,
    region_places, fallback_first, fallback_clusters, tuple policy not None, double step_km,
):
    """Return the Rankings of every wanted (chain, region).

    A set's announcements are `set_members[set_first[s]:set_first[s + 1]]`, numbers into the columns of `routes`
    (cluster, class, as_path, origin, med: arrays of I). Places are unit vectors, three doubles each, by cluster number
    and by region. `policy` is the order of KEY_NAMES to sort by. Behind the routes come the region's fallback
    clusters, `fallback_clusters[fallback_first[r]:fallback_first[r + 1]]`, nearest first, ranked by distance step.
    """
    cdef const uint32_t[::1] first = set_first, members = set_members
    cdef const uint32_t[::1] r_cluster = routes["cluster"], r_class = routes["class"], r_path = routes["as_path"]
    cdef const uint32_t[::1] r_origin = routes["origin"], r_med = routes["med"], partners = cluster_partners
    cdef const double[::1] places = cluster_places, regions = region_places
    cdef const uint32_t[::1] fb_first = fallback_first, fb_clusters = fallback_clusters
    cdef const uint32_t[::1] parent = chains.parent, chain_set = chains.value
    cdef Py_ssize_t clusters = partners.shape[0], candidate, count, i, keys = len(policy)
    cdef int code[KEYS]
    cdef uint32_t values[KEYS]
    cdef uint32_t chain, region, depth, member, announcement, cluster, rank, step, last_step
    cdef ranking_entry current
    cdef ranking_entry* ranking_entries
    cdef uint32_t* stamp  # by cluster number: candidate + 1 where the cluster was last put on a ranking,
    cdef uint32_t* place  # and at which place
    cdef c_array.array ranking_entries_out = zeros("I", 2 * clusters + 2)
    cdef uint32_t* steps = ranking_entries_out.data.as_uints
    cdef c_array.array ranking_of = zeros("I", len(wanted)), partner_of = zeros("I", len(wanted))
    cdef dict known = {}
    if keys > KEYS:
        raise ValueError(f"a policy has at most {KEYS} keys, not {keys}")
    if places.shape[0] != 3 * clusters or regions.shape[0] % 3:
        raise ValueError(f"places are three doubles each, for all {clusters} clusters and every region")
    for i in range(r_cluster.shape[0]):
        if r_cluster[i] >= clusters:
            raise ValueError(f"announcement {i} names cluster {r_cluster[i]}, there are {clusters}")
    for i in range(fb_clusters.shape[0]):
        if fb_clusters[i] >= clusters:
            raise ValueError(f"fallback {i} names cluster {fb_clusters[i]}, there are {clusters}")
    out = Rankings()
    out.first, out.ranking_entries = array("I", [0]), array("I")
    ranking_entries = <ranking_entry*> malloc((clusters + 1) * sizeof(ranking_entry))
    stamp = <uint32_t*> calloc(2 * clusters + 1, sizeof(uint32_t))
    place = stamp + clusters
    if ranking_entries == NULL or stamp == NULL:
        free(ranking_entries)
        free(stamp)
        raise MemoryError
    try:
        for i in range(keys):
            code[i] = KEY_NAMES.index(policy[i])
        for candidate in range(wanted.count):
            chain, region = wanted.left.data.as_uints[candidate], wanted.right.data.as_uints[candidate]
            count = depth = 0
            while chain:
                for member in range(first[chain_set[chain]], first[chain_set[chain] + 1]):
                    announcement = members[member]
                    cluster = r_cluster[announcement]
                    values[0], values[1], values[2] = depth, r_path[announcement], r_origin[announcement]
                    values[3], values[4] = r_med[announcement], r_class[announcement]
                    values[5] = distance_step(&places[3 * cluster], &regions[3 * region], step_km)
                    for i in range(KEYS):
                        current.key[i] = values[code[i]] if i < keys else 0
                    current.cluster, current.depth = cluster, depth
                    if stamp[cluster] != candidate + 1:
                        stamp[cluster] = <uint32_t> candidate + 1
                        place[cluster] = <uint32_t> count
                        ranking_entries[count] = current
                        count += 1
                    elif compare_keys(&current, ranking_entries + place[cluster]) < 0:
                        ranking_entries[place[cluster]] = current
                chain = parent[chain]
                depth += 1
            qsort(ranking_entries, count, sizeof(ranking_entry), compare_ranking_entries)
            rank = 0
            depth = 0xFFFFFFFF
            for i in range(count):
                if i and compare_keys(ranking_entries + i - 1, ranking_entries + i):
                    rank += 1
                steps[2 * i] = ranking_entries[i].cluster
                steps[2 * i + 1] = rank
                if ranking_entries[i].depth < depth and partners[ranking_entries[i].cluster]:
                    depth = ranking_entries[i].depth
                    partner_of.data.as_uints[candidate] = partners[ranking_entries[i].cluster]
            last_step = 0xFFFFFFFF
            for member in range(fb_first[region], fb_first[region + 1]):
                cluster = fb_clusters[member]
                if stamp[cluster] == candidate + 1:
                    continue
                stamp[cluster] = <uint32_t> candidate + 1
                step = distance_step(&places[3 * cluster], &regions[3 * region], step_km)
                if step != last_step and count:
                    rank += 1
                last_step = step
                steps[2 * count] = cluster
                steps[2 * count + 1] = rank | <uint32_t> FALLBACK_BIT
                count += 1
            content = ranking_entries_out.data.as_chars[:count * 8]
            number = known.get(content)
            if number is None:
                number = known[content] = len(known)
                out.ranking_entries.frombytes(content)
                out.first.append(len(out.ranking_entries) // 2)
            ranking_of.data.as_uints[candidate] = number
    finally:
        free(ranking_entries)
        free(stamp)
    out.ranking, out.partner = ranking_of, partner_of
    return out
