# cython: wraparound=False, initializedcheck=False, cdivision=True
"""pick: a zone's ranking, who holds what, the weights and a title in; a few appliances out, and why each other was not.

*Where* was decided when the table was built: a zone's ranking lists clusters by rank, 0 nearest. *Who* is decided here.
The ranking is walked rank by rank. An appliance is dropped, for the first of these reasons that holds:

    R  its region may not serve the service     F  it is not up in the client's address family
    D  disabled or draining                     C  it is known what it holds, and the title is not among it
    U  unhealthy                                H  no headroom, over its limit, or of weight 0
    S  stale: its last report is too old

What is left of a rank is ordered by weighted rendezvous hashing (Schindler and Barth, "Weighted Distributed Hash
Tables", SPAA 2005): each appliance draws u in (0, 1) from a hash of the key and its slot, and the lowest
-log(u) / weight wins. So the same key always finds the same order, shares are proportional to weight, and a changed
appliance moves only the keys it must. In integers: -log2(u) comes from a table of 257 points, interpolated, in 32
fractional bits; two candidates are compared by multiplying crosswise, so nothing is divided. Costs are below 2**39 and
weights below 2**16: a product fits 64 bits.

The key is the title's where it is not known what an appliance holds: a title keeps to its places, and caches fill. It
is the viewer's, title and session together, where the appliance is known to hold the title: viewers fan_out over the
copies. A viewer is a session; without one, the client's /24 or /48. A title that is hot has a *fan_out* k among the
weights, and then k keys, of which the viewer has one: k orders of the same appliances instead of one.

At most two picks of a site are taken in one round, one when two are asked for, so that where two sites can serve, two
do. Rounds repeat, each passing over what is picked already, until n are found or a round finds none. A title that too
few appliances can serve ends with the service's fallback. Where nobody can, and the service fails open, the ranking is
walked again and U, S and H are forgiven.

StatusWords are one 32-bit word for each appliance slot, in a file that control stores to and workers map: 16 bits of weight
and the flags below, read at every pick with a relaxed atomic load; behind them the fan_outs of hot titles. Nothing else
here changes after it is made.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from _fastpath.counters cimport FAILED_OPEN, Counters
from _fastpath.hashing cimport content_key, hash_bytes, mix, ttl_of as lifetime
from _fastpath.holdings cimport Holdings, cluster_members, member
from _fastpath.lpm cimport (
    PyUnicode_1BYTE_DATA,
    PyUnicode_GET_LENGTH,
    PyUnicode_IS_COMPACT_ASCII,
    fence_writes,
    load_cell,
    load_word,
    store_cell,
    store_word,
)

cimport cython

from _fastpath.counters import REASONS

import math
import mmap
import os
import struct
from array import array

DISABLED = 1 << 16
NO_HEADROOM = 1 << 17
UNHEALTHY = 1 << 18
STALE = 1 << 19
OVER_LIMIT = 1 << 20
IPV4_UP = 1 << 21
IPV6_UP = 1 << 22

MAX_TITLE = 256  # bytes of UTF-8

# The records that snapshot.py writes, field by field as declared in pick.pxd; native byte order.
ZONE = struct.Struct("=III8s")
CLUSTER = struct.Struct("=IIII")
APPLIANCE = struct.Struct("=IIIHH")
FALLBACK = 1 << 31  # set in the rank of a ranking_entry that no route leads to
MAX_PICKS = C_MAX_PICKS
MAX_HOT = C_MAX_HOT
MAX_FAN_OUT = C_MAX_FAN_OUT
MAX_FILES = C_MAX_FILES

cdef enum:
    C_DISABLED = 1 << 16
    C_NO_HEADROOM = 1 << 17
    C_UNHEALTHY = 1 << 18
    C_STALE = 1 << 19
    C_OVER_LIMIT = 1 << 20
    ABLE = 45  # "-", the reason of a candidate that could serve
    HARD = C_DISABLED
    SOFT = C_UNHEALTHY | C_STALE | C_NO_HEADROOM | C_OVER_LIMIT  # what is forgiven where nobody is left
    WEIGHTS_HEADER = 64
    HOT_COUNT = 4  # place among the header's words
    HOT_PLACES = 1024
    C_MAX_HOT = 512
    C_MAX_FAN_OUT = 4096
    TABLE = 2048  # places for files
    ROOM = 6  # for "":[], of a file; for a number of a server, below 8,000, and a comma

cdef bytes WEIGHTS_MAGIC = b"STEERWT2"
cdef bytes COLD_MAGIC = b"STEERWT1"  # the format before: no fan_outs

# The bit of a reason in `outcome.seen`, by letter.
cdef uint32_t REASON_BIT[128]
for _i, _letter in enumerate(REASONS):
    REASON_BIT[ord(_letter)] = 1 << _i

cdef uint64_t MOST = C_MAX_FAN_OUT
cdef uint64_t VARIANT = 0x9E3779B97F4A7C15u  # odd

# log2(1 + i / 256) with 32 fractional bits.
cdef uint64_t LOG2[257]
for _i in range(257):
    LOG2[_i] = round(math.log2(1 + _i / 256) * 2**32)

# The characters of RFC 3986 section 2.3 that stand for themselves in a URL, by byte.
cdef uint8_t UNRESERVED[256]
for _i in range(256):
    UNRESERVED[_i] = chr(_i) in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

# The parts of a playback answer behind its opening: {"table":…,"servers":[ {"host":"…} ],"files":{ "a":[0,1] }}
cdef bytes HOST = b'{"host":"'
cdef bytes BETWEEN = b'],"files":{'
cdef bytes TARGETS = b',"targets":['
cdef bytes OPEN_PLAYBACK = b',"fail_open":true'
# By the bits of the word: what a server is up on.
cdef tuple FAMILIES = (b',"families":[]}', b',"families":[4]}', b',"families":[6]}', b',"families":[4,6]}')

cdef bytes END = b"]}"
cdef bytes OPEN_END = b'],"fail_open":true}'
cdef const char* HEX = b"0123456789ABCDEF"


cdef inline uint64_t cost_of(uint64_t key, uint32_t slot) noexcept nogil:
    """Return -log2(u) with 32 fractional bits, where u in (0, 1) is drawn by key and slot."""
    cdef uint64_t draw = mix(key ^ (<uint64_t> slot + 1) * 0x9E3779B97F4A7C15u) | 1
    cdef int zeros = leading_zeros(draw)
    cdef uint64_t fraction = draw << zeros << 1, low, high
    low = LOG2[fraction >> 56]
    high = LOG2[(fraction >> 56) + 1]
    return (<uint64_t> (zeros + 1) << 32) - low - ((high - low) * (fraction >> 24 & 0xFFFFFFFFu) >> 32)


cdef extern from *:
    """
    #define leading_zeros(x) __builtin_clzll(x)
    """
    int leading_zeros(uint64_t x) noexcept nogil


cdef inline bint better(const candidate* a, const candidate* b) noexcept nogil:
    cdef uint64_t left = a.cost * b.weight, right = b.cost * a.weight
    return left < right or (left == right and a.appliance < b.appliance)


cdef inline int insert(
    const candidate* current, candidate* chosen, int found, int round_start, int rank_start, int n, int limit
) noexcept nogil:
    """Give a candidate its place among the picks, where it has one, and return how many there are."""
    cdef int same = 0, worst = -1, at
    if found == n and not better(current, chosen + found - 1):
        return found
    # The picks of this site in this round, and the worst of them at this rank.
    for at in range(round_start, found):
        if chosen[at].site == current.site:
            same += 1
            if at >= rank_start:
                worst = at
    if same >= limit:
        if worst < 0 or not better(current, chosen + worst):
            return found
        at = worst
    elif found < n:
        at = found
        found += 1
    else:
        at = found - 1
    while at > rank_start and better(current, chosen + at - 1):
        chosen[at] = chosen[at - 1]
        at -= 1
    chosen[at] = current[0]
    return found


def key_of(str title not None):
    """Return the 64-bit key that a title is ranked by."""
    data = title.encode()
    return hash_bytes(data, len(data))


def content_key_of(str service not None, str title not None):
    """Return the 64-bit key that holdings, heat and misses know a service's title by; never 0."""
    return content_key(key_of(title), key_of(service))


