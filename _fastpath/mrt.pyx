# cython: wraparound=False, initializedcheck=False, cdivision=True
"""MRT table dumps to columns: TABLE_DUMP_V2 (RFC 6396), IPv4 and IPv6 unicast, with and without ADD-PATH (RFC 8050).

A dump repeats itself: a million routes have some hundred thousand distinct attributes. A route becomes a row, and its
value is its *kind*: the number of a distinct (peer, attributes). Attributes are decoded once a kind.

Lengths come from outside: every read is checked against the end of its record, and that against the end of the file.
What is wrong inside a record is a refusal with the record's offset, and the next record is read; a record that ends
beyond the file means that the file is cut off.

A router that dumps again and again may append to one file. Each dump begins with a peer index table; where the same
collector's same view begins again, only its last dump counts.
"""

import ipaddress
import os
from array import array

from cpython cimport array as c_array
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from _fastpath.texts cimport text_piece, text_table, texts_begin, texts_end, texts_number

TABLE_DUMP_V2 = 13
ORIGINS = 3  # IGP, EGP, INCOMPLETE
MAX_PATH = 255  # ASNs in a path
MAX_COMMUNITIES = 64

cdef enum:
    HEADER = 12
    PEER_INDEX_TABLE = 1
    RIB_IPV4_UNICAST = 2
    RIB_IPV6_UNICAST = 4
    RIB_IPV4_UNICAST_ADDPATH = 8
    RIB_IPV6_UNICAST_ADDPATH = 10
    NO_PEER = 0xFFFFFFFF
    KEPT = 1000


cdef inline uint32_t u16(const uint8_t* at) noexcept nogil:
    return <uint32_t> at[0] << 8 | at[1]


cdef inline uint32_t u32(const uint8_t* at) noexcept nogil:
    return <uint32_t> at[0] << 24 | <uint32_t> at[1] << 16 | <uint32_t> at[2] << 8 | at[3]


cdef class Reader:
    """One pass over a dump: the distinct attributes, tagged with their peer, and rows of both families."""

    cdef text_table kinds
    cdef list refusals
    cdef dict refused_by
    cdef Py_ssize_t used[2]   # rows, by family
    cdef list rows            # by family: high, low, length, value, row

    def __cinit__(self, Py_ssize_t limit4, Py_ssize_t limit6):
        if not texts_begin(&self.kinds, int.from_bytes(os.urandom(8), "little")):
            raise MemoryError
        self.refusals = []
        self.refused_by = {}
        self.used[0] = self.used[1] = 0
        self.rows = [columns(limit4), columns(limit6)]

    def __dealloc__(self):
        texts_end(&self.kinds)

    cdef int refuse(self, Py_ssize_t offset, str value, str rule) except -1:
        if len(self.refusals) < KEPT:
            self.refusals.append((offset, value, rule))
        name = rule.partition(";")[0]
        self.refused_by[name] = self.refused_by.get(name, 0) + 1
        return 0

    cdef int read_rib(
        self, const uint8_t* at, const uint8_t* end, Py_ssize_t offset, int six, bint paths, const uint32_t[::1] peers
    ) except -1:
        """Read one record: a prefix and its entries."""
        cdef uint32_t length, entries, peer, size, i
        cdef int64_t value
        cdef uint64_t high = 0, low = 0
        cdef uint8_t packed[16]
        cdef Py_ssize_t row
        cdef tuple out = self.rows[six]
        cdef uint32_t head = 12 if paths else 8
        if end - at < 5:
            return self.refuse(offset, "", "a record holds a prefix")
        length = at[4]
        at += 5
        if length > (128 if six else 32):
            return self.refuse(offset, f"/{length}", f"an IPv{6 if six else 4} length is at most {128 if six else 32}")
        if end - at < (length + 7) // 8 + 2:
            return self.refuse(offset, f"/{length}", "a record holds its prefix")
        for i in range(16):
            packed[i] = at[i] if i < (length + 7) // 8 else 0
        for i in range(8):
            high = high << 8 | packed[i]
            low = low << 8 | packed[i + 8]
        # Bits behind the length are irrelevant (RFC 4271, section 4.3).
        if length < 64:
            high &= ~(~(<uint64_t> 0) >> length)
            low = 0
        elif length < 128:
            low &= ~(~(<uint64_t> 0) >> (length - 64)) if length > 64 else 0
        at += (length + 7) // 8
        entries = u16(at)
        at += 2
        for _ in range(entries):
            if end - at < head:
                return self.refuse(offset, prefix_text(high, low, length, six), "a record holds all its entries")
            peer, size = u16(at), u16(at + head - 2)
            at += head
            if end - at < size:
                return self.refuse(offset, prefix_text(high, low, length, six), "an entry holds its attributes")
            if peer >= peers.shape[0]:
                self.refuse(
                    offset, prefix_text(high, low, length, six),
                    f"an entry's peer is in the peer index; it has {peers.shape[0]}, not {peer}",
                )
            else:
                value = texts_number(&self.kinds, peers[peer], <const char*> at, size)
                if value < 0:
                    raise MemoryError
                row = self.used[six]
                (<c_array.array> out[0]).data.as_ulonglongs[row] = high
                (<c_array.array> out[1]).data.as_ulonglongs[row] = low
                (<c_array.array> out[2]).data.as_uchars[row] = <uint8_t> length
                (<c_array.array> out[3]).data.as_uints[row] = <uint32_t> value
                (<c_array.array> out[4]).data.as_uints[row] = <uint32_t> offset
                self.used[six] = row + 1
            at += size
        return 0

    cdef list all_kinds(self):
        cdef const text_piece* found = self.kinds.pieces
        cdef uint32_t i
        return [(found[i].tag, found[i].at[:found[i].length]) for i in range(self.kinds.count)]


