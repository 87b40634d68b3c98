# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The builder of a holdings file. The format is described in `holdings.pyx`.

Clusters are given once each: from bitmaps of their members, or unchanged from the previous version (the base). Each
block is written behind the others; a block of the same bytes that is already there is used instead.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

import os
from array import array

from _fastpath.hashing cimport content_key, hash_bytes, mix
from _fastpath.holdings cimport (
    BLOCK, BLOCK_BYTES, C_MAX_SERVICES, MAX_MEMBERS, NO_ROW, PAD, Holdings, cluster_members, mask_bytes_of, member,
    size_of_block, width_of,
)

from _fastpath.texts cimport text_hash

from _fastpath.holdings import MAX_PROBES as MAX_PROBES_OF_HOLDINGS

cdef uint32_t MAX_PROBES = MAX_PROBES_OF_HOLDINGS

cdef enum:
    BUCKETS = 1024  # of the palette while it is made: at most a quarter in use
    DOUBTS = 3


cdef class HoldingsBuilder:
    cdef Holdings base
    cdef readonly uint32_t titles
    cdef uint32_t block_count
    cdef list services
    cdef object keys, index, text_ends  # arrays
    cdef bytearray text, blocks, directory
    cdef uint64_t* table  # hash of a block -> its offset
    cdef dict clusters  # number -> (members, row)
    cdef dict salts  # service -> the hash of its id
    cdef uint64_t used, blocks_kept, table_mask, rows, seed
    cdef bint done

    def __cinit__(self, Holdings base, titles not None, renamed=None, const uint8_t[::1] doubts=b""):
        cdef uint32_t start = 0, index
        self.base = base
        self.services = list(base.services) if base is not None else []
        self.clusters = {}
        self.keys = array("Q")
        self.text_ends = array("I")
        self.text = bytearray()
        self.salts = {}
        for index, (service, name) in sorted((renamed or {}).items()):
            if base is None or index >= base.titles:
                raise ValueError(f"title {index} is not in the base")
            self.copy_titles(start, index)
            self.add_title(service, name)
            start = index + 1
        if base is not None:
            self.copy_titles(start, base.titles)
        for service, name in titles:
            self.add_title(service, name)
        self.titles = len(self.keys)
        self.block_count = (self.titles + BLOCK - 1) >> 8
        self.index = None
        while self.index is None:
            self.index = index_of(self.keys, doubts, array("I", os.urandom(8)))
        self.blocks = bytearray()
        self.directory = bytearray()
        self.table_mask, self.seed = (1 << 11) - 1, int.from_bytes(os.urandom(8), "little")
        self.table = <uint64_t*> calloc(self.table_mask + 1, 8)
        if self.table == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.table)

    cdef int copy_titles(self, uint32_t start, uint32_t end) except -1:
        """Append titles of the base."""
        cdef uint32_t i, first = self.base.text_ends[start - 1] if start else 0
        cdef uint32_t last = self.base.text_ends[end - 1] if end else 0
        cdef uint32_t moved = <uint32_t> len(self.text) - first  # modulo 2^32
        self.keys.frombytes((<char*> (self.base.keys + start))[:8 * <Py_ssize_t> (end - start)])
        self.text += (<char*> self.base.text + first)[:last - first]
        if moved == 0:
            self.text_ends.frombytes((<char*> (self.base.text_ends + start))[:4 * <Py_ssize_t> (end - start)])
        else:
            self.text_ends.extend([<uint32_t> (self.base.text_ends[i] + moved) for i in range(start, end)])
        return 0

    cdef int add_title(self, service, name) except -1:
        cdef int number = self.number_of(service)
        cdef bytes text
        if service not in self.salts:
            text = (<str?> service).encode()
            self.salts[service] = hash_bytes(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        text = (<str?> name).encode()
        self.keys.append(content_key(hash_bytes(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)), self.salts[service]))
        self.text.append(number)
        self.text += text
        self.text_ends.append(len(self.text))
        return 0

    cdef int number_of(self, service) except -1:
        """Return the number of a service, giving the next one to a new service."""
        if service not in self.services:
            if len(self.services) == C_MAX_SERVICES:
                raise ValueError(f"holdings of {service}: at most {C_MAX_SERVICES} services may have holdings")
            if not service or "\n" in service:
                raise ValueError(f"{service!r} is not the id of a service")
            self.services.append(service)
        return self.services.index(service)

    cdef int begin(self, uint32_t number) except -1:
        if self.done:
            raise ValueError("these holdings are finished")
        if number in self.clusters:
            raise ValueError(f"cluster {number} is given twice")
        return 0

    def set_cluster(self, uint32_t number, slots, known, bitmaps):
        cdef uint32_t count = len(slots), words = (count + 63) >> 6, i, services
        cdef Py_ssize_t row_bytes = <Py_ssize_t> self.block_count * BLOCK_BYTES, length
        cdef uint8_t* rows
        cdef const uint8_t* bits
        cdef Py_buffer view
        cdef list members = []
        cdef bint known_any = False
        self.begin(number)
        if len(known) != count or len(bitmaps) != count or count > MAX_MEMBERS:
            raise ValueError(f"cluster {number}: {count} slots, {len(known)} known, {len(bitmaps)} bitmaps")
        if any([a >= b for a, b in zip(slots, slots[1:])]):
            raise ValueError(f"cluster {number}: its slots do not ascend")
        # One row of bits a member, and empty rows up to a multiple of eight.
        rows = <uint8_t*> calloc(((count + 7) & ~7) * max(row_bytes, 1) + 1, 1)
        if rows == NULL:
            raise MemoryError
        try:
            for i, (slot, reported, bitmap) in enumerate(zip(slots, known, bitmaps)):
                services = 0
                if bitmap is not None:
                    for service in reported:
                        services |= <uint32_t> 1 << self.number_of(service)
                members.append((slot, services))
                if not services:
                    continue
                known_any = True
                PyObject_GetBuffer(bitmap, &view, PyBUF_SIMPLE)
                bits = <const uint8_t*> view.buf
                length = view.len
                if length <= (<Py_ssize_t> self.titles + 7) >> 3:
                    memcpy(rows + i * row_bytes, bits, length)
                PyBuffer_Release(&view)
                if length > (<Py_ssize_t> self.titles + 7) >> 3 or (
                    self.titles & 7 and rows[i * row_bytes + (self.titles >> 3)] >> (self.titles & 7)
                ):
                    raise ValueError(f"cluster {number}, slot {slot}: its bitmap has more than {self.titles} titles")
            self.clusters[number] = (members, self.add_row(rows, count, words) if known_any else NO_ROW)
        finally:
            free(rows)

    cdef uint32_t add_row(self, const uint8_t* rows, uint32_t count, uint32_t words) except? 0xFFFFFFFF:
        """Add the blocks of a cluster from its members' rows of bits; return its row of the directory."""
        cdef uint64_t row_bytes = <uint64_t> self.block_count * BLOCK_BYTES
        cdef uint64_t most = 1 + BLOCK * <uint64_t> mask_bytes_of(count) + BLOCK
        cdef uint64_t* masks = <uint64_t*> calloc(BLOCK * words, 8)
        cdef uint32_t* row
        cdef uint8_t* blocks
        cdef uint32_t block
        cdef uint64_t size
        if masks == NULL:
            raise MemoryError
        try:
            self.reserve(most * self.block_count)
            row = self.new_row()
            blocks = <uint8_t*> PyByteArray_AS_STRING(self.blocks)
            with nogil:
                for block in range(self.block_count):
                    transpose(rows + block * BLOCK_BYTES, row_bytes, count, words, masks)
                    size = write_block(masks, count, words, blocks + self.used)
                    row[block] = self.keep(blocks, size)
        finally:
            free(masks)
        self.rows += 1
        return <uint32_t> (self.rows - 1)

    def keep_cluster(self, uint32_t number):
        cdef const cluster_members* cluster
        cdef const member* members
        cdef const uint8_t* block
        cdef const uint32_t* before
        cdef uint32_t* row
        cdef uint8_t* blocks
        cdef uint32_t i, mask_bytes, kept
        cdef uint64_t size
        self.begin(number)
        if self.base is None or number >= self.base.clusters:
            raise ValueError(f"cluster {number} is not in the base")
        cluster = self.base.cluster_table + number
        members = self.base.member_table + cluster.first
        listed = [(members[i].slot, members[i].services) for i in range(cluster.count)]
        if not any([services for _, services in listed]):
            self.clusters[number] = (listed, NO_ROW)
            return
        mask_bytes = mask_bytes_of(cluster.count)
        kept = self.base.block_count if cluster.row != NO_ROW else 0
        self.reserve((1 + BLOCK * <uint64_t> mask_bytes + BLOCK) * self.block_count)
        before = self.base.directory + (<uint64_t> cluster.row * kept if kept else 0)
        row = self.new_row()
        blocks = <uint8_t*> PyByteArray_AS_STRING(self.blocks)
        with nogil:
            for i in range(self.block_count):
                if i < kept:
                    block = self.base.blocks + before[i]
                    size = size_of_block(block, mask_bytes)
                    memcpy(blocks + self.used, block, size)
                else:  # no member holds new titles
                    size = 1 + mask_bytes
                    memset(blocks + self.used, 0, size)
                row[i] = self.keep(blocks, size)
        self.clusters[number] = (listed, self.rows)
        self.rows += 1

    cdef uint32_t* new_row(self) except NULL:
        """Append a row to the directory and return its address."""
        cdef Py_ssize_t before = len(self.directory)
        PyByteArray_Resize(self.directory, before + 4 * max(<Py_ssize_t> self.block_count, 1))
        return <uint32_t*> (PyByteArray_AS_STRING(self.directory) + before)

    cdef int reserve(self, uint64_t size) except -1:
        """Make room for so many bytes of blocks, and for the blocks of one cluster in the hash table."""
        cdef uint64_t needed = self.used + size + PAD, index, entry
        cdef uint64_t* larger
        if self.used + size > 0xFFFFFFFFu:
            raise ValueError("holdings of over 4 GiB")
        if <uint64_t> len(self.blocks) < needed:
            PyByteArray_Resize(self.blocks, needed + needed // 8)
        while (self.blocks_kept + self.block_count) * 4 > (self.table_mask + 1) * 3:
            larger = <uint64_t*> calloc(2 * (self.table_mask + 1), 8)
            if larger == NULL:
                raise MemoryError
            for index in range(self.table_mask + 1):
                if self.table[index]:
                    entry = self.table[index] >> 32 & (2 * self.table_mask + 1)
                    while larger[entry]:
                        entry = (entry + 1) & (2 * self.table_mask + 1)
                    larger[entry] = self.table[index]
            free(self.table)
            self.table = larger
            self.table_mask = 2 * self.table_mask + 1
        return 0

    cdef uint32_t keep(self, const uint8_t* blocks, uint64_t size) noexcept nogil:
        """Keep the block that was written behind the others, unless an equal one is there; return its offset."""
        # An entry is half of the hash, and the offset of the block plus one. `reserve` keeps some entries empty.
        cdef const char* block = <const char*> blocks + self.used
        cdef uint64_t* table = self.table
        cdef uint64_t tag = text_hash(self.seed, 0, block, size) >> 32, entry = tag & self.table_mask, offset
        while table[entry]:
            offset = (table[entry] & 0xFFFFFFFFu) - 1
            if table[entry] >> 32 == tag and offset + size <= self.used and memcmp(blocks + offset, block, size) == 0:
                return <uint32_t> offset
            entry = (entry + 1) & self.table_mask
        table[entry] = tag << 32 | (self.used + 1)
        offset = self.used
        self.used += size
        self.blocks_kept += 1
        return <uint32_t> offset

    def sections(self):
        cdef uint32_t number
        cdef cluster_members record
        members, clusters = array("I"), bytearray()
        self.done = True
        for number in range(max(self.clusters, default=-1) + 1):
            listed, row = self.clusters.get(number, ((), NO_ROW))
            record = cluster_members(len(members) // 2, len(listed), row if self.block_count else NO_ROW)
            clusters += (<char*> &record)[:sizeof(cluster_members)]
            for pair in listed:
                members.extend(pair)
        PyByteArray_Resize(self.blocks, self.used + PAD)
        memset(PyByteArray_AS_STRING(self.blocks) + self.used, 0, PAD)
        return {
            "keys": self.keys,
            "index": self.index,
            "text_ends": self.text_ends,
            "text": self.text,
            "clusters": clusters,
            "members": members,
            "directory": self.directory if self.block_count else b"",
            "blocks": self.blocks,
            "services": "\n".join(self.services).encode(),
        }


cdef index_of(keys_of, const uint8_t[::1] doubts, seed):
    """Return the index of `Holdings` for titles with these keys and a seed; None if one is too far from its place.

    Of titles with one key, the first of the least doubt is in the index.
    """
    cdef const uint64_t[::1] keys = keys_of
    cdef const uint32_t[::1] words = seed
    cdef uint64_t key_seed = <uint64_t> words[1] << 32 | words[0]
    cdef uint32_t count = <uint32_t> keys.shape[0], i, entry, probes, mask = (1 << (2 * count).bit_length()) - 1
    cdef uint32_t doubted = <uint32_t> doubts.shape[0], doubt
    index = array("I", bytes(4 * (<uint64_t> mask + 1))) + seed
    cdef uint32_t[::1] entries = index
    for doubt in range(DOUBTS if doubted else 1):
        for i in range(count):
            if (doubts[i] if i < doubted else 0) != doubt:
                continue
            entry = <uint32_t> mix(keys[i] ^ key_seed) & mask
            probes = 1
            while entries[entry] and keys[entries[entry] - 1] != keys[i]:
                entry = (entry + 1) & mask
                probes += 1
            if probes > MAX_PROBES:
                return None
            if not entries[entry]:  # otherwise another title has the same key, and counts for both
                entries[entry] = i + 1
    return index


cdef void transpose(
    const uint8_t* rows, uint64_t row_bytes, uint32_t count, uint32_t words, uint64_t* masks
) noexcept nogil:
    """Turn a block's rows of bits, one a member, into masks, one a title; the rows are a multiple of eight."""
    cdef uint32_t group
    cdef int byte, i
    cdef uint64_t x, t
    cdef const uint8_t* row
    cdef uint8_t* out
    for group in range((count + 7) >> 3):
        row = rows + group * 8 * row_bytes
        for byte in range(BLOCK_BYTES):
            x = 0
            for i in range(8):
                x |= <uint64_t> row[i * row_bytes + byte] << 8 * i
            # Transpose eight by eight bits (Warren, Hacker's Delight, 7-3).
            t = (x ^ x >> 7) & 0x00AA00AA00AA00AAu
            x ^= t ^ t << 7
            t = (x ^ x >> 14) & 0x0000CCCC0000CCCCu
            x ^= t ^ t << 14
            t = (x ^ x >> 28) & 0x00000000F0F0F0F0u
            x ^= t ^ t << 28
            out = <uint8_t*> (masks + byte * 8 * words) + group
            for i in range(8):
                out[i * 8 * words] = <uint8_t> (x >> 8 * i)


cdef uint64_t write_block(const uint64_t* masks, uint32_t count, uint32_t words, uint8_t* out) noexcept nogil:
    """Write a block of 256 masks, and return its size. `out` has room for 256 sets and 256 codes."""
    cdef int16_t buckets[BUCKETS]
    cdef uint8_t codes[BLOCK]
    cdef uint32_t mask_bytes = mask_bytes_of(count), sets = 0, width, i, bucket
    cdef int title
    cdef uint64_t hashed, packed
    cdef const uint64_t* mask
    cdef uint8_t* palette = out + 1
    memset(buckets, 0xFF, sizeof(buckets))
    for title in range(BLOCK):
        mask = masks + title * words
        hashed = mask[0] * 0x9E3779B97F4A7C15u
        for i in range(1, words):
            hashed = mix(hashed ^ mask[i])
        bucket = hashed >> 54  # the top ten bits: one of BUCKETS
        while buckets[bucket] >= 0 and memcmp(palette + buckets[bucket] * mask_bytes, mask, mask_bytes) != 0:
            bucket = (bucket + 1) & (BUCKETS - 1)
        if buckets[bucket] < 0:
            buckets[bucket] = sets
            memcpy(palette + sets * mask_bytes, mask, mask_bytes)
            sets += 1
        codes[title] = <uint8_t> buckets[bucket]
    out[0] = <uint8_t> (sets - 1)
    width = width_of(sets - 1)
    out = palette + sets * mask_bytes
    for title in range(0, BLOCK, 8):
        packed = 0
        for i in range(8):
            packed |= <uint64_t> codes[title + i] << width * i
        for i in range(width):  # eight codes have as many bytes as one has bits
            out[i] = <uint8_t> (packed >> 8 * i)
        out += width
    return out - palette + 1
