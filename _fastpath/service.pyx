# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Service: one service's rules and URLs, made ready for ranking and for the renderers. Frozen."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from _fastpath.hashing cimport hash_bytes
from _fastpath.holdings cimport Holdings

import struct
from array import array


cdef class Service:
    def __cinit__(
        self, str id not None, str url not None, str fallback not None, uint32_t ttl_s, uint32_t table, regions=None,
        Holdings holdings=None, bint fail_open=False, sign=None, client_regions=(), int n=3,
        bint covers_service=False, uint32_t fleet=0, held=None, bint by_file=False, tag=None, uint32_t jitter_s=0
    ):
        cdef uint32_t number
        if not jitter_s < ttl_s:
            raise ValueError(f"the jitter of {jitter_s} s is not below the TTL of {ttl_s} s")
        self.id = id
        self.id_bytes = id.encode()
        self.id_text = PyBytes_AS_STRING(self.id_bytes)
        self.id_length = PyBytes_GET_SIZE(self.id_bytes)
        self.salt = hash_bytes(self.id_text, self.id_length)
        self.holdings_bit = holdings.service_bit(id) if holdings is not None else 0
        self.n, self.fail_open, self.by_file = n, fail_open, by_file
        self.everywhere = not client_regions
        self.client_regions = array("Q", sorted(set(map(code_of, client_regions)))).tobytes()
        self.any_region = regions is None
        for number in regions or ():
            if number >= REGION_WORDS * 64:
                raise ValueError(f"region number {number}; there is room for {REGION_WORDS * 64}")
            self.regions[number >> 6] |= <uint64_t> 1 << (number & 63)
        self.ttl_s, self.jitter_s = ttl_s, jitter_s
        self.table, self.fleet = b"%d" % table, b"%d" % fleet
        self.holdings = b"null" if held is None else b"%d" % held
        self.sign, self.covers_service, self.tag = sign, covers_service, tag
        self.split_urls(url, fallback)

    cdef int split_urls(self, str url, str fallback) except -1:
        """Cut the URL templates where host, title and token go."""
        self.url, self.fallback = url.encode(), fallback.encode()
        self.before_host, rest = self.url.split(b"{host}")
        self.before_title, self.after_title = rest.split(b"{title}")
        self.before_fallback, self.after_fallback = self.fallback.split(b"{title}")
        if self.sign is None:
            return 0
        self.token_is_first = b"{token}" in self.before_title
        if self.token_is_first:
            self.before_title, self.after_token = self.before_title.split(b"{token}")
        else:
            self.after_title, self.after_token = self.after_title.split(b"{token}")
        return 0

    cdef bint has_client_region(self, uint64_t code) noexcept:
        """Return whether clients of a region are served, by binary search."""
        cdef const char* codes = PyBytes_AS_STRING(self.client_regions)
        cdef Py_ssize_t low = 0, high = PyBytes_GET_SIZE(self.client_regions) >> 3, middle
        cdef uint64_t listed
        while low < high:
            middle = (low + high) >> 1
            memcpy(&listed, codes + 8 * middle, 8)
            if listed == code:
                return True
            if listed < code:
                low = middle + 1
            else:
                high = middle
        return False

    cdef bint serves(self, const char* region) noexcept:
        """Return whether clients of a zone's region (8 bytes) are served: the region is listed, or its country."""
        cdef char country[8]
        cdef uint64_t code
        if self.everywhere:
            return True
        memcpy(&code, region, 8)
        if self.has_client_region(code):
            return True
        memset(country, 0, 8)
        memcpy(country, region, 2)
        memcpy(&code, country, 8)
        return self.has_client_region(code)

    def serves_region(self, str region not None):
        data = region.encode("ascii").ljust(8, b"\0")
        return self.serves(PyBytes_AS_STRING(data))

    cdef bytes tag_for(self, const char* session, Py_ssize_t session_length, int family, uint64_t upper):
        """Return the tag of a viewer's session, None where there is no key for tags."""
        return None if self.tag is None else self.tag(session[:session_length], family, upper)


cdef uint64_t code_of(str region) except? 0:
    """Return a region as a number: its text as it stands in a zone's record."""
    data = region.encode("ascii")
    if not 2 <= len(data) <= 8:
        raise ValueError(f"a region has 2 to 8 characters, not {region!r}")
    return struct.unpack("=Q", data.ljust(8, b"\0"))[0]
