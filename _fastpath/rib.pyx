# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The RIB's steps on routes: merged by prefix into sets, checked, dealt among sites, validated by RPKI, compared.

Columns are those of `prefix_rows`; a route is a row, and its value a number of its attributes. `group_by_prefix` makes
one row of all rows of a prefix: what `intervals.sweep` needs. A prefix with several values gets a number for their
combination, so rows stay numbers however many clusters announce one prefix.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from _fastpath.intervals cimport Pairs
from _fastpath.prefix_rows cimport MAX_LISTED, RowWriter, uninitialized, zeros
from _fastpath.wide cimport compare_prefixes, last_of, wide, wide_of

cdef enum:
    NONE = 0xFFFFFFFF  # the left of a combination's first value


def group_by_prefix(columns, uint32_t sets):
    """Return (one row a prefix, combinations, duplicates) of sorted columns whose values are below `sets`.

    A prefix on several rows gets, as its value, `sets` + the index of its distinct values among `combinations`
    (tuples, ascending). Duplicates are (row, row that it repeats) if prefix and value both repeat: the first 1,000,
    and then their count.
    """
    cdef const uint64_t[::1] high = columns.high, low = columns.low
    cdef const uint8_t[::1] length = columns.length
    cdef const uint32_t[::1] value = columns.value, row = columns.row
    cdef Py_ssize_t count = high.shape[0], i = 0, j, k
    cdef uint64_t repeated = 0
    cdef list duplicates = []
    cdef dict index_of = {}
    cdef Pairs values = Pairs()  # a combination: (the one without its last value, that value)
    cdef uint32_t combination, group_value
    cdef bint several
    cdef RowWriter grouped = RowWriter(count)
    while i < count:
        j = end_of_prefix(high, low, length, i)
        group_value = value[i]
        if j > i + 1:
            combination, several = values.number(NONE, value[i]), False
            for k in range(i + 1, j):
                if value[k] == value[k - 1]:
                    if repeated < MAX_LISTED:
                        duplicates.append((row[k], row[k - 1]))
                    repeated += 1
                else:
                    combination, several = values.number(combination, value[k]), True
            if several:
                group_value = sets + <uint32_t> index_of.setdefault(combination, len(index_of))
        grouped.append(high[i], low[i], length[i], group_value, row[i])
        i = j
    return grouped.finish(), [values_of(values, number) for number in index_of], (duplicates, repeated)


cdef tuple values_of(Pairs values, uint32_t combination):
    """Return the values of a combination, ascending."""
    cdef list descending = []
    while combination != NONE:
        descending.append(values.right.data.as_uints[combination])
        combination = values.left.data.as_uints[combination]
    return tuple(reversed(descending))