cdef uint64_t viewer_of_client(int family, uint64_t upper) noexcept nogil:
    """Return whom a client without a session is taken for: its /24 or /48. `upper` is that of `PrefixTable.find`."""
    return mix(upper >> 8 | <uint64_t> 4 << 48) if family == 4 else mix(upper >> 16 | <uint64_t> 6 << 48)


def viewer_of(str session not None, bytes packed not None):
    """Return the number of a viewer: of a session, or where it is empty, of a packed address's /24 or /48."""
    data = session.encode()
    if data:
        return hash_bytes(data, len(data))
    return viewer_of_client(4 if len(packed) == 4 else 6, int.from_bytes(packed[:8], "big"))


cdef uint64_t key_of_viewer(const char* session, Py_ssize_t length, int family, uint64_t upper) noexcept nogil:
    """Return the key of who has a session, or where it is empty, of a client's /24 or /48."""
    return mix(hash_bytes(session, length) if length else viewer_of_client(family, upper))


def ttl_of(uint32_t ttl_s, uint32_t jitter_s, str title not None, uint64_t viewer):
    """Return seconds, `ttl_s` more or less by up to `jitter_s`, always the same for a title and a viewer's number."""
    if not jitter_s < ttl_s:
        raise ValueError(f"{ttl_s} s, more or less by {jitter_s} s")
    return lifetime(ttl_s, jitter_s, key_of(title), mix(viewer))


def cost(uint64_t key, uint32_t slot):
    """Return what the appliance in a slot draws for a key: -log2(u) with 32 fractional bits. Lower is better."""
    return cost_of(key, slot)


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class StatusWords:
    def __cinit__(self, path not None, bint writable=False):
        cdef int flags = os.O_RDWR if writable else os.O_RDONLY
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size < WEIGHTS_HEADER:
                raise ValueError(f"{path}: {size} bytes, a weights file has at least {WEIGHTS_HEADER}")
            protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
            self.map = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED, prot=protection)
        finally:
            os.close(descriptor)
        PyObject_GetBuffer(self.map, &self.buffer, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        self.held = True
        magic, byte_order, self.slots = struct.unpack_from("=8sII", self.map)
        if magic not in (WEIGHTS_MAGIC, COLD_MAGIC):
            raise ValueError(f"{path}: not a weights file that this build reads")
        if byte_order != 0x01020304:
            raise ValueError(f"{path}: made on a machine of the other byte order")
        promised = WEIGHTS_HEADER + 4 * <uint64_t> self.slots
        if magic == WEIGHTS_MAGIC:
            promised = hot_at(self.slots) + HOT_PLACES * sizeof(hot_title)
        if promised != <uint64_t> size:
            raise ValueError(f"{path}: {size} bytes, its header promises {promised}")
        if magic == WEIGHTS_MAGIC:
            self.hot_count = <uint32_t*> self.buffer.buf + HOT_COUNT
            self.hot_table = <hot_title*> (<char*> self.buffer.buf + hot_at(self.slots))
        self.words = <uint32_t*> (<char*> self.buffer.buf + WEIGHTS_HEADER)
        self.writable = writable

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)

    @staticmethod
    def image(words):
        header = struct.pack("=8sII", WEIGHTS_MAGIC, 0x01020304, len(words))
        table = hot_at(len(words)) + HOT_PLACES * sizeof(hot_title) - WEIGHTS_HEADER - 4 * len(words)
        return header + bytes(WEIGHTS_HEADER - len(header)) + words.tobytes() + bytes(table)

    def word(self, uint32_t slot):
        if slot >= self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
        return load_word(self.words + slot)

    def set_word(self, uint32_t slot, uint32_t word):
        self.check_writable()
        if slot >= self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
        store_word(self.words + slot, word)

    cdef int check_writable(self) except -1:
        if not self.writable:
            raise ValueError("these weights are mapped read-only")
        return 0

    @property
    def has_hot_table(self):
        return self.hot_table != NULL

    cdef uint32_t fan_out_of(self, uint64_t key) noexcept nogil:
        """Return over how many orders a title's viewers are fan_out: 1 where it is not hot."""
        cdef uint64_t found
        cdef int i
        if self.hot_table == NULL or load_word(self.hot_count) == 0:
            return 1
        for i in range(HOT_PLACES):  # half of the places are empty, but this ends whatever is in the file
            found = load_cell(&self.hot_table[(key + i) & (HOT_PLACES - 1)].key)
            if found == key:
                found = load_cell(&self.hot_table[(key + i) & (HOT_PLACES - 1)].fan_out)
                return <uint32_t> found if 1 <= found <= MOST else 1
            if found == 0:
                return 1
        return 1

    def set_hot(self, fan_outs not None):
        cdef hot_title table[HOT_PLACES]
        cdef uint64_t key, fan_out
        cdef int place
        self.check_writable()
        if self.hot_table == NULL:
            raise ValueError("a weights file of the format before has no room for hot titles")
        if len(fan_outs) > C_MAX_HOT:
            raise ValueError(f"{len(fan_outs)} hot titles; at most {C_MAX_HOT}")
        memset(table, 0, sizeof(table))
        for key, fan_out in sorted(fan_outs.items()):
            if key == 0 or not 1 <= fan_out <= C_MAX_FAN_OUT:
                raise ValueError(f"key {key} with a fan-out of {fan_out}; a fan-out is 1 to {MAX_FAN_OUT}")
            place = key & (HOT_PLACES - 1)
            while table[place].key:
                place = (place + 1) & (HOT_PLACES - 1)
            table[place] = hot_title(key, fan_out)
        for place in range(HOT_PLACES):
            if self.hot_table[place].key != table[place].key:
                store_cell(&self.hot_table[place].key, 0)  # so that nobody reads one's fan_out as the other's
                fence_writes()
            store_cell(&self.hot_table[place].fan_out, table[place].fan_out)
            store_cell(&self.hot_table[place].key, table[place].key)
        store_word(self.hot_count, <uint32_t> len(fan_outs))

    def hot(self):
        cdef int place
        if self.hot_table == NULL or load_word(self.hot_count) == 0:
            return {}
        return {
            self.hot_table[place].key: self.hot_table[place].fan_out
            for place in range(HOT_PLACES) if self.hot_table[place].key
        }


