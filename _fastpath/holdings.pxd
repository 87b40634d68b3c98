from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from *:
    """
    #define NO_ROW 0xFFFFFFFFu
    """
    const uint32_t NO_ROW
    int __builtin_clz(unsigned int value) noexcept nogil

cdef enum:
    PARTS = 9
    C_MAX_SERVICES = 32
    BLOCK = 256  # titles, so that a code has at most 8 bits
    BLOCK_BYTES = 32  # of a bitmap
    PAD = 8  # bytes after the last block: a code is read as two bytes
    MAX_MEMBERS = 65_535

cdef packed struct cluster_members:
    uint32_t first
    uint32_t count
    uint32_t row  # of the directory; NO_ROW if no holdings are known

cdef packed struct member:
    uint32_t slot
    uint32_t services  # of which it reports holdings, one bit each


cdef inline uint32_t mask_bytes_of(uint32_t members) noexcept nogil:
    return (members + 7) >> 3


cdef inline uint32_t width_of(uint32_t last) noexcept nogil:
    """Return the bits of a code by the number of sets less one: 0 to 8."""
    return 31 - __builtin_clz(2 * last + 1)


cdef inline uint64_t size_of_block(const uint8_t* block, uint32_t mask_bytes) noexcept nogil:
    return 1 + (<uint64_t> block[0] + 1) * mask_bytes + BLOCK_BYTES * width_of(block[0])


cdef struct seat:
    uint32_t services  # whose holdings the appliance reports, a bit each
    uint32_t member  # its number among its cluster's members


cdef class Holdings:
    cdef Py_buffer views[PARTS]
    cdef int held
    cdef readonly uint32_t titles
    cdef readonly uint32_t clusters
    cdef readonly tuple services
    cdef uint32_t block_count, row_count, member_count, index_mask
    cdef const uint64_t* keys
    cdef const uint32_t* index
    cdef const uint32_t* text_ends
    cdef const char* text
    cdef const cluster_members* cluster_table
    cdef const member* member_table
    cdef const uint32_t* directory
    cdef const uint8_t* blocks

    cdef int check(self) except -1
    cdef uint64_t wrong_titles(self, uint64_t text_length, uint32_t services) noexcept nogil
    cdef uint64_t wrong_cluster(self, uint64_t blocks_length) noexcept nogil
    cdef frozenset names_of(self, uint32_t services)
    cdef int64_t find(self, uint64_t key) noexcept nogil
    cdef const uint8_t* mask_of(self, uint32_t cluster, uint32_t title) noexcept nogil
