# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The reader of playback bodies, JSON as back ends mostly write it: known members, each once, and plain ASCII.

Every other body, with escapes, a device, members that are not known or a mistake, is left to FastAPI's endpoint
(`steering/playback/http/playback_body.py`), which words the mistake.
"""

from _fastpath.playback_json cimport C_MAX_FILES, named
from _fastpath.ranking cimport C_MAX_SESSION, C_MAX_TITLE, is_dots
from _fastpath.request cimport (
    FAMILY,
    FILES,
    IP,
    N,
    SERVICE,
    SESSION,
    TITLE,
    check_digit,
    find_parameter,
)
from _fastpath.steering_manifest cimport piece

cdef enum:
    OF_BODY = 1 << TITLE | 1 << SERVICE | 1 << SESSION | 1 << N | 1 << FAMILY | 1 << IP | 1 << FILES


cdef bint read_body(const char* at, const char* end, playback_request* out, named* files) noexcept nogil:
    """Read a body into `out` and `files`, which has room for C_MAX_FILES; False where it is left to FastAPI."""
    cdef named name
    cdef int member
    out.seen = 0
    out.service.length = out.title.length = out.session.length = 0
    out.n = out.family = out.count = 0
    at = skip(at, end)
    if at == end or at[0] != b"{":
        return False
    at = skip(at + 1, end)
    while True:
        at = read_text(at, end, &name)
        if at == NULL:
            return False
        at = skip(at, end)
        member = find_parameter(name.text, name.length, OF_BODY)
        if member < 0 or out.seen & 1 << member or at == end or at[0] != b":":
            return False
        out.seen |= 1 << member
        at = skip(at + 1, end)
        if member == FILES:
            at = read_files(at, end, files, &out.count)
        elif member == N or member == FAMILY:
            if end - at < 2 or check_digit(member, at[0]) or is_in_number(at[1]):
                return False
            if member == N:
                out.n = at[0] - 48
            else:
                out.family = at[0] - 48
            at += 1
        else:
            at = read_text(at, end, &name)
            if at == NULL:
                return False
            if member == SERVICE:
                out.service = piece(name.text, name.length)
            elif member == SESSION:
                out.session = piece(name.text, name.length)
            elif member == IP:
                out.ip = piece(name.text, name.length)
            else:
                out.title = piece(name.text, name.length)
                if name.length and not is_title(&name):
                    return False
        if at == NULL:
            return False
        at = skip(at, end)
        if at == end or (at[0] != b"," and at[0] != b"}"):
            return False
        if at[0] == b"}":
            return skip(at + 1, end) == end and out.seen & 1 << FILES and out.session.length <= C_MAX_SESSION
        at = skip(at + 1, end)


cdef const char* read_files(const char* at, const char* end, named* files, int* count) noexcept nogil:
    """Read a list of names of files; return its end, NULL where one is odd."""
    if at == end or at[0] != b"[":
        return NULL
    while count[0] < C_MAX_FILES:
        at = read_text(skip(at + 1, end), end, files + count[0])
        if at == NULL or not is_title(files + count[0]):
            return NULL
        count[0] += 1
        at = skip(at, end)
        if at == end or (at[0] != b"," and at[0] != b"]"):
            return NULL
        if at[0] == b"]":
            return at + 1
    return NULL


cdef inline const char* read_text(const char* at, const char* end, named* out) noexcept nogil:
    """Read a JSON string without escapes, of ASCII; return its end, NULL where it is another."""
    if at == end or at[0] != b'"':
        return NULL
    at += 1
    out.text = at
    while at < end and 0x20 <= at[0] <= 0x7E and at[0] != b'"' and at[0] != b"\\":
        at += 1
    out.length = at - out.text
    return at + 1 if at < end and at[0] == b'"' else NULL


cdef inline bint is_title(const named* name) noexcept nogil:
    return 1 <= name.length <= C_MAX_TITLE and not is_dots(name.text, name.length)


cdef inline const char* skip(const char* at, const char* end) noexcept nogil:
    """Pass over the white space of JSON."""
    while at < end and (at[0] == b" " or at[0] == b"\n" or at[0] == b"\r" or at[0] == b"\t"):
        at += 1
    return at


cdef inline bint is_in_number(char character) noexcept nogil:
    return b"0" <= character <= b"9" or character == b"." or character == b"e" or character == b"E"
