# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Prefix rows: the text of a feed read into columns, and columns sorted and selected.

A prefix of either family is a left-aligned 128-bit number (`high`, `low`) and a length, so the same code serves both:
an IPv4 address fills the top 32 bits of `high`. Millions of rows stay five arrays (`Columns`); a Python object for each
row would cost a hundred times the memory. A row's `value` is a number whose meaning its caller knows. `row` is the
line of the feed, for messages.

The modules that build a table, in the order of the steps:

    text --prefix_rows.read--> Columns: high, low, length, value, row   value: which text follows the prefix
         --prefix_rows.sort--> the same, by (prefix, value, row)
       --rib.group_by_prefix-> one row for each prefix                  value: which set of routes it has
         --intervals.sweep---> Intervals of address space               value: which chain of prefixes covers it
       --intervals.overlay---> with the regions' intervals              value: which (chain, region) it has
  --zone_rankings.make_rankings--> a ranking for each (chain, region); equal rankings are stored once

Nothing here runs on the request path.
"""

import ipaddress
import os
from array import array

cimport cython
from cpython cimport array as c_array
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memchr, memcmp

from _fastpath.address cimport parse_v4, parse_v6
from _fastpath.texts cimport text_table, texts_begin, texts_end, texts_number
from _fastpath.wide cimport compare_prefixes, high_of, last_of, low_of, wide, wide_of


cdef c_array.array zeros(str code, Py_ssize_t count):
    # clone() of an empty array zeroes a null pointer, which is undefined in C.
    return c_array.clone(array(code), count, zero=True) if count else array(code)


cdef c_array.array uninitialized(str code, Py_ssize_t count):
    """Return an array to fill from its start and cut to size: pages that are never written cost nothing."""
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

    def alias(self):
        """Return other Columns over the same arrays, so that one column can be replaced."""
        other = Columns()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other


cdef columns_to_fill(Py_ssize_t count):
    columns = Columns()
    columns.high, columns.low = uninitialized("Q", count), uninitialized("Q", count)
    columns.length = uninitialized("B", count)
    columns.value, columns.row = uninitialized("I", count), uninitialized("I", count)
    return columns


cdef class RowWriter:
    """Fills Columns row by row, at most as many rows as it was made for."""

    def __cinit__(self, Py_ssize_t limit):
        self.columns, self.limit = columns_to_fill(limit), limit
        self.high = <uint64_t*> (<c_array.array> self.columns.high).data.as_ulonglongs
        self.low = <uint64_t*> (<c_array.array> self.columns.low).data.as_ulonglongs
        self.length = (<c_array.array> self.columns.length).data.as_uchars
        self.value = (<c_array.array> self.columns.value).data.as_uints
        self.row = (<c_array.array> self.columns.row).data.as_uints

    cdef object finish(self):
        """Return the Columns; the writer must not be used again."""
        for name in ("high", "low", "length", "value", "row"):
            c_array.resize(getattr(self.columns, name), self.count)
        return self.columns


# ---- text to columns


cdef inline bint is_space(char character) noexcept nogil:
    return character == b" " or character == b"\t" or character == b"\r"


cdef str parse_length(const char* text, const char* end, unsigned* length):
    """Put the decimal number of a text into `length`. Return None, or the rule that the text breaks."""
    cdef unsigned digit
    cdef str rule = "the length is a decimal number without leading zeros"
    length[0] = 0
    if text == end or end - text > 3 or (text[0] == b"0" and end - text > 1):
        return rule
    while text < end:
        digit = <unsigned> (<unsigned char> text[0]) - 48
        if digit > 9:
            return rule
        length[0] = length[0] * 10 + digit
        text += 1
    return None


cdef str parse_prefix(const char* text, const char* end, prefix_struct* prefix):
    """Parse `address/length` into `prefix`. Return None, or the rule that the text breaks."""
    cdef const char* slash = <const char*> memchr(text, b"/", end - text)
    cdef uint32_t four
    cdef str rule
    cdef wide start
    if slash == NULL:
        return "a prefix is written address/length"
    rule = parse_length(slash + 1, end, &prefix.length)
    if rule is not None:
        return rule
    if parse_v4(text, slash - text, &four):
        prefix.family = 4
        prefix.high, prefix.low = <uint64_t> four << 32, 0
    elif parse_v6(text, slash - text, &prefix.high, &prefix.low):
        prefix.family = 6
    else:
        return "no IPv4 or IPv6 address"
    if prefix.length > (32 if prefix.family == 4 else 128):
        return f"an IPv{prefix.family} length is at most {32 if prefix.family == 4 else 128}"
    if wide_of(prefix.high, prefix.low) & last_of(0, prefix.length):
        start = wide_of(prefix.high, prefix.low) & ~last_of(0, prefix.length)
        prefix.high, prefix.low = high_of(start), low_of(start)
        return f"host bits are set; write {text_of(prefix)}"
    return unwrap(prefix)


cdef str unwrap(prefix_struct* prefix):
    """Make an IPv4-mapped, NAT64 or 6to4 prefix the IPv4 prefix inside it: its clients are answered by that address.

    Return None, or the rule that the prefix breaks.
    """
    cdef unsigned start = 96  # bits before the IPv4 address
    if prefix.family == 4:
        return None
    if prefix.high >> 48 == 0x2002 and prefix.length >= 16:
        start = 16
        if prefix.length > 48:
            return "a 6to4 prefix has a length up to 48, where the IPv4 address inside it ends"
    elif prefix.length < 96 or not (
        (prefix.high == 0 and prefix.low >> 32 == 0xFFFF)
        or (prefix.high == 0x0064FF9B00000000u and prefix.low >> 32 == 0)
    ):
        return None
    if prefix.length == start and prefix.high:
        return "a prefix is no whole range of translated addresses; for IPv4 clients write 0.0.0.0/0"
    prefix.high = prefix.low << 32 if start == 96 else prefix.high << 16 & 0xFFFFFFFF00000000u
    prefix.low, prefix.length, prefix.family = 0, prefix.length - start, 4
    return None


cdef str text_of(const prefix_struct* prefix):
    number = (<object> prefix.high) << 64 | <object> prefix.low
    address = ipaddress.IPv4Address(number >> 96) if prefix.family == 4 else ipaddress.IPv6Address(number)
    return f"{address}/{prefix.length}"


cdef class LineReader:
    """The rows, distinct tails and refusals of the lines read so far."""

    cdef text_table tails         # the distinct texts after a prefix, by number
    cdef RowWriter rows4, rows6
    cdef list refusals
    cdef dict refused_by
    cdef const char* last_text    # the prefix that was parsed last: feeds repeat a prefix on adjacent lines
    cdef Py_ssize_t last_size     # -1 if it was refused
    cdef prefix_struct prefix

    def __cinit__(self, Py_ssize_t lines):
        if not texts_begin(&self.tails, int.from_bytes(os.urandom(8), "little")):
            raise MemoryError
        self.rows4, self.rows6 = RowWriter(lines), RowWriter(lines)
        self.refusals, self.refused_by = [], {}
        self.last_size = -1

    def __dealloc__(self):
        texts_end(&self.tails)

    cdef int read_line(self, const char* line, const char* end, uint32_t row) except -1:
        """Read a line that has no spaces at its ends and is not empty."""
        cdef const char* split = line
        cdef str rule
        cdef int64_t value
        while split < end and split[0] != b"," and not is_space(split[0]):
            split += 1
        if split - line != self.last_size or memcmp(line, self.last_text, self.last_size) != 0:
            rule = parse_prefix(line, split, &self.prefix)
            self.last_text, self.last_size = line, split - line if rule is None else -1
            if rule is not None:
                self.refuse(row, line[:min(split - line, 80)], rule)
                return 0
        if split < end and split[0] == b",":
            split += 1
        else:
            while split < end and is_space(split[0]):
                split += 1
        value = texts_number(&self.tails, 0, split, end - split)
        if value < 0:
            raise MemoryError
        rows = self.rows4 if self.prefix.family == 4 else self.rows6
        return rows.append(self.prefix.high, self.prefix.low, self.prefix.length, <uint32_t> value, row)

    cdef int refuse(self, uint32_t row, bytes text, str rule) except -1:
        if len(self.refusals) < MAX_LISTED:
            self.refusals.append((row, text.decode("utf-8", "replace"), rule))
        rule = rule.partition(";")[0]
        self.refused_by[rule] = self.refused_by.get(rule, 0) + 1
        return 0

    cdef list all_tails(self):
        cdef uint32_t i
        return [self.tails.pieces[i].at[:self.tails.pieces[i].length] for i in range(self.tails.count)]


def read(bytes text not None, uint32_t first_row=1, Py_ssize_t start=0):
    """Return ({4: Columns, 6: Columns}, tails, refusals, refused_by) of lines `prefix<space, tab or comma>tail`.

    The first line begins at byte `start`. Each row's value is the index of its tail (the rest of the line, bytes, ends
    stripped) in `tails`. Empty lines and lines that begin with `#` are skipped. Refusals are (row, text, rule), the
    first 1,000; `refused_by` counts them all by rule, without the part of the rule after a semicolon.
    """
    cdef const char* data = text
    cdef const char* end = data + len(text)
    cdef const char* line
    cdef const char* line_end
    cdef const char* next_line
    cdef uint32_t row = first_row
    if not 0 <= start <= len(text):
        raise ValueError(f"byte {start} lies outside of {len(text)} bytes")
    cdef LineReader reader = LineReader(text.count(b"\n") + 1)
    line = data + start
    while line < end:
        line_end = <const char*> memchr(line, b"\n", end - line)
        if line_end == NULL:
            line_end = end
        next_line = line_end + 1
        while line < line_end and is_space(line[0]):
            line += 1
        while line_end > line and is_space((line_end - 1)[0]):
            line_end -= 1
        if line < line_end and line[0] != b"#":
            reader.read_line(line, line_end, row)
        row += 1
        line = next_line
    columns = {4: reader.rows4.finish(), 6: reader.rows6.finish()}
    return columns, reader.all_tails(), reader.refusals, reader.refused_by


# ---- sorting


cdef struct row_run:  # adjacent rows of one prefix
    uint64_t high
    uint64_t low
    Py_ssize_t start
    uint32_t length
    uint32_t count


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


@cython.boundscheck(False)  # all columns have `count` rows, which is checked first; runs lie within them
def sort(columns):
    """Return the columns ordered by (prefix, length, value, row); the same object if they are ordered already.

    Feeds repeat a prefix on adjacent lines: each such run is sorted as one, then the rows of each prefix. If only
    values are out of order, the prefix columns are shared with the argument.
    """
    cdef const uint64_t[::1] high = columns.high, low = columns.low
    cdef const uint8_t[::1] length = columns.length
    cdef const uint32_t[::1] value = columns.value, row = columns.row
    cdef Py_ssize_t count = high.shape[0], run_count = 0, longest = 0, i, size
    cdef bint ordered = True, prefixes_ordered = True
    cdef int order
    if not count == low.shape[0] == length.shape[0] == value.shape[0] == row.shape[0]:
        raise ValueError("columns have one length")
    for i in range(count):
        order = compare_prefixes(high[i - 1], low[i - 1], length[i - 1], high[i], low[i], length[i]) if i else -1
        if order:
            run_count += 1
            prefixes_ordered &= order < 0
        else:
            ordered &= value[i - 1] < value[i] or (value[i - 1] == value[i] and row[i - 1] <= row[i])
    if ordered and prefixes_ordered:
        return columns
    cdef row_run* runs = <row_run*> malloc((run_count + 1) * sizeof(row_run))
    cdef uint64_t* keys = NULL  # value and row of one prefix's rows
    try:
        if runs == NULL:
            raise MemoryError
        run_count = 0
        for i in range(count):
            if i and not compare_prefixes(high[i - 1], low[i - 1], length[i - 1], high[i], low[i], length[i]):
                runs[run_count - 1].count += 1
            else:
                runs[run_count] = row_run(high[i], low[i], i, length[i], 1)
                run_count += 1
        if not prefixes_ordered:
            with nogil:
                qsort(runs, run_count, sizeof(row_run), compare_runs)
        i = 0
        while i < run_count:
            i = end_of_prefix(runs, run_count, i, &size)
            longest = max(longest, size)
        keys = <uint64_t*> malloc(longest * sizeof(uint64_t))
        if keys == NULL:
            raise MemoryError
        return sorted_columns(columns, runs, run_count, keys, prefixes_ordered)
    finally:
        free(runs)
        free(keys)


cdef Py_ssize_t end_of_prefix(const row_run* runs, Py_ssize_t run_count, Py_ssize_t i, Py_ssize_t* rows) noexcept nogil:
    """Return the index after the last run of run i's prefix, and put the count of their rows into `rows`."""
    cdef const row_run* first = runs + i
    rows[0] = 0
    while i < run_count and not compare_prefixes(
        first.high, first.low, first.length, runs[i].high, runs[i].low, runs[i].length
    ):
        rows[0] += runs[i].count
        i += 1
    return i


