# cython: wraparound=False, initializedcheck=False, cdivision=True
"""pick: a zone's ladder, the weights and a title in; a few appliances out, with a reason for each passed over.

*Where* was decided when the table was built: a zone's ladder lists clusters by rank, 0 nearest. *Who* is decided here.
The ladder is walked rank by rank. An appliance is dropped, for the first of these reasons that holds:

    R  its region may not serve the service     F  it is not up in the client's address family
    D  disabled or draining                     H  no headroom, over its limit, or of weight 0
    U  unhealthy                                S  stale: its last report is too old

What is left of a rank is ordered by weighted rendezvous hashing (Schindler and Barth, "Weighted Distributed Hash
Tables", SPAA 2005): each appliance draws u in (0, 1) from a hash of the key and its slot, and the lowest
-log(u) / weight wins. So the same key always finds the same order, shares are proportional to weight, and a changed
appliance moves only the keys it must. In integers: -log2(u) comes from a table of 257 points, interpolated, in 32
fractional bits; two candidates are compared by multiplying crosswise, so nothing is divided. Costs are below 2**39 and
weights below 2**16: a product fits 64 bits.

At most two picks of a site are taken in one round, one when two are asked for, so that where two sites can serve, two
do. Rounds repeat, each passing over what is picked already, until n are found or a round finds none. A title that too
few appliances can serve ends with the service's fallback.

Weights are one 32-bit word for each appliance slot, in a file that control stores to and workers map: 16 bits of weight
and the flags below, read at every pick with a relaxed atomic load. Nothing else here changes after it is made.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from _fastpath.lpm cimport PyUnicode_1BYTE_DATA, PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII, load_word, store_word

cimport cython

import math
import mmap
import os
import struct

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
FALLBACK = 1 << 31  # set in the rank of a rung that no route leads to
MAX_PICKS = C_MAX_PICKS

cdef enum:
    C_DISABLED = 1 << 16
    C_NO_HEADROOM = 1 << 17
    C_UNHEALTHY = 1 << 18
    C_STALE = 1 << 19
    C_OVER_LIMIT = 1 << 20
    ABLE = 45  # "-", the reason of a candidate that could serve
    WEIGHTS_HEADER = 64

cdef bytes WEIGHTS_MAGIC = b"STEERWT1"

# log2(1 + i / 256) with 32 fractional bits.
cdef uint64_t LOG2[257]
for _i in range(257):
    LOG2[_i] = round(math.log2(1 + _i / 256) * 2**32)

# The characters of RFC 3986 section 2.3 that stand for themselves in a URL, by byte.
cdef uint8_t UNRESERVED[256]
for _i in range(256):
    UNRESERVED[_i] = chr(_i) in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

cdef const char* HEX = b"0123456789ABCDEF"


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    """Spread every bit over all (the finalizer of splitmix64: Steele, Lea and Flood, OOPSLA 2014)."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u
    x = (x ^ x >> 27) * 0x94D049BB133111EBu
    return x ^ x >> 31


cdef uint64_t hash_bytes(const char* data, Py_ssize_t length) noexcept nogil:
    """Return 64 bits of the bytes and their length, eight at a time."""
    cdef uint64_t state = <uint64_t> length * 0x9E3779B97F4A7C15u, word
    while length > 0:
        word = 0
        memcpy(&word, data, min(length, 8))
        state = mix(state ^ word)
        data += 8
        length -= 8
    return state


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


def key_of(str title not None):
    """Return the 64-bit key that a title is ranked by."""
    data = title.encode()
    return hash_bytes(data, len(data))


