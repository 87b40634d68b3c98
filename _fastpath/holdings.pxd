from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    PARTS = 9
    C_MAX_SERVICES = 32

cdef packed struct cluster_members:
    uint32_t first
    uint32_t count
    uint32_t row  # of the directory; its largest number where nobody's holdings are known

cdef packed struct member:
    uint32_t slot
    uint32_t services  # whose holdings it reports, one bit each


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
