from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    # The flags of a word; the lower 16 bits are the weight.
    C_DISABLED = 1 << 16
    C_NO_HEADROOM = 1 << 17
    C_UNHEALTHY = 1 << 18
    C_STALE = 1 << 19
    C_OVER_LIMIT = 1 << 20
    C_IPV4_UP = 1 << 21
    C_IPV6_UP = 1 << 22
    HELD_BACK_SHIFT = 23  # so many in 64 of those who play elsewhere may not move up to it yet
    HELD_BACK_BITS = 6
    C_WEIGHT = 0xFFFF


cdef struct hot_title:
    uint64_t key
    uint64_t fan_out


cdef class StatusWords:
    cdef object map
    cdef Py_buffer buffer
    cdef bint is_mapped
    cdef uint32_t* words
    cdef readonly uint32_t slots
    cdef readonly bint writable
    cdef uint32_t* hot_count
    cdef hot_title* hot_table
    cdef uint64_t seed

    cdef int check_writable(self) except -1
    cdef uint32_t fan_out_of(self, uint64_t key) noexcept nogil
