from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    MAX_NETWORKS = 256
    # What `choose_address` returns.
    CHOSEN = 0
    NOT_TRUSTED = 1
    NOT_AN_ADDRESS = 2

cdef struct address:  # `high` and `low` of IPv6; `four` of IPv4
    int family
    uint32_t four
    uint64_t high
    uint64_t low

cdef struct network:
    int family
    uint64_t high
    uint64_t low
    uint64_t high_mask
    uint64_t low_mask


cdef class Trust:
    cdef network networks[MAX_NETWORKS]
    cdef int count

    cdef bint trusts(self, const address* hop) noexcept nogil
    cdef bint walk(self, const char* text, const char* end, bint is_forwarded, address* client) noexcept nogil
    cdef bint step(self, const char* text, const char* end, address* client) noexcept nogil


cdef bint parse_address(const char* text, Py_ssize_t length, address* out) noexcept nogil
cdef int choose_address(bint trusted, const char* text, Py_ssize_t length, address* client) noexcept nogil
cdef void unwrap_address(address* client) noexcept nogil
cdef int address_of_packed(bytes packed, address* out) except -1
cdef bytes packed_of_address(const address* client)
