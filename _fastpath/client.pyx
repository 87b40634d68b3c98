# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The client of a request: the address that it comes from, and whether every hop that reports it is trusted.

The socket's address counts. Only where it lies in a trusted network, the one configured header is read: `Forwarded`
(RFC 7239) or `X-Forwarded-For`. It is walked from right to left, because each proxy appends the address that it saw.
The walk ends at the first hop that is not trusted: that hop is the client. What a client wrote further left is never
read. A hop that is not an address (`unknown`, `_hidden`, garbage) also ends the walk: the hop to its right is the
client, and the request is not trusted.

Trust is judged on addresses as they are, except that an IPv4-mapped address (RFC 4291; a dual-stack socket shows IPv4
so) counts as IPv4. A NAT64 or 6to4 address that embeds a trusted address is not trusted. The client's own address is
unwrapped once, after the walk.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memchr

from _fastpath.address cimport load_big_endian_32, load_big_endian_64, parse_v4, parse_v6
from _fastpath.characters cimport IN_ID, IN_NAME, LATIN_1_SPACE, is_in, is_name

MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291
UNKNOWN = bytes(4)  # 0.0.0.0, which no route covers: a caller on a Unix socket that names no client

cdef enum:
    MAX_FORWARDED = 4096  # bytes of the header
    MAX_HOPS = 32
    MAX_HOP = 256  # bytes; an obfuscated port may be long
    MAX_ADDRESS = 45

cdef struct hop:
    const char* text
    const char* end


cdef class Trust:
    def __cinit__(self, networks):
        cdef network* row
        if len(networks) > MAX_NETWORKS:
            raise ValueError(f"{len(networks)} trusted networks; at most {MAX_NETWORKS}")
        for each in networks:
            row = self.networks + self.count
            number, mask = int(each.network_address), int(each.netmask)
            row.family = each.version
            if each.version == 4:
                number, mask = number << 96, mask << 96
            row.high, row.low = number >> 64, number & 0xFFFFFFFFFFFFFFFF
            row.high_mask, row.low_mask = mask >> 64, mask & 0xFFFFFFFFFFFFFFFF
            self.count += 1

    def __contains__(self, bytes packed not None):
        cdef address client
        address_of_packed(packed, &client)
        return self.trusts(&client)

    cdef bint trusts(self, const address* hop) noexcept nogil:
        """Return whether an address lies in a trusted network."""
        cdef uint64_t high = hop.high, low = hop.low
        cdef const network* row
        cdef int i
        if hop.family == 4:
            high, low = <uint64_t> hop.four << 32, 0
        for i in range(self.count):
            row = self.networks + i
            if row.family == hop.family and high & row.high_mask == row.high and low & row.low_mask == row.low:
                return True
        return False

    cdef bint walk(self, const char* text, const char* end, bint is_forwarded, address* client) noexcept nogil:
        """Walk a header from `client`, a trusted peer, to the client; return whether every hop is trusted."""
        cdef hop hops[MAX_HOPS + 1]
        cdef hop last
        cdef char plain[MAX_HOP]
        cdef const char* start
        cdef const char* stop
        cdef unsigned elements = 0, count
        if end - text > MAX_FORWARDED:
            return False
        if is_forwarded:  # elements are only found from the left: the last ones are kept, in a ring
            while next_element(&text, end, hops + elements % (MAX_HOPS + 1)):
                elements += 1
            for count in range(min(elements, MAX_HOPS + 1)):
                last = hops[(elements - 1 - count) % (MAX_HOPS + 1)]
                if count == MAX_HOPS or not unquote(&last, plain) or not self.step(last.text, last.end, client):
                    return False
            return True
        while end > text:
            start = end
            while start > text and (start - 1)[0] != b",":
                start -= 1
            stop = end
            end = start - 1 if start > text else text
            while start < stop and is_in(start[0], LATIN_1_SPACE):
                start += 1
            while start < stop and is_in((stop - 1)[0], LATIN_1_SPACE):
                stop -= 1
            if start == stop:  # an empty element, RFC 9110 5.6.1
                continue
            if elements == MAX_HOPS or not self.step(start, stop, client):
                return False
            elements += 1
        return True

    cdef bint step(self, const char* text, const char* end, address* client) noexcept nogil:
        """Go to the next hop, if it is an address; return whether it is trusted."""
        cdef address found
        if not parse_hop(text, end, &found):
            return False
        client[0] = found
        return self.trusts(client)


cdef bint next_element(const char** text, const char* end, hop* out) noexcept nogil:
    """Read the next element of Forwarded (RFC 7239, section 4); False at the end.

    `out` is the value of its `for` as written; empty where there is none, or more than one, or the element is
    malformed. What follows a malformed element is not read, because it cannot be cut into elements.
    """
    cdef const char* at = text[0]
    cdef const char* name
    cdef const char* name_end
    cdef const char* value
    cdef int count = 0
    while at < end and (at[0] == b" " or at[0] == b"\t" or at[0] == b","):
        at += 1
    text[0] = end
    out.text = out.end = end
    if at == end:
        return False
    while True:
        at = skip_space(at, end)
        if at < end and at[0] != b"," and at[0] != b";":  # a pair may be empty
            name = at
            while at < end and is_in(at[0], IN_NAME):
                at += 1
            name_end = at
            if at == name or at == end or at[0] != b"=":
                break
            at += 1
            value = at
            if at < end and at[0] == b'"':
                at = end_of_quoted(at, end)
                if at == NULL:
                    break
            else:
                while at < end and not is_in(at[0], LATIN_1_SPACE) and memchr(b'",;', at[0], 3) == NULL:
                    at += 1
            if name_end - name == 3 and is_name(name, b"for", 3):
                out.text, out.end = value, at
                count += 1
            at = skip_space(at, end)
        if at == end or at[0] == b",":
            text[0] = at
            if count != 1:
                out.text = out.end = end
            return True
        if at[0] != b";":
            break
        at += 1
    out.text = out.end = end
    return True


