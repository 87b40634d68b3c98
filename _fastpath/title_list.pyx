# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The titles of one list of plays, added up: what the first so many are in bytes and in plays, in one step each."""

from libc.math cimport INFINITY
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc

LEVELS = C_LEVELS


cdef class TitleList:
    """Titles by plays, most first, with sums for each level of what exchanges serve.

    `plays` descend; `sizes` are in bytes. `levels` has a level below LEVELS for each title, empty for 0.
    """

    def __cinit__(self, const double[::1] plays not None, const double[::1] sizes not None, const uint8_t[::1] levels):
        cdef Py_ssize_t i, count = plays.shape[0], room = (count + 1) * sizeof(double)
        if sizes.shape[0] != count or (levels is not None and levels.shape[0] != count):
            raise ValueError("plays, sizes and levels have different lengths")
        self.count = count
        self.smallest = INFINITY
        self.plays = <double*> malloc(room)
        self.sizes = <double*> malloc(room)
        self.levels = <uint8_t*> malloc(count + 1)
        self.all_bytes = <double*> malloc(room)
        self.all_value = <double*> malloc(room)
        self.level_plays = <double*> malloc(room)
        self.level_bytes = <double*> malloc(room + C_LEVELS * sizeof(double))
        self.level_value = <double*> malloc(room + C_LEVELS * sizeof(double))
        if NULL in (self.plays, self.sizes, self.levels, self.all_bytes, self.all_value, self.level_plays,
                    self.level_bytes, self.level_value):
            raise MemoryError
        for i in range(count):
            if not (plays[i] >= 0 and sizes[i] > 0) or (i and plays[i] > plays[i - 1]):
                raise ValueError(f"title {i}: plays descend from a number to 0, and bytes are over 0")
            if levels is not None and levels[i] >= C_LEVELS:
                raise ValueError(f"title {i}: level {levels[i]} is not below {LEVELS}")
            self.plays[i] = plays[i]
            self.sizes[i] = sizes[i]
            self.smallest = min(self.smallest, sizes[i])
            self.levels[i] = levels[i] if levels is not None else 0
        self.add_up()

    def __dealloc__(self):
        free(self.plays)
        free(self.sizes)
        free(self.levels)
        free(self.all_bytes)
        free(self.all_value)
        free(self.level_plays)
        free(self.level_bytes)
        free(self.level_value)

    cdef void add_up(self) noexcept nogil:
        """Fill the sums. Those of a level begin with 0, so they take one place more than its titles."""
        cdef Py_ssize_t i, at
        cdef Py_ssize_t[C_LEVELS] next_index
        cdef int level
        self.all_bytes[0] = self.all_value[0] = 0
        for level in range(C_LEVELS + 1):
            self.level_first[level] = 0
        for i in range(self.count):
            self.all_bytes[i + 1] = self.all_bytes[i] + self.sizes[i]
            self.all_value[i + 1] = self.all_value[i] + self.plays[i] * self.sizes[i]
            self.level_first[self.levels[i] + 1] += 1
        for level in range(C_LEVELS):
            self.level_first[level + 1] += self.level_first[level]
            next_index[level] = self.level_first[level]
            at = self.level_first[level] + level
            self.level_bytes[at] = self.level_value[at] = 0
        for i in range(self.count):
            level = self.levels[i]
            at = next_index[level]
            next_index[level] += 1
            self.level_plays[at] = self.plays[i]
            at += level
            self.level_bytes[at + 1] = self.level_bytes[at] + self.sizes[i]
            self.level_value[at + 1] = self.level_value[at] + self.plays[i] * self.sizes[i]
