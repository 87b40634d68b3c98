from libc.stdint cimport uint32_t, uint64_t

from _fastpath.client cimport Trust, address
from _fastpath.counters cimport Counters
from _fastpath.head cimport C_MAX_HEAD, head
from _fastpath.playback_json cimport C_MAX_FILES, named
from _fastpath.ranking cimport Picker
from _fastpath.service cimport Service
from _fastpath.steering_manifest cimport Manifest, piece


cdef struct sampler:
    uint32_t every, until  # requests from one sample to the next, and how many are left until it
    uint32_t left  # samples that the fast path left to FastAPI


cdef class Peer:
    cdef address address
    cdef readonly bint trusted


cdef class Served:
    cdef Picker picker
    cdef tuple services, manifests
    cdef Service default

    cdef Service find(self, const char* name, Py_ssize_t length)
    cdef Manifest manifest_of(self, const char* name, Py_ssize_t length)


cdef class FastPath:
    cdef Served served
    cdef Trust trust
    cdef bytes header
    cdef piece forwarded  # the header's name
    cdef bint is_forwarded
    cdef bytes opening
    cdef Counters counters
    cdef uint64_t[::1] keys
    cdef sampler decisions, cmcd
    cdef readonly Py_ssize_t end
    cdef public long second  # of a clock that its owner moves on
    cdef char room[C_MAX_HEAD]  # for what is decoded
    # Of the playback request at hand: when it came, its client, whether every hop is trusted, and room for its files.
    cdef uint64_t began
    cdef address client
    cdef bint trusted
    cdef named files[C_MAX_FILES]

    cdef bint is_wanted(self, uint64_t key) noexcept nogil
    cdef bint draws_cmcd(self) noexcept nogil
    cpdef bytes answer(self, bytes data, Py_ssize_t at, Peer peer, bint shed=*)
    cdef bytes start_answer(self, bytes fields, Py_ssize_t length, bytes ending, bint has_body, char** body)
    cdef bytes steer(self, const char* text, const char* stop, const head* lines, Peer peer, bint has_body, bint shed)
    cdef bytes steer_player(self, const char* target, const char* stop, const head* lines, Peer peer, bint has_body)
    cdef bint find_client(self, const head* lines, Peer peer, address* client) noexcept nogil
