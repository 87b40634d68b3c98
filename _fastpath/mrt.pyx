# cython: wraparound=False, initializedcheck=False, cdivision=True
"""MRT table dumps to columns: TABLE_DUMP_V2 (RFC 6396), IPv4 and IPv6 unicast, with and without ADD-PATH (RFC 8050).

A dump repeats itself: a million routes have some hundred thousand distinct attributes. Each distinct (peer, attributes)
gets a number; a route is a row whose value is that number, and attributes are decoded once for each number.

Lengths come from outside: every read is checked against the end of its record, and each record against the end of the
file. An error inside a record is a refusal with the record's offset, and the next record is read. A record that ends
after the file means that the file is cut off.

A router may append each new dump to one file. A dump begins with a peer index table: of several dumps of one collector
and view only the last counts.
"""

import ipaddress
import os
from array import array

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from _fastpath.address cimport load_big_endian_32 as u32
from _fastpath.address cimport load_big_endian_64
from _fastpath.prefix_rows cimport MAX_LISTED, RowWriter, prefix_struct, text_of, unwrap
from _fastpath.texts cimport text_piece, text_table, texts_begin, texts_end, texts_number
from _fastpath.wide cimport high_of, last_of, low_of, wide, wide_of

MAX_PATH = 255  # ASNs in a path
MAX_COMMUNITIES = 256  # as of every feed

cdef enum:
    HEADER = 12
    MAX_SKIPPED = 16  # kinds of skipped records that are counted apart
    PEER_INDEX_TABLE = 1
    RIB_IPV4_UNICAST = 2
    RIB_IPV6_UNICAST = 4
    RIB_IPV4_UNICAST_ADDPATH = 8
    RIB_IPV6_UNICAST_ADDPATH = 10


cdef inline uint32_t u16(const uint8_t* at) noexcept nogil:
    return <uint32_t> at[0] << 8 | at[1]


@cython.final
cdef class Reader:
    """One pass over a dump: the distinct (peer, attributes), and the rows of both families."""

    cdef text_table routes    # the distinct attributes, tagged with their peer
    cdef list refusals
    cdef dict refused_by
    cdef RowWriter rows4, rows6

    def __cinit__(self, Py_ssize_t limit4, Py_ssize_t limit6):
        if not texts_begin(&self.routes, int.from_bytes(os.urandom(8), "little")):
            raise MemoryError
        self.refusals, self.refused_by = [], {}
        self.rows4, self.rows6 = RowWriter(limit4), RowWriter(limit6)

    def __dealloc__(self):
        texts_end(&self.routes)

    cdef int refuse(self, Py_ssize_t offset, str value, str rule) except -1:
        if len(self.refusals) < MAX_LISTED:
            self.refusals.append((offset, value, rule))
        name = rule.partition(";")[0]
        self.refused_by[name] = self.refused_by.get(name, 0) + 1
        return 0

    cdef int read_record(
        self, const uint8_t* at, const uint8_t* end, Py_ssize_t offset, int six, bint paths, const uint32_t[::1] peers
    ) except -1:
        """Read one record: a prefix and its entries."""
        cdef uint32_t length, entries, peer, size
        cdef int64_t value
        cdef uint32_t head = 12 if paths else 8
        cdef RowWriter rows
        cdef prefix_struct prefix
        cdef str rule
        if end - at < 5:
            return self.refuse(offset, "", "a record holds a prefix")
        length = at[4]
        at += 5
        if length > (128 if six else 32):
            return self.refuse(offset, f"/{length}", f"an IPv{6 if six else 4} length is at most {128 if six else 32}")
        if end - at < (length + 7) // 8 + 2:
            return self.refuse(offset, f"/{length}", "a record holds its prefix")
        read_prefix(at, length, &prefix.high, &prefix.low)
        prefix.family, prefix.length = 6 if six else 4, length
        rule = unwrap(&prefix)
        if rule is not None:
            return self.refuse(offset, text_of(&prefix), rule)
        rows = self.rows4 if prefix.family == 4 else self.rows6
        at += (length + 7) // 8
        entries = u16(at)
        at += 2
        for _ in range(entries):
            if end - at < head:
                return self.refuse(offset, text_of(&prefix), "a record holds all its entries")
            peer, size = u16(at), u16(at + head - 2)
            at += head
            if end - at < size:
                return self.refuse(offset, text_of(&prefix), "an entry holds its attributes")
            if peer >= peers.shape[0]:
                self.refuse(
                    offset, text_of(&prefix),
                    f"an entry's peer is in the peer index; it has {peers.shape[0]}, not {peer}",
                )
            else:
                value = texts_number(&self.routes, peers[peer], <const char*> at, size)
                if value < 0:
                    raise MemoryError
                rows.append(prefix.high, prefix.low, prefix.length, <uint32_t> value, <uint32_t> offset)
            at += size
        return 0

    cdef list all_routes(self):
        cdef const text_piece* pieces = self.routes.pieces
        cdef uint32_t i
        return [(pieces[i].tag, pieces[i].at[:pieces[i].length]) for i in range(self.routes.count)]


