from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from _fastpath.counters cimport Counters
from _fastpath.lpm cimport PrefixTable

cdef enum:
    C_MAX_PICKS = 8
    C_MAX_TITLE = 256
    C_IPV4_UP = 1 << 21
    C_IPV6_UP = 1 << 22
    RANK = 0x7FFFFFFF
    REGION_WORDS = 16  # a service's allowed regions: one bit for each of 1,024


cdef packed struct zone_record:
    uint32_t first
    uint32_t count
    uint32_t partner
    char region[8]

cdef packed struct rung_record:
    uint32_t cluster
    uint32_t rank  # with FALLBACK set where no route leads

cdef packed struct cluster_record:
    uint32_t first
    uint32_t count
    uint32_t site
    uint32_t region

cdef packed struct appliance_record:
    uint32_t slot
    uint32_t host
    uint32_t tail
    uint16_t host_length
    uint16_t tail_length

cdef struct candidate:
    uint64_t cost
    uint32_t weight
    uint32_t appliance
    uint32_t site
    uint32_t rank

cdef struct note:
    uint32_t appliance
    uint32_t rank
    uint32_t word
    char reason


cdef class Weights:
    cdef object map
    cdef Py_buffer buffer
    cdef bint held
    cdef uint32_t* words
    cdef readonly uint32_t slots
    cdef readonly bint writable


cdef class Service:
    cdef readonly str id
    cdef bytes opening, before_host, before_title, after_title, before_fallback, after_fallback
    cdef uint64_t regions[REGION_WORDS]
    cdef bint any_region


cdef class Picker:
    cdef readonly PrefixTable table
    cdef readonly Weights weights
    cdef Counters counters
    cdef Py_buffer zones_buffer, rungs_buffer, clusters_buffer, appliances_buffer, text_buffer
    cdef int held
    cdef const zone_record* zones
    cdef const rung_record* rungs
    cdef const cluster_record* clusters
    cdef const appliance_record* appliances
    cdef const char* text
    cdef uint32_t zone_count, cluster_count, appliance_count, most_candidates

    cdef Py_buffer* part(self, int number) noexcept
    cdef int check(self) except -1
    cdef Py_ssize_t measure(self, Service service, const candidate* chosen, int found, bint fallback,
                            Py_ssize_t title_length) noexcept
    cdef char* write(self, char* at, Service service, const candidate* chosen, int found, bint fallback,
                     const char* title, Py_ssize_t title_length) noexcept
    cdef int choose(self, uint32_t zone, uint64_t key, Service service, int n, uint32_t family_bit,
                    candidate* chosen, note* notes, uint32_t* noted) noexcept nogil


cdef uint64_t hash_bytes(const char* data, Py_ssize_t length) noexcept nogil
cdef bint is_dots(const char* title, Py_ssize_t length) noexcept nogil
cdef Py_ssize_t escape(const char* title, Py_ssize_t length, char* out) noexcept nogil
cdef int digits_of(uint32_t number) noexcept nogil
cdef char* write_number(char* at, uint32_t number) noexcept nogil