def divide(columns, first, shares):
    """Divide each value's rows, in their order, into contiguous runs of nearly one size, and number the runs, in place.

    A row whose value is v becomes `first[v] + k`, where k grows from 0 to `shares[v] - 1` along v's rows.
    """
    cdef uint32_t[::1] value = columns.value
    cdef const uint32_t[::1] start = first, share = shares
    cdef Py_ssize_t values = start.shape[0], i
    cdef uint64_t* totals = <uint64_t*> calloc(2 * values + 1, sizeof(uint64_t))
    cdef uint64_t* done = totals + values
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
            value[i] = start[v] + <uint32_t> (done[v] * share[v] // totals[v])
            done[v] += 1
    finally:
        free(totals)


def check_prefixes(columns, unsigned least, unsigned most, special):
    """Return for each row (an array of B) 1 if its length is not from `least` to `most`, 2 if it lies inside a prefix
    of `special` (Columns of the same family), else 0.
    """
    cdef const uint64_t[::1] high = columns.high, low = columns.low
    cdef const uint8_t[::1] length = columns.length, special_length = special.length
    cdef const uint64_t[::1] special_high = special.high, special_low = special.low
    cdef Py_ssize_t i, k
    cdef wide start, first
    faults = zeros("B", high.shape[0])
    cdef uint8_t[::1] out = faults
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
    return faults


def validate_origins(columns, origins, payloads, asns, longest):
    """Return the RPKI state of each row by route origin validation (RFC 6811): 0 not found, 1 valid, 2 invalid.

    Both columns are sorted. `origins` has each row's origin AS; a row with 0, unknown, is not validated. A payload's
    value is an index into `asns` and `longest` (arrays of I), the length up to which it allows its AS.
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
    """Return how many payloads of the stack cover an address."""
    cdef Py_ssize_t top
    while depth:
        top = open_[depth - 1]
        if last_of(wide_of(high[top], low[top]), length[top]) >= address:
            break
        depth -= 1
    return depth


def add_steps(values, steps, uint32_t by):
    """Return each value plus `by` times its step (an array of B), as an array of I."""
    cdef const uint32_t[::1] value = values
    cdef const uint8_t[::1] step = steps
    cdef Py_ssize_t i
    if value.shape[0] != step.shape[0]:
        raise ValueError(f"{value.shape[0]} values and {step.shape[0]} steps")
    sums = uninitialized("I", value.shape[0])
    cdef uint32_t[::1] out = sums
    for i in range(value.shape[0]):
        out[i] = value[i] + step[i] * by
    return sums


def compare(before, after, Py_ssize_t limit):
    """Return (added, removed, changed, counts): prefixes only in `after`, only in `before`, and in both with another
    set of values. Columns are sorted by prefix and length. `low` may be empty if it is always 0.

    The first three are lists of row indices, one for each of the first `limit` prefixes: rows of `after` for added and
    changed, of `before` for removed. Counts are of (before, after, added, removed, changed) prefixes.
    """
    cdef const uint64_t[::1] high = before.high, low = before.low, other_high = after.high, other_low = after.low
    cdef const uint8_t[::1] length = before.length, other_length = after.length
    cdef const uint32_t[::1] value = before.value, other_value = after.value
    cdef Py_ssize_t i = 0, j = 0, n = high.shape[0], m = other_high.shape[0], end, other_end
    cdef Py_ssize_t prefixes = 0, others = 0, added = 0, removed = 0, changed = 0
    cdef int order
    cdef list rows_added = [], rows_removed = [], rows_changed = []
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
            end = end_of_prefix(high, low, length, i)
        if order >= 0:
            others += 1
            other_end = end_of_prefix(other_high, other_low, other_length, j)
        if order < 0:
            removed += 1
            if removed <= limit:
                rows_removed.append(i)
        elif order > 0:
            added += 1
            if added <= limit:
                rows_added.append(j)
        elif not same_set(value, i, end, other_value, j, other_end):
            changed += 1
            if changed <= limit:
                rows_changed.append(j)
        i, j = end, other_end
    return rows_added, rows_removed, rows_changed, (prefixes, others, added, removed, changed)


cdef inline Py_ssize_t end_of_prefix(
    const uint64_t[::1] high, const uint64_t[::1] low, const uint8_t[::1] length, Py_ssize_t row
) noexcept:
    """Return the index after the last row of a row's prefix."""
    cdef Py_ssize_t i = row + 1
    while (i < high.shape[0] and high[i] == high[row] and length[i] == length[row]
            and (not low.shape[0] or low[i] == low[row])):
        i += 1
    return i


cdef bint same_set(
    const uint32_t[::1] values, Py_ssize_t i, Py_ssize_t end,
    const uint32_t[::1] others, Py_ssize_t j, Py_ssize_t other_end,
):
    """Return whether two runs of rows have the same set of values."""
    if end - i == 1 and other_end - j == 1:
        return values[i] == others[j]
    if end - i > 32 or other_end - j > 32:
        return {values[k] for k in range(i, end)} == {others[k] for k in range(j, other_end)}
    return is_subset(values, i, end, others, j, other_end) and is_subset(others, j, other_end, values, i, end)


cdef inline bint is_subset(
    const uint32_t[::1] values, Py_ssize_t i, Py_ssize_t end,
    const uint32_t[::1] others, Py_ssize_t j, Py_ssize_t other_end,
) noexcept:
    """Return whether each value of one run is in the other."""
    cdef Py_ssize_t k
    while i < end:
        k = j
        while k < other_end and others[k] != values[i]:
            k += 1
        if k == other_end:
            return False
        i += 1
    return True