@cython.boundscheck(False)  # the runs have all rows of the columns, each once
cdef sorted_columns(columns, const row_run* runs, Py_ssize_t run_count, uint64_t* keys, bint shares_prefixes):
    cdef const uint32_t[::1] value = columns.value, row = columns.row
    cdef Py_ssize_t count = value.shape[0], position = 0, i = 0, j, k, size
    ordered = columns.alias() if shares_prefixes else columns_to_fill(count)
    ordered.value, ordered.row = uninitialized("I", count), uninitialized("I", count)
    cdef uint32_t[::1] out_value = ordered.value, out_row = ordered.row
    cdef uint64_t[::1] out_high, out_low
    cdef uint8_t[::1] out_length
    if not shares_prefixes:
        out_high, out_low, out_length = ordered.high, ordered.low, ordered.length
    while i < run_count:
        j = end_of_prefix(runs, run_count, i, &size)
        if not shares_prefixes:
            for k in range(position, position + size):
                out_high[k], out_low[k], out_length[k] = runs[i].high, runs[i].low, <uint8_t> runs[i].length
        size = 0
        while i < j:
            for k in range(runs[i].start, runs[i].start + runs[i].count):
                keys[size] = <uint64_t> value[k] << 32 | row[k]
                size += 1
            i += 1
        sort_numbers(keys, size)
        for k in range(size):
            out_value[position + k], out_row[position + k] = <uint32_t> (keys[k] >> 32), <uint32_t> keys[k]
        position += size
    return ordered


