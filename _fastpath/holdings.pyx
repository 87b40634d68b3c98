# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Holdings: which appliance of a cluster holds a title. The largest thing that a worker maps, read at every pick.

A title has an index. Titles are cut into blocks of 256. For each cluster and block only the differences are stored:
the *palette*, which are the sets of members (a bit each, a *mask*) that hold some title of the block, and for each
title the number of its set, in as few bits as the palette needs:

    index:  content key -> index          index >> 8: the block, index & 255: the position in it
    cluster -> row of the directory; directory[row][block] -> offset of the block's bytes:

        last        1 byte: sets in the palette, less one; the width of a code follows from it: 0 to 8 bits
        palette     the masks, in order of first appearance, each of (members of the cluster / 8) bytes
        codes       256 codes, packed from the lowest bit

**The index** is open addressing, at most half full. Appliances choose the ids that they report, so where a key belongs
is decided by a random seed of the file, which stands behind the entries, and a search takes `MAX_PROBES` steps at most:
the builder draws another seed if a title would lie further away, and a file that has such a title is refused.

A request costs one search of the key, and for each cluster the address of a mask: three cache lines. Then each
candidate is one bit.

Equal blocks are stored once, whatever their clusters, because a mask counts members by their position in the cluster:
two clusters of one size that are filled alike share their blocks, and a cluster that holds nothing of a block, or all
of it, has three bytes for it, shared by all. The builder (`holdings_builder.pyx`) finds equal blocks by a hash.

Why not something else: a bit for each appliance and title is 237 MB for 100,000 titles and 19,000 appliances. A list of
holders for each cluster and title costs a byte and a pointer where the palette costs 2 to 4 bits; a hash or a filter
costs 10 bits for every title held. A rare title that is once in a cluster needs log2(members) bits, 2 or 3; codes come
near to that, and any number of copies of popular titles only lengthens the palette.

Measured on 100,000 titles and 19,000 appliances in 3,656 clusters of 1 to 24, nothing alike between any two, each rare
title once in every cluster and of each fifty titles one two to many times (Zipf): 160 MB of blocks, 9 MB of all else,
3.4 bits of code a title. Built from bitmaps in 3.4 s, from the previous version in 0.6 s, checked in 32 ms. A bitmap is
read back in 0.3 ms.

Holdings are known by member and service: an appliance that reports its video titles has reported nothing about games.
`Holdings` checks at construction all that a lookup relies on, so that lookups check nothing: where a block ends, not
its contents (files have checksums). A code beyond its palette is an empty set.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cimport cython

from _fastpath.hashing cimport mix

MAX_SERVICES = C_MAX_SERVICES
MAX_PROBES = C_MAX_PROBES

cdef enum:
    C_MAX_PROBES = 128  # a million titles half full: the longest search has some 60 steps
    SEED_ENTRIES = 2  # of the index, behind the others

PART_NAMES = ("keys", "index", "text_ends", "text", "clusters", "members", "directory", "blocks", "services")
assert len(PART_NAMES) == PARTS


cdef extern from *:
    int __builtin_ctz(unsigned int value) noexcept nogil


cdef inline const uint8_t* mask_in(const uint8_t* block, uint32_t mask_bytes, uint32_t position) noexcept nogil:
    """Return the mask of the title at a position of a block, NULL for a code beyond the palette."""
    cdef uint32_t width = width_of(block[0]), bit = position * width
    cdef const uint8_t* codes = block + 1 + (<uint64_t> block[0] + 1) * mask_bytes + (bit >> 3)
    cdef uint32_t code = (codes[0] | <uint32_t> codes[1] << 8) >> (bit & 7) & ((1 << width) - 1)
    return block + 1 + code * mask_bytes if code <= block[0] else NULL


cdef inline bint is_empty(const uint8_t* mask, uint32_t mask_bytes) noexcept nogil:
    cdef uint32_t i
    for i in range(mask_bytes):
        if mask[i]:
            return False
    return True


