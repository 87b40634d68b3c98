from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "texts.h":
    ctypedef struct text_piece:
        const char* at
        size_t length
        uint32_t tag

    ctypedef struct text_table:
        text_piece* pieces
        uint32_t count

    uint64_t text_hash(uint64_t seed, uint32_t tag, const char* at, size_t length) noexcept nogil
    int texts_begin(text_table*, uint64_t seed) noexcept nogil
    void texts_end(text_table*) noexcept nogil
    int64_t texts_number(text_table*, uint32_t tag, const char* at, size_t length) noexcept nogil
