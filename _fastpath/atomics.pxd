from libc.stdint cimport uint32_t, uint64_t


cdef extern from "atomics.h":
    uint32_t load_word(const uint32_t* word) noexcept nogil
    void store_word(uint32_t* word, uint32_t value) noexcept nogil
    uint64_t load_cell(const uint64_t* cell) noexcept nogil
    void store_cell(uint64_t* cell, uint64_t value) noexcept nogil
    void add_cell(uint64_t* cell, uint64_t more) noexcept nogil
    void fence_reads() noexcept nogil
    void fence_writes() noexcept nogil
