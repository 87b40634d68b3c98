# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The reader of a request's head: header lines as well-behaved clients send them, in one pass, in place."""

from libc.string cimport memcmp

from _fastpath.characters cimport IN_NAME, IN_VALUE, is_in, is_name

cdef enum:
    MAX_LENGTH_DIGITS = 6  # of a Content-Length


cdef bint read_head(
    const char* at, const char* end, const piece* forwarded, head* out, body_head* body
) noexcept nogil:
    """Read from the end of the target to the empty line; False at a line that the fast path does not read.

    `forwarded` is the name of the header that names other hops, NULL where the peer is not trusted; `body` is NULL
    where no body may follow.
    """
    cdef const char* name
    cdef const char* value
    cdef Py_ssize_t length
    out.forwarded = NULL
    out.cmcd = False
    if end - at < 13 or memcmp(at, b" HTTP/1.1\r\n", 11) != 0:
        return False
    at += 11
    while True:
        if end - at < 2:
            return False
        if at[0] == b"\r":
            if at[1] != b"\n":
                return False
            out.end = at + 2
            return True
        name = at
        while at < end and is_in(at[0], IN_NAME):
            at += 1
        length = at - name
        if at == end or length == 0 or at[0] != b":":
            return False
        at += 1
        while at < end and (at[0] == b" " or at[0] == b"\t"):
            at += 1
        value = at
        while at < end and is_in(at[0], IN_VALUE):
            at += 1
        if end - at < 2 or at[0] != b"\r" or at[1] != b"\n":
            return False
        if body != NULL and read_body_line(name, length, value, at, body):
            if body.odd:
                return False
        elif forwarded != NULL and length == forwarded.length and is_name(name, forwarded.at, length):
            if out.forwarded != NULL:
                return False
            out.forwarded = value
            out.forwarded_end = at
        elif length == 10 and is_name(name, b"connection", 10):
            if at - value != 10 or not is_name(value, b"keep-alive", 10):
                return False
        elif (length == 11 or length == 12) and is_name(name, b"cmcd-", 5):
            out.cmcd = out.cmcd or is_cmcd(name + 5, length - 5)
        elif is_for_fastapi(name, length):
            return False
        at += 2


cdef inline bint is_for_fastapi(const char* name, Py_ssize_t length) noexcept nogil:
    """Return whether a header changes how a request or its connection is treated."""
    return (
        (length == 6 and is_name(name, b"expect", 6))
        or (length == 7 and is_name(name, b"upgrade", 7))
        or (length == 14 and is_name(name, b"content-length", 14))
        or (length == 16 and is_name(name, b"proxy-connection", 16))
        or (length == 17 and is_name(name, b"transfer-encoding", 17))
    )


cdef bint read_body_line(
    const char* name, Py_ssize_t length, const char* value, const char* end, body_head* body
) noexcept nogil:
    """Note a header line that describes a body, and whether it is odd; False for any other line."""
    cdef const char* at = value
    if length == 12 and is_name(name, b"content-type", 12):
        body.odd = body.typed or end - value < 16 or not is_name(value, b"application/json", 16)
        body.odd = body.odd or (end - value > 16 and value[16] != b";")
        body.typed = True
    elif length == 14 and is_name(name, b"content-length", 14):
        body.odd = body.length >= 0 or not 1 <= end - value <= MAX_LENGTH_DIGITS
        body.length = 0
        while at < end and b"0" <= at[0] <= b"9" and not body.odd:
            body.length = 10 * body.length + at[0] - 48
            at += 1
        body.odd = body.odd or at < end
    elif length == 15 and is_name(name, b"accept-encoding", 15):
        body.odd = body.accepts != NULL
        body.accepts, body.accepts_end = value, end
    elif length == 16 and is_name(name, b"content-encoding", 16):
        body.odd = True
    else:
        return False
    return True


cdef bint is_cmcd(const char* text, Py_ssize_t length) noexcept nogil:
    """Return whether a header is one of CMCD's, by what follows its `cmcd-`."""
    if length == 6:
        return is_name(text, b"object", 6) or is_name(text, b"status", 6)
    return is_name(text, b"request", 7) or is_name(text, b"session", 7)
