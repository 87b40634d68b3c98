from _fastpath.playback_json cimport named
from _fastpath.ranking cimport C_MAX_FAILED, piece
from _fastpath.request cimport refusal

cdef enum:
    C_MAX_BODY = 256 * 1024

cdef struct playback_request:  # its texts point into the body, or into the room for those with escapes
    unsigned seen
    piece service
    piece title
    piece session
    piece ip
    piece device  # a JSON object, as written
    int n  # 0 where it is absent, and so is family
    int family
    int count  # of files
    piece failed[C_MAX_FAILED]
    int failed_count
    bint is_ascii


cdef bint read_body(
    const char* at, const char* end, char* room, playback_request* out, named* files, refusal* why
) noexcept nogil
