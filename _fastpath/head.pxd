from _fastpath.ranking cimport piece

cdef enum:
    C_MAX_HEAD = 16384

cdef struct head:
    const char* end  # past the empty line
    const char* forwarded  # the value of the header that names other hops, NULL where there is none
    const char* forwarded_end
    bint cmcd  # one of the headers that players report by

cdef struct body_head:  # the header lines that describe a body
    Py_ssize_t length  # -1 without Content-Length
    const char* accepts
    const char* accepts_end
    bint typed
    bint odd


cdef bint read_head(
    const char* at, const char* end, const piece* forwarded, head* out, body_head* body
) noexcept nogil