def cost(uint64_t key, uint32_t slot):
    """Return what the appliance in a slot draws for a key: -log2(u) with 32 fractional bits. Lower is better."""
    return cost_of(key, slot)


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class Weights:
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
        if magic != WEIGHTS_MAGIC:
            raise ValueError(f"{path}: not a weights file that this build reads")
        if byte_order != 0x01020304:
            raise ValueError(f"{path}: made on a machine of the other byte order")
        if WEIGHTS_HEADER + 4 * <uint64_t> self.slots != <uint64_t> size:
            raise ValueError(f"{path}: {size} bytes, its header promises {WEIGHTS_HEADER + 4 * self.slots}")
        self.words = <uint32_t*> (<char*> self.buffer.buf + WEIGHTS_HEADER)
        self.writable = writable

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)

    @staticmethod
    def image(words):
        header = struct.pack("=8sII", WEIGHTS_MAGIC, 0x01020304, len(words))
        return header + bytes(WEIGHTS_HEADER - len(header)) + words.tobytes()

    def word(self, uint32_t slot):
        if slot >= self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
        return load_word(self.words + slot)

    def set_word(self, uint32_t slot, uint32_t word):
        if not self.writable:
            raise ValueError("these weights are mapped read-only")
        if slot >= self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
        store_word(self.words + slot, word)