cdef inline uint64_t hot_at(uint64_t slots) noexcept nogil:
    """Return where the fan_outs begin: behind the words, on eight bytes."""
    return (WEIGHTS_HEADER + 4 * slots + 7) & ~<uint64_t> 7


cdef class Service:
    def __cinit__(
        self, str id not None, str url not None, str fallback not None, uint32_t ttl_s, uint32_t table, regions=None,
        Holdings holdings=None, bint fail_open=False, sign=None, client_regions=(), int n=3,
        bint covers_service=False, uint32_t fleet=0, held=None, bint by_file=False, tag=None, uint32_t jitter_s=0
    ):
        cdef uint32_t number
        before_host, rest = url.split("{host}")
        before_title, after_title = rest.split("{title}")
        first, last = fallback.split("{title}")
        self.id = id
        if not jitter_s < ttl_s:
            raise ValueError(f"answers that live {ttl_s} s, more or less by {jitter_s} s")
        self.ttl_s, self.jitter_s = ttl_s, jitter_s
        self.opening = f'{{"table":{table},"ttl":'.encode()
        self.playback_opening = (
            f'{{"table":{table},"fleet":{fleet},"holdings":{"null" if held is None else held},"ttl":'
        ).encode()
        self.behind_playback_ttl = f',"url":"{url}","fallback":"{fallback}","servers":['.encode()
        self.before_host = f'{{"url":"{before_host}'.encode()
        self.before_title = before_title.encode()
        self.after_title = after_title.encode()
        self.n = n
        self.covers_service = covers_service
        self.by_file = by_file
        self.sign = sign
        self.tag = tag
        if sign is not None:
            self.token_is_first = "{token}" in before_title
            before, behind = (before_title if self.token_is_first else after_title).split("{token}")
            if self.token_is_first:
                self.before_title = before.encode()
            else:
                self.after_title = before.encode()
            self.behind_token = behind.encode()
        self.everywhere = not client_regions
        self.places = array("Q", sorted(set(map(code_of, client_regions)))).tobytes()
        self.before_fallback = f'{{"url":"{first}'.encode()
        self.after_fallback = f'{last}","fallback":true}}'.encode()
        self.id_bytes = id.encode()
        self.id_text = PyBytes_AS_STRING(self.id_bytes)
        self.id_length = PyBytes_GET_SIZE(self.id_bytes)
        self.salt = hash_bytes(self.id_text, self.id_length)
        self.holdings_bit = holdings.service_bit(id) if holdings is not None else 0
        self.fail_open = fail_open
        self.any_region = regions is None
        for number in regions or ():
            if number >= REGION_WORDS * 64:
                raise ValueError(f"region number {number}; there is room for {REGION_WORDS * 64}")
            self.regions[number >> 6] |= <uint64_t> 1 << (number & 63)

    cdef bint is_named(self, uint64_t place) noexcept:
        """Tell whether a region of clients is one of the service's, by halving."""
        cdef const char* places = PyBytes_AS_STRING(self.places)
        cdef Py_ssize_t low = 0, high = PyBytes_GET_SIZE(self.places) >> 3, middle
        cdef uint64_t found
        while low < high:
            middle = (low + high) >> 1
            memcpy(&found, places + 8 * middle, 8)
            if found == place:
                return True
            if found < place:
                low = middle + 1
            else:
                high = middle
        return False

    cdef bint serves(self, const zone_record* zone) noexcept:
        """Tell whether the service is for clients of a zone: its region is named, or its country."""
        cdef char country[8]
        cdef uint64_t place
        if self.everywhere:
            return True
        memcpy(&place, zone.region, 8)
        if self.is_named(place):
            return True
        memset(country, 0, 8)
        memcpy(country, zone.region, 2)
        memcpy(&place, country, 8)
        return self.is_named(place)

    cdef bytes token_for(self, const char* title, Py_ssize_t title_length, int family, uint64_t upper):
        """Return what stands for `{token}` in the URLs of an answer, None where there is no key to sign with."""
        return self.sign(title[:title_length], family, upper)

    cdef bytes tag_for(self, const char* session, Py_ssize_t session_length, int family, uint64_t upper):
        """Return the tag of a viewer's session, None where there is no key for tags."""
        return None if self.tag is None else self.tag(session[:session_length], family, upper)


