from libc.stdint cimport int64_t

from _fastpath.ranking cimport C_MAX_FAILED, piece
from _fastpath.steering_manifest cimport report

cdef enum:
    MAX_THROUGHPUTS = 16

cdef struct hints:  # what a player reports about itself
    unsigned seen
    piece session
    piece player
    piece ip
    report pathways
    report declared
    piece failed[C_MAX_FAILED]
    int failed_count
    int64_t throughputs[MAX_THROUGHPUTS]  # bit/s, -1 where one is empty or cannot be read
    int throughput_count
    int family
    int odd  # how many hints cannot be read
    bint is_ascii

cdef struct player_request:
    piece protocol
    piece service
    piece title
    bint is_playlist
    hints hints


cdef void read_player(
    const char* path, const char* path_end, const char* query, const char* end, char* room, player_request* out
) noexcept nogil
