from libc.stdint cimport uint32_t, uint64_t


cdef extern from "hashing.h":
    uint64_t mix(uint64_t x) noexcept nogil
    uint64_t hash_bytes(const char* data, Py_ssize_t length) noexcept nogil
    uint64_t content_key(uint64_t key, uint64_t salt) noexcept nogil


cdef inline uint32_t ttl_of(uint32_t ttl_s, uint32_t jitter_s, uint64_t title, uint64_t viewer) noexcept nogil:
    """Return seconds, `ttl_s` more or less by up to `jitter_s`, the same for the same keys of a title and a viewer."""
    return ttl_s - jitter_s + <uint32_t> (mix(title ^ viewer) % (2 * <uint64_t> jitter_s + 1))
