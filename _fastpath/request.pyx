# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The reader of requests: from raw bytes to a request, or to a refusal with parameter, value and rule.

The fast path and FastAPI's endpoints read with the same functions, so there is one set of rules. This module has the
parameters, their rules and the query of /v1/steer; `hints` has players' requests, `body` playback bodies, `head` header
lines, `client` addresses. The inner functions are C and make no Python object; what they read points into the request,
or into `room`, which the caller gives: as many bytes as the query has, three times as many where it may hold bytes that
are not ASCII.

Parameters are `name=value` with `&` between. Names stand as written; values are percent-encoded UTF-8 in which `+` is a
space (the WHATWG form). A known parameter stands once, and the first mistake is refused. Unknown ones are ignored.
"""

from collections import namedtuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp, memcpy

from _fastpath.characters cimport IN_ID, SPACE, are_plain, is_in
from _fastpath.client cimport (
    CHOSEN, NOT_TRUSTED, Trust, address, choose_address, packed_of_address, parse_address, unwrap_address,
)
from _fastpath.playback_json cimport C_MAX_FILES
from _fastpath.ranking cimport C_MAX_FAILED, C_MAX_PICKS, C_MAX_SESSION, C_MAX_TITLE, piece

PARAMETERS = (
    "title", "service", "session", "n", "family", "ip", "explain", "redirect", "failed", "CMCD", "player", "declared",
    "pathway", "throughput", "files", "device", "body",
)

cdef enum:
    OF_STEER = (1 << PLAYER) - 1
    MAX_HOST = 253  # characters of a name in the DNS

RULES = (
    "is required", "is given twice", "a % is followed by two hexadecimal digits", "its bytes are UTF-8",
    f"a number from 1 to {C_MAX_PICKS}", "4 or 6", "0 or 1", "not together with explain=1",
    "an IPv4 or IPv6 address without a zone id", f"1 to {C_MAX_TITLE} bytes of UTF-8, and not . or ..",
    f"at most {C_MAX_SESSION} characters", "the name of a service",
    f"1 to {C_MAX_FILES} names, each of 1 to {C_MAX_TITLE} bytes of UTF-8, not . or .., none twice",
    "what it plays: codecs and protocols, lists of names, max_height, a number, and hdr, true or false",
    "comes with a title, and in the place of files", "one JSON object in UTF-8",
    f"1 to {C_MAX_FAILED} ids or hosts of appliances, with commas between",
)
IP_IS_TRUSTED = "only callers whose every hop is trusted may ask for others"
N_RULE, IP_RULE, TITLE_RULE = RULES[IS_A_NUMBER], RULES[IS_AN_ADDRESS], RULES[IS_A_TITLE]
SESSION_RULE, FILES_RULE, DEVICE_RULE = RULES[IS_A_SESSION], RULES[ARE_FILES], RULES[IS_A_DEVICE]

cdef list _names = [name.encode() for name in PARAMETERS]
cdef piece NAMES[COUNT]
for _i in range(COUNT):
    NAMES[_i] = piece(PyBytes_AS_STRING(_names[_i]), PyBytes_GET_SIZE(_names[_i]))

Client = namedtuple("Client", "packed trusted")
SteerRequest = namedtuple(
    "SteerRequest", "title service session n family ip explain redirect failed",
    defaults=("", 0, 0, None, False, False, ()),
)


class Refusal(Exception):
    def __init__(self, parameter, value, rule, status=400):
        super().__init__(f"{parameter} = {value!r}: {rule}")
        self.parameter = parameter
        self.value = value
        self.rule = rule
        self.status = status


def read_steer_query(bytes query not None, str default_service not None):
    cdef const char* at = PyBytes_AS_STRING(query)
    cdef bytes room = room_for(query)
    cdef steer_request found
    cdef refusal why
    cdef piece failed[C_MAX_FAILED]
    cdef bint wrong
    if not read_steer(at, at + PyBytes_GET_SIZE(query), PyBytes_AS_STRING(room), &found, &why):
        raise refused(&why)
    return SteerRequest(
        text_of(&found.title),
        text_of(&found.service) if found.seen & 1 << SERVICE else default_service,
        text_of(&found.session),
        found.n,
        found.family,
        text_of(&found.ip) if found.seen & 1 << IP else None,
        bool(found.explain),
        bool(found.redirect),
        tuple([text_of(failed + i) for i in range(read_failed(&found.failed, failed, &wrong))]),
    )


def find_client(str peer, headers, Trust trust not None, str header not None, str ip=None):
    cdef address client = address(4, 0, 0, 0)
    cdef bint trusted = True
    cdef bytes data
    if peer is not None:
        data = peer.encode(errors="replace")
        trusted = parse_address(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &client)
        if not trusted:
            client = address(4, 0, 0, 0)
        trusted = trusted and trust.trusts(&client)
    if trusted:
        name = header.encode()
        data = b",".join([value for key, value in headers if key == name])
        trusted = trust.walk(
            PyBytes_AS_STRING(data), PyBytes_AS_STRING(data) + PyBytes_GET_SIZE(data), header == "forwarded", &client
        )
    unwrap_address(&client)
    found = Client(packed_of_address(&client), bool(trusted))
    return found if ip is None else find_other(found, ip)


def find_other(caller, str ip not None):
    cdef bytes data = ip.encode(errors="replace")
    cdef address client
    cdef int rule = choose_address(caller.trusted, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &client)
    if rule == NOT_TRUSTED:
        raise Refusal("ip", ip, IP_IS_TRUSTED, 403)
    if rule != CHOSEN:
        raise Refusal("ip", ip, IP_RULE)
    unwrap_address(&client)
    return Client(packed_of_address(&client), True)


cdef object refused(const refusal* why):
    """Return the exception for a refusal of the inner readers; a value that cannot be decoded is shown as it is."""
    is_raw = why.rule == IS_ESCAPED or why.rule == IS_UTF8
    value = why.value.at[:why.value.length].decode("latin-1") if is_raw else text_of(&why.value)
    return Refusal(PARAMETERS[why.parameter], value, RULES[why.rule])


cdef bytes room_for(bytes raw):
    """Return room for what is decoded of raw bytes: one that is not UTF-8 becomes three."""
    return PyBytes_FromStringAndSize(NULL, 3 * PyBytes_GET_SIZE(raw))


cdef str text_of(const piece* text):
    return text.at[:text.length].decode() if text.length else ""


cdef bint read_steer(const char* at, const char* end, char* room, steer_request* out, refusal* why) noexcept nogil:
    """Read the query of /v1/steer; False where it is refused, with the first mistake in `why`."""
    cdef piece values[FAILED + 1]
    cdef piece failed[C_MAX_FAILED]
    cdef piece value, raw
    cdef const char* name
    cdef const char* stop
    cdef int parameter
    cdef unsigned flags, all_flags = 0
    cdef bint wrong
    out.seen = 0
    for parameter in range(FAILED + 1):
        values[parameter].length = 0
    while at < end:
        name = at
        at = split_parameter(at, end, &stop, &raw)
        parameter = find_parameter(name, stop - name, OF_STEER)
        if parameter == CMCD:
            out.seen |= 1 << CMCD
        if parameter < 0 or parameter == CMCD:
            continue
        flags = 0
        value = piece(room, decode(raw.at, raw.at + raw.length, room, True, &flags))
        room += value.length
        all_flags |= flags
        if flags & WRONG_ESCAPE:
            return refuse(why, parameter, IS_ESCAPED, &raw)
        if flags & NOT_UTF8:
            return refuse(why, parameter, IS_UTF8, &raw)
        if out.seen & 1 << parameter:
            return refuse(why, parameter, IS_GIVEN_ONCE, &value)
        out.seen |= 1 << parameter
        values[parameter] = value
    if not out.seen & 1 << TITLE:
        return refuse(why, TITLE, IS_REQUIRED, values + TITLE)
    if not check(EXPLAIN, out.seen, values, why) or not check(REDIRECT, out.seen, values, why):
        return False
    out.explain, out.redirect = digit_of(values + EXPLAIN) == b"1", digit_of(values + REDIRECT) == b"1"
    if out.explain and out.redirect:
        return refuse(why, REDIRECT, IS_NOT_WITH_EXPLAIN, values + REDIRECT)
    if not check(N, out.seen, values, why) or not check(FAMILY, out.seen, values, why):
        return False
    if out.seen & 1 << FAILED:
        read_failed(values + FAILED, failed, &wrong)
        if wrong:
            return refuse(why, FAILED, ARE_APPLIANCES, values + FAILED)
    out.failed = values[FAILED]
    out.title, out.service, out.session, out.ip = values[TITLE], values[SERVICE], values[SESSION], values[IP]
    out.n = digit_of(values + N) - 48 if out.seen & 1 << N else 0
    out.family = digit_of(values + FAMILY) - 48 if out.seen & 1 << FAMILY else 0
    out.is_ascii = not all_flags & NOT_ASCII
    return True


cdef bint refuse(refusal* why, int parameter, int rule, const piece* value) noexcept nogil:
    why[0] = refusal(parameter, rule, value[0])
    return False


cdef inline bint check(int parameter, unsigned seen, const piece* values, refusal* why) noexcept nogil:
    """Return whether a parameter of one character is absent or obeys its rule; `why` has the refusal."""
    cdef int rule = check_digit(parameter, digit_of(values + parameter)) if seen & 1 << parameter else 0
    return rule == 0 or refuse(why, parameter, rule, values + parameter)


cdef int check_digit(int parameter, char digit) noexcept nogil:
    """Return the rule that the one character of a parameter breaks, 0 for none."""
    if parameter == N:
        return 0 if 1 <= digit - 48 <= C_MAX_PICKS else IS_A_NUMBER
    if parameter == FAMILY:
        return 0 if digit == b"4" or digit == b"6" else IS_A_FAMILY
    return 0 if digit == b"0" or digit == b"1" else IS_A_FLAG


cdef Py_ssize_t characters_of(const piece* text) noexcept nogil:
    """Return how many characters a text of UTF-8 has."""
    cdef Py_ssize_t i, count = 0
    for i in range(text.length):
        count += <uint8_t> text.at[i] & 0xC0 != 0x80
    return count


cdef char digit_of(const piece* value) noexcept nogil:
    """Return a value of one character, 0 for any other."""
    return value.at[0] if value.length == 1 else 0


cdef const char* split_parameter(const char* at, const char* end, const char** name_end, piece* value) noexcept nogil:
    """Cut a parameter into the name that begins at `at` and its value; return where the next one begins."""
    cdef const char* stop = <const char*> memchr(at, b"&", end - at)
    if stop == NULL:
        stop = end
    name_end[0] = <const char*> memchr(at, b"=", stop - at)
    if name_end[0] == NULL:
        name_end[0] = stop
    value.at = name_end[0] + (name_end[0] < stop)
    value.length = stop - value.at
    return stop + 1


cdef int find_parameter(const char* name, Py_ssize_t length, unsigned among) noexcept nogil:
    """Return the index of a parameter or member that is among these bits, -1 of any other."""
    cdef int i
    for i in range(COUNT):
        if NAMES[i].length == length and among >> i & 1 and memcmp(NAMES[i].at, name, length) == 0:
            return i
    return -1


cdef Py_ssize_t decode(
    const char* at, const char* end, char* out, bint plus_is_space, unsigned* flags
) noexcept nogil:
    """Write a value percent-decoded, and return its length. It is UTF-8, whatever the value is:

    a wrong escape stays as it is, and bytes that are not UTF-8 become U+FFFD, as many as Python's `replace` makes.
    """
    cdef Py_ssize_t length = 0, start = 0
    cdef int high, low, missing = 0  # bytes of a character
    cdef uint8_t byte, least = 0x80, most = 0xBF  # which the next one may be
    while end - at >= 8 and are_plain(at):
        memcpy(out + length, at, 8)
        at += 8
        length += 8
    while at < end:
        byte = at[0]
        at += 1
        if byte == b"+" and plus_is_space:
            byte = b" "
        elif byte == b"%":
            high = value_of_hex(at[0]) if end - at >= 2 else -1
            low = value_of_hex(at[1]) if end - at >= 2 else -1
            if high < 0 or low < 0:
                flags[0] |= WRONG_ESCAPE
            else:
                byte = high << 4 | low
                at += 2
        if byte < 0x80 and not missing:
            out[length] = byte
            length += 1
            continue
        flags[0] |= NOT_ASCII
        if missing and least <= byte <= most:
            out[length] = byte
            length += 1
            missing -= 1
            least, most = 0x80, 0xBF
            continue
        if missing:
            flags[0] |= NOT_UTF8
            length = put_replacement(out, start)
        start = length
        missing = follow(byte, &least, &most)
        if missing < 0:
            flags[0] |= NOT_UTF8
            length = put_replacement(out, length)
            missing = 0
        else:
            out[length] = byte
            length += 1
    if missing:
        flags[0] |= NOT_UTF8
        length = put_replacement(out, start)
    return length


cdef inline int follow(uint8_t byte, uint8_t* least, uint8_t* most) noexcept nogil:
    """Return how many bytes follow the first of a UTF-8 character (RFC 3629), and within what the next is; -1: none."""
    least[0], most[0] = 0x80, 0xBF
    if byte < 0x80:
        return 0
    if byte < 0xC2 or byte > 0xF4:
        return -1
    if byte == 0xE0:
        least[0] = 0xA0
    elif byte == 0xED:
        most[0] = 0x9F
    elif byte == 0xF0:
        least[0] = 0x90
    elif byte == 0xF4:
        most[0] = 0x8F
    return 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3


cdef inline Py_ssize_t put_replacement(char* out, Py_ssize_t at) noexcept nogil:
    out[at], out[at + 1], out[at + 2] = <char> 0xEF, <char> 0xBF, <char> 0xBD
    return at + 3


cdef int value_of_hex(char character) noexcept nogil:
    """Return the value of a hexadecimal digit, -1 for any other character."""
    if b"0" <= character <= b"9":
        return character - 48
    if b"a" <= character <= b"f":
        return character - 87
    if b"A" <= character <= b"F":
        return character - 55
    return -1


cdef void open_list(const char** at, const char** end) noexcept nogil:
    """Leave out the space around a list with commas, and a pair of quotes; NULL for an empty one."""
    while at[0] < end[0] and is_in(at[0][0], SPACE):
        at[0] += 1
    while at[0] < end[0] and is_in((end[0] - 1)[0], SPACE):
        end[0] -= 1
    if end[0] - at[0] >= 2 and at[0][0] == b'"' and (end[0] - 1)[0] == b'"':
        at[0] += 1
        end[0] -= 1
    if at[0] == end[0]:
        at[0] = NULL


cdef void next_item(const char** at, const char* end, piece* item) noexcept nogil:
    """Take the next item of a list, without the space around it; `at` is NULL after the last."""
    cdef const char* stop = <const char*> memchr(at[0], b",", end - at[0])
    item.at = at[0]
    at[0] = stop + 1 if stop != NULL else NULL
    if stop == NULL:
        stop = end
    while item.at < stop and is_in(item.at[0], SPACE):
        item.at += 1
    while item.at < stop and is_in((stop - 1)[0], SPACE):
        stop -= 1
    item.length = stop - item.at


cdef int read_failed(const piece* text, piece* failed, bint* wrong) noexcept nogil:
    """Read a list of ids or hosts of appliances; return how many there are, and whether one is wrong or too many."""
    cdef const char* at = text.at
    cdef const char* end = at + text.length
    cdef piece item
    cdef int count = 0
    open_list(&at, &end)
    wrong[0] = at == NULL
    while at != NULL and not wrong[0]:
        next_item(&at, end, &item)
        wrong[0] = count == C_MAX_FAILED or not is_appliance(&item)
        if not wrong[0]:
            failed[count] = item
            count += 1
    return count


cdef bint is_appliance(const piece* text) noexcept nogil:
    """Return whether a text can be the id or the host of an appliance."""
    cdef Py_ssize_t i
    for i in range(min(text.length, MAX_HOST)):
        if not is_in(text.at[i], IN_ID):
            return False
    return 1 <= text.length <= MAX_HOST
