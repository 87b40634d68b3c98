from libc.stdint cimport uint16_t, uint32_t, uint64_t

from _fastpath.counters cimport Counters
from _fastpath.ranking cimport Picker, candidate, question
from _fastpath.service cimport Service

cdef enum:
    C_MAX_FILES = 1000

cdef struct named:  # a file of a playback
    const char* text
    Py_ssize_t length
    uint64_t key

cdef struct answered:  # what is picked for the files so far
    char* text  # names of files and numbers of servers, as in the answer
    char* end
    candidate* servers
    uint16_t* numbers  # by appliance, its number among the servers plus one; 0 for one that is none
    uint32_t known
    bint failed_open


cdef bytes answer_files(
    Picker picker, Service service, question* asked, named* files, int count, const char* session,
    Py_ssize_t session_length, Counters counters
)
