# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Holdings: which appliance of a cluster holds a title. The largest thing that a worker maps, and asked at every pick.

A title has an index. Titles are cut into blocks of 256, and of each cluster and block only what is different is kept:
the *palette*, the sets of members (a bit each, a *mask*) that some title of the block is held by, and for each title
the number of its set, in as few bits as the palette needs:

    keys:   content key -> index          index >> 8: the block, index & 255: the place in it
    cluster -> row of the directory; directory[row][block] -> place of the block's bytes:

        last        1 byte: sets in the palette, less one; so the width of a code follows: 0 to 8 bits
        palette     the masks, in order of first appearance, each of as many bytes as the cluster has members / 8
        codes       256 of them, packed from the lowest bit

A question costs one search of the key a request, and for each cluster a mask's address: three cache lines, of which one
leads to the next but for the code and its mask. Then a candidate is one bit.

Blocks of equal bytes are one, whichever clusters they are of, because a mask goes by a member's place in its cluster:
where two clusters of a size are filled alike, they share what they hold, and a cluster that holds nothing new in a
block, or everything, has three bytes of it, shared by all. Equal blocks are found by a hash of their bytes while they
are made.

Why not something else: a bit for each appliance and title is 237 MB for 100,000 titles and 19,000 appliances. A list of
holders for each cluster and title costs a byte and a pointer where the palette costs 2 to 4 bits, a hash or a filter 10
bits for every title held. With rare titles once in a cluster a set says log2(members) bits, 2 or 3; codes come near to
it, and any number of copies of popular titles only lengthens the palette.

Measured on 100,000 titles and 19,000 appliances in 3,656 clusters of 1 to 24, nothing alike between any two, each rare
title once in every cluster and of each fifty titles one two to many times (Zipf): 160 MB of blocks, 9 MB of all else,
3.4 bits of code a title. Made from bitmaps in 3.4 s, taken over from the version before in 0.6 s, checked in 32 ms. A
bitmap is read back in 0.3 ms.

Who is known is kept for each member and service: one that reports what it holds of video says nothing about games.
`Holdings` checks everything that a lookup relies on, so that none needs to look: where a block ends, not what is in it
(files have checksums); a code beyond its palette is nobody's set.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from array import array

cimport cython

from _fastpath.hashing cimport content_key, hash_bytes, mix

MAX_SERVICES = C_MAX_SERVICES

cdef enum:
    BLOCK = 256  # titles; so that a code has at most 8 bits
    BLOCK_BYTES = 32  # of a bitmap
    PAD = 8  # bytes after the last block: a code is read as two bytes
    MAX_MEMBERS = 65_535
    PLACES = 1024  # of the palette while it is made: at most a quarter in use

cdef uint32_t NO_ROW = 0xFFFFFFFFu

# Bits of a code by the number of sets less one.
cdef uint8_t WIDTHS[256]
for _i in range(256):
    WIDTHS[_i] = _i.bit_length()

PART_NAMES = ("keys", "index", "text_ends", "text", "clusters", "members", "directory", "blocks", "services")
assert len(PART_NAMES) == PARTS


cdef inline uint32_t mask_bytes_of(uint32_t members) noexcept nogil:
    return (members + 7) >> 3


cdef inline uint64_t size_of_block(const uint8_t* block, uint32_t mask_bytes) noexcept nogil:
    return 1 + (<uint64_t> block[0] + 1) * mask_bytes + BLOCK_BYTES * WIDTHS[block[0]]