cdef tuple columns(Py_ssize_t count):
    return tuple([c_array.clone(array(code), count, zero=False) if count else array(code) for code in "QQBII"])


cdef str prefix_text(uint64_t high, uint64_t low, uint32_t length, int six):
    number = (<object> high) << 64 | <object> low
    address = ipaddress.IPv6Address(number) if six else ipaddress.IPv4Address(number >> 96)
    return f"{address}/{length}"


def read(bytes data not None):
    """Return (peers, columns, kinds, refusals, refused_by, skipped) of an unpacked dump.

    Peers are (address, ASN), numbered over all the file's peer index tables. Columns are by family 4 and 6: arrays
    high, low (Q), length (B), value, row (I); a row's value is its kind and `row` the offset of its record. Kinds are
    (peer, attributes as bytes). Refusals are (offset, value, rule), the first 1,000; `refused_by` counts them by rule.
    `skipped` counts the records of other types, and of dumps that a later one replaces. ValueError where the file is
    cut off, or no such dump.
    """
    cdef const uint8_t* start = data
    cdef const uint8_t* end = start + len(data)
    cdef const uint8_t* at = start
    cdef uint32_t type_, subtype, size
    cdef Py_ssize_t limits[2]
    cdef Py_ssize_t skipped = 0, entries
    cdef int six
    cdef bint paths, indexed = False, replaced = False
    cdef dict numbers = {}, last = {}
    cdef uint32_t[::1] peers = array("I", [0])
    limits[0] = limits[1] = 0
    while at < end:
        if end - at < HEADER:
            raise ValueError(f"cut off at byte {at - start}")
        subtype, size = u16(at + 6), u32(at + 8)
        if end - at - HEADER < size:
            raise ValueError(f"cut off: the record at byte {at - start} has {size} bytes, {end - at - HEADER} are here")
        if u16(at + 4) == 13 and subtype == PEER_INDEX_TABLE:
            last[view_of(data[at - start + HEADER:at - start + HEADER + size])] = at - start
        elif u16(at + 4) == 13:
            six = subtype == RIB_IPV6_UNICAST or subtype == RIB_IPV6_UNICAST_ADDPATH
            if six or subtype == RIB_IPV4_UNICAST or subtype == RIB_IPV4_UNICAST_ADDPATH:
                limits[six] += rows_in(at + HEADER, size)
        at += HEADER + size
    cdef Reader reader = Reader(limits[0], limits[1])
    at = start
    while at < end:
        type_, subtype, size = u16(at + 4), u16(at + 6), u32(at + 8)
        six = subtype == RIB_IPV6_UNICAST or subtype == RIB_IPV6_UNICAST_ADDPATH
        paths = subtype == RIB_IPV4_UNICAST_ADDPATH or subtype == RIB_IPV6_UNICAST_ADDPATH
        if type_ != 13:
            skipped += 1
        elif subtype == PEER_INDEX_TABLE:
            table = data[at - start + HEADER:at - start + HEADER + size]
            replaced = last[view_of(table)] != at - start
            if not replaced:
                peers = array("I", read_peers(table, numbers))
            indexed = True
        elif replaced:
            skipped += 1
        elif six or paths or subtype == RIB_IPV4_UNICAST:
            if not indexed:
                raise ValueError(f"the record at byte {at - start} stands before any peer index table")
            reader.read_rib(at + HEADER, at + HEADER + size, at - start, six, paths, peers)
        else:
            skipped += 1
        at += HEADER + size
    if not indexed:
        raise ValueError("holds no table dump (TABLE_DUMP_V2, RFC 6396)")
    found = {}
    for six in range(2):
        entries = reader.used[six]
        for column in reader.rows[six]:
            c_array.resize(column, entries)
        found[6 if six else 4] = reader.rows[six]
    return list(numbers), found, reader.all_kinds(), reader.refusals, reader.refused_by, skipped


