# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The prefixes that differ between two tables, from one pass over both, sorted.

A prefix may have several rows; their values are a set, whatever their order.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


def compare(before, after, Py_ssize_t limit):
    """Return (added, removed, changed, counts): prefixes only in `after`, only in `before`, and in both with other
    values. Columns are sorted by prefix and length. `low` may be empty if it is always 0.

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