cdef void add_held(const uint8_t* block, uint32_t mask_bytes, uint32_t titles, uint8_t* bits) noexcept nogil:
    """Set the bits of the titles of a block that somebody holds."""
    cdef uint32_t i
    cdef const uint8_t* mask
    if block[0] == 0 and is_empty(block + 1, mask_bytes):  # most clusters hold nothing of most blocks, or all of it
        return
    for i in range(titles):
        if not bits[i >> 3] >> (i & 7) & 1:
            mask = mask_in(block, mask_bytes, i)
            if mask != NULL and not is_empty(mask, mask_bytes):
                bits[i >> 3] |= 1 << (i & 7)


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class Holdings:
    def __cinit__(self, sections not None):
        for name in PART_NAMES:
            if name not in sections:
                raise ValueError(f"holdings: section {name} is missing")
            PyObject_GetBuffer(sections[name], self.views + self.held, PyBUF_SIMPLE)
            self.held += 1
        self.keys = <const uint64_t*> self.views[0].buf
        self.index = <const uint32_t*> self.views[1].buf
        self.text_ends = <const uint32_t*> self.views[2].buf
        self.text = <const char*> self.views[3].buf
        self.cluster_table = <const cluster_members*> self.views[4].buf
        self.member_table = <const member*> self.views[5].buf
        self.directory = <const uint32_t*> self.views[6].buf
        self.blocks = <const uint8_t*> self.views[7].buf
        named = (<char*> self.views[8].buf)[:self.views[8].len].decode()
        self.services = tuple(named.split("\n")) if named else ()
        self.check()

    def __dealloc__(self):
        cdef int part
        for part in range(self.held):
            PyBuffer_Release(self.views + part)

    cdef int check(self) except -1:
        """Refuse sections that point outside, so that lookups need no checks."""
        cdef uint64_t sizes[PARTS]
        cdef uint64_t wrong
        cdef uint32_t services = len(self.services)
        cdef int part
        cdef bint is_aligned
        for part, width in enumerate((8, 4, 4, 1, sizeof(cluster_members), sizeof(member), 4, 1, 1)):
            is_aligned = self.views[part].len == 0 or <uint64_t> self.views[part].buf % min(width, 4) == 0
            if self.views[part].len % width or not is_aligned:
                raise ValueError(f"holdings: section {PART_NAMES[part]} is cut off, or not aligned")
            sizes[part] = self.views[part].len // width
            if sizes[part] > 0xFFFFFFFFu:
                raise ValueError(f"holdings: section {PART_NAMES[part]} is too large")
        if sizes[0] and <uint64_t> self.views[0].buf % 8:
            raise ValueError("holdings: section keys is not aligned")
        if services > C_MAX_SERVICES:
            raise ValueError(f"holdings: {services} services; at most {C_MAX_SERVICES}")
        self.titles = <uint32_t> sizes[0]
        self.clusters = <uint32_t> sizes[4]
        self.member_count = <uint32_t> sizes[5]
        self.block_count = (self.titles + BLOCK - 1) >> 8 if self.titles else 0
        if sizes[1] <= self.titles + SEED_ENTRIES or (sizes[1] - SEED_ENTRIES) & (sizes[1] - SEED_ENTRIES - 1):
            raise ValueError(f"holdings: an index of {sizes[1]} entries for {self.titles} titles")
        self.index_mask = <uint32_t> sizes[1] - SEED_ENTRIES - 1
        if sizes[2] != self.titles:
            raise ValueError(f"holdings: {sizes[2]} ends of text for {self.titles} titles")
        if sizes[6] % max(self.block_count, 1) or (sizes[6] and not self.block_count):
            raise ValueError(f"holdings: a directory of {sizes[6]} entries for {self.block_count} blocks a cluster")
        self.row_count = <uint32_t> (sizes[6] // self.block_count) if self.block_count else 0
        with nogil:  # the worker answers meanwhile
            wrong = self.wrong_titles(sizes[3], services)
        if wrong:
            raise ValueError(f"holdings: title {wrong - 1} points outside the index, the text or the services")
        with nogil:
            wrong = self.wrong_cluster(sizes[7])
        if wrong:
            raise ValueError(f"holdings: cluster {wrong - 1}: its members, its row or a block points outside")
        return 0

    cdef uint64_t wrong_titles(self, uint64_t text_length, uint32_t services) noexcept nogil:
        """Return the number of the first invalid title, plus one; 0 if all are valid."""
        cdef uint64_t i
        cdef uint32_t before = 0
        for i in range(<uint64_t> self.index_mask + 1):
            if self.index[i] > self.titles:
                return i + 1
        for i in range(self.titles):
            if self.text_ends[i] <= before or self.text_ends[i] > text_length \
                    or <uint8_t> self.text[before] >= services or self.find(self.keys[i]) < 0:
                return i + 1
            before = self.text_ends[i]
        return 0

    cdef uint64_t wrong_cluster(self, uint64_t blocks_length) noexcept nogil:
        """Return the number of the first invalid cluster, plus one; 0 if all are valid."""
        cdef uint64_t i, j, position
        cdef uint32_t mask_bytes
        cdef const cluster_members* cluster
        cdef const uint32_t* row
        for i in range(self.clusters):
            cluster = self.cluster_table + i
            if <uint64_t> cluster.first + cluster.count > self.member_count or cluster.count > MAX_MEMBERS:
                return i + 1
            for j in range(cluster.first + 1, <uint64_t> cluster.first + cluster.count):
                if self.member_table[j].slot <= self.member_table[j - 1].slot:
                    return i + 1
            if cluster.row == NO_ROW:
                continue
            if cluster.row >= self.row_count:
                return i + 1
            mask_bytes = mask_bytes_of(cluster.count)
            row = self.directory + <uint64_t> cluster.row * self.block_count
            for j in range(self.block_count):
                position = row[j]
                if position >= blocks_length or blocks_length - position < PAD \
                        or size_of_block(self.blocks + position, mask_bytes) > blocks_length - position - PAD:
                    return i + 1
        return 0

    cdef int64_t find(self, uint64_t key) noexcept nogil:
        """Return the index of a title by its content key, -1 for a title that was never reported."""
        cdef const uint32_t* seed = self.index + self.index_mask + 1
        cdef uint32_t position = <uint32_t> mix(key ^ (<uint64_t> seed[1] << 32 | seed[0])), entry, i
        for i in range(C_MAX_PROBES):
            entry = self.index[(position + i) & self.index_mask]
            if entry == 0:
                return -1
            if self.keys[entry - 1] == key:
                return entry - 1
        return -1

    cdef const uint8_t* mask_of(self, uint32_t cluster, uint32_t title) noexcept nogil:
        """Return the mask of the holders of a title, a bit for each member by its position; NULL without holders."""
        cdef const cluster_members* members
        if cluster >= self.clusters:
            return NULL
        members = self.cluster_table + cluster
        if members.row == NO_ROW:
            return NULL
        return mask_in(
            self.blocks + self.directory[<uint64_t> members.row * self.block_count + (title >> 8)],
            mask_bytes_of(members.count), title & 255,
        )

    @property
    def nbytes(self):
        return sum(self.views[part].len for part in range(PARTS))

    def index_of(self, uint64_t key):
        title = self.find(key)
        return None if title < 0 else title

    def title(self, uint32_t index):
        cdef uint32_t start
        if index >= self.titles:
            raise IndexError(f"title {index} of {self.titles}")
        start = self.text_ends[index - 1] if index else 0
        return (
            self.services[<uint8_t> self.text[start]],
            (<char*> self.text + start + 1)[:self.text_ends[index] - start - 1].decode(),
        )

    def service_bit(self, str service not None):
        return 1 << self.services.index(service) if service in self.services else 0

    def members(self, uint32_t cluster):
        cdef const member* members
        cdef uint32_t i
        if cluster >= self.clusters:
            return []
        members = self.member_table + self.cluster_table[cluster].first
        return [
            (members[i].slot, self.names_of(members[i].services)) for i in range(self.cluster_table[cluster].count)
        ]

    cdef frozenset names_of(self, uint32_t services):
        return frozenset([name for position, name in enumerate(self.services) if services >> position & 1])

    def bitmap(self, uint32_t cluster, uint32_t slot):
        cdef const cluster_members* members
        cdef const uint32_t* row
        cdef const uint8_t* mask
        cdef uint32_t i, position, mask_bytes
        cdef bytes out
        cdef uint8_t* bits
        if cluster >= self.clusters:
            return None
        members = self.cluster_table + cluster
        for position in range(members.count):
            if self.member_table[members.first + position].slot == slot:
                break
        else:
            return None
        if not self.member_table[members.first + position].services:
            return None
        out = bytes((self.titles + 7) // 8)
        if members.row == NO_ROW:
            return out
        mask_bytes = mask_bytes_of(members.count)
        row = self.directory + <uint64_t> members.row * self.block_count
        bits = <uint8_t*> PyBytes_AS_STRING(out)
        with nogil:
            for i in range(self.titles):
                mask = mask_in(self.blocks + row[i >> 8], mask_bytes, i & 255)
                if mask != NULL:
                    bits[i >> 3] |= (mask[position >> 3] >> (position & 7) & 1) << (i & 7)
        return out

    def bitmaps(self, uint32_t cluster):
        cdef const cluster_members* members
        cdef const uint32_t* row
        cdef const uint8_t* mask
        cdef uint32_t i, position, mask_bytes, words
        cdef uint8_t bits
        cdef uint8_t* out
        cdef Py_ssize_t length = (self.titles + 7) // 8
        if cluster >= self.clusters:
            return {}
        members = self.cluster_table + cluster
        rows = bytes(length * members.count)
        out = <uint8_t*> PyBytes_AS_STRING(rows)
        if members.row != NO_ROW:
            mask_bytes = mask_bytes_of(members.count)
            row = self.directory + <uint64_t> members.row * self.block_count
            with nogil:
                for i in range(self.titles):
                    mask = mask_in(self.blocks + row[i >> 8], mask_bytes, i & 255)
                    if mask == NULL:
                        continue
                    for words in range(mask_bytes):
                        bits = mask[words]
                        while bits:
                            position = words * 8 + __builtin_ctz(bits)
                            if position < members.count:
                                out[position * length + (i >> 3)] |= 1 << (i & 7)
                            bits &= bits - 1
        return {
            self.member_table[members.first + position].slot: rows[position * length:(position + 1) * length]
            if self.member_table[members.first + position].services else None
            for position in range(members.count)
        }

    def held_titles(self):
        cdef bytes out = bytes((self.titles + 7) // 8)
        cdef uint8_t* bits = <uint8_t*> PyBytes_AS_STRING(out)
        cdef const cluster_members* members
        cdef const uint32_t* row
        cdef uint32_t cluster, block, first, titles, mask_bytes
        with nogil:
            for cluster in range(self.clusters):
                members = self.cluster_table + cluster
                if members.row == NO_ROW:
                    continue
                mask_bytes = mask_bytes_of(members.count)
                row = self.directory + <uint64_t> members.row * self.block_count
                for block in range(self.block_count):
                    first = block << 8
                    titles = min(self.titles - first, <uint32_t> BLOCK)
                    add_held(self.blocks + row[block], mask_bytes, titles, bits + (first >> 3))
        return out

    def holders(self, uint32_t cluster, uint32_t index):
        cdef const uint8_t* mask
        cdef const member* members
        cdef uint32_t i
        if index >= self.titles:
            raise IndexError(f"title {index} of {self.titles}")
        mask = self.mask_of(cluster, index)
        if mask == NULL:
            return []
        members = self.member_table + self.cluster_table[cluster].first
        return [members[i].slot for i in range(self.cluster_table[cluster].count) if mask[i >> 3] >> (i & 7) & 1]
