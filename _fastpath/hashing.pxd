from libc.stdint cimport uint64_t


cdef extern from "hashing.h":
    uint64_t mix(uint64_t x) noexcept nogil
    uint64_t hash_bytes(const char* data, Py_ssize_t length) noexcept nogil
    uint64_t content_key(uint64_t key, uint64_t salt) noexcept nogil
