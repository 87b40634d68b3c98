from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    LANE = 0  # doors
    APP = 1
    STEER = 0  # endpoints
    HEALTHZ = 1
    C_ENDPOINTS = 7
    C_STATUSES = 12
    C_BUCKETS = 20
    C_RANKS = 6
    # Places of the cells: each table of counts begins where the one before ends.
    C_ANSWERS = 0
    C_LATENCY = C_ANSWERS + 2 * C_ENDPOINTS * C_STATUSES
    C_LATENCY_NS = C_LATENCY + 2 * C_BUCKETS
    C_TARGETS = C_LATENCY_NS + 2
    C_EVENTS = C_TARGETS + C_RANKS
    C_GAUGES = C_EVENTS + 6
    C_CELLS = C_GAUGES + 8


cdef class Counters:
    cdef object map
    cdef Py_buffer buffer
    cdef bint held
    cdef uint64_t* cells
    cdef readonly uint32_t slots
    cdef readonly bint writable

    cdef int check(self) except -1
    cdef object cell(self, uint64_t place)
    cdef void count(self, int door, int endpoint, int status, uint64_t took_ns) noexcept nogil
    cdef void count_target(self, uint32_t rank, bint fallback) noexcept nogil
    cdef void count_appliance(self, uint32_t slot) noexcept nogil


cdef uint64_t now_ns() noexcept nogil
