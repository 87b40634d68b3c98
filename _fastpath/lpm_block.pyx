# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The builder of a prefix table's block: a header, then the parts of both families; `lpm.pyx` says what they are."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from _fastpath.lpm cimport FORMAT, PADDING, TABLE_MAGIC, table_header

cdef enum:
    LINE = 64
    NARROW = 1 << 16  # leaves of two bytes are below


cdef bytearray build_block(v4, v6, uint32_t zones):
    """Return the block of a prefix table for the intervals of both families; `PrefixTable.build` has their shape."""
    cdef table_header header
    cdef bytearray block = bytearray((sizeof(table_header) + LINE - 1) // LINE * LINE)
    if not 1 <= zones < 0xFFFFFFFF:
        raise ValueError(f"a table has 1 to 2**32 - 2 zones, not {zones}")
    memset(&header, 0, sizeof(table_header))
    header.magic, header.format, header.zones = TABLE_MAGIC, FORMAT, zones
    build_v4(block, &header, v4, zones)
    build_v6(block, &header, v6, zones)
    header.length = len(block)
    memcpy(<char*> block, &header, sizeof(table_header))
    return block


cdef uint64_t add_part(bytearray block, part) except 0:
    """Append a part to a block, and return its offset."""
    cdef uint64_t offset = len(block)
    # A pad keeps every part on cache lines of its own, and loads past a part's end inside the block.
    block += part
    block += bytes(LINE - len(part) % LINE)
    return offset


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


cdef struct v4_space:  # the intervals, and a cursor that moves up through the addresses
    const uint64_t* high
    const uint32_t* value
    Py_ssize_t count
    Py_ssize_t at


cdef inline void move_to(v4_space* space, uint64_t address) noexcept nogil:
    """Move the cursor to the interval that holds a left-aligned address."""
    while space.at + 1 < space.count and space.high[space.at + 1] <= address:
        space.at += 1


cdef uint64_t fill_runs(
    v4_space* space, uint64_t block, uint32_t zones, uint64_t* deep, int width, uint64_t* deep_lines, uint64_t* bitmap,
    uint32_t* leaves
) noexcept nogil:
    """Fill the bitmap and the leaves of a /18, and the deep records of the /24s that it cuts; return the runs."""
    cdef uint64_t slot, address, following, runs = 0
    cdef uint32_t leaf
    bitmap[0] = 0
    for slot in range(SLOTS):
        address = (block << 14 | slot << 8) << 32
        following = address + (<uint64_t> 1 << 40)
        move_to(space, address)
        if space.at + 1 < space.count and (space.high[space.at + 1] < following or following == 0):
            leaf = zones + <uint32_t> deep_lines[0]
            deep_lines[0] += fill_deep(space, address, deep + deep_lines[0] * 8, width)
        else:
            leaf = space.value[space.at]
        if runs == 0 or leaf != leaves[runs - 1]:
            leaves[runs] = leaf
            bitmap[0] |= <uint64_t> 1 << slot
            runs += 1
    return runs


cdef uint64_t fill_deep(v4_space* space, uint64_t start, uint64_t* deep, int width) noexcept nogil:
    """Fill the deep record of a /24, and return its lines."""
    cdef uint64_t i, runs = 0
    cdef uint32_t last = 0
    for i in range(256):
        move_to(space, start | i << 32)
        if runs == 0 or space.value[space.at] != last:
            last = space.value[space.at]
            deep[i >> 6] |= <uint64_t> 1 << (i & 63)
            put_leaf(<char*> (deep + 4), runs, last, width)
            runs += 1
    return deep_lines_of(runs, width)


cdef uint64_t most_deep_lines(const uint64_t[::1] high) noexcept:
    """Return a bound of the lines of deep records: of the /24s that have boundaries inside."""
    cdef uint64_t slot, last = 1 << 24, blocks = 0, inside = 0
    cdef Py_ssize_t i
    for i in range(high.shape[0]):
        slot = high[i] >> 40
        if high[i] >> 32 & 255:
            inside += 1
            blocks += slot != last
            last = slot
    return blocks + (inside + blocks) // 8


cdef int build_v4(bytearray block_bytes, table_header* header, intervals, uint32_t zones) except -1:
    cdef const uint64_t[::1] high = intervals.high
    cdef const uint32_t[::1] value = intervals.value
    check_intervals(high, intervals.low, value, zones)
    cdef v4_space space = v4_space(&high[0], &value[0], high.shape[0], 0)
    cdef uint64_t deep_lines = most_deep_lines(high), block, words = 0, need, run, bitmap, runs
    cdef int width = 4 if zones + deep_lines > NARROW else 2
    cdef bytearray directory_bytes = bytearray(DIRECTORY * 4)
    # The most a record takes is its bitmap and 64 leaves, rounded up, and a pad to the next cache line.
    cdef bytearray record_bytes = bytearray((space.count + 1) * (16 + 4 * width) + 2 * DIRECTORY * 8 + LINE)
    cdef bytearray deep_bytes = bytearray(deep_lines * LINE)
    cdef uint32_t* directory = <uint32_t*> <char*> directory_bytes
    cdef uint64_t* records = <uint64_t*> <char*> record_bytes
    cdef uint32_t leaves[SLOTS]
    cdef uint64_t capacity = len(record_bytes) // 8
    # By zone: where its one-run record begins, plus one.
    cdef bytearray shared_bytes = bytearray(zones * 4)
    cdef uint32_t* shared = <uint32_t*> <char*> shared_bytes
    deep_lines = 0
    for block in range(DIRECTORY):
        move_to(&space, block << 46)
        if space.at + 1 == space.count or high[space.at + 1] >> 46 > block:
            leaves[0] = value[space.at]
            bitmap = runs = 1
            if shared[leaves[0]]:
                directory[block] = shared[leaves[0]] - 1
                continue
        else:
            runs = fill_runs(
                &space, block, zones, <uint64_t*> <char*> deep_bytes, width, &deep_lines, &bitmap, leaves
            )
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
    del deep_bytes[deep_lines * LINE:]
    header.wide, header.record_words, header.deep_lines = width == 4, words, deep_lines
    header.directory, header.records = add_part(block_bytes, directory_bytes), add_part(block_bytes, record_bytes)
    header.deep = add_part(block_bytes, deep_bytes)
    return 0


cdef inline void put_leaf(char* leaves, uint64_t position, uint32_t leaf, int width) noexcept nogil:
    if width == 4:
        (<uint32_t*> leaves)[position] = leaf
    else:
        (<uint16_t*> leaves)[position] = <uint16_t> leaf


cdef int build_v6(bytearray block, table_header* header, intervals, uint32_t zones) except -1:
    cdef const uint64_t[::1] high = intervals.high
    cdef const uint64_t[::1] low = intervals.low
    cdef const uint32_t[::1] value = intervals.value
    check_intervals(high, low, value, zones)
    cdef Py_ssize_t count = high.shape[0], at = 0, end, i
    # An upper half with boundaries inside becomes one key, and the one after it another.
    cdef bytearray key_bytes = bytearray((2 * count + 1) * 8)
    cdef bytearray leaf_bytes = bytearray((2 * count + 1) * 4)
    cdef bytearray fine_bytes = bytearray((count + 1) * 4)  # by fine block: its first interval; one more at the end
    cdef bytearray fine_key_bytes = bytearray(2 * count * 8)
    cdef bytearray fine_leaf_bytes = bytearray(2 * count * 4)
    cdef int64_t* keys = <int64_t*> <char*> key_bytes
    cdef uint32_t* leaves = <uint32_t*> <char*> leaf_bytes
    cdef uint64_t* fine_keys = <uint64_t*> <char*> fine_key_bytes
    cdef uint32_t* fine_leaves = <uint32_t*> <char*> fine_leaf_bytes
    cdef uint64_t half
    cdef uint32_t used = 0, fine_blocks = 0, fine_used = 0, before = 0
    while at < count:
        half = high[at]
        end = at
        while end < count and high[end] == half:
            end += 1
        keys[used] = <int64_t> (half ^ <uint64_t> 1 << 63)
        if end == at + 1 and low[at] == 0:
            leaves[used] = value[at]
        else:
            leaves[used] = zones + fine_blocks
            put_leaf(<char*> fine_bytes, fine_blocks, fine_used, 4)
            fine_blocks += 1
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
    put_leaf(<char*> fine_bytes, fine_blocks, fine_used, 4)
    del leaf_bytes[used * 4:]
    del fine_bytes[(fine_blocks + 1) * 4:]
    del fine_key_bytes[fine_used * 8:]
    del fine_leaf_bytes[fine_used * 4:]
    header.intervals, header.fine_blocks, header.fine_count = used, fine_blocks, fine_used
    header.leaves, header.fine = add_part(block, leaf_bytes), add_part(block, fine_bytes)
    header.fine_keys, header.fine_leaves = add_part(block, fine_key_bytes), add_part(block, fine_leaf_bytes)
    for level in build_levels(keys, used):
        header.nodes[header.levels] = len(level) // LINE
        header.level[header.levels] = add_part(block, level)
        header.levels += 1
    return 0


cdef list build_levels(const int64_t* keys, uint32_t count):
    """Return the tree's levels, root first, each bytes of whole nodes."""
    cdef uint64_t nodes = (count + 7) // 8, parents, node, child, i
    cdef bytearray level = bytearray(nodes * 64)
    cdef int64_t* keys_out = <int64_t*> <char*> level
    for i in range(nodes * 8):
        keys_out[i] = keys[i] if i < count else PADDING
    cdef list levels = [level]
    # The first leaf key below each node of the level last made: what a parent separates by.
    cdef list firsts = [keys[8 * i] for i in range(nodes)]
    while nodes > 1:
        parents = (nodes + 8) // 9
        level = bytearray(parents * 64)
        keys_out = <int64_t*> <char*> level
        for node in range(parents):
            for i in range(8):
                child = node * 9 + i + 1
                keys_out[node * 8 + i] = firsts[child] if child < nodes else PADDING
        firsts = firsts[::9]
        nodes = parents
        levels.insert(0, level)
    return levels
