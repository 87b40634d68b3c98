# cython: wraparound=False, initializedcheck=False, cdivision=True
"""PrefixTable: an address in, the zone of its longest matching prefix out.

Prefixes are swept into elementary intervals first (`rib.sweep`); this module turns intervals into two read-only
structures in one position-independent block, so the same bytes serve from memory, from a file and in every process.

IPv4, a run record for each /18:

    directory[address >> 14]  ->  record: 64-bit bitmap, one bit for each /24 slot where a new zone begins,
                                          then one leaf for each run of equal slots
    leaf = leaves[popcount(bitmap up to the slot) - 1]

Blocks of one zone share one record. A /24 with longer prefixes inside has a leaf at or above the number of zones,
which leads to its deep record: the same over its 256 addresses, a bitmap of four words and a leaf for each run. Two
dependent cache lines a lookup, three in such a /24; leaves are 2 bytes while zones and deep lines fit 65,536, else 4.

IPv6, a static 9-ary search tree over the interval boundaries of the upper 64 bits: eight keys fill one cache line,
levels are contiguous, children are found by counting, so there are no pointers. The few boundaries below /64 hang as
sorted fine blocks under their upper half.

Measured on the shipped table (732,483 prefixes in the zones of 19,000 appliances; a shared 2-core EPYC guest), from
Python with text in, medians: IPv4 59 ns in 3.2 MB, where DIR-24-8 takes 63-70 ns in 34 MB (67 MB beyond 65,535 zones)
and binary search 150 ns; IPv6 90 ns in 2.5 MB, binary search 131 ns; 28-37 ns of each are the call and the parse.
Batches: 3 and 10 ns an address. docs/lookup-structures.md says more, also of the structures not taken.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from _fastpath.address cimport load_big_endian_32, load_big_endian_64, parse_v4, parse_v6
from _fastpath.lpm_block cimport DIRECTORY, build_block, deep_lines_of

cimport cython

import os

cdef kernels KERNELS = choose_kernels(os.environ.get("STEERING_PORTABLE") == "1")

KERNEL = KERNELS.name.decode()


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class PrefixTable:
    def __cinit__(self, block not None):
        PyObject_GetBuffer(block, &self.buffer, PyBUF_SIMPLE)
        self.open()

    def __dealloc__(self):
        PyBuffer_Release(&self.buffer)

    @staticmethod
    def build(v4, v6, uint32_t zones):
        table = PrefixTable(build_block(v4, v6, zones))
        table.verify(v4, v6)
        return table

    def verify(self, v4, v6):
        """Look up the first and the last address of every interval; RuntimeError where the table disagrees with one."""
        cdef const uint64_t[::1] high4 = v4.high, high6 = v6.high, low6 = v6.low
        cdef const uint32_t[::1] value4 = v4.value, value6 = v6.value
        cdef Py_ssize_t i, count = high4.shape[0]
        cdef uint64_t last, high, low
        for i in range(count):
            last = (high4[i + 1] >> 32) - 1 if i + 1 < count else 0xFFFFFFFF
            if KERNELS.v4(&self.v4, <uint32_t> (high4[i] >> 32)) != value4[i] \
                    or KERNELS.v4(&self.v4, <uint32_t> last) != value4[i]:
                raise RuntimeError(f"prefix table: IPv4 interval {i} does not look up as zone {value4[i]}")
        count = high6.shape[0]
        for i in range(count):
            high = low = 0xFFFFFFFFFFFFFFFF
            if i + 1 < count:
                low = low6[i + 1] - 1
                high = high6[i + 1] - (low6[i + 1] == 0)
            if KERNELS.v6(&self.v6, high6[i], low6[i]) != value6[i] or KERNELS.v6(&self.v6, high, low) != value6[i]:
                raise RuntimeError(f"prefix table: IPv6 interval {i} does not look up as zone {value6[i]}")

    @property
    def zones(self):
        return self.v4.zones

    @property
    def nbytes(self):
        return self.buffer.len

    def block(self):
        return (<char*> self.buffer.buf)[:self.buffer.len]

    @cython.always_allow_keywords(False)
    def lookup(self, address):
        cdef int family
        cdef uint64_t upper
        return self.find(address, &family, &upper)

    cdef uint32_t find(self, object address, int* family, uint64_t* upper) except? 0xFFFFFFFF:
        """Return the zone of a text or packed address, its family, and the address: of IPv6 the upper 64 bits."""
        cdef const char* text
        cdef Py_ssize_t length
        cdef uint32_t four
        cdef uint64_t high, low
        if PyUnicode_Check(address):
            if PyUnicode_IS_COMPACT_ASCII(address):
                text = <const char*> PyUnicode_1BYTE_DATA(address)
                length = PyUnicode_GET_LENGTH(address)
                if parse_v4(text, length, &four):
                    family[0], upper[0] = 4, four
                    return KERNELS.v4(&self.v4, four)
                if parse_v6(text, length, &high, &low):
                    family[0], upper[0] = 6, high
                    return KERNELS.v6(&self.v6, high, low)
            raise ValueError(f"{address[:64]!r} is no IPv4 or IPv6 address")
        if PyBytes_Check(address):
            text = PyBytes_AS_STRING(address)
            length = PyBytes_GET_SIZE(address)
            if length == 4:
                four = load_big_endian_32(<const unsigned char*> text)
                family[0], upper[0] = 4, four
                return KERNELS.v4(&self.v4, four)
            if length == 16:
                high = load_big_endian_64(<const unsigned char*> text)
                family[0], upper[0] = 6, high
                return KERNELS.v6(&self.v6, high, load_big_endian_64(<const unsigned char*> text + 8))
            raise ValueError(f"a packed address has 4 or 16 bytes, this one has {length}")
        raise TypeError(f"an address is str or bytes, not {type(address).__name__}")

    cdef uint32_t zone_v4(self, uint32_t address) noexcept nogil:
        return KERNELS.v4(&self.v4, address)

    cdef uint32_t zone_v6(self, uint64_t high, uint64_t low) noexcept nogil:
        return KERNELS.v6(&self.v6, high, low)

    def lookup_many(self, addresses, zones, int family):
        cdef Py_buffer packed, out
        cdef Py_ssize_t width = 4 if family == 4 else 16
        cdef size_t count
        if family not in (4, 6):
            raise ValueError(f"family is 4 or 6, not {family}")
        PyObject_GetBuffer(addresses, &packed, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(zones, &out, PyBUF_WRITABLE)
            try:
                if packed.len % width:
                    raise ValueError(f"IPv{family} addresses take {width} bytes each; {packed.len} is no multiple")
                count = packed.len // width
                if out.len != <Py_ssize_t> (count * 4):
                    raise ValueError(f"{count} addresses need {count * 4} bytes of zones, not {out.len}")
                if count and <uint64_t> out.buf % 4:
                    raise ValueError("the zones buffer is not aligned to 4 bytes")
                with nogil:
                    if family == 4:
                        KERNELS.v4_many(&self.v4, <const unsigned char*> packed.buf, <uint32_t*> out.buf, count)
                    else:
                        KERNELS.v6_many(&self.v6, <const unsigned char*> packed.buf, <uint32_t*> out.buf, count)
            finally:
                PyBuffer_Release(&out)
        finally:
            PyBuffer_Release(&packed)

    cdef int open(self) except -1:
        """Point the two tables into the block, after checking everything that a lookup relies on."""
        cdef const table_header* header = <const table_header*> self.buffer.buf
        cdef bint is_right_v4, is_right_v6
        cdef int i
        if self.buffer.len < <Py_ssize_t> sizeof(table_header) or <uint64_t> self.buffer.buf % 8:
            raise ValueError("prefix table: shorter than its header, or not aligned")
        if header.magic != TABLE_MAGIC:
            raise ValueError("prefix table: wrong magic or byte order")
        if header.format != FORMAT:
            raise ValueError(f"prefix table: format {header.format}, this build reads {FORMAT}")
        if header.length != <uint64_t> self.buffer.len:
            raise ValueError(f"prefix table: {self.buffer.len} bytes, its header says {header.length}")
        if not 1 <= header.zones < 0xFFFFFFFF or header.wide > 1:
            raise ValueError("prefix table: zones or leaf width out of range")
        nodes = [header.nodes[i] for i in range(MAX_LEVELS)]
        for count in (header.record_words, header.deep_lines, header.fine_blocks, header.fine_count, *nodes):
            if count > header.length:  # so that no product below overflows
                raise ValueError(f"prefix table: a count of {count} is larger than the block")
        self.v4.zones = self.v6.zones = <uint32_t> header.zones
        self.v4.wide = <int> header.wide
        self.v4.directory = <const uint32_t*> self.part(header.directory, DIRECTORY, 4)
        self.v4.records = <const uint64_t*> self.part(header.records, header.record_words, 8)
        self.v4.deep = <const uint64_t*> self.part(header.deep, header.deep_lines, 64)
        if not 1 <= header.levels <= MAX_LEVELS or not 1 <= header.intervals < 0xFFFFFFFF:
            raise ValueError("prefix table: IPv6 levels or intervals out of range")
        self.v6.levels = <int> header.levels
        self.v6.intervals = <uint32_t> header.intervals
        self.v6.leaves = <const uint32_t*> self.part(header.leaves, header.intervals, 4)
        self.v6.fine = <const uint32_t*> self.part(header.fine, header.fine_blocks + 1, 4)
        self.v6.fine_keys = <const uint64_t*> self.part(header.fine_keys, header.fine_count, 8)
        self.v6.fine_leaves = <const uint32_t*> self.part(header.fine_leaves, header.fine_count, 4)
        for i in range(self.v6.levels):
            self.v6.level[i] = <const int64_t*> self.part(header.level[i], header.nodes[i] * 8, 8)
        with nogil:  # a worker goes on answering meanwhile
            is_right_v4, is_right_v6 = check_v4(&self.v4, header), check_v6(&self.v6, header)
        if not is_right_v4:
            raise ValueError("prefix table: an IPv4 record or leaf points outside its part")
        if not is_right_v6:
            raise ValueError("prefix table: the IPv6 tree is not in order, or points outside its part")
        return 0

    cdef const uint8_t* part(self, uint64_t offset, uint64_t count, uint64_t width) except NULL:
        cdef uint64_t length = self.buffer.len
        if offset % 8 or offset < sizeof(table_header) or offset > length or count > (length - offset) // width:
            raise ValueError(f"prefix table: a part at byte {offset} lies outside the block")
        return <const uint8_t*> self.buffer.buf + offset


cdef bint check_v4(const table_v4* table, const table_header* header) noexcept nogil:
    cdef uint64_t i, run, runs, record, line, deep_line = 0, previous = header.record_words
    cdef const uint64_t* words
    for i in range(DIRECTORY):
        record = table.directory[i]
        if record == previous:
            continue
        previous = record
        if record >= header.record_words or not table.records[record] & 1:
            return False
        words = table.records + record
        runs = popcount_portable(words[0])
        if runs * (4 if table.wide else 2) > (header.record_words - record - 1) * 8:
            return False
        for run in range(runs):
            if leaf_of(words + 1, run, table.wide) >= header.zones:
                line = leaf_of(words + 1, run, table.wide) - header.zones
                if line < deep_line or line >= header.deep_lines:  # in order: a record is checked once
                    return False
                deep_line = line + check_deep(table, table.deep + line * 8, header.deep_lines - line)
                if deep_line == line:
                    return False
    return True


cdef uint64_t check_deep(const table_v4* table, const uint64_t* deep, uint64_t lines) noexcept nogil:
    """Return the lines of a deep record; 0 if it is wrong, or longer than `lines`."""
    cdef uint64_t i, runs = 0, needed
    for i in range(4):
        runs += popcount_portable(deep[i])
    needed = deep_lines_of(runs, 4 if table.wide else 2)
    if not deep[0] & 1 or needed > lines:
        return 0
    for i in range(runs):
        if leaf_of(deep + 4, i, table.wide) >= table.zones:
            return 0
    return needed


cdef bint check_v6(const table_v6* table, const table_header* header) noexcept nogil:
    cdef uint64_t i, nodes, child
    cdef int level
    cdef const int64_t* keys
    if header.nodes[0] != 1:
        return False
    for level in range(table.levels):
        keys = table.level[level]
        nodes = header.nodes[level]
        for i in range(nodes * 8):
            if i and keys[i - 1] >= keys[i] and keys[i] != PADDING:
                return False
            if level + 1 < table.levels:
                child = (i // 8) * 9 + i % 8 + 1
                if child >= header.nodes[level + 1] and keys[i] != PADDING:
                    return False
            elif i >= table.intervals and keys[i] != PADDING:
                return False
        if level + 1 < table.levels:
            if (nodes - 1) * 9 >= header.nodes[level + 1]:
                return False
        elif nodes * 8 < table.intervals or keys[0] != -PADDING - 1:
            return False
    for i in range(table.intervals):
        if table.leaves[i] >= header.zones + header.fine_blocks:
            return False
    if table.fine[0] != 0 or table.fine[header.fine_blocks] != header.fine_count:
        return False
    for i in range(header.fine_blocks):
        if table.fine[i] >= table.fine[i + 1] or table.fine[i + 1] > header.fine_count:
            return False
    for i in range(header.fine_count):
        if table.fine_leaves[i] >= header.zones:
            return False
    return True
