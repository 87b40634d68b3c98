from libc.stdint cimport uint32_t, uint64_t


cdef extern from "address.h":
    int parse_v4(const char* text, size_t length, uint32_t* address) noexcept nogil
    int parse_v6(const char* text, size_t length, uint64_t* high, uint64_t* low) noexcept nogil
    uint32_t load_big_endian_32(const unsigned char*) noexcept nogil
    uint64_t load_big_endian_64(const unsigned char*) noexcept nogil