cdef uint64_t code_of(str region) except? 0:
    """Return a region as a number: its text as it lies in a zone's record."""
    data = region.encode("ascii")
    if not 2 <= len(data) <= 8:
        raise ValueError(f"a region has 2 to 8 characters, not {region!r}")
    return struct.unpack("=Q", data.ljust(8, b"\0"))[0]


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class Picker:
    def __cinit__(
        self, PrefixTable table not None, zones, ranking_entries, clusters, appliances, text, StatusWords weights not None,
        Holdings holdings=None
    ):
        self.table = table
        self.weights = weights
        self.holdings = holdings
        for part, buffer in enumerate((zones, ranking_entries, clusters, appliances, text)):
            PyObject_GetBuffer(buffer, self.part(part), PyBUF_SIMPLE)
            self.held = part + 1
        self.zones = <const zone_record*> self.zones_buffer.buf
        self.ranking_entries = <const ranking_entry_record*> self.ranking_entries_buffer.buf
        self.clusters = <const cluster_record*> self.clusters_buffer.buf
        self.appliances = <const appliance_record*> self.appliances_buffer.buf
        self.text = <const char*> self.text_buffer.buf
        self.check()
        if holdings is not None:
            self.seat()

    def __dealloc__(self):
        cdef int part
        for part in range(self.held):
            PyBuffer_Release(self.part(part))
        free(self.seats)

    cdef Py_buffer* part(self, int number) noexcept:
        if number == 0:
            return &self.zones_buffer
        if number == 1:
            return &self.ranking_entries_buffer
        if number == 2:
            return &self.clusters_buffer
        return &self.appliances_buffer if number == 3 else &self.text_buffer

    cdef int check(self) except -1:
        """Refuse records that point outside their neighbours, so that no pick needs to look."""
        cdef uint64_t i, j, candidates, ranking_entry_count = self.ranking_entries_buffer.len // sizeof(ranking_entry_record)
        cdef uint64_t text_length = self.text_buffer.len
        self.zone_count = <uint32_t> (self.zones_buffer.len // sizeof(zone_record))
        self.cluster_count = <uint32_t> (self.clusters_buffer.len // sizeof(cluster_record))
        self.appliance_count = <uint32_t> (self.appliances_buffer.len // sizeof(appliance_record))
        if self.zone_count != self.table.zones:
            raise ValueError(f"{self.zone_count} zone records for a table of {self.table.zones} zones")
        for i in range(self.appliance_count):
            if self.appliances[i].slot >= self.weights.slots:
                raise ValueError(f"appliance {i} has slot {self.appliances[i].slot}, there are {self.weights.slots}")
            if <uint64_t> self.appliances[i].host + self.appliances[i].host_length > text_length \
                    or <uint64_t> self.appliances[i].tail + self.appliances[i].tail_length > text_length:
                raise ValueError(f"appliance {i}: its text lies outside the text part")
        for i in range(self.cluster_count):
            if <uint64_t> self.clusters[i].first + self.clusters[i].count > self.appliance_count \
                    or self.clusters[i].region >= REGION_WORDS * 64:
                raise ValueError(f"cluster {i}: its appliances or its region do not exist")
        for i in range(self.zone_count):
            if <uint64_t> self.zones[i].first + self.zones[i].count > ranking_entry_count:
                raise ValueError(f"zone {i}: its ranking lies outside the ranking_entries")
            candidates = 0
            for j in range(self.zones[i].first, self.zones[i].first + self.zones[i].count):
                # A cluster the fleet does not have (any more) is an empty one: tables and fleets change apart.
                if self.ranking_entries[j].cluster < self.cluster_count:
                    candidates += self.clusters[self.ranking_entries[j].cluster].count
                if j > self.zones[i].first and self.ranking_entries[j].rank & RANK < self.ranking_entries[j - 1].rank & RANK:
                    raise ValueError(f"zone {i}: the ranks of its ranking do not ascend")
            self.most_candidates = max(self.most_candidates, <uint32_t> candidates)
        return 0

    cdef int seat(self) except -1:
        """Find each appliance's place among its cluster's members, as holdings number them: both go by slot.

        One that is not among them, as one that has just moved, is one whose holdings are not known.
        """
        cdef uint32_t number, i, at
        cdef const cluster_members* found
        cdef const member* members
        self.seats = <seat_record*> calloc(self.appliance_count + 1, sizeof(seat_record))
        if self.seats == NULL:
            raise MemoryError
        for number in range(min(self.cluster_count, self.holdings.clusters)):
            found = self.holdings.cluster_table + number
            members = self.holdings.member_table + found.first
            at = 0
            for i in range(self.clusters[number].first, self.clusters[number].first + self.clusters[number].count):
                while at < found.count and members[at].slot < self.appliances[i].slot:
                    at += 1
                if at < found.count and members[at].slot == self.appliances[i].slot:
                    self.seats[i] = seat_record(members[at].services, at)
        return 0

    cdef void ask(self, Service service, uint64_t key, question* asked) noexcept nogil:
        """Make the keys that a title, by its own, is ranked by for a viewer. Viewer and content are set already."""
        asked.fan_out = self.weights.fan_out_of(asked.content)
        asked.title = asked.session = key
        if asked.fan_out > 1 or (service.holdings_bit and self.seats != NULL):
            if asked.viewer % asked.fan_out:
                asked.title = mix(key ^ asked.viewer % asked.fan_out * VARIANT)
            asked.session = mix(key ^ asked.viewer)

    cdef int choose(self, uint32_t zone, const question* asked, Service service, candidate* chosen, outcome* came,
                    note* notes, uint32_t* noted) noexcept nogil:
        """Fill `chosen` with up to n picks and return how many; note every candidate looked at where notes is given."""
        cdef int found
        came.seen = came.missed = 0
        came.failed_open = False
        found = self.walk(zone, asked, service, False, chosen, came, notes, noted)
        if found == 0 and service.fail_open:
            found = self.walk(zone, asked, service, True, chosen, came, NULL, NULL)
            came.failed_open = found > 0
        return found

    cdef int walk(self, uint32_t zone, const question* asked, Service service, bint forgives, candidate* chosen,
                  outcome* came, note* notes, uint32_t* noted) noexcept nogil:
        """Walk the ranking once, or as often as there are rounds."""
        cdef const ranking_entry_record* ranking_entry = self.ranking_entries + self.zones[zone].first
        cdef const ranking_entry_record* end = ranking_entry + self.zones[zone].count
        cdef const ranking_entry_record* first
        cdef const cluster_record* cluster
        cdef const appliance_record* appliance
        cdef const uint8_t* mask = NULL
        cdef candidate current
        cdef int found = 0, round_start = 0, rank_start, at, n = asked.n, held = UNKNOWN
        cdef int limit = 1 if n == 2 else 2
        cdef uint32_t i, word, refused = HARD if forgives else HARD | SOFT, least = 1 if forgives else 0
        cdef uint32_t services = service.holdings_bit if self.seats != NULL else 0
        cdef int64_t title = self.holdings.find(asked.content) if services else -1
        cdef char reason
        cdef bint allowed, again = forgives, reports, holds
        while True:
            round_start = found
            first = ranking_entry
            while first < end and found < n:
                rank_start = found
                current.rank = first.rank & RANK
                while first < end and first.rank & RANK == current.rank:
                    if first.cluster < self.cluster_count:
                        cluster = self.clusters + first.cluster
                        current.site = cluster.site
                        allowed = service.any_region or (
                            service.regions[cluster.region >> 6] >> (cluster.region & 63) & 1
                        )
                        if title >= 0:
                            mask = self.holdings.mask_of(first.cluster, <uint32_t> title)
                        reports = holds = False
                        for i in range(cluster.first, cluster.first + cluster.count):
                            appliance = self.appliances + i
                            word = load_word(self.weights.words + appliance.slot)
                            if services:
                                held = UNKNOWN
                                if self.seats[i].services & services:
                                    # A place is one among the members that the mask has bits for.
                                    at = self.seats[i].place
                                    held = mask != NULL and mask[at >> 3] >> (at & 7) & 1
                                    reports = True
                                    holds |= held
                            if word & refused == 0 and word & asked.family_bit and word & 0xFFFF and allowed and held:
                                reason = ABLE
                            else:
                                reason = reason_of(word, asked.family_bit, allowed, held, forgives)
                                came.seen |= REASON_BIT[<uint8_t> reason]
                            if notes != NULL and not again:
                                notes[noted[0]] = note(i, current.rank, word, held, reason)
                                noted[0] += 1
                            if reason != ABLE:
                                continue
                            current.appliance = i
                            if again:
                                for at in range(round_start):
                                    if chosen[at].appliance == i:
                                        break
                                else:
                                    at = -1
                                if at >= 0:
                                    continue
                            current.weight = max(word & 0xFFFF, least)
                            current.cost = cost_of(asked.session if held == HELD else asked.title, appliance.slot)
                            found = insert(&current, chosen, found, round_start, rank_start, n, limit)
                        if reports and not holds and allowed and not again and came.missed < C_MAX_MISSED:
                            came.missed_by[came.missed] = first.cluster
                            came.missed += 1
                    first += 1
            if found == n or found == round_start:
                return found
            again = True

    def answer(
        self, address, str title not None, Service service not None, int n, int family, str session not None="",
        trace=None, Counters counters=None, bint body=True
    ):
        cdef int address_family, found, i
        cdef uint64_t upper, key
        cdef uint32_t zone = self.table.find(address, &address_family, &upper), noted = 0, ttl
        cdef candidate chosen[C_MAX_PICKS]
        cdef question asked
        cdef outcome came
        cdef char escaped[3 * C_MAX_TITLE]
        cdef const char* text
        cdef const char* viewer
        cdef Py_ssize_t length, viewer_length, escaped_length = 0
        cdef note* notes = NULL
        cdef bytes out, token = None
        text = text_of(title, &length)
        viewer = text_of(session, &viewer_length)
        if not 1 <= length <= C_MAX_TITLE:
            raise ValueError(f"a title has 1 to {C_MAX_TITLE} bytes, not {length}")
        if is_dots(text, length):
            raise ValueError("a title is not . or .., which clients resolve as path segments")
        if counters is not None:
            counters.check()
        self.begin(&asked, n, family or address_family)
        key = hash_bytes(text, length)
        asked.content = content_key(key, service.salt)
        asked.viewer = key_of_viewer(viewer, viewer_length, address_family, upper)
        self.ask(service, key, &asked)
        ttl = lifetime(service.ttl_s, service.jitter_s, key, asked.viewer)
        if trace is not None:
            notes = <note*> malloc((self.most_candidates + 1) * sizeof(note))
            if notes == NULL:
                raise MemoryError
        found = self.choose(zone, &asked, service, chosen, &came, notes, &noted)
        if trace is not None:
            try:
                picked = {chosen[i].appliance: i for i in range(found)}
                for i in range(<int> noted):
                    place = picked.get(notes[i].appliance)
                    held = None if notes[i].held == UNKNOWN else notes[i].held == HELD
                    trace.candidates.append(
                        (notes[i].appliance, notes[i].rank, notes[i].word, chr(notes[i].reason), place, held)
                    )
            finally:
                free(notes)
            trace.title_key, trace.session_key, trace.content_key = asked.title, asked.session, asked.content
            trace.fan_out, trace.failed_open = asked.fan_out, came.failed_open
        escaped_length = escape(text, length, escaped)
        if service.sign is not None and found and body:
            token = service.token_for(escaped, escaped_length, address_family, upper)
            if token is None:
                found = came.failed_open = 0
        if counters is not None:
            self.tally(counters, service, &asked, chosen, found, &came, text, length)
        if not body:
            return b""
        length = self.measure(service, ttl, chosen, found, n, &came, escaped_length, token)
        out = PyBytes_FromStringAndSize(NULL, length)
        self.write(PyBytes_AS_STRING(out), service, ttl, chosen, found, n, &came, escaped, escaped_length, token)
        return out

    cdef int begin(self, question* asked, int n, int family) except -1:
        """Check n, and note it and the family."""
        if not 1 <= n <= C_MAX_PICKS:
            raise ValueError(f"n is 1 to {MAX_PICKS}, not {n}")
        asked.n = n
        asked.family_bit = C_IPV6_UP if family == 6 else C_IPV4_UP
        return 0

    cdef void tally(
        self, Counters counters, Service service, const question* asked, const candidate* chosen, int found,
        const outcome* came, const char* title, Py_ssize_t title_length
    ) noexcept nogil:
        """Count an answer: its targets, whom it passed over, and what was asked for."""
        cdef int i
        for i in range(found):
            counters.count_target(chosen[i].rank, False)
        if found:
            counters.count_appliance(self.appliances[chosen[0].appliance].slot)
        if found < asked.n:
            counters.count_target(0, True)
        counters.count_reasons(came.seen)
        if came.failed_open:
            counters.count_event(FAILED_OPEN)
        counters.count_title(
            counters.titles, asked.content, 0, service.id_text, service.id_length, title, title_length
        )
        for i in range(came.missed):
            counters.count_title(
                counters.missing, asked.content, came.missed_by[i], service.id_text, service.id_length, title,
                title_length
            )

    cdef Py_ssize_t measure(self, Service service, uint32_t ttl, const candidate* chosen, int found, int n,
                            const outcome* came, Py_ssize_t title_length, bytes token) noexcept:
        """Return the length of the answer that `write` writes."""
        cdef bint fallback = found < n
        cdef Py_ssize_t length = PyBytes_GET_SIZE(service.opening) + max(found + fallback - 1, 0)
        cdef const appliance_record* appliance
        cdef int i
        length += digits_of(ttl) + PyBytes_GET_SIZE(TARGETS)
        for i in range(found):
            appliance = self.appliances + chosen[i].appliance
            length += (
                PyBytes_GET_SIZE(service.before_host) + appliance.host_length + PyBytes_GET_SIZE(service.before_title)
                + title_length + PyBytes_GET_SIZE(service.after_title) + appliance.tail_length
                + digits_of(chosen[i].rank) + 1
            )
        if token is not None:
            length += found * (PyBytes_GET_SIZE(token) + PyBytes_GET_SIZE(service.behind_token))
        if fallback:
            length += PyBytes_GET_SIZE(service.before_fallback) + title_length
            length += PyBytes_GET_SIZE(service.after_fallback)
        return length + PyBytes_GET_SIZE(OPEN_END if came.failed_open else END)

    cdef char* write(self, char* at, Service service, uint32_t ttl, const candidate* chosen, int found, int n,
                     const outcome* came, const char* title, Py_ssize_t title_length, bytes token) noexcept:
        """Join the fragments of the answer at a place with room for them, and return its end."""
        cdef const appliance_record* appliance
        cdef int i
        at = join(at, PyBytes_AS_STRING(service.opening), PyBytes_GET_SIZE(service.opening))
        at = join(write_number(at, ttl), PyBytes_AS_STRING(TARGETS), PyBytes_GET_SIZE(TARGETS))
        for i in range(found):
            appliance = self.appliances + chosen[i].appliance
            if i:
                at = join(at, b",", 1)
            at = join(at, PyBytes_AS_STRING(service.before_host), PyBytes_GET_SIZE(service.before_host))
            at = join(at, self.text + appliance.host, appliance.host_length)
            at = join(at, PyBytes_AS_STRING(service.before_title), PyBytes_GET_SIZE(service.before_title))
            if token is not None and service.token_is_first:
                at = join(at, PyBytes_AS_STRING(token), PyBytes_GET_SIZE(token))
                at = join(at, PyBytes_AS_STRING(service.behind_token), PyBytes_GET_SIZE(service.behind_token))
            at = join(at, title, title_length)
            at = join(at, PyBytes_AS_STRING(service.after_title), PyBytes_GET_SIZE(service.after_title))
            if token is not None and not service.token_is_first:
                at = join(at, PyBytes_AS_STRING(token), PyBytes_GET_SIZE(token))
                at = join(at, PyBytes_AS_STRING(service.behind_token), PyBytes_GET_SIZE(service.behind_token))
            at = join(at, self.text + appliance.tail, appliance.tail_length)
            at = write_number(at, chosen[i].rank)
            at = join(at, b"}", 1)
        if found < n:
            if found:
                at = join(at, b",", 1)
            at = join(at, PyBytes_AS_STRING(service.before_fallback), PyBytes_GET_SIZE(service.before_fallback))
            at = join(at, title, title_length)
            at = join(at, PyBytes_AS_STRING(service.after_fallback), PyBytes_GET_SIZE(service.after_fallback))
        if came.failed_open:
            return join(at, PyBytes_AS_STRING(OPEN_END), PyBytes_GET_SIZE(OPEN_END))
        return join(at, PyBytes_AS_STRING(END), PyBytes_GET_SIZE(END))

    def picks_of_keys(
        self, address, uint64_t title_key, uint64_t session_key, uint64_t content, Service service not None, int n,
        int family
    ):
        cdef int address_family, found, i
        cdef uint64_t upper
        cdef uint32_t zone = self.table.find(address, &address_family, &upper)
        cdef candidate chosen[C_MAX_PICKS]
        cdef question asked
        cdef outcome came
        self.begin(&asked, n, family or address_family)
        asked.title, asked.session, asked.content, asked.fan_out = title_key, session_key, content, 1
        found = self.choose(zone, &asked, service, chosen, &came, NULL, NULL)
        return [(chosen[i].appliance, chosen[i].rank) for i in range(found)]

    def picks(
        self, address, list titles not None, Service service not None, int n, int family, str session not None=""
    ):
        cdef int address_family, found, i
        cdef uint64_t upper, key
        cdef uint32_t zone = self.table.find(address, &address_family, &upper)
        cdef candidate chosen[C_MAX_PICKS]
        cdef question asked
        cdef outcome came
        cdef const char* text
        cdef const char* viewer
        cdef Py_ssize_t length, viewer_length
        cdef list out = []
        self.begin(&asked, n, family or address_family)
        viewer = text_of(session, &viewer_length)
        asked.viewer = key_of_viewer(viewer, viewer_length, address_family, upper)
        for title in titles:
            text = text_of(<str?> title, &length)
            key = hash_bytes(text, length)
            asked.content = content_key(key, service.salt)
            self.ask(service, key, &asked)
            found = self.choose(zone, &asked, service, chosen, &came, NULL, NULL)
            out.append([(chosen[i].appliance, chosen[i].rank) for i in range(found)])
        return out

    def playback(
        self, address, list files not None, Service service not None, int n, int family, str session not None="",
        str title not None="", Counters counters=None
    ):
        cdef int address_family
        cdef uint64_t upper
        cdef uint32_t zone = self.table.find(address, &address_family, &upper)
        cdef question asked
        cdef const char* viewer
        cdef const char* whole
        cdef Py_ssize_t viewer_length, whole_length
        cdef named* names
        cdef int count = 0
        if not 1 <= len(files) <= C_MAX_FILES:
            raise ValueError(f"1 to {MAX_FILES} files, not {len(files)}")
        if counters is not None:
            counters.check()
        self.begin(&asked, n, family or address_family)
        viewer = text_of(session, &viewer_length)
        whole = text_of(title, &whole_length)
        if whole_length > C_MAX_TITLE or (whole_length and is_dots(whole, whole_length)):
            raise ValueError(f"a title has 1 to {C_MAX_TITLE} bytes, and is not . or ..")
        names = <named*> malloc(len(files) * sizeof(named))
        if names == NULL:
            raise MemoryError
        try:
            for file in files:
                names[count].text = text_of(<str?> file, &names[count].length)
                if not 1 <= names[count].length <= C_MAX_TITLE or is_dots(names[count].text, names[count].length):
                    raise ValueError(f"a file has 1 to {C_MAX_TITLE} bytes, and is not . or ..")
                count += 1
            found = self.answer_files(
                zone, service, &asked, names, count, whole, whole_length, viewer, viewer_length, address_family, upper,
                counters
            )
        finally:
            free(names)
        if found is None:
            raise ValueError("a file is named twice")
        return found

    cdef bytes answer_files(
        self, uint32_t zone, Service service, question* asked, named* files, int count, const char* title,
        Py_ssize_t title_length, const char* viewer, Py_ssize_t viewer_length, int family, uint64_t upper,
        Counters counters
    ):
        """Return the answer for files whose names are in order, and count it; None where one is named twice.

        `asked` has n and the family. The files of a title are ranked once, as the title is; where it is known of each
        file who holds it, whoever lacks it is passed over. A title of length 0 is none: then each file is one.
        """
        cdef handful found
        cdef candidate chosen[C_MAX_PICKS]
        cdef outcome came
        cdef int picks = 0, at
        cdef bint once = title_length and not service.by_file
        cdef named whole = named(title, title_length, hash_bytes(title, title_length))
        cdef const named* about
        cdef char escaped[3 * C_MAX_TITLE]
        cdef bytes token = None, tag, end, url = service.behind_playback_ttl
        cdef uint32_t ttl
        cdef list tokens = []
        cdef Py_ssize_t most = 0
        asked.viewer = key_of_viewer(viewer, viewer_length, family, upper)
        ttl = lifetime(service.ttl_s, service.jitter_s, whole.key, asked.viewer)
        for at in range(count):
            files[at].key = hash_bytes(files[at].text, files[at].length)
            most += (asked.n + 1) * ROOM + 6 * files[at].length
        if names_one_twice(files, count):
            return None
        # Room for what is written of files, for every server that there can be, and for a mark on each appliance.
        found.text = found.at = <char*> malloc(most)
        found.servers = <candidate*> malloc(count * asked.n * sizeof(candidate))
        found.numbers = <uint16_t*> calloc(self.appliance_count + 1, sizeof(uint16_t))
        found.known = 0
        found.failed_open = False
        try:
            if found.text == NULL or found.servers == NULL or found.numbers == NULL:
                raise MemoryError
            for at in range(count):
                about = &whole if once else files + at
                if at == 0 or not once:
                    asked.content = content_key(about.key, service.salt)
                    self.ask(service, whole.key if title_length else about.key, asked)
                    picks = self.choose(zone, asked, service, chosen, &came, NULL, NULL)
                if service.sign is not None and picks:
                    if token is None or not service.covers_service:
                        token = service.token_for(
                            escaped, escape(files[at].text, files[at].length, escaped), family, upper
                        )
                        if token is not None and not service.covers_service:
                            tokens.append((at, token))
                    if token is None:
                        picks = came.failed_open = 0
                if counters is not None and (at == 0 or not once):
                    self.tally(counters, service, asked, chosen, picks, &came, about.text, about.length)
                self.write_file(chosen, picks, &came, files + at, &found)
            if token is not None and service.covers_service:
                url = url.replace(b"{token}", token)
            tag = service.tag_for(viewer, viewer_length, family, upper)
            end = end_playback(tokens, files, found.failed_open, tag)
            return self.join_playback(service.playback_opening, ttl, url, end, &found)
        finally:
            free(found.text)
            free(found.servers)
            free(found.numbers)

    cdef void write_file(
        self, const candidate* chosen, int picks, const outcome* came, const named* file, handful* found
    ) noexcept:
        """Write a file's name and the numbers of its servers, new ones after those known."""
        cdef uint16_t* number
        cdef uint32_t word
        cdef int i
        found.failed_open = found.failed_open or came.failed_open
        if found.at != found.text:
            found.at = join(found.at, b",", 1)
        found.at = join(quote(found.at, file.text, file.length), b":[", 2)
        for i in range(picks):
            number = found.numbers + chosen[i].appliance
            if number[0] == 0:
                found.servers[found.known] = chosen[i]
                # Read once, because it may change: of a server that is written, its weight is the families it is up on.
                word = load_word(self.weights.words + self.appliances[chosen[i].appliance].slot)
                found.servers[found.known].weight = (word & C_IPV4_UP != 0) | (word & C_IPV6_UP != 0) << 1
                found.known += 1
                number[0] = <uint16_t> found.known
            if i:
                found.at = join(found.at, b",", 1)
            found.at = write_number(found.at, number[0] - 1)
        found.at = join(found.at, b"]", 1)

    cdef bytes join_playback(self, bytes opening, uint32_t ttl, bytes url, bytes end, const handful* found):
        """Return the answer: what goes for all files, the servers, and the files."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(opening) + PyBytes_GET_SIZE(url) + (found.at - found.text)
        cdef const appliance_record* appliance
        cdef bytes out, families
        cdef char* at
        cdef uint32_t i
        length += digits_of(ttl) + PyBytes_GET_SIZE(BETWEEN) + PyBytes_GET_SIZE(end)
        length += found.known - 1 if found.known else 0
        for i in range(found.known):
            appliance = self.appliances + found.servers[i].appliance
            families = <bytes> FAMILIES[found.servers[i].weight]
            length += PyBytes_GET_SIZE(HOST) + appliance.host_length + appliance.tail_length
            length += digits_of(found.servers[i].rank) + PyBytes_GET_SIZE(families)
        out = PyBytes_FromStringAndSize(NULL, length)
        at = PyBytes_AS_STRING(out)
        at = join(at, PyBytes_AS_STRING(opening), PyBytes_GET_SIZE(opening))
        at = join(write_number(at, ttl), PyBytes_AS_STRING(url), PyBytes_GET_SIZE(url))
        for i in range(found.known):
            appliance = self.appliances + found.servers[i].appliance
            families = <bytes> FAMILIES[found.servers[i].weight]
            if i:
                at = join(at, b",", 1)
            at = join(at, PyBytes_AS_STRING(HOST), PyBytes_GET_SIZE(HOST))
            at = join(at, self.text + appliance.host, appliance.host_length)
            at = join(at, self.text + appliance.tail, appliance.tail_length)
            at = write_number(at, found.servers[i].rank)
            at = join(at, PyBytes_AS_STRING(families), PyBytes_GET_SIZE(families))
        at = join(at, PyBytes_AS_STRING(BETWEEN), PyBytes_GET_SIZE(BETWEEN))
        at = join(at, found.text, found.at - found.text)
        join(at, PyBytes_AS_STRING(end), PyBytes_GET_SIZE(end))
        return out


cdef bytes end_playback(list tokens, const named* files, bint failed_open, bytes tag):
    """Return what comes behind the files: a token for each, where one does not cover them all, and the tag."""
    cdef bytearray out
    cdef char quoted[6 * C_MAX_TITLE + 2]
    cdef int at
    if not tokens and not failed_open and tag is None:
        return b"}}"
    out = bytearray(b"}")
    for i, (at, token) in enumerate(tokens):
        out += b"," if i else b',"tokens":{'
        out += quoted[:quote(quoted, files[at].text, files[at].length) - quoted]
        out += b':"%b"' % token
    if tokens:
        out += b"}"
    if failed_open:
        out += OPEN_PLAYBACK
    if tag is not None:
        out += b',"tag":"%b"' % tag
    out += b"}"
    return bytes(out)


cdef bint names_one_twice(const named* files, int count) noexcept nogil:
    """Tell whether two files have one name, by a table of their places plus one, open-addressed by key."""
    cdef uint16_t table[TABLE]
    cdef const named* other
    cdef uint64_t place
    cdef int at
    memset(table, 0, sizeof(table))
    for at in range(count):
        place = files[at].key & (TABLE - 1)
        while table[place]:
            other = files + table[place] - 1
            if other.key == files[at].key and other.length == files[at].length \
                    and memcmp(other.text, files[at].text, other.length) == 0:
                return True
            place = (place + 1) & (TABLE - 1)
        table[place] = <uint16_t> (at + 1)
    return False


class Trace:
    """Why an answer is what it is; `Picker.answer` fills it."""

    def __init__(self):
        self.candidates = []
        self.title_key = self.session_key = self.content_key = 0
        self.fan_out = 1
        self.failed_open = False


cdef const char* text_of(str text, Py_ssize_t* length) except NULL:
    """Return the UTF-8 of a string, as long as the string lives."""
    if PyUnicode_IS_COMPACT_ASCII(text):
        length[0] = PyUnicode_GET_LENGTH(text)
        return <const char*> PyUnicode_1BYTE_DATA(text)
    return PyUnicode_AsUTF8AndSize(text, length)


cdef char reason_of(uint32_t word, uint32_t family_bit, bint allowed, int held, bint forgives) noexcept nogil:
    """Return the first reason that holds, or that none does."""
    if not allowed:
        return b"R"
    if word & C_DISABLED:
        return b"D"
    if word & C_UNHEALTHY and not forgives:
        return b"U"
    if word & C_STALE and not forgives:
        return b"S"
    if not word & family_bit:
        return b"F"
    if held == NOT_HELD:
        return b"C"
    return ABLE if forgives else b"H"


cdef bint is_dots(const char* title, Py_ssize_t length) noexcept nogil:
    """Tell whether a title is . or .., which clients resolve as path segments."""
    return title[0] == b"." and (length == 1 or (length == 2 and title[1] == b"."))


cdef Py_ssize_t escape(const char* title, Py_ssize_t length, char* out) noexcept nogil:
    """Write a title percent-encoded, at most three bytes for each of its own, and return how many."""
    cdef Py_ssize_t i, written = 0
    for i in range(length):
        if UNRESERVED[<uint8_t> title[i]]:
            out[written] = title[i]
            written += 1
        else:
            out[written] = b"%"
            out[written + 1] = HEX[<uint8_t> title[i] >> 4]
            out[written + 2] = HEX[title[i] & 15]
            written += 3
    return written


cdef char* quote(char* at, const char* text, Py_ssize_t length) noexcept nogil:
    """Write UTF-8 as a JSON string, at most six bytes for each of its own, and return its end."""
    cdef Py_ssize_t i
    at = join(at, b'"', 1)
    for i in range(length):
        if <uint8_t> text[i] < 0x20:
            at = join(at, b"\\u00", 4)
            at[0] = HEX[text[i] >> 4]
            at[1] = HEX[text[i] & 15]
            at += 2
            continue
        if text[i] == 34 or text[i] == 92:  # " and \\
            at = join(at, b"\\", 1)
        at[0] = text[i]
        at += 1
    return join(at, b'"', 1)


cdef inline char* join(char* at, const char* part, Py_ssize_t length) noexcept nogil:
    memcpy(at, part, length)
    return at + length


cdef int digits_of(uint32_t number) noexcept nogil:
    cdef int digits = 1
    while number > 9:
        number //= 10
        digits += 1
    return digits


cdef char* write_number(char* at, uint32_t number) noexcept nogil:
    cdef int digits = digits_of(number), i
    for i in range(digits - 1, -1, -1):
        at[i] = <char> (48 + number % 10)
        number //= 10
    return at + digits
