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
    PACE_SHIFT = 23  # eight bits: up to MOST_HELD_BACK viewers in 64 held back, or all of them and a pressure
    C_PACE = 0xFF
    C_PRESSED = 0xC0 << 23  # one of these is set where there is a pressure
    C_MOST_HELD_BACK = 63
    C_MOST_PRESSURE = 192  # as the price of the fallback
    C_WEIGHT = 0xFFFF


cdef inline uint32_t pressure_of(uint32_t word) noexcept nogil:
    """Return the pressure of an appliance's cluster, 0 to C_MOST_PRESSURE, by the appliance's word."""
    return (word >> PACE_SHIFT & C_PACE) - C_MOST_HELD_BACK if word & C_PRESSED else 0


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