cdef Py_ssize_t rows_in(const uint8_t* at, uint32_t size) noexcept nogil:
    """Return how many rows a record can have: what it says, and no more than its bytes allow."""
    cdef uint32_t prefix
    if size < 5:
        return 0
    prefix = (at[4] + 7) // 8
    if size < 7 + prefix:
        return 0
    return min(u16(at + 5 + prefix), (size - 7 - prefix) // 8 + 1)


cdef bytes view_of(bytes table):
    """Return the collector and view that a PEER_INDEX_TABLE begins a dump of."""
    cdef const uint8_t* at = table
    if len(table) < 8 or len(table) < 8 + u16(at + 4):
        raise ValueError("a peer index table names its collector and view")
    return table[:6 + u16(at + 4)]


cdef list read_peers(bytes table, dict numbers):
    """Return the number of each peer of a PEER_INDEX_TABLE, given in `numbers` by (address, ASN)."""
    cdef const uint8_t* at = table
    cdef const uint8_t* end = at + len(table)
    cdef uint32_t count, kind_, i, asn, width
    cdef list found = []
    at += 6 + u16(at + 4)
    count = u16(at)
    at += 2
    for i in range(count):
        if end - at < 1:
            raise ValueError(f"a peer index table of {count} peers ends at peer {i}")
        kind_ = at[0]
        width = 16 if kind_ & 1 else 4
        if end - at < 5 + width + (4 if kind_ & 2 else 2):
            raise ValueError(f"a peer index table of {count} peers ends at peer {i}")
        address = ipaddress.ip_address(at[5:5 + width])
        at += 5 + width
        asn = u32(at) if kind_ & 2 else u16(at)
        at += 4 if kind_ & 2 else 2
        found.append(numbers.setdefault((str(address), asn), len(numbers)))
    return found


def attributes(bytes packed not None):
    """Return (AS path, has sets, origin, MED, communities) of a route's path attributes (RFC 4271, RFC 1997, RFC 8092).

    The path is ASNs, nearest first, those of sets left out. A missing MED is 0, a missing origin INCOMPLETE.
    Communities are texts, large ones with three numbers. ValueError names the rule that the bytes break.
    """
    cdef const uint8_t* at = packed
    cdef const uint8_t* end = at + len(packed)
    cdef uint32_t flags, code, size, i, j, segment, count
    cdef uint32_t origin = 2, med = 0
    cdef bint sets = False
    cdef uint64_t seen[4]
    cdef list path = [], communities = []
    seen[0] = seen[1] = seen[2] = seen[3] = 0
    while at < end:
        if end - at < 3 or (at[0] & 0x10 and end - at < 4):
            raise ValueError("attributes end with an attribute")
        flags, code = at[0], at[1]
        size = u16(at + 2) if flags & 0x10 else at[2]
        at += 4 if flags & 0x10 else 3
        if end - at < size:
            raise ValueError(f"an attribute ends within the attributes; attribute {code} has {size} bytes")
        if seen[code >> 6] >> (code & 63) & 1:
            at += size  # only the first of its kind counts (RFC 7606, section 3)
            continue
        seen[code >> 6] |= <uint64_t> 1 << (code & 63)
        if code == 1:
            if size != 1 or at[0] >= 3:
                raise ValueError("ORIGIN is 0, 1 or 2, in one byte")
            origin = at[0]
        elif code == 2:
            i = 0
            while i < size:
                if size - i < 2 or size - i - 2 < 4 * <uint32_t> at[i + 1]:
                    raise ValueError("AS_PATH ends with a segment")
                segment, count = at[i], at[i + 1]
                i += 2
                if segment == 1 or segment == 4:
                    sets = True
                elif segment != 2 and segment != 3:
                    raise ValueError(f"a segment of AS_PATH has type 1 to 4; not {segment}")
                elif segment == 2:
                    for j in range(count):
                        path.append(u32(at + i + 4 * j))
                i += 4 * count
                if len(path) > MAX_PATH:
                    raise ValueError(f"an AS path has at most {MAX_PATH} ASNs")
        elif code == 4:
            if size != 4:
                raise ValueError("MULTI_EXIT_DISC has four bytes")
            med = u32(at)
        elif code == 8:
            if size % 4:
                raise ValueError("COMMUNITIES have four bytes each")
            for i in range(0, size, 4):
                communities.append(f"{u16(at + i)}:{u16(at + i + 2)}")
        elif code == 32:
            if size % 12:
                raise ValueError("LARGE_COMMUNITY has twelve bytes each")
            for i in range(0, size, 12):
                communities.append(f"{u32(at + i)}:{u32(at + i + 4)}:{u32(at + i + 8)}")
        at += size
    return tuple(path), sets, origin, med, tuple(communities[:MAX_COMMUNITIES])
