from libc.stdint cimport uint32_t, uint64_t

from _fastpath.counters cimport Counters
from _fastpath.ranking cimport C_MAX_FILES, Picker, Service, named
from _fastpath.steering_manifest cimport Manifest

cdef enum:
    MAX_NETWORKS = 256

cdef struct address:
    int family
    uint32_t four
    uint64_t high
    uint64_t low

cdef struct network:
    int family
    uint64_t high
    uint64_t low
    uint64_t high_mask
    uint64_t low_mask

cdef struct head:
    const char* end  # past the empty line
    const char* forwarded
    const char* forwarded_end
    bint cmcd  # one of the headers that players report by

cdef struct body_head:  # what a head says of a body
    Py_ssize_t length  # -1 where it says nothing
    const char* accepts
    const char* accepts_end
    bint typed
    bint odd


cdef class Peer:
    cdef address who
    cdef readonly bint trusted


cdef class Served:
    cdef Picker picker
    cdef tuple services, manifests
    cdef Service default

    cdef Service find(self, const char* name, Py_ssize_t length)
    cdef Manifest manifest_of(self, const char* name, Py_ssize_t length)


cdef class FastPath:
    cdef Served served
    cdef network networks[MAX_NETWORKS]
    cdef int network_count
    cdef bint reads_plain
    cdef bytes opening
    cdef Counters counters
    cdef uint64_t[::1] keys
    cdef uint32_t sample_every, until_sample, sampled
    cdef uint32_t cmcd_every, until_cmcd, cmcd_drawn
    cdef readonly Py_ssize_t end
    cdef public long second  # of a clock that its owner moves on
    # Of the playback request at hand: when it came, who asks, and if every hop is trusted; and room for its files.
    cdef uint64_t began
    cdef address client
    cdef bint trusted
    cdef named files[C_MAX_FILES]

    cdef bint falls_due(self) noexcept nogil
    cdef bint is_wanted(self, uint64_t key) noexcept nogil
    cdef bint draws_cmcd(self) noexcept nogil
    cpdef bytes answer(self, bytes data, Py_ssize_t at, Peer peer, bint shed=*)
    cdef bytes steer(self, const char* text, const char* stop, const head* found, Peer peer, bint has_body, bint shed)
    cdef bytes steer_player(
        self, const char* text, const char* stop, const char* protocol, const head* found, Peer peer, bint has_body
    )
    cdef bint read_head(
        self, const char* at, const char* end, bint trusted, head* found, body_head* body=*
    ) noexcept nogil
    cdef bint walk(self, const char* text, const char* end, address* client, bint* trusted) noexcept nogil
    cdef bint believes(self, const address* who) noexcept nogil
