from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    FAST_PATH = 0  # paths
    FALLBACK_PATH = 1
    STEER = 0  # endpoints
    HEALTHZ = 1
    HLS = 3
    DASH = 4
    PLAYBACK = 6
    C_ENDPOINTS = 9
    C_STATUSES = 14
    C_BUCKETS = 20
    C_RANKS = 6
    C_MAX_REASONS = 16
    C_KNOWN_EVENTS = 11
    C_KNOWN_GAUGES = 10
    FAILED_OPEN = 4  # among the events
    MOVED = 5
    # Offsets in cells: each table of counts begins where the one before ends.
    C_ANSWERS = 0
    C_LATENCY = C_ANSWERS + 2 * C_ENDPOINTS * C_STATUSES
    C_LATENCY_NS = C_LATENCY + 2 * C_BUCKETS
    C_TARGETS = C_LATENCY_NS + 2
    C_EVENTS = C_TARGETS + C_RANKS
    C_GAUGES = C_EVENTS + C_KNOWN_EVENTS
    C_REASONS = C_GAUGES + C_KNOWN_GAUGES
    C_REPORTED = C_REASONS + C_MAX_REASONS  # how many rows of appliances, and of partners, have ever been stored to
    C_CELLS = C_REPORTED + 2
    # What players report: a row without an appliance, one for each slot, one for each partner's number.
    C_QUALITY = 11
    C_PARTNERS = 4096
    # The sketches: sets of C_WAYS titles.
    C_SETS = 512
    C_WAYS = 4
    C_TITLE_TEXT = 100
    C_SERVICE_TEXT = 63


cdef struct name_record:
    uint8_t service_length
    uint8_t title_length
    char text[C_SERVICE_TEXT + C_TITLE_TEXT + 3]

cdef struct sketch_set:
    uint64_t keys[C_WAYS]
    uint64_t counts[C_WAYS]
    uint32_t weights[C_WAYS]
    uint32_t clusters[C_WAYS]
    uint32_t age
    uint32_t unused
    name_record names[C_WAYS]


cdef class Counters:
    cdef object map
    cdef Py_buffer buffer
    cdef bint exported
    cdef uint64_t* cells
    cdef uint64_t* quality
    cdef sketch_set* titles
    cdef sketch_set* missing
    cdef readonly uint32_t slots
    cdef readonly bint writable

    cdef int check(self) except -1
    cdef dict quality_rows(self, uint64_t first, uint64_t count)
    cdef object cell(self, uint64_t index)
    cdef void count(self, int path_taken, int endpoint, int status, uint64_t took_ns) noexcept nogil
    cdef void count_target(self, uint32_t rank, bint fallback) noexcept nogil
    cdef void count_appliance(self, uint32_t slot) noexcept nogil
    cdef void count_reasons(self, uint32_t seen) noexcept nogil
    cdef void count_event(self, int event) noexcept nogil
    cdef void count_title(
        self, sketch_set* sketch, uint64_t key, uint32_t cluster, const char* service, Py_ssize_t service_length,
        const char* title, Py_ssize_t title_length
    ) noexcept nogil
    cdef list read_sketch(self, const sketch_set* sketch)


cdef uint64_t now_ns() noexcept nogil