cdef inline const char* skip_space(const char* at, const char* end) noexcept nogil:
    while at < end and is_in(at[0], LATIN_1_SPACE):
        at += 1
    return at


cdef const char* end_of_quoted(const char* at, const char* end) noexcept nogil:
    """Return the end of a quoted string (RFC 9110, 5.6.4), NULL where it has none."""
    at += 1
    while at < end and at[0] != b'"':
        if at[0] == b"\\":
            at += 1
            if at == end or at[0] == b"\n":
                return NULL
        at += 1
    return at + 1 if at < end else NULL


cdef bint unquote(hop* value, char* plain) noexcept nogil:
    """Replace a quoted string by what it quotes, written to `plain`; False where that is too long for an address."""
    cdef const char* at = value.text
    cdef Py_ssize_t length = 0
    if at == value.end or at[0] != b'"':
        return True
    at += 1
    while at < value.end - 1:
        at += at[0] == b"\\"
        if length == MAX_HOP:
            return False
        plain[length] = at[0]
        length += 1
        at += 1
    value.text, value.end = plain, plain + length
    return True


cdef bint parse_hop(const char* text, const char* end, address* out) noexcept nogil:
    """Read IPv4, IPv6 or IPv6 in brackets, with or without a port."""
    cdef const char* stop
    if text == end:
        return False
    if text[0] == b"[":
        stop = <const char*> memchr(text, b"]", end - text)
        if stop == NULL or memchr(text, b":", stop - text) == NULL:
            return False
        if stop + 1 < end and not is_port(stop + 1, end):
            return False
        return parse_address(text + 1, stop - text - 1, out)
    stop = <const char*> memchr(text, b":", end - text)
    if stop != NULL and memchr(text, b".", stop - text) != NULL:
        return is_port(stop, end) and parse_address(text, stop - text, out)
    return parse_address(text, end - text, out)


cdef inline bint is_port(const char* text, const char* end) noexcept nogil:
    """Return whether a text is a colon and one to five digits, or an obfuscated port: `_` and an id (RFC 7239, 6.3)."""
    cdef const char* start
    if end - text < 2 or text[0] != b":":
        return False
    text += 1
    if text[0] == b"_":
        start = text = text + 1
        while text < end and is_in(text[0], IN_ID):
            text += 1
        return text == end and text > start
    if end - text > 5:
        return False
    while text < end and b"0" <= text[0] <= b"9":
        text += 1
    return text == end


cdef bint parse_address(const char* text, Py_ssize_t length, address* out) noexcept nogil:
    """Read a text address without a zone id, an IPv4-mapped one as IPv4."""
    if not 1 <= length <= MAX_ADDRESS:
        return False
    if memchr(text, b":", length) == NULL:
        out.family = 4
        return parse_v4(text, length, &out.four)
    out.family = 6
    if not parse_v6(text, length, &out.high, &out.low):
        return False
    if out.high == 0 and out.low >> 32 == 0xFFFF:
        out.family = 4
        out.four = <uint32_t> out.low
    return True


cdef int choose_address(bint trusted, const char* text, Py_ssize_t length, address* client) noexcept nogil:
    """Make the value of `ip` the client, if every hop is trusted; return CHOSEN or the rule that it breaks."""
    if not trusted:
        return NOT_TRUSTED
    return CHOSEN if parse_address(text, length, client) else NOT_AN_ADDRESS


cdef void unwrap_address(address* client) noexcept nogil:
    """Take the IPv4 address out of a NAT64 (64:ff9b::/96, RFC 6052) or 6to4 (2002::/16, RFC 3056) address."""
    if client.family == 6:
        if client.high == 0x0064FF9B00000000u and client.low >> 32 == 0:
            client.family, client.four = 4, <uint32_t> client.low
        elif client.high >> 48 == 0x2002:
            client.family, client.four = 4, <uint32_t> (client.high >> 16)


cdef int address_of_packed(bytes packed, address* out) except -1:
    """Read a packed address of 4 or 16 bytes, as it is."""
    cdef const unsigned char* data = <const unsigned char*> PyBytes_AS_STRING(packed)
    if PyBytes_GET_SIZE(packed) == 4:
        out[0] = address(4, load_big_endian_32(data), 0, 0)
    elif PyBytes_GET_SIZE(packed) == 16:
        out[0] = address(6, 0, load_big_endian_64(data), load_big_endian_64(data + 8))
    else:
        raise ValueError(f"a packed address has 4 or 16 bytes, this one has {len(packed)}")
    return 0


cdef bytes packed_of_address(const address* client):
    if client.family == 4:
        return client.four.to_bytes(4, "big")
    return client.high.to_bytes(8, "big") + client.low.to_bytes(8, "big")


def pack(str text not None):
    cdef bytes data = text.encode(errors="replace")
    cdef address found
    if not parse_address(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &found):
        return None
    return packed_of_address(&found)


def unwrap(bytes packed not None):
    cdef address client
    address_of_packed(packed, &client)
    unwrap_address(&client)
    return packed_of_address(&client)


def split_forwarded(bytes value not None):
    cdef const char* at = PyBytes_AS_STRING(value)
    cdef const char* end = at + PyBytes_GET_SIZE(value)
    cdef hop element
    cdef char plain[MAX_HOP]
    found = []
    while next_element(&at, end, &element):
        unquote(&element, plain)
        found.append(element.text[:element.end - element.text])
    return found
