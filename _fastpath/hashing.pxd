from libc.stdint cimport uint32_t, uint64_t


cdef extern from "hashing.h":
    uint64_t mix(uint64_t x) noexcept nogil
    uint64_t hash_bytes(const char* data, Py_ssize_t length) noexcept nogil
    uint64_t content_key(uint64_t key, uint64_t salt) noexcept nogil


cdef inline uint64_t viewer_of_client(int family, uint64_t upper) noexcept nogil:
    """Return the number of a viewer without a session, by its /24 or /48; `upper` as `PrefixTable.find` returns it."""
    return mix(upper >> 8 | <uint64_t> 4 << 48) if family == 4 else mix(upper >> 16 | <uint64_t> 6 << 48)


cdef inline uint64_t key_of_viewer(const char* session, Py_ssize_t length, int family, uint64_t upper) noexcept nogil:
    """Return the key of a viewer: of its session, or where that is empty, of its /24 or /48."""
    return mix(hash_bytes(session, length) if length else viewer_of_client(family, upper))


cdef inline uint32_t jittered_ttl(uint32_t ttl_s, uint32_t jitter_s, uint64_t title, uint64_t viewer) noexcept nogil:
    """Return a TTL from `ttl_s - jitter_s` to `ttl_s + jitter_s`, always the same for a title's and a viewer's key."""
    return ttl_s - jitter_s + <uint32_t> (mix(title ^ viewer) % (2 * <uint64_t> jitter_s + 1))
