# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The reader of playback bodies: JSON (RFC 8259) in one pass, with the rules of each member.

Members that are not known are passed over, and the last of a repeated one counts. The fast path takes what the reader
reads without room for escapes, in ASCII; FastAPI's endpoint gives it room, and words what it refuses.
"""

from collections import namedtuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp

from _fastpath.playback_json cimport C_MAX_FILES, named
from _fastpath.ranking cimport C_MAX_FAILED, C_MAX_SESSION, piece
from _fastpath.request cimport (
    ARE_APPLIANCES, ARE_FILES, BODY, COUNT, DEVICE, FAILED, FAMILY, FILES, IP, IS_A_DEVICE, IS_A_FAMILY, IS_A_NUMBER,
    IS_A_SERVICE, IS_A_SESSION, IS_A_TITLE, IS_AN_ADDRESS, IS_FOR_A_TITLE, IS_JSON, N, SERVICE, SESSION, TITLE,
    characters_of, check_digit, find_parameter, is_appliance, is_title, refusal, refuse, refused, text_of, value_of_hex,
)
from _fastpath.writing cimport join

from _fastpath.request import PARAMETERS, RULES, Refusal

cdef enum:
    OF_BODY = (
        1 << TITLE | 1 << SERVICE | 1 << SESSION | 1 << N | 1 << FAMILY | 1 << IP | 1 << FAILED | 1 << FILES
        | 1 << DEVICE
    )
    MAX_DEPTH = 64  # of values in one another
    ITEM = 1  # what `go_on` returns
    END = 0
    WRONG = -1

MAX_BODY = C_MAX_BODY
cdef dict _rules = {
    TITLE: IS_A_TITLE, SERVICE: IS_A_SERVICE, SESSION: IS_A_SESSION, N: IS_A_NUMBER, FAMILY: IS_A_FAMILY,
    IP: IS_AN_ADDRESS, FAILED: ARE_APPLIANCES, FILES: ARE_FILES, DEVICE: IS_A_DEVICE,
}
MEMBERS = {PARAMETERS[member]: RULES[rule] for member, rule in _rules.items()}
cdef int RULE_OF[COUNT]
for _member, _rule in _rules.items():
    RULE_OF[_member] = _rule

PlaybackRequest = namedtuple("PlaybackRequest", "title service session files device n family ip failed")

cdef struct reading:
    const char* at
    const char* end
    char* room  # for texts with escapes; NULL where none are read
    bint is_ascii


def read_playback_body(bytes body not None):
    cdef const char* at = PyBytes_AS_STRING(body)
    cdef bytes room = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(body))
    cdef playback_request found
    cdef refusal why
    cdef int i
    cdef named* files
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Refusal("body", body[error.start:].decode("latin-1"), RULES[IS_JSON]) from None
    files = <named*> malloc(C_MAX_FILES * sizeof(named))
    if files == NULL:
        raise MemoryError
    try:
        if not read_body(at, at + PyBytes_GET_SIZE(body), PyBytes_AS_STRING(room), &found, files, &why):
            raise refused(&why)
        return PlaybackRequest(
            text_of(&found.title),
            text_of(&found.service),
            text_of(&found.session),
            [files[i].text[:files[i].length].decode() for i in range(found.count)],
            found.device.at[:found.device.length] if found.seen & 1 << DEVICE else None,
            found.n,
            found.family,
            text_of(&found.ip) if found.seen & 1 << IP else None,
            tuple([text_of(found.failed + i) for i in range(found.failed_count)]),
        )
    finally:
        free(files)


cdef bint read_body(
    const char* at, const char* end, char* room, playback_request* out, named* files, refusal* why
) noexcept nogil:
    """Read a body into `out` and `files`, which has room for C_MAX_FILES; False where it is refused.

    `room` has as many bytes as the body, or is NULL: then a body with escapes is refused.
    """
    cdef reading body = reading(at, end, room, True)
    cdef piece rest
    out.seen = 0
    out.service.length = out.title.length = out.session.length = 0
    out.n = out.family = out.count = out.failed_count = 0
    why.parameter = WRONG
    if not read_members(&body, out, files, why):
        rest = piece(body.at, end - body.at)
        return False if why.parameter != WRONG else refuse(why, BODY, IS_JSON, &rest)
    out.is_ascii = body.is_ascii
    if out.seen & 1 << DEVICE and (out.count or not out.title.length):
        return refuse(why, DEVICE, IS_FOR_A_TITLE, &out.device)
    rest = piece(end, 0)
    return bool(out.count or out.seen & 1 << DEVICE) or refuse(why, FILES, ARE_FILES, &rest)


cdef bint read_members(reading* body, playback_request* out, named* files, refusal* why) noexcept nogil:
    cdef const char* start
    cdef piece name
    cdef int member, step = open_list(body, b"{")
    while step == ITEM:
        if not read_name(body, &name):
            return False
        member = find_parameter(name.at, name.length, OF_BODY)
        start = body.at
        if member < 0:
            if not skip_value(body, MAX_DEPTH):
                return False
        elif not read_member(body, member, out, files, why):
            if why.parameter == WRONG:
                body.at = start
                if skip_value(body, MAX_DEPTH):
                    name = piece(start, body.at - start)
                    refuse(why, member, RULE_OF[member], &name)
            return False
        step = go_on(body, b"}")
    skip_space(body)
    return step == END and body.at == body.end


cdef bint read_member(
    reading* body, int member, playback_request* out, named* files, refusal* why
) noexcept nogil:
    """Read the value of a member; False where it is refused, in `why` where it is a text that breaks its rule."""
    cdef const char* start = body.at
    cdef piece text
    out.seen &= ~(1 << member)
    if (member == IP or member == DEVICE) and start < body.end and start[0] == b"n":
        return skip_value(body, MAX_DEPTH)  # null
    out.seen |= 1 << member
    if member == FILES:
        return read_files(body, files, &out.count, why)
    if member == FAILED:
        return read_failed_list(body, out, why)
    if member == N or member == FAMILY:
        if not skip_value(body, 0) or check_digit(member, start[0]) or not is_digit_alone(start, body.at):
            return False
        if member == N:
            out.n = start[0] - 48
        else:
            out.family = start[0] - 48
        return True
    if member == DEVICE:
        if start == body.end or start[0] != b"{" or not skip_value(body, MAX_DEPTH):
            return False
        out.device = piece(start, body.at - start)
        return True
    if not read_text(body, &text):
        return False
    if member == SERVICE:
        out.service = text
    elif member == IP:
        out.ip = text
    elif member == SESSION:
        out.session = text
        return characters_of(&text) <= C_MAX_SESSION or refuse(why, SESSION, IS_A_SESSION, &text)
    else:
        out.title = text
        return text.length == 0 or is_title(&text) or refuse(why, TITLE, IS_A_TITLE, &text)
    return True


cdef bint read_files(reading* body, named* files, int* count, refusal* why) noexcept nogil:
    cdef piece text
    cdef int step = open_list(body, b"[")
    count[0] = 0
    while step == ITEM and count[0] < C_MAX_FILES and read_text(body, &text):
        if not is_title(&text):
            return refuse(why, FILES, ARE_FILES, &text)
        files[count[0]].text, files[count[0]].length = text.at, text.length
        count[0] += 1
        step = go_on(body, b"]")
    return step == END


cdef bint read_failed_list(reading* body, playback_request* out, refusal* why) noexcept nogil:
    cdef piece text
    cdef int step = open_list(body, b"[")
    out.failed_count = 0
    while step == ITEM and out.failed_count < C_MAX_FAILED and read_text(body, &text):
        if not is_appliance(&text):
            return refuse(why, FAILED, ARE_APPLIANCES, &text)
        out.failed[out.failed_count] = text
        out.failed_count += 1
        step = go_on(body, b"]")
    return step == END and out.failed_count > 0


cdef inline bint is_digit_alone(const char* digit, const char* end) noexcept nogil:
    """Return whether a JSON number that begins with a digit has only zeros behind it, as 3.0 has."""
    cdef const char* at = digit + 1
    while at < end and memchr(b".0eE+-", at[0], 6) != NULL:
        at += 1
    return at == end and (end == digit + 1 or digit[1] != b"0")


# ---- JSON


cdef inline void skip_space(reading* body) noexcept nogil:
    cdef const char* at = body.at
    while at < body.end and (at[0] == b" " or at[0] == b"\n" or at[0] == b"\r" or at[0] == b"\t"):
        at += 1
    body.at = at


cdef int open_list(reading* body, char opening) noexcept nogil:
    """Go to the first item of an object or an array; ITEM, END where it has none, or WRONG."""
    skip_space(body)
    if body.at == body.end or body.at[0] != opening:
        return WRONG
    body.at += 1
    skip_space(body)
    if body.at == body.end or body.at[0] != opening + 2:  # } is { + 2, and ] is [ + 2
        return ITEM
    body.at += 1
    return END


cdef int go_on(reading* body, char closing) noexcept nogil:
    """Go to the next item of an object or an array, likewise."""
    skip_space(body)
    if body.at == body.end or (body.at[0] != b"," and body.at[0] != closing):
        return WRONG
    body.at += 1
    if (body.at - 1)[0] == closing:
        return END
    skip_space(body)
    return ITEM


cdef inline bint read_name(reading* body, piece* name) noexcept nogil:
    """Read the name of a member and the colon behind it."""
    if not read_text(body, name):
        return False
    skip_space(body)
    if body.at == body.end or body.at[0] != b":":
        return False
    body.at += 1
    skip_space(body)
    return True


cdef bint skip_value(reading* body, int depth) noexcept nogil:
    """Pass over a value; `depth` is how many may lie in one another."""
    cdef piece text
    cdef char opening
    cdef int step
    if body.at == body.end:
        return False
    opening = body.at[0]
    if opening == b'"':
        return read_text(body, &text)
    if opening != b"{" and opening != b"[":
        return skip_word(body, b"true", 4) or skip_word(body, b"false", 5) or skip_word(body, b"null", 4) \
            or skip_number(body)
    if depth == 0:
        return False
    step = open_list(body, opening)
    while step == ITEM:
        if opening == b"{" and not read_name(body, &text):
            return False
        if not skip_value(body, depth - 1):
            return False
        step = go_on(body, opening + 2)
    return step == END


cdef inline bint skip_word(reading* body, const char* word, Py_ssize_t length) noexcept nogil:
    if body.end - body.at < length or memcmp(body.at, word, length) != 0:
        return False
    body.at += length
    return True


cdef bint skip_number(reading* body) noexcept nogil:
    cdef const char* end = body.end
    cdef const char* start = body.at + (body.at[0] == b"-")
    cdef const char* at = skip_digits(start, end)
    if at == start or (start[0] == b"0" and at > start + 1):
        return False
    if at < end and at[0] == b".":
        start = at + 1
        at = skip_digits(start, end)
        if at == start:
            return False
    if at < end and (at[0] == b"e" or at[0] == b"E"):
        start = at + 1
        start += start < end and (start[0] == b"+" or start[0] == b"-")
        at = skip_digits(start, end)
        if at == start:
            return False
    body.at = at
    return True


cdef inline const char* skip_digits(const char* at, const char* end) noexcept nogil:
    while at < end and b"0" <= at[0] <= b"9":
        at += 1
    return at


cdef bint read_text(reading* body, piece* out) noexcept nogil:
    """Read a string: in place, or written to the room where it has escapes."""
    cdef const char* at = body.at
    cdef const char* end = body.end
    cdef uint8_t seen = 0
    if at == end or at[0] != b'"':
        return False
    at += 1
    out.at = at
    while at < end and at[0] != b'"' and at[0] != b"\\" and <uint8_t> at[0] >= 0x20:
        seen |= <uint8_t> at[0]
        at += 1
    body.is_ascii = body.is_ascii and seen < 0x80
    body.at = at
    if at == end or at[0] != b'"':
        return read_escaped(body, out)
    out.length = at - out.at
    body.at = at + 1
    return True


cdef bint read_escaped(reading* body, piece* out) noexcept nogil:
    """Read the rest of a string that begins at `out` and has an escape at the present place."""
    cdef const char* at = body.at
    cdef char* room = body.room
    cdef long character
    if room == NULL:
        return False
    room = join(room, out.at, at - out.at)
    while at < body.end and at[0] != b'"' and <uint8_t> at[0] >= 0x20:
        if at[0] != b"\\":
            body.is_ascii = body.is_ascii and <uint8_t> at[0] < 0x80
            room[0] = at[0]
            room += 1
            at += 1
            continue
        body.at = at
        character = read_escape(&at, body.end)
        if character < 0:
            return False
        body.is_ascii = body.is_ascii and character < 0x80
        room = write_character(room, character)
    body.at = at
    if at == body.end or at[0] != b'"':
        return False
    out.at, out.length = body.room, room - body.room
    body.room = room
    body.at = at + 1
    return True


cdef long read_escape(const char** at, const char* end) noexcept nogil:
    """Return the character that an escape stands for, or a pair of surrogates; -1 where it stands for none."""
    cdef const char* plain = b'"\\/\b\f\n\r\t'
    cdef const char* letters = b'"\\/bfnrt'
    cdef const char* letter
    cdef long high, low
    if end - at[0] < 2:
        return -1
    if at[0][1] != b"u":
        letter = <const char*> memchr(letters, at[0][1], 8)
        at[0] += 2
        return -1 if letter == NULL else plain[letter - letters]
    high = read_unit(at[0], end)
    at[0] += 6
    if high < 0xD800 or high > 0xDFFF:
        return high
    low = read_unit(at[0], end)
    at[0] += 6
    if high > 0xDBFF or low < 0xDC00 or low > 0xDFFF:
        return -1
    return 0x10000 + ((high - 0xD800) << 10) + low - 0xDC00


cdef long read_unit(const char* at, const char* end) noexcept nogil:
    """Return the 16 bits of a `\\u` escape, -1 where there is none."""
    cdef long unit = 0
    cdef int i, digit
    if end - at < 6 or at[0] != b"\\" or at[1] != b"u":
        return -1
    for i in range(2, 6):
        digit = value_of_hex(at[i])
        if digit < 0:
            return -1
        unit = unit << 4 | digit
    return unit


cdef char* write_character(char* out, long character) noexcept nogil:
    """Write a character as UTF-8 (RFC 3629)."""
    cdef int following = 0 if character < 0x80 else 1 if character < 0x800 else 2 if character < 0x10000 else 3
    cdef int i
    out[0] = <char> (character >> 6 * following | (0xFF00 >> following + 1 & 0xFF if following else 0))
    for i in range(1, following + 1):
        out[i] = <char> (0x80 | character >> 6 * (following - i) & 0x3F)
    return out + following + 1