cdef inline const uint8_t* mask_in(const uint8_t* block, uint32_t mask_bytes, uint32_t place) noexcept nogil:
    """Return the mask of the title at a place of a block, NULL where its code is not one."""
    cdef uint32_t width = WIDTHS[block[0]], bit = place * width
    cdef const uint8_t* codes = block + 1 + (<uint64_t> block[0] + 1) * mask_bytes + (bit >> 3)
    cdef uint32_t code = (codes[0] | <uint32_t> codes[1] << 8) >> (bit & 7) & ((1 << width) - 1)
    return block + 1 + code * mask_bytes if code <= block[0] else NULL


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class Holdings:
    def __cinit__(self, sections not None):
        for name in PART_NAMES:
            if name not in sections:
                raise ValueError(f"holdings: there is no section {name}")
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
        """Refuse what points outside, so that no lookup needs to look."""
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
        if sizes[1] & (sizes[1] - 1) or sizes[1] <= self.titles:
            raise ValueError(f"holdings: an index of {sizes[1]} places for {self.titles} titles")
        self.index_mask = <uint32_t> sizes[1] - 1
        if sizes[2] != self.titles:
            raise ValueError(f"holdings: {sizes[2]} ends of text for {self.titles} titles")
        if sizes[6] % max(self.block_count, 1) or (sizes[6] and not self.block_count):
            raise ValueError(f"holdings: a directory of {sizes[6]} places for {self.block_count} blocks a cluster")
        self.row_count = <uint32_t> (sizes[6] // self.block_count) if self.block_count else 0
        with nogil:  # a worker goes on answering meanwhile
            wrong = self.wrong_titles(sizes[3], services)
        if wrong:
            raise ValueError(f"holdings: title {wrong - 1} points outside the index, the text or the services")
        with nogil:
            wrong = self.wrong_cluster(sizes[7])
        if wrong:
            raise ValueError(f"holdings: cluster {wrong - 1}: its members, its row or a block points outside")
        return 0

    cdef uint64_t wrong_titles(self, uint64_t text_length, uint32_t services) noexcept nogil:
        """Return the number of a title that cannot be, plus one; 0 where all can."""
        cdef uint64_t i, used = 0
        cdef uint32_t before = 0
        for i in range(<uint64_t> self.index_mask + 1):
            if self.index[i] > self.titles:
                return i + 1
            used += self.index[i] != 0
        if used > self.index_mask:
            return 1  # a search for a key that is not there would not end
        for i in range(self.titles):
            if self.text_ends[i] <= before or self.text_ends[i] > text_length \
                    or <uint8_t> self.text[before] >= services:
                return i + 1
            before = self.text_ends[i]
        return 0

    cdef uint64_t wrong_cluster(self, uint64_t blocks_length) noexcept nogil:
        """Return the number of a cluster that cannot be, plus one; 0 where all can."""
        cdef uint64_t i, j, place
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
                place = row[j]
                if place >= blocks_length or blocks_length - place < PAD \
                        or size_of_block(self.blocks + place, mask_bytes) > blocks_length - place - PAD:
                    return i + 1
        return 0

    cdef int64_t find(self, uint64_t key) noexcept nogil:
        """Return the index of a title by its content key, -1 for one that nobody reported."""
        # It ends: the index has an empty place.
        cdef uint32_t place = <uint32_t> key & self.index_mask, found
        while True:
            found = self.index[place]
            if found == 0:
                return -1
            if self.keys[found - 1] == key:
                return found - 1
            place = (place + 1) & self.index_mask

    cdef const uint8_t* mask_of(self, uint32_t cluster, uint32_t title) noexcept nogil:
        """Return the mask of who holds a title: the bit of a member is its place. NULL where nobody does."""
        cdef const cluster_members* found
        if cluster >= self.clusters:
            return NULL
        found = self.cluster_table + cluster
        if found.row == NO_ROW:
            return NULL
        return mask_in(
            self.blocks + self.directory[<uint64_t> found.row * self.block_count + (title >> 8)],
            mask_bytes_of(found.count), title & 255,
        )

    @property
    def nbytes(self):
        return sum(self.views[part].len for part in range(PARTS))

    def index_of(self, uint64_t key):
        found = self.find(key)
        return None if found < 0 else found

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
        cdef const member* found
        cdef uint32_t i
        if cluster >= self.clusters:
            return []
        found = self.member_table + self.cluster_table[cluster].first
        return [
            (found[i].slot, self.names_of(found[i].services)) for i in range(self.cluster_table[cluster].count)
        ]

    cdef frozenset names_of(self, uint32_t services):
        return frozenset([name for place, name in enumerate(self.services) if services >> place & 1])

    def bitmap(self, uint32_t cluster, uint32_t slot):
        cdef const cluster_members* found
        cdef const uint32_t* row
        cdef const uint8_t* mask
        cdef uint32_t i, place, mask_bytes
        cdef bytes out
        cdef uint8_t* at
        if cluster >= self.clusters:
            return None
        found = self.cluster_table + cluster
        for place in range(found.count):
            if self.member_table[found.first + place].slot == slot:
                break
        else:
            return None
        if not self.member_table[found.first + place].services:
            return None
        out = bytes((self.titles + 7) // 8)
        if found.row == NO_ROW:
            return out
        mask_bytes = mask_bytes_of(found.count)
        row = self.directory + <uint64_t> found.row * self.block_count
        at = <uint8_t*> PyBytes_AS_STRING(out)
        with nogil:
            for i in range(self.titles):
                mask = mask_in(self.blocks + row[i >> 8], mask_bytes, i & 255)
                if mask != NULL:
                    at[i >> 3] |= (mask[place >> 3] >> (place & 7) & 1) << (i & 7)
        return out

    def holders(self, uint32_t cluster, uint32_t index):
        cdef const uint8_t* mask
        cdef const member* found
        cdef uint32_t i
        if index >= self.titles:
            raise IndexError(f"title {index} of {self.titles}")
        mask = self.mask_of(cluster, index)
        if mask == NULL:
            return []
        found = self.member_table + self.cluster_table[cluster].first
        return [found[i].slot for i in range(self.cluster_table[cluster].count) if mask[i >> 3] >> (i & 7) & 1]


cdef class HoldingsBuilder:
    cdef Holdings base
    cdef readonly uint32_t titles
    cdef uint32_t block_count
    cdef list services
    cdef object keys, index, text_ends  # arrays
    cdef bytearray text, blocks, directory
    cdef uint64_t* places
    cdef dict clusters  # number -> (members, row)
    cdef uint64_t used, blocks_kept, place_mask, rows
    cdef bint done

    def __cinit__(self, Holdings base, titles not None):
        cdef uint64_t key
        cdef uint32_t[::1] index
        cdef uint64_t[::1] keys
        cdef uint32_t i, place, mask
        cdef dict salts = {}
        cdef bytes text
        self.base = base
        self.services = list(base.services) if base is not None else []
        self.clusters = {}
        self.keys = array("Q")
        self.text_ends = array("I")
        self.text = bytearray()
        if base is not None:
            self.keys.frombytes((<char*> base.keys)[:8 * <Py_ssize_t> base.titles])
            self.text_ends.frombytes((<char*> base.text_ends)[:4 * <Py_ssize_t> base.titles])
            self.text += base.text[:base.views[3].len]
        for service, name in titles:
            number = self.number_of(service)
            if service not in salts:
                text = (<str?> service).encode()
                salts[service] = hash_bytes(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
            text = (<str?> name).encode()
            key = content_key(hash_bytes(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)), salts[service])
            self.keys.append(key)
            self.text.append(number)
            self.text += text
            self.text_ends.append(len(self.text))
        self.titles = len(self.keys)
        self.block_count = (self.titles + BLOCK - 1) >> 8
        self.index = array("I", bytes(4 << (2 * self.titles).bit_length()))
        if self.titles:
            index, keys = self.index, self.keys
            mask = <uint32_t> index.shape[0] - 1
            for i in range(self.titles):
                place = <uint32_t> keys[i] & mask
                while index[place] and keys[index[place] - 1] != keys[i]:
                    place = (place + 1) & mask
                if not index[place]:  # else another has the key, and answers for both
                    index[place] = i + 1
        self.blocks = bytearray()
        self.directory = bytearray()
        self.place_mask = (1 << 11) - 1
        self.places = <uint64_t*> calloc(self.place_mask + 1, 8)
        if self.places == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.places)

    cdef int number_of(self, service) except -1:
        """Return the number of a service, a new one where it has none."""
        if service not in self.services:
            if len(self.services) == C_MAX_SERVICES:
                raise ValueError(f"holdings of {service}: {C_MAX_SERVICES} services have some already")
            if not service or "\n" in service:
                raise ValueError(f"{service!r} is no id of a service")
            self.services.append(service)
        return self.services.index(service)

    cdef int begin(self, uint32_t number) except -1:
        if self.done:
            raise ValueError("these holdings are made")
        if number in self.clusters:
            raise ValueError(f"cluster {number} is given twice")
        return 0

    def set_cluster(self, uint32_t number, slots, known, bitmaps):
        cdef uint32_t count = len(slots), words = (count + 63) >> 6, i, services
        cdef Py_ssize_t row_bytes = <Py_ssize_t> self.block_count * BLOCK_BYTES, length
        cdef uint8_t* rows
        cdef const uint8_t* found
        cdef Py_buffer view
        cdef list members = []
        cdef bint anybody = False
        self.begin(number)
        if len(known) != count or len(bitmaps) != count or count > MAX_MEMBERS:
            raise ValueError(f"cluster {number}: {count} slots, {len(known)} known, {len(bitmaps)} bitmaps")
        if any([a >= b for a, b in zip(slots, slots[1:])]):
            raise ValueError(f"cluster {number}: its slots do not ascend")
        # A row of bits a member, and rows of none up to the next eight.
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
                anybody = True
                PyObject_GetBuffer(bitmap, &view, PyBUF_SIMPLE)
                found = <const uint8_t*> view.buf
                length = view.len
                if length <= (<Py_ssize_t> self.titles + 7) >> 3:
                    memcpy(rows + i * row_bytes, found, length)
                PyBuffer_Release(&view)
                if length > (<Py_ssize_t> self.titles + 7) >> 3 or (
                    self.titles & 7 and rows[i * row_bytes + (self.titles >> 3)] >> (self.titles & 7)
                ):
                    raise ValueError(f"cluster {number}, slot {slot}: its bitmap has more than {self.titles} titles")
            self.clusters[number] = (members, self.add_row(rows, count, words) if anybody else NO_ROW)
        finally:
            free(rows)

    cdef uint32_t add_row(self, const uint8_t* rows, uint32_t count, uint32_t words) except? 0xFFFFFFFF:
        """Add the blocks of a cluster from its members' rows of bits, and return its row of the directory."""
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
        cdef const cluster_members* found
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
        found = self.base.cluster_table + number
        members = self.base.member_table + found.first
        listed = [(members[i].slot, members[i].services) for i in range(found.count)]
        if not any([services for _, services in listed]):
            self.clusters[number] = (listed, NO_ROW)
            return
        mask_bytes = mask_bytes_of(found.count)
        kept = self.base.block_count if found.row != NO_ROW else 0
        self.reserve((1 + BLOCK * <uint64_t> mask_bytes + BLOCK) * self.block_count)
        before = self.base.directory + (<uint64_t> found.row * kept if kept else 0)
        row = self.new_row()
        blocks = <uint8_t*> PyByteArray_AS_STRING(self.blocks)
        with nogil:
            for i in range(self.block_count):
                if i < kept:
                    block = self.base.blocks + before[i]
                    size = size_of_block(block, mask_bytes)
                    memcpy(blocks + self.used, block, size)
                else:  # nobody holds what is new
                    size = 1 + mask_bytes
                    memset(blocks + self.used, 0, size)
                row[i] = self.keep(blocks, size)
        self.clusters[number] = (listed, self.rows)
        self.rows += 1

    cdef uint32_t* new_row(self) except NULL:
        """Return the place of the directory's next row."""
        cdef Py_ssize_t before = len(self.directory)
        PyByteArray_Resize(self.directory, before + 4 * max(<Py_ssize_t> self.block_count, 1))
        return <uint32_t*> (PyByteArray_AS_STRING(self.directory) + before)

    cdef int reserve(self, uint64_t more) except -1:
        """Make room for so many bytes of blocks, and for as many blocks as a cluster has among the places."""
        cdef uint64_t needed = self.used + more + PAD, place, at
        cdef uint64_t* larger
        if self.used + more > 0xFFFFFFFFu:
            raise ValueError("holdings of over 4 GiB")
        if <uint64_t> len(self.blocks) < needed:
            PyByteArray_Resize(self.blocks, needed + needed // 8)
        while (self.blocks_kept + self.block_count) * 4 > (self.place_mask + 1) * 3:
            larger = <uint64_t*> calloc(2 * (self.place_mask + 1), 8)
            if larger == NULL:
                raise MemoryError
            for place in range(self.place_mask + 1):
                if self.places[place]:
                    at = self.places[place] >> 32 & (2 * self.place_mask + 1)
                    while larger[at]:
                        at = (at + 1) & (2 * self.place_mask + 1)
                    larger[at] = self.places[place]
            free(self.places)
            self.places = larger
            self.place_mask = 2 * self.place_mask + 1
        return 0

    cdef uint32_t keep(self, const uint8_t* blocks, uint64_t size) noexcept nogil:
        """Keep the block that was written behind the others, unless there is one alike; return its place."""
        # A place holds half of the hash, and where the block lies, plus one. `reserve` saw to it that some are empty.
        cdef const char* block = <const char*> blocks + self.used
        cdef uint64_t* places = self.places
        cdef uint64_t tag = hash_bytes(block, size) >> 32, at = tag & self.place_mask, found
        while places[at]:
            found = (places[at] & 0xFFFFFFFFu) - 1
            if places[at] >> 32 == tag and found + size <= self.used and memcmp(blocks + found, block, size) == 0:
                return <uint32_t> found
            at = (at + 1) & self.place_mask
        places[at] = tag << 32 | (self.used + 1)
        found = self.used
        self.used += size
        self.blocks_kept += 1
        return <uint32_t> found

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


cdef void transpose(
    const uint8_t* rows, uint64_t row_bytes, uint32_t count, uint32_t words, uint64_t* masks
) noexcept nogil:
    """Turn a block's rows of bits, one a member, into masks, one a title; there are rows up to the next eight."""
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
            # Eight by eight bits, turned over (Warren, Hacker's Delight, 7-3).
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
    cdef int16_t places[PLACES]
    cdef uint8_t codes[BLOCK]
    cdef uint32_t mask_bytes = mask_bytes_of(count), sets = 0, width, i, at
    cdef int title
    cdef uint64_t hashed, packed
    cdef const uint64_t* mask
    cdef uint8_t* palette = out + 1
    memset(places, 0xFF, sizeof(places))
    for title in range(BLOCK):
        mask = masks + title * words
        hashed = mask[0] * 0x9E3779B97F4A7C15u
        for i in range(1, words):
            hashed = mix(hashed ^ mask[i])
        at = hashed >> 54  # the top ten bits: one of PLACES
        while places[at] >= 0 and memcmp(palette + places[at] * mask_bytes, mask, mask_bytes) != 0:
            at = (at + 1) & (PLACES - 1)
        if places[at] < 0:
            places[at] = sets
            memcpy(palette + sets * mask_bytes, mask, mask_bytes)
            sets += 1
        codes[title] = <uint8_t> places[at]
    out[0] = <uint8_t> (sets - 1)
    width = WIDTHS[sets - 1]
    out = palette + sets * mask_bytes
    for title in range(0, BLOCK, 8):
        packed = 0
        for i in range(8):
            packed |= <uint64_t> codes[title + i] << width * i
        for i in range(width):  # eight codes are as many bytes as one has bits
            out[i] = <uint8_t> (packed >> 8 * i)
        out += width
    return out - palette + 1
