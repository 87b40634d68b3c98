from _fastpath.playback_json cimport named
from _fastpath.steering_manifest cimport piece

cdef struct playback_request:  # its texts point into the body
    unsigned seen
    piece service
    piece title
    piece session
    piece ip
    int n  # 0 where it is absent, and so is family
    int family
    int count  # of files


cdef bint read_body(const char* at, const char* end, playback_request* out, named* files) noexcept nogil
