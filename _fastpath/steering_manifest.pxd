from libc.stdint cimport uint32_t, uint64_t

from _fastpath.ranking cimport C_MAX_PICKS, Picker, decision, piece, question
from _fastpath.service cimport Service

cdef enum:
    C_MAX_ID = 64
    C_MAX_REPORTED = 16
    C_MAX_PATHWAYS = 16
    # Bytes: the opening, 8 appliances with ids of 96 characters, and 48 pathways, used or declared, of 64.
    C_MAX_MANIFEST = 4608


cdef struct report:  # the pathways that a player reports to use, each once
    piece ids[C_MAX_REPORTED]
    int count

cdef struct choice:  # a pathway, and the number of the pick it is for
    piece id
    int pick

cdef struct listing:
    piece ids[C_MAX_PICKS + C_MAX_PATHWAYS + 2 * C_MAX_REPORTED + 1]
    int count


cdef class Manifest:
    cdef Service service
    cdef readonly bint clones  # some players are offered clones, which are not made here
    cdef uint32_t ttl_s, jitter_s
    cdef uint32_t long_ttl_s, long_jitter_s  # under overload
    cdef double gain
    cdef int most
    cdef tuple ids
    cdef piece pathways[C_MAX_PATHWAYS]
    cdef int count
    cdef uint32_t hosted  # the pathways of other networks, a bit each
    cdef uint32_t[::1] stands

    cdef Py_ssize_t write(
        self, Picker picker, const question* asked, const decision* made, const report* reported,
        const report* declared, bint shed, char* out, bint* moves
    ) noexcept
    cdef void list_appliances(
        self, Picker picker, const decision* made, const report* reported, listing* listed
    ) noexcept nogil
    cdef void list_mapped(self, const decision* made, const report* reported, listing* listed) noexcept nogil
    cdef int find_full(
        self, Picker picker, const question* asked, const decision* made, const report* reported
    ) noexcept
    cdef bint names(self, Picker picker, uint32_t appliance, const piece* id) noexcept nogil
    cdef void keep_current(self, choice* best, int count, const decision* made, const report* reported) noexcept nogil