cdef void read_prefix(const uint8_t* at, uint32_t length, uint64_t* high, uint64_t* low) noexcept nogil:
    """Read the bytes of a prefix. Bits after the length are irrelevant (RFC 4271, section 4.3)."""
    cdef uint8_t packed[16]
    cdef wide start
    memset(packed, 0, sizeof(packed))
    memcpy(packed, at, (length + 7) // 8)
    start = wide_of(load_big_endian_64(packed), load_big_endian_64(packed + 8)) & ~last_of(0, length)
    high[0], low[0] = high_of(start), low_of(start)


cdef inline bint is_six(uint32_t subtype) noexcept nogil:
    return subtype == RIB_IPV6_UNICAST or subtype == RIB_IPV6_UNICAST_ADDPATH


cdef inline bint has_paths(uint32_t subtype) noexcept nogil:
    return subtype == RIB_IPV4_UNICAST_ADDPATH or subtype == RIB_IPV6_UNICAST_ADDPATH


cdef inline bint is_rib(uint32_t subtype) noexcept nogil:
    return is_six(subtype) or has_paths(subtype) or subtype == RIB_IPV4_UNICAST


cdef Reader measured(bytes data, dict last):
    """Return a Reader with room for all rows; `last` gets, by view, the offset of the last peer index table."""
    cdef const uint8_t* start = data
    cdef const uint8_t* end = start + len(data)
    cdef const uint8_t* at = start
    cdef uint32_t subtype, size
    cdef Py_ssize_t limits[2]
    limits[0] = limits[1] = 0
    while at < end:
        if end - at < HEADER:
            raise ValueError(f"cut off at byte {at - start}")
        subtype, size = u16(at + 6), u32(at + 8)
        if end - at - HEADER < size:
            raise ValueError(f"cut off: the record at byte {at - start} has {size} bytes, {end - at - HEADER} are here")
        if u16(at + 4) == 13 and subtype == PEER_INDEX_TABLE:
            last[view_of(data[at - start + HEADER:at - start + HEADER + size])] = at - start
        elif u16(at + 4) == 13 and is_rib(subtype):
            limits[is_six(subtype)] += rows_in(at + HEADER, size)
        at += HEADER + size
    return Reader(limits[0] + limits[1], limits[1])  # an IPv6 prefix may be unwrapped to IPv4


def read(bytes data not None):
    """Return (peers, columns, routes, refusals, refused_by, skipped) of an unpacked dump.

    Peers are (address, ASN), numbered over all the file's peer index tables. Columns are by family 4 and 6; `value` is
    an index into routes, `row` the offset of the record. Routes are the distinct (peer, attributes as bytes). Refusals
    are (offset, value, rule), the first 1,000; `refused_by` counts them by rule. `skipped` counts the records of other
    types, and of dumps that a later one replaces, by what they are.
    ValueError if the file is cut off or no table dump.
    """
    cdef const uint8_t* start = data
    cdef const uint8_t* end = start + len(data)
    cdef const uint8_t* at = start
    cdef uint32_t type_, subtype, size
    cdef bint indexed = False, replaced = False
    cdef dict numbers = {}, last = {}, skipped = {}
    cdef uint32_t[::1] peers = array("I", [0])
    cdef Reader reader = measured(data, last)
    while at < end:
        type_, subtype, size = u16(at + 4), u16(at + 6), u32(at + 8)
        if type_ == 13 and subtype == PEER_INDEX_TABLE:
            table = data[at - start + HEADER:at - start + HEADER + size]
            replaced = last[view_of(table)] != at - start
            if not replaced:
                peers = array("I", read_peers(table, numbers))
            indexed = True
        elif type_ != 13 or not is_rib(subtype):
            count_record(skipped, f"records of type {type_}, subtype {subtype}")
        elif replaced:
            count_record(skipped, "records of a dump that a later one replaces")
        elif not indexed:
            raise ValueError(f"the record at byte {at - start} stands before any peer index table")
        else:
            reader.read_record(
                at + HEADER, at + HEADER + size, at - start, is_six(subtype), has_paths(subtype), peers
            )
        at += HEADER + size
    if not indexed:
        raise ValueError("holds no table dump (TABLE_DUMP_V2, RFC 6396)")
    columns = {4: reader.rows4.finish(), 6: reader.rows6.finish()}
    return list(numbers), columns, reader.all_routes(), reader.refusals, reader.refused_by, skipped


cdef int count_record(dict skipped, str what) except -1:
    # The first of each kind: a file may have as many kinds as records.
    if what in skipped or len(skipped) < MAX_SKIPPED:
        skipped[what] = skipped.get(what, 0) + 1
    else:
        skipped["other records"] = skipped.get("other records", 0) + 1
    return 0


cdef Py_ssize_t rows_in(const uint8_t* at, uint32_t size) noexcept nogil:
    """Return at most how many rows a record has: its count of entries, or fewer if its bytes allow only fewer."""
    cdef uint32_t prefix
    if size < 5:
        return 0
    prefix = (at[4] + 7) // 8
    if size < 7 + prefix:
        return 0
    return min(u16(at + 5 + prefix), (size - 7 - prefix) // 8 + 1)


cdef bytes view_of(bytes table):
    """Return the collector and view of a PEER_INDEX_TABLE, as bytes."""
    cdef const uint8_t* at = table
    if len(table) < 8 or len(table) < 8 + u16(at + 4):
        raise ValueError("a peer index table names its collector and view")
    return table[:6 + u16(at + 4)]


cdef list read_peers(bytes table, dict numbers):
    """Return the number of each peer of a PEER_INDEX_TABLE, added to `numbers` by (address, ASN)."""
    cdef const uint8_t* at = table
    cdef const uint8_t* end = at + len(table)
    cdef uint32_t count, flags, i, asn, width  # flags: 1 IPv6, 2 four-byte ASN
    cdef list listed = []
    at += 6 + u16(at + 4)
    count = u16(at)
    at += 2
    for i in range(count):
        if end - at < 1:
            raise ValueError(f"a peer index table of {count} peers ends at peer {i}")
        flags = at[0]
        width = 16 if flags & 1 else 4
        if end - at < 5 + width + (4 if flags & 2 else 2):
            raise ValueError(f"a peer index table of {count} peers ends at peer {i}")
        address = ipaddress.ip_address(at[5:5 + width])
        address = getattr(address, "ipv4_mapped", None) or address  # as fleets have it
        at += 5 + width
        asn = u32(at) if flags & 2 else u16(at)
        at += 4 if flags & 2 else 2
        listed.append(numbers.setdefault((str(address), asn), len(numbers)))
    return listed


@cython.final
cdef class PathAttributes:
    """The attributes of one route, decoded one by one; ValueError names the rule that the bytes break."""

    cdef list path, communities
    cdef uint32_t origin, med
    cdef bint sets
    cdef uint64_t seen[4]  # a bit for each attribute code

    def __cinit__(self):
        self.path, self.communities = [], []
        self.origin = 2
        self.seen[0] = self.seen[1] = self.seen[2] = self.seen[3] = 0

    cdef int decode(self, uint32_t code, const uint8_t* at, uint32_t size) except -1:
        cdef uint32_t i
        if self.seen[code >> 6] >> (code & 63) & 1:
            return 0  # of an attribute given twice the first counts (RFC 7606, section 3)
        self.seen[code >> 6] |= <uint64_t> 1 << (code & 63)
        if code == 1:
            if size != 1 or at[0] >= 3:
                raise ValueError("ORIGIN is 0, 1 or 2, in one byte")
            self.origin = at[0]
        elif code == 2:
            self.decode_path(at, size)
        elif code == 4:
            if size != 4:
                raise ValueError("MULTI_EXIT_DISC has four bytes")
            self.med = u32(at)
        elif code == 8:
            if size % 4 or not size:  # RFC 7606, section 7.8
                raise ValueError("COMMUNITIES have four bytes each")
            for i in range(0, size, 4):
                self.communities.append(f"{u16(at + i)}:{u16(at + i + 2)}")
        elif code == 32:
            if size % 12 or not size:  # RFC 8092, section 6
                raise ValueError("LARGE_COMMUNITY has twelve bytes each")
            for i in range(0, size, 12):
                self.communities.append(f"{u32(at + i)}:{u32(at + i + 4)}:{u32(at + i + 8)}")
        return 0

    cdef int decode_path(self, const uint8_t* at, uint32_t size) except -1:
        """Decode an AS_PATH: segments of 1 AS_SET, 2 AS_SEQUENCE, and 3 and 4, the same of a confederation."""
        cdef uint32_t i = 0, j, segment, count
        while i < size:
            if size - i < 2 or size - i - 2 < 4 * <uint32_t> at[i + 1]:
                raise ValueError("AS_PATH ends with a segment")
            segment, count = at[i], at[i + 1]
            i += 2
            if count == 0:
                raise ValueError("a segment of AS_PATH has an ASN (RFC 7606, section 7.2)")
            for j in range(count):
                if u32(at + i + 4 * j) == 0:
                    raise ValueError("AS 0 is in no path (RFC 7607)")
            if segment == 1 or segment == 4:
                self.sets = True
            elif segment != 2 and segment != 3:
                raise ValueError(f"a segment of AS_PATH has type 1 to 4; not {segment}")
            elif segment == 2:
                for j in range(count):
                    self.path.append(u32(at + i + 4 * j))
            i += 4 * count
            if len(self.path) > MAX_PATH:
                raise ValueError(f"an AS path has at most {MAX_PATH} ASNs")
        return 0


def attributes(bytes packed not None):
    """Return (AS path, has sets, origin, MED, communities) of a route's path attributes (RFC 4271, RFC 1997, RFC 8092).

    The path is ASNs, nearest first, without those of sets. A missing MED is 0, a missing origin INCOMPLETE.
    Communities are texts, large ones with three numbers. ValueError names the rule that the bytes break.
    """
    cdef const uint8_t* at = packed
    cdef const uint8_t* end = at + len(packed)
    cdef uint32_t flags, code, size
    cdef PathAttributes route = PathAttributes()
    while at < end:
        if end - at < 3 or (at[0] & 0x10 and end - at < 4):
            raise ValueError("attributes end with an attribute")
        flags, code = at[0], at[1]
        size = u16(at + 2) if flags & 0x10 else at[2]
        at += 4 if flags & 0x10 else 3
        if end - at < size:
            raise ValueError(f"an attribute ends within the attributes; attribute {code} has {size} bytes")
        route.decode(code, at, size)
        at += size
    if len(route.communities) > MAX_COMMUNITIES:
        raise ValueError(f"a route has at most {MAX_COMMUNITIES} communities; this has {len(route.communities)}")
    return tuple(route.path), route.sets, route.origin, route.med, tuple(route.communities)
