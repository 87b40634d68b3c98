from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "kernels.h":
    enum:
        MAX_LEVELS
        FORMAT
    uint64_t TABLE_MAGIC
    int64_t PADDING
    ctypedef struct table_header:
        uint64_t magic, format, length, zones, wide
        uint64_t directory, records, record_words, deep, deep_lines
        uint64_t levels, intervals, leaves, fine, fine_blocks, fine_keys, fine_leaves, fine_count
        uint64_t level[10]
        uint64_t nodes[10]
    ctypedef struct table_v4:
        const uint32_t* directory
        const uint64_t* records
        const uint64_t* deep
        uint32_t zones
        int wide
    ctypedef struct table_v6:
        const int64_t* level[10]
        int levels
        uint32_t intervals
        const uint32_t* leaves
        uint32_t zones
        const uint32_t* fine
        const uint64_t* fine_keys
        const uint32_t* fine_leaves
    ctypedef struct kernels:
        uint32_t (*v4)(const table_v4*, uint32_t) noexcept nogil
        uint32_t (*v6)(const table_v6*, uint64_t, uint64_t) noexcept nogil
        void (*v4_many)(const table_v4*, const unsigned char*, uint32_t*, size_t) noexcept nogil
        void (*v6_many)(const table_v6*, const unsigned char*, uint32_t*, size_t) noexcept nogil
        const char* name
    kernels choose_kernels(int portable)
    uint64_t popcount_portable(uint64_t) noexcept nogil
    uint32_t leaf_of(const uint64_t* leaves, uint64_t run, int wide) noexcept nogil


cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object)
    void* PyUnicode_1BYTE_DATA(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)


cdef class PrefixTable:
    cdef Py_buffer buffer
    cdef table_v4 v4
    cdef table_v6 v6

    cdef uint32_t zone_v4(self, uint32_t address) noexcept nogil
    cdef uint32_t zone_v6(self, uint64_t high, uint64_t low) noexcept nogil
    cdef uint32_t find(self, object address, int* family, uint64_t* upper) except? 0xFFFFFFFF
    cdef int open(self) except -1
    cdef const unsigned char* part(self, uint64_t offset, uint64_t count, uint64_t width) except NULL
