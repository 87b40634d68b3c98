from libc.stdint cimport uint32_t, uint64_t

from _fastpath.counters cimport Counters
from _fastpath.ranking cimport C_MAX_TITLE, Picker, decision, question
from _fastpath.service cimport Service

cdef struct answer_parts:  # of an answer, beside its picks
    char title[3 * C_MAX_TITLE]  # percent-encoded
    Py_ssize_t title_length
    uint32_t ttl


cdef bytes sign_picks(
    Service service, decision* made, const char* title, Py_ssize_t title_length, int family, uint64_t upper
)
cdef bytes prepare(
    Picker picker, Service service, const question* asked, decision* made, Counters counters, answer_parts* parts
)
cdef Py_ssize_t measure(
    Picker picker, Service service, const decision* made, const answer_parts* parts, bytes token
) noexcept
cdef char* write(
    char* out, Picker picker, Service service, const decision* made, const answer_parts* parts, bytes token
) noexcept