# ---- selecting


ctypedef fused label:
    uint8_t
    uint32_t


cdef relabel_into(const uint32_t[::1] value, const label[::1] labels, label[::1] out):
    cdef Py_ssize_t i
    for i in range(value.shape[0]):
        if value[i] >= labels.shape[0]:
            raise ValueError(f"row {i} has value {value[i]}, there are {labels.shape[0]} labels")
        out[i] = labels[value[i]]


def relabel(values, labels):
    """Return each value (I) replaced by `labels[value]`, as an array of the labels' type (I or B)."""
    out = uninitialized(labels.typecode, len(values))
    if labels.typecode == "B":
        relabel_into[uint8_t](values, labels, out)
    else:
        relabel_into[uint32_t](values, labels, out)
    return out


def keep_values(columns, wanted):
    """Return the rows whose value is wanted: `wanted[value]` (an array of B) is not 0."""
    return keep_rows(columns, relabel(columns.value, wanted))


def keep_rows(columns, chosen):
    """Return the rows that are chosen: `chosen[index]` (an array of B) is not 0."""
    cdef const uint64_t[::1] high = columns.high, low = columns.low
    cdef const uint8_t[::1] length = columns.length, flag = chosen
    cdef const uint32_t[::1] value = columns.value, row = columns.row
    cdef Py_ssize_t i
    cdef RowWriter kept = RowWriter(high.shape[0])
    for i in range(high.shape[0]):
        if flag[i]:
            kept.append(high[i], low[i], length[i], value[i], row[i])
    return kept.finish()


def count_values(columns, uint32_t values):
    """Return how many rows have each value below `values` (an array of I)."""
    cdef const uint32_t[::1] value = columns.value
    cdef Py_ssize_t i
    counts = zeros("I", values)
    cdef uint32_t[::1] out = counts
    for i in range(value.shape[0]):
        if value[i] < values:
            out[value[i]] += 1
    return counts


def rows_with_values(columns, values, Py_ssize_t limit=MAX_LISTED):
    """Return the indices of the first rows whose value is in the container `values`."""
    cdef const uint32_t[::1] value = columns.value
    cdef list rows = []
    cdef Py_ssize_t i
    for i in range(value.shape[0]):
        if value[i] in values:
            rows.append(i)
            if len(rows) == limit:
                break
    return rows
