from libc.stdint cimport uint8_t

cdef enum:
    C_LEVELS = 9  # of what exchanges serve of a title that no cluster of a group holds


cdef class TitleList:
    cdef readonly Py_ssize_t count
    cdef double smallest  # bytes of a title
    cdef double* plays
    cdef double* sizes
    cdef uint8_t* levels
    cdef double* all_bytes  # of the first titles, 0 to all
    cdef double* all_value  # plays times bytes of the same
    cdef double* level_plays
    cdef double* level_bytes
    cdef double* level_value
    cdef Py_ssize_t[C_LEVELS + 1] level_first

    cdef void add_up(self) noexcept nogil


cdef inline Py_ssize_t at_least(const double* plays, Py_ssize_t count, double bar) noexcept nogil:
    """Return how many titles have at least so many plays."""
    cdef Py_ssize_t low = 0, high = count, middle
    while low < high:
        middle = (low + high) >> 1
        if plays[middle] >= bar:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline Py_ssize_t at_most(const double* cumulated, Py_ssize_t count, double bytes_) noexcept nogil:
    """Return how many of the first titles fit into so many bytes."""
    cdef Py_ssize_t low = 0, high = count, middle
    while low < high:
        middle = (low + high + 1) >> 1
        if cumulated[middle] <= bytes_:
            low = middle
        else:
            high = middle - 1
    return low
