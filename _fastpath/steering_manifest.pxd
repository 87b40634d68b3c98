from libc.stdint cimport uint32_t

from _fastpath.ranking cimport C_MAX_PICKS, Picker, decision, piece, question
from _fastpath.service cimport Service

cdef enum:
    C_MAX_ID = 64
    C_MAX_REPORTED = 16
    C_MAX_PATHWAYS = 16
    C_CLONE = 9  # characters that the id of a clone has beyond its appliance's
    # The state of a pathway.
    UNFIT = 0
    FULL = 1  # only full: it keeps who plays there
    OPEN = 2
    OTHER = 3  # another network
    # Bytes: the opening, 8 appliances with ids of 96 characters, and 48 pathways, used or declared, of 64.
    C_MAX_MANIFEST = 4608


cdef struct report:  # the pathways that a player reports to use, each once
    piece ids[C_MAX_REPORTED]
    int count

cdef struct choice:  # a pathway, and the number of the pick it is for
    piece id
    int pick

cdef struct standing:  # how a pathway stands that a player uses, or that its playlist declared
    int state
    uint32_t rank  # of the best appliance that it stands for; C_RANK for another network
    int pick  # its number, -1 where that is no pick
    uint32_t appliance

cdef struct listing:
    piece ids[C_MAX_PICKS + C_MAX_PATHWAYS + 2 * C_MAX_REPORTED + 2]
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
    ) noexcept nogil
    cdef int arrange(
        self, Picker picker, const question* asked, const decision* made, const report* reported,
        const report* declared, listing* listed
    ) noexcept nogil
    cdef void judge(
        self, Picker picker, const question* asked, const decision* made, const piece* name, standing* found
    ) noexcept nogil
    cdef void judge_own(
        self, Picker picker, const question* asked, const decision* made, uint32_t own, standing* found
    ) noexcept nogil
    cdef void judge_mapped(
        self, Picker picker, const question* asked, const decision* made, uint32_t bit, standing* found
    ) noexcept nogil
    cdef void take(self, char reason, uint32_t rank, uint32_t appliance, standing* found) noexcept nogil
    cdef int find_kept(
        self, Picker picker, const question* asked, const decision* made, const report* reported,
        const standing* used, const report* declared, const standing* brought
    ) noexcept nogil
    cdef void list_appliances(
        self, Picker picker, const decision* made, const report* declared, const standing* brought, listing* listed
    ) noexcept nogil
    cdef void list_mapped(self, const decision* made, listing* listed) noexcept nogil
    cdef bint is_other(self, const piece* name) noexcept nogil
