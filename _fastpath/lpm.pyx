# cython: wraparound=False, initializedcheck=False, cdivision=True
"""PrefixTable: an address in, the zone of its longest matching prefix out.

Prefixes are swept into elementary intervals first (`rib.sweep`); this module turns intervals into two read-only
structures in one position-independent block, so the same bytes serve from memory, from a file and in every process.

IPv4, a run record for each /18:

    directory[address >> 14]  ->  record: 64-bit bitmap, one bit for each /24 slot where a new zone begins,
                                          then one leaf for each run of equal slots
    leaf = leaves[popcount(bitmap up to the slot) - 1]

Blocks of one zone share one record. A /24 with longer prefixes inside has a leaf at or above the number of zones:
the number of a flat block of 256 leaves. Two dependent cache lines a lookup; leaves are 2 bytes while zones and
blocks fit 65,536, else 4.

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
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

import os
from array import array

cimport cython

from _fastpath.address cimport load_big_endian_32, load_big_endian_64, parse_v4, parse_v6

cdef kernels KERNELS = choose_kernels(os.environ.get("STEERING_PORTABLE") == "1")

KERNEL = KERNELS.name.decode()

cdef enum:
    HEADER_WORDS = 64
    LINE = 64
    SLOTS = 64
    DIRECTORY = 1 << 18
    FORMAT = 1
    # Places in the header, an array of uint64_t.
    H_MAGIC = 0
    H_FORMAT = 1
    H_LENGTH = 2
    H_ZONES = 3
    H_WIDE = 4
    H_DIRECTORY = 5
    H_RECORDS = 6
    H_RECORD_WORDS = 7
    H_DEEP = 8
    H_DEEP_BLOCKS = 9
    H_LEVELS = 10
    H_INTERVALS = 11
    H_LEAVES = 12
    H_FINE = 13
    H_FINE_BLOCKS = 14
    H_FINE_KEYS = 15
    H_FINE_LEAVES = 16
    H_FINE_COUNT = 17
    H_LEVEL = 20
    H_NODES = 40

cdef uint64_t MAGIC = 0x3142415458465250  # "PRFXTAB1", little-endian
cdef int64_t PADDING = 0x7FFFFFFFFFFFFFFF


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class PrefixTable:
    def __cinit__(self, block not None):
        PyObject_GetBuffer(block, &self.buffer, PyBUF_SIMPLE)
        self.held = True
        self.open()

    def __dealloc__(self):
        if self.held:
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
        cdef const uint8_t* base = <const uint8_t*> self.buffer.buf
        cdef const uint64_t* header = <const uint64_t*> base
        cdef bint is_right_v4, is_right_v6
        cdef int i
        if self.buffer.len < HEADER_WORDS * 8 or <uint64_t> base % 8:
            raise ValueError("prefix table: shorter than its header, or not aligned")
        if header[H_MAGIC] != MAGIC:
            raise ValueError("prefix table: wrong magic or byte order")
        if header[H_FORMAT] != FORMAT:
            raise ValueError(f"prefix table: format {header[H_FORMAT]}, this build reads {FORMAT}")
        if header[H_LENGTH] != <uint64_t> self.buffer.len:
            raise ValueError(f"prefix table: {self.buffer.len} bytes, its header says {header[H_LENGTH]}")
        if not 1 <= header[H_ZONES] < 0xFFFFFFFF or header[H_WIDE] > 1:
            raise ValueError("prefix table: zones or leaf width out of range")
        for i in (H_RECORD_WORDS, H_DEEP_BLOCKS, H_FINE_BLOCKS, H_FINE_COUNT, *range(H_NODES, H_NODES + MAX_LEVELS)):
            if header[i] > header[H_LENGTH]:  # so that no product below overflows
                raise ValueError(f"prefix table: count {i} is larger than the block")
        self.v4.zones = self.v6.zones = <uint32_t> header[H_ZONES]
        self.v4.wide = <int> header[H_WIDE]
        self.v4.directory = <const uint32_t*> self.part(H_DIRECTORY, DIRECTORY, 4)
        self.v4.records = <const uint64_t*> self.part(H_RECORDS, header[H_RECORD_WORDS], 8)
        self.v4.deep = <const void*> self.part(H_DEEP, header[H_DEEP_BLOCKS] * 256, 4 if self.v4.wide else 2)
        if not 1 <= header[H_LEVELS] <= MAX_LEVELS or not 1 <= header[H_INTERVALS] < 0xFFFFFFFF:
            raise ValueError("prefix table: IPv6 levels or intervals out of range")
        self.v6.levels = <int> header[H_LEVELS]
        self.v6.intervals = <uint32_t> header[H_INTERVALS]
        self.v6.leaves = <const uint32_t*> self.part(H_LEAVES, header[H_INTERVALS], 4)
        self.v6.fine = <const uint32_t*> self.part(H_FINE, header[H_FINE_BLOCKS] + 1, 4)
        self.v6.fine_keys = <const uint64_t*> self.part(H_FINE_KEYS, header[H_FINE_COUNT], 8)
        self.v6.fine_leaves = <const uint32_t*> self.part(H_FINE_LEAVES, header[H_FINE_COUNT], 4)
        for i in range(self.v6.levels):
            self.v6.level[i] = <const int64_t*> self.part(H_LEVEL + i, header[H_NODES + i] * 8, 8)
        with nogil:  # a worker goes on answering meanwhile
            is_right_v4, is_right_v6 = check_v4(&self.v4, header), check_v6(&self.v6, header)
        if not is_right_v4:
            raise ValueError("prefix table: an IPv4 record or leaf points outside its part")
        if not is_right_v6:
            raise ValueError("prefix table: the IPv6 tree is not in order, or points outside its part")
        return 0

    cdef const uint8_t* part(self, int place, uint64_t count, uint64_t width) except NULL:
        cdef const uint64_t* header = <const uint64_t*> self.buffer.buf
        cdef uint64_t offset = header[place], length = header[H_LENGTH]
        if offset % 8 or offset < HEADER_WORDS * 8 or offset > length or count > (length - offset) // width:
            raise ValueError(f"prefix table: part {place} lies outside the block")
        return <const uint8_t*> self.buffer.buf + offset


cdef bint check_v4(const table_v4* table, const uint64_t* header) noexcept nogil:
    cdef uint64_t words = header[H_RECORD_WORDS], limit = header[H_ZONES] + header[H_DEEP_BLOCKS]
    cdef uint64_t i, run, runs, record, previous = words
    cdef const uint16_t* narrow
    cdef const uint32_t* wide
    for i in range(DIRECTORY):
        record = table.directory[i]
        if record == previous:
            continue
        previous = record
        if record >= words or not table.records[record] & 1:
            return False
        runs = popcount_portable(table.records[record])
        if runs * (4 if table.wide else 2) > (words - record - 1) * 8:
            return False
        narrow = <const uint16_t*> (table.records + record + 1)
        wide = <const uint32_t*> narrow
        for run in range(runs):
            if (wide[run] if table.wide else narrow[run]) >= limit:
                return False
    narrow = <const uint16_t*> table.deep
    wide = <const uint32_t*> table.deep
    for i in range(header[H_DEEP_BLOCKS] * 256):
        if (wide[i] if table.wide else narrow[i]) >= header[H_ZONES]:
            return False
    return True


cdef bint check_v6(const table_v6* table, const uint64_t* header) noexcept nogil:
    cdef uint64_t i, nodes, child
    cdef int level
    cdef const int64_t* keys
    if header[H_NODES] != 1:
        return False
    for level in range(table.levels):
        keys = table.level[level]
        nodes = header[H_NODES + level]
        for i in range(nodes * 8):
            if i and keys[i - 1] >= keys[i] and keys[i] != PADDING:
                return False
            if level + 1 < table.levels:
                child = (i // 8) * 9 + i % 8 + 1
                if child >= header[H_NODES + level + 1] and keys[i] != PADDING:
                    return False
            elif i >= table.intervals and keys[i] != PADDING:
                return False
        if level + 1 < table.levels:
            if (nodes - 1) * 9 >= header[H_NODES + level + 1]:
                return False
        elif nodes * 8 < table.intervals or keys[0] != -PADDING - 1:
            return False
    for i in range(table.intervals):
        if table.leaves[i] >= header[H_ZONES] + header[H_FINE_BLOCKS]:
            return False
    if table.fine[0] != 0 or table.fine[header[H_FINE_BLOCKS]] != header[H_FINE_COUNT]:
        return False
    for i in range(header[H_FINE_BLOCKS]):
        if table.fine[i] >= table.fine[i + 1] or table.fine[i + 1] > header[H_FINE_COUNT]:
            return False
    for i in range(header[H_FINE_COUNT]):
        if table.fine_leaves[i] >= header[H_ZONES]:
            return False
    return True


cdef bytearray build_block(v4, v6, uint32_t zones):
    """Return the block for the intervals of both families; see `PrefixTable.build` for their shape."""
    if not 1 <= zones < 0xFFFFFFFF:
        raise ValueError(f"a table has 1 to 2**32 - 2 zones, not {zones}")
    cdef list parts = []
    cdef bytearray block
    cdef uint64_t header[HEADER_WORDS]
    cdef uint64_t offset = HEADER_WORDS * 8
    memset(header, 0, sizeof(header))
    header[H_MAGIC] = MAGIC
    header[H_FORMAT] = FORMAT
    header[H_ZONES] = zones
    for place, data, count_place, count in (*build_v4(v4, zones), *build_v6(v6, zones)):
        if place is not None:
            header[<int> place] = offset
            parts.append(data)
            # A pad keeps every part on a cache line of its own, and loads past a part's end inside the block.
            parts.append(bytes(LINE - len(data) % LINE))
            offset += len(data) + LINE - len(data) % LINE
        if count_place is not None:
            header[<int> count_place] = count
    header[H_LENGTH] = offset
    block = bytearray((<char*> header)[:HEADER_WORDS * 8])
    for data in parts:
        block += data
    return block


cdef int check_intervals(
    const uint64_t[::1] high, const uint64_t[::1] low, const uint32_t[::1] value, uint32_t zones
) except -1:
    cdef Py_ssize_t i, count = high.shape[0]
    if count == 0 or low.shape[0] != count or value.shape[0] != count or high[0] or low[0]:
        raise ValueError("intervals begin at address 0, and their columns are of one length")
    for i in range(count):
        if value[i] >= zones:
            raise ValueError(f"interval {i} has zone {value[i]}, the table has {zones} zones")
        if i and (high[i] < high[i - 1] or (high[i] == high[i - 1] and low[i] <= low[i - 1])):
            raise ValueError(f"interval {i} does not begin after the one before it")
    return 0


cdef list build_v4(intervals, uint32_t zones):
    cdef const uint64_t[::1] high = intervals.high
    cdef const uint32_t[::1] value = intervals.value
    check_intervals(high, intervals.low, value, zones)
    cdef Py_ssize_t count = high.shape[0], at = 0, i
    cdef uint64_t slot, last_deep = 1 << 24, deep_blocks = 0, block, address, following, words = 0, need, run
    for i in range(count):
        slot = high[i] >> 40
        if high[i] >> 32 & 255 and slot != last_deep:
            deep_blocks += 1
            last_deep = slot
    cdef int width = 4 if zones + deep_blocks > 65536 else 2
    cdef bytearray directory_bytes = bytearray(DIRECTORY * 4)
    # The most a record takes is its bitmap and 64 leaves, rounded up, and a pad to the next cache line.
    cdef bytearray record_bytes = bytearray((count + 1) * (16 + 4 * width) + 2 * DIRECTORY * 8 + LINE)
    cdef bytearray deep_bytes = bytearray(deep_blocks * 256 * width)
    cdef uint32_t* directory = <uint32_t*> <char*> directory_bytes
    cdef uint64_t* records = <uint64_t*> <char*> record_bytes
    cdef char* deep = <char*> deep_bytes
    cdef uint32_t leaves[SLOTS]
    cdef uint64_t bitmap, runs, capacity = len(record_bytes) // 8
    cdef uint32_t leaf
    # By zone: where its one-run record begins, plus one.
    cdef bytearray shared_bytes = bytearray(zones * 4)
    cdef uint32_t* shared = <uint32_t*> <char*> shared_bytes
    deep_blocks = 0
    for block in range(DIRECTORY):
        bitmap = runs = 0
        while at + 1 < count and high[at + 1] <= block << 46:
            at += 1
        if at + 1 == count or high[at + 1] >> 46 > block:
            leaves[0] = value[at]
            bitmap = runs = 1
            if shared[leaves[0]]:
                directory[block] = shared[leaves[0]] - 1
                continue
        else:
            for slot in range(SLOTS):
                address = (block << 14 | slot << 8) << 32
                # `at` is the interval that holds the slot's first address.
                while at + 1 < count and high[at + 1] <= address:
                    at += 1
                following = address + (<uint64_t> 1 << 40)
                if at + 1 < count and (high[at + 1] < following or following == 0):
                    leaf = zones + <uint32_t> deep_blocks
                    for i in range(256):
                        while at + 1 < count and high[at + 1] <= (address | <uint64_t> i << 32):
                            at += 1
                        put_leaf(deep, deep_blocks * 256 + i, value[at], width)
                    deep_blocks += 1
                else:
                    leaf = value[at]
                if runs == 0 or leaf != leaves[runs - 1]:
                    leaves[runs] = leaf
                    bitmap |= <uint64_t> 1 << slot
                    runs += 1
        need = 1 + (runs * width + 7) // 8
        # A record of one line or less does not straddle two.
        if need <= 8 and words % 8 + need > 8:
            words += 8 - words % 8
        if words + need > capacity:
            record_bytes += bytes(len(record_bytes) // 2 + need * 8)
            records = <uint64_t*> <char*> record_bytes
            capacity = len(record_bytes) // 8
        directory[block] = <uint32_t> words
        records[words] = bitmap
        for run in range(runs):
            put_leaf(<char*> (records + words + 1), run, leaves[run], width)
        if runs == 1 and leaves[0] < zones:
            shared[leaves[0]] = <uint32_t> words + 1
        words += need
    del record_bytes[words * 8:]
    return [
        (None, None, H_WIDE, width == 4),
        (H_DIRECTORY, directory_bytes, None, None),
        (H_RECORDS, record_bytes, H_RECORD_WORDS, words),
        (H_DEEP, deep_bytes, H_DEEP_BLOCKS, deep_blocks),
    ]


cdef inline void put_leaf(char* leaves, uint64_t place, uint32_t leaf, int width) noexcept nogil:
    if width == 4:
        (<uint32_t*> leaves)[place] = leaf
    else:
        (<uint16_t*> leaves)[place] = <uint16_t> leaf


cdef list build_v6(intervals, uint32_t zones):
    cdef const uint64_t[::1] high = intervals.high
    cdef const uint64_t[::1] low = intervals.low
    cdef const uint32_t[::1] value = intervals.value
    check_intervals(high, low, value, zones)
    cdef Py_ssize_t count = high.shape[0], at = 0, end, i
    # An upper half with boundaries inside becomes one key, and the one after it another.
    cdef bytearray key_bytes = bytearray((2 * count + 1) * 8)
    cdef bytearray leaf_bytes = bytearray((2 * count + 1) * 4)
    cdef bytearray fine_key_bytes = bytearray(2 * count * 8)
    cdef bytearray fine_leaf_bytes = bytearray(2 * count * 4)
    cdef int64_t* keys = <int64_t*> <char*> key_bytes
    cdef uint32_t* leaves = <uint32_t*> <char*> leaf_bytes
    cdef uint64_t* fine_keys = <uint64_t*> <char*> fine_key_bytes
    cdef uint32_t* fine_leaves = <uint32_t*> <char*> fine_leaf_bytes
    cdef uint64_t half
    cdef uint32_t used = 0, fine_used = 0, before = 0
    cdef list fine = []
    while at < count:
        half = high[at]
        end = at
        while end < count and high[end] == half:
            end += 1
        keys[used] = <int64_t> (half ^ <uint64_t> 1 << 63)
        if end == at + 1 and low[at] == 0:
            leaves[used] = value[at]
        else:
            leaves[used] = zones + <uint32_t> len(fine)
            fine.append(fine_used)
            if low[at]:
                fine_keys[fine_used] = 0
                fine_leaves[fine_used] = before
                fine_used += 1
            for i in range(at, end):
                fine_keys[fine_used] = low[i]
                fine_leaves[fine_used] = value[i]
                fine_used += 1
        used += 1
        before = value[end - 1]
        if leaves[used - 1] >= zones and half != 0xFFFFFFFFFFFFFFFF and (end == count or high[end] != half + 1):
            keys[used] = <int64_t> (half + 1 ^ <uint64_t> 1 << 63)
            leaves[used] = before
            used += 1
        at = end
    fine.append(fine_used)
    del leaf_bytes[used * 4:]
    del fine_key_bytes[fine_used * 8:]
    del fine_leaf_bytes[fine_used * 4:]
    levels = build_levels(keys, used)
    return [
        (H_LEAVES, leaf_bytes, H_INTERVALS, used),
        (H_FINE, array("I", fine).tobytes(), H_FINE_BLOCKS, len(fine) - 1),
        (H_FINE_KEYS, fine_key_bytes, H_FINE_COUNT, fine_used),
        (H_FINE_LEAVES, fine_leaf_bytes, None, None),
        (None, None, H_LEVELS, len(levels)),
        *((H_LEVEL + i, level, H_NODES + i, len(level) // 64) for i, level in enumerate(levels)),
    ]


cdef list build_levels(const int64_t* keys, uint32_t count):
    """Return the tree's levels, root first, each bytes of whole nodes."""
    cdef uint64_t nodes = (count + 7) // 8, parents, node, child, i
    cdef bytearray level = bytearray(nodes * 64)
    cdef int64_t* place = <int64_t*> <char*> level
    for i in range(nodes * 8):
        place[i] = keys[i] if i < count else PADDING
    cdef list levels = [level]
    # The first leaf key below each node of the level last made: what a parent separates by.
    cdef list firsts = [keys[8 * i] for i in range(nodes)]
    while nodes > 1:
        parents = (nodes + 8) // 9
        level = bytearray(parents * 64)
        place = <int64_t*> <char*> level
        for node in range(parents):
            for i in range(8):
                child = node * 9 + i + 1
                place[node * 8 + i] = firsts[child] if child < nodes else PADDING
        firsts = firsts[::9]
        nodes = parents
        levels.insert(0, level)
    return levels