cdef class Service:
    def __cinit__(
        self, str id not None, str url not None, str fallback not None, uint32_t ttl_s, uint32_t table, regions=None
    ):
        cdef uint32_t number
        before_host, rest = url.split("{host}")
        before_title, after_title = rest.split("{title}")
        first, last = fallback.split("{title}")
        self.id = id
        self.opening = f'{{"table":{table},"ttl":{ttl_s},"targets":['.encode()
        self.before_host = f'{{"url":"{before_host}'.encode()
        self.before_title = before_title.encode()
        self.after_title = after_title.encode()
        self.before_fallback = f'{{"url":"{first}'.encode()
        self.after_fallback = f'{last}","fallback":true}}'.encode()
        self.any_region = regions is None
        for number in regions or ():
            if number >= REGION_WORDS * 64:
                raise ValueError(f"region number {number}; there is room for {REGION_WORDS * 64}")
            self.regions[number >> 6] |= <uint64_t> 1 << (number & 63)


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class Picker:
    def __cinit__(self, PrefixTable table not None, zones, rungs, clusters, appliances, text, Weights weights not None):
        self.table = table
        self.weights = weights
        for part, buffer in enumerate((zones, rungs, clusters, appliances, text)):
            PyObject_GetBuffer(buffer, self.part(part), PyBUF_SIMPLE)
            self.held = part + 1
        self.zones = <const zone_record*> self.zones_buffer.buf
        self.rungs = <const rung_record*> self.rungs_buffer.buf
        self.clusters = <const cluster_record*> self.clusters_buffer.buf
        self.appliances = <const appliance_record*> self.appliances_buffer.buf
        self.text = <const char*> self.text_buffer.buf
        self.check()

    def __dealloc__(self):
        for part in range(self.held):
            PyBuffer_Release(self.part(part))

    cdef Py_buffer* part(self, int number) noexcept:
        if number == 0:
            return &self.zones_buffer
        if number == 1:
            return &self.rungs_buffer
        if number == 2:
            return &self.clusters_buffer
        return &self.appliances_buffer if number == 3 else &self.text_buffer

    cdef int check(self) except -1:
        """Refuse records that point outside their neighbours, so that no pick needs to look."""
        cdef uint64_t i, j, candidates, rung_count = self.rungs_buffer.len // sizeof(rung_record)
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
            if <uint64_t> self.zones[i].first + self.zones[i].count > rung_count:
                raise ValueError(f"zone {i}: its ladder lies outside the rungs")
            candidates = 0
            for j in range(self.zones[i].first, self.zones[i].first + self.zones[i].count):
                # A cluster the fleet does not have (any more) is an empty one: tables and fleets change apart.
                if self.rungs[j].cluster < self.cluster_count:
                    candidates += self.clusters[self.rungs[j].cluster].count
                if j > self.zones[i].first and self.rungs[j].rank & RANK < self.rungs[j - 1].rank & RANK:
                    raise ValueError(f"zone {i}: the ranks of its ladder do not ascend")
            self.most_candidates = max(self.most_candidates, <uint32_t> candidates)
        return 0

    def count_in(self, Counters counters not None):
        if not counters.writable:
            raise ValueError("these counters are mapped read-only")
        self.counters = counters

    cdef int choose(self, uint32_t zone, uint64_t key, Service service, int n, uint32_t family_bit,
                    candidate* chosen, note* notes, uint32_t* noted) noexcept nogil:
        """Fill `chosen` with up to n picks and return how many; note every candidate looked at where notes is given."""
        cdef const rung_record* rung = self.rungs + self.zones[zone].first
        cdef const rung_record* end = rung + self.zones[zone].count
        cdef const rung_record* first
        cdef const cluster_record* cluster
        cdef const appliance_record* appliance
        cdef candidate current
        cdef int found = 0, round_start = 0, rank_start, at, same, worst
        cdef int limit = 1 if n == 2 else 2
        cdef uint32_t i, word
        cdef char reason
        cdef bint allowed, again = False
        while True:
            round_start = found
            first = rung
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
                        for i in range(cluster.first, cluster.first + cluster.count):
                            appliance = self.appliances + i
                            word = load_word(self.weights.words + appliance.slot)
                            reason = reason_of(word, family_bit, allowed)
                            if notes != NULL and not again:
                                notes[noted[0]] = note(i, current.rank, word, reason)
                                noted[0] += 1
                            if reason != ABLE:
                                if self.counters is not None and not again:
                                    self.counters.count_passed_over(reason)
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
                            current.weight = word & 0xFFFF
                            current.cost = cost_of(key, appliance.slot)
                            # The picks of this site in this round, and the worst of them at this rank.
                            same = 0
                            worst = -1
                            for at in range(round_start, found):
                                if chosen[at].site == current.site:
                                    same += 1
                                    if at >= rank_start:
                                        worst = at
                            if same >= limit:
                                if worst < 0 or not better(&current, chosen + worst):
                                    continue
                                at = worst
                            elif found < n:
                                at = found
                                found += 1
                            elif found > rank_start and better(&current, chosen + found - 1):
                                at = found - 1
                            else:
                                continue
                            while at > rank_start and better(&current, chosen + at - 1):
                                chosen[at] = chosen[at - 1]
                                at -= 1
                            chosen[at] = current
                    first += 1
            if found == n or found == round_start:
                return found
            again = True

    def answer(self, address, str title not None, Service service not None, int n, int family, list trace=None):
        cdef int address_family, found, i
        cdef uint32_t zone = self.table.find(address, &address_family), noted = 0
        cdef candidate chosen[C_MAX_PICKS]
        cdef char escaped[3 * C_MAX_TITLE]
        cdef const char* text
        cdef Py_ssize_t length, escaped_length = 0
        cdef note* notes = NULL
        cdef bytes out
        if PyUnicode_IS_COMPACT_ASCII(title):
            text = <const char*> PyUnicode_1BYTE_DATA(title)
            length = PyUnicode_GET_LENGTH(title)
        else:
            text = PyUnicode_AsUTF8AndSize(title, &length)
        if not 1 <= length <= C_MAX_TITLE:
            raise ValueError(f"a title has 1 to {C_MAX_TITLE} bytes, not {length}")
        if is_dots(text, length):
            raise ValueError("a title is not . or .., which clients resolve as path segments")
        if not 1 <= n <= C_MAX_PICKS:
            raise ValueError(f"n is 1 to {MAX_PICKS}, not {n}")
        escaped_length = escape(text, length, escaped)
        if trace is not None:
            notes = <note*> malloc((self.most_candidates + 1) * sizeof(note))
            if notes == NULL:
                raise MemoryError
        found = self.choose(zone, hash_bytes(text, length), service, n,
                            C_IPV6_UP if (family or address_family) == 6 else C_IPV4_UP, chosen, notes, &noted)
        if found and self.counters is not None:
            self.counters.count_appliance(self.appliances[chosen[0].appliance].slot)
        if trace is not None:
            try:
                picked = {chosen[i].appliance: i for i in range(found)}
                for i in range(noted):
                    place = picked.get(notes[i].appliance)
                    trace.append((notes[i].appliance, notes[i].rank, notes[i].word, chr(notes[i].reason), place))
            finally:
                free(notes)
        out = PyBytes_FromStringAndSize(NULL, self.measure(service, chosen, found, found < n, escaped_length))
        self.write(PyBytes_AS_STRING(out), service, chosen, found, found < n, escaped, escaped_length)
        return out

    cdef Py_ssize_t measure(self, Service service, const candidate* chosen, int found, bint fallback,
                            Py_ssize_t title_length) noexcept:
        """Return the length of the answer that `write` writes."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(service.opening) + 2 + max(found + fallback - 1, 0)
        cdef const appliance_record* appliance
        cdef int i
        for i in range(found):
            appliance = self.appliances + chosen[i].appliance
            length += (
                PyBytes_GET_SIZE(service.before_host) + appliance.host_length + PyBytes_GET_SIZE(service.before_title)
                + title_length + PyBytes_GET_SIZE(service.after_title) + appliance.tail_length
                + digits_of(chosen[i].rank) + 1
            )
        if fallback:
            length += PyBytes_GET_SIZE(service.before_fallback) + title_length
            length += PyBytes_GET_SIZE(service.after_fallback)
        return length

    cdef char* write(self, char* at, Service service, const candidate* chosen, int found, bint fallback,
                     const char* title, Py_ssize_t title_length) noexcept:
        """Join the fragments of the answer at a place with room for them, and return its end."""
        cdef const appliance_record* appliance
        cdef int i
        at = join(at, PyBytes_AS_STRING(service.opening), PyBytes_GET_SIZE(service.opening))
        for i in range(found):
            appliance = self.appliances + chosen[i].appliance
            if i:
                at = join(at, b",", 1)
            at = join(at, PyBytes_AS_STRING(service.before_host), PyBytes_GET_SIZE(service.before_host))
            at = join(at, self.text + appliance.host, appliance.host_length)
            at = join(at, PyBytes_AS_STRING(service.before_title), PyBytes_GET_SIZE(service.before_title))
            at = join(at, title, title_length)
            at = join(at, PyBytes_AS_STRING(service.after_title), PyBytes_GET_SIZE(service.after_title))
            at = join(at, self.text + appliance.tail, appliance.tail_length)
            at = write_number(at, chosen[i].rank)
            at = join(at, b"}", 1)
        if fallback:
            if found:
                at = join(at, b",", 1)
            at = join(at, PyBytes_AS_STRING(service.before_fallback), PyBytes_GET_SIZE(service.before_fallback))
            at = join(at, title, title_length)
            at = join(at, PyBytes_AS_STRING(service.after_fallback), PyBytes_GET_SIZE(service.after_fallback))
        return join(at, b"]}", 2)

    def picks_of_key(self, address, uint64_t key, Service service not None, int n, int family):
        cdef int address_family, found, i
        cdef uint32_t zone = self.table.find(address, &address_family)
        cdef candidate chosen[C_MAX_PICKS]
        if not 1 <= n <= C_MAX_PICKS:
            raise ValueError(f"n is 1 to {MAX_PICKS}, not {n}")
        found = self.choose(zone, key, service, n, C_IPV6_UP if (family or address_family) == 6 else C_IPV4_UP,
                            chosen, NULL, NULL)
        return [(chosen[i].appliance, chosen[i].rank) for i in range(found)]

    def picks(self, address, list titles not None, Service service not None, int n, int family):
        cdef int address_family, found, i
        cdef uint32_t zone = self.table.find(address, &address_family)
        cdef uint32_t family_bit = C_IPV6_UP if (family or address_family) == 6 else C_IPV4_UP
        cdef candidate chosen[C_MAX_PICKS]
        cdef const char* text
        cdef Py_ssize_t length
        cdef list out = []
        if not 1 <= n <= C_MAX_PICKS:
            raise ValueError(f"n is 1 to {MAX_PICKS}, not {n}")
        for title in titles:
            text = PyUnicode_AsUTF8AndSize(<str?> title, &length)
            found = self.choose(zone, hash_bytes(text, length), service, n, family_bit, chosen, NULL, NULL)
            out.append([(chosen[i].appliance, chosen[i].rank) for i in range(found)])
        return out


cdef inline char reason_of(uint32_t word, uint32_t family_bit, bint allowed) noexcept nogil:
    if word & (C_DISABLED | C_UNHEALTHY | C_STALE | C_NO_HEADROOM | C_OVER_LIMIT) == 0 and word & family_bit \
            and word & 0xFFFF and allowed:
        return ABLE
    if not allowed:
        return b"R"
    if word & C_DISABLED:
        return b"D"
    if word & C_UNHEALTHY:
        return b"U"
    if word & C_STALE:
        return b"S"
    if not word & family_bit:
        return b"F"
    return b"H"


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
