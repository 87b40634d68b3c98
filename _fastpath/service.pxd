from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    REGION_WORDS = 16  # a service's allowed regions: one bit for each of 1,024


cdef class Service:
    # What ranking reads.
    cdef readonly str id
    cdef bytes id_bytes
    cdef const char* id_text
    cdef Py_ssize_t id_length
    cdef uint64_t salt
    cdef uint32_t holdings_bit
    cdef readonly int n  # targets of a request without a number
    cdef bint fail_open
    cdef bint by_file  # what appliances report that they hold
    cdef bint any_region
    cdef uint64_t regions[REGION_WORDS]
    cdef bytes client_regions  # the codes of the regions that clients may be in, ascending, 8 bytes each
    cdef readonly bint everywhere
    # What renderers read.
    cdef uint32_t ttl_s, jitter_s
    cdef bytes table, fleet, holdings  # version numbers, as text
    cdef bytes url, fallback
    cdef bytes before_host, before_title, after_title, before_fallback, after_fallback
    cdef bytes after_token  # up to the next part, where URLs are signed
    cdef bint token_is_first  # before the title
    cdef readonly object sign  # None where URLs are not signed
    cdef readonly bint covers_service  # a token, not one title
    cdef object tag  # None where sessions have no tags

    cdef int split_urls(self, str url, str fallback) except -1
    cdef bint has_client_region(self, uint64_t code) noexcept
    cdef bint serves(self, const char* region) noexcept
    cdef bytes tag_for(self, const char* session, Py_ssize_t session_length, int family, uint64_t upper)
