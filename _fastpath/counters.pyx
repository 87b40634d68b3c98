# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Counters: what one worker did, in a mapped file that it alone stores to and anybody of its user reads.

    0    magic "STEERCN3", byte order mark, cells, appliance slots; when the counting began (seconds, double)
    64   the cells: aligned 64-bit numbers; then one for each appliance slot: how often it was the first target
    …    what players report, QUALITY in a row: of nobody's appliance, of each slot, of each partner's number
    …    two sketches: titles asked for most, and titles that clusters lack

A count is a load, an addition and a store of one aligned word by the only writer, so it needs no lock, and a reader
never sees half of one. Nothing here allocates or calls Python: counting one answer of the fast_path takes about 10 ns, most
of it the clock. A worker that is started again goes on counting in the file of its number.

A sketch has 512 sets of four titles, and a title one set, by its key. One that is there is counted. For one that is
not, the lightest of the four loses weight, and at no weight its place: so the heavy ones stay, whatever else is asked
for once (Misra and Gries, "Finding repeated elements", 1982, in each set). StatusWords are halved every 256 requests of a
set, so that yesterday's hits make room. The count itself is of all requests since the title came in: never too high,
and of two readings the difference is what was asked for between them.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libc.time cimport timespec

from _fastpath.atomics cimport add_cell, fence_reads, fence_writes, load_cell, store_cell

cimport cython

from _fastpath.status_words import REASONS

import mmap
import os
import struct
import time

DOORS = ("fast_path", "app")
ENDPOINTS = ("steer", "healthz", "readyz", "hls", "dash", "playlist", "playback", "cmcd", "other")
STATUSES = (200, 204, 302, 400, 403, 404, 405, 411, 413, 415, 431, 451, 500, 503)
RANKS = ("0", "1", "2", "3", "4+", "fallback")
EVENTS = ("handed_over", "shed", "cut_off", "unreadable", "failed_open", "moved", "odd_hints", "unread_reports")
GAUGES = (
    "generation", "table", "fleet", "mapped_at", "refused", "connections", "huge_pages", "published_at", "holdings",
)
# Of an appliance or a partner: counts, and sums of what was told. `voices` are viewers with a session tag of ours, each
# counted once a window, and `failing` those of them that had a stall or an error.
QUALITY = (
    "reports", "throughputs", "throughput_kbps", "bitrates", "bitrate_kbps", "stalls", "errors", "starts", "start_ms",
    "voices", "failing",
)
# Upper bounds in seconds; the last bucket is what takes longer.
BOUNDS = tuple(
    round(10**power * step, 7) for power in range(-6, 1) for step in (1, 2, 5) if (power, step) < (0, 2)
)

HEADER = struct.Struct("=8sIII4xd32x")

cdef enum:
    HEADER_SIZE = 64
    HALVED_EVERY = 256
    VOICES = 9  # place in a row

cdef bytes MAGIC = b"STEERCN3"

assert HEADER.size == HEADER_SIZE and len(BOUNDS) == C_BUCKETS - 1 and len(STATUSES) == C_STATUSES
assert len(RANKS) == C_RANKS and len(ENDPOINTS) == C_ENDPOINTS and len(EVENTS) == 8 and len(GAUGES) == 9
assert len(REASONS) <= C_MAX_REASONS and EVENTS[FAILED_OPEN] == "failed_open"
assert len(QUALITY) == C_QUALITY and QUALITY[VOICES:] == ("voices", "failing")

cdef uint64_t BOUNDS_NS[C_BUCKETS]
for _i in range(C_BUCKETS - 1):
    BOUNDS_NS[_i] = round(BOUNDS[_i] * 1e9)
BOUNDS_NS[C_BUCKETS - 1] = 0xFFFFFFFFFFFFFFFFu

cdef int STATUS_PLACE[600]
for _i in range(600):
    STATUS_PLACE[_i] = STATUSES.index(_i) if _i in STATUSES else STATUSES.index(500)


cdef extern from "time.h":
    int clock_gettime(int clock, timespec* now) noexcept nogil
    int CLOCK_MONOTONIC


cdef uint64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t> now.tv_sec * 1_000_000_000 + <uint64_t> now.tv_nsec


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class Counters:
    def __cinit__(self, str path not None, uint32_t slots=0, bint writable=False):
        cdef object found
        if writable:
            begin(path, slots)
        descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size < HEADER.size:
                raise ValueError(f"{path}: {size} bytes, cut off in its header")
            self.map = mmap.mmap(descriptor, size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
        finally:
            os.close(descriptor)
        found = why_unfit(path, self.map, size)
        if found:
            raise ValueError(found)
        PyObject_GetBuffer(self.map, &self.buffer, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        self.held = True
        self.cells = <uint64_t*> (<char*> self.buffer.buf + HEADER_SIZE)
        self.slots = HEADER.unpack_from(self.map)[3]
        self.quality = self.cells + C_CELLS + self.slots
        self.titles = <sketch_set*> (self.quality + C_QUALITY * (1 + self.slots + C_PARTNERS))
        self.missing = self.titles + C_SETS
        self.writable = writable

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)

    cdef void count(self, int door, int endpoint, int status, uint64_t took_ns) noexcept nogil:
        cdef int bucket = 0, place = STATUS_PLACE[status] if 0 <= status < 600 else STATUS_PLACE[500]
        while took_ns > BOUNDS_NS[bucket]:
            bucket += 1
        add_cell(self.cells + C_ANSWERS + (door * C_ENDPOINTS + endpoint) * C_STATUSES + place, 1)
        add_cell(self.cells + C_LATENCY + door * C_BUCKETS + bucket, 1)
        add_cell(self.cells + C_LATENCY_NS + door, took_ns)

    cdef void count_target(self, uint32_t rank, bint fallback) noexcept nogil:
        add_cell(self.cells + C_TARGETS + (C_RANKS - 1 if fallback else min(rank, <uint32_t> C_RANKS - 2)), 1)

    cdef void count_appliance(self, uint32_t slot) noexcept nogil:
        if slot < self.slots:
            add_cell(self.cells + C_CELLS + slot, 1)

    cdef void count_reasons(self, uint32_t seen) noexcept nogil:
        """Count a request for each reason for which it passed somebody over: a bit each, in the order of REASONS."""
        cdef int place = 0
        while seen:
            if seen & 1:
                add_cell(self.cells + C_REASONS + place, 1)
            seen >>= 1
            place += 1

    cdef void count_event(self, int event) noexcept nogil:
        add_cell(self.cells + C_EVENTS + event, 1)

    cdef void count_title(
        self, sketch_set* sketch, uint64_t key, uint32_t cluster, const char* service, Py_ssize_t service_length,
        const char* title, Py_ssize_t title_length
    ) noexcept nogil:
        """Count one request for a title; `cluster` is 0 where it is of none."""
        cdef sketch_set* found = sketch + ((key ^ <uint64_t> cluster * 0x9E3779B1u) & (C_SETS - 1))
        cdef name_record* name
        cdef int way, lightest = 0
        found.age += 1
        if found.age == HALVED_EVERY:
            found.age = 0
            for way in range(C_WAYS):
                found.weights[way] >>= 1
        for way in range(C_WAYS):
            if found.keys[way] == key and found.clusters[way] == cluster:
                store_cell(&found.counts[way], found.counts[way] + 1)
                found.weights[way] += 1
                return
            if found.weights[way] < found.weights[lightest]:
                lightest = way
        if found.weights[lightest]:
            found.weights[lightest] -= 1
            return
        # Who reads looks at the key before and after: without one there is nothing to read.
        store_cell(&found.keys[lightest], 0)
        fence_writes()
        found.counts[lightest] = 1
        found.weights[lightest] = 1
        found.clusters[lightest] = cluster
        name = found.names + lightest
        name.service_length = <uint8_t> min(service_length, C_SERVICE_TEXT)
        name.title_length = <uint8_t> min(title_length, C_TITLE_TEXT)
        memcpy(name.text, service, name.service_length)
        memcpy(name.text + name.service_length, title, name.title_length)
        store_cell(&found.keys[lightest], key)

    cdef list read_sketch(self, const sketch_set* sketch):
        """Return (key, cluster, count, service, title) of what is in a sketch, the largest count first."""
        cdef list out = []
        cdef name_record name
        cdef uint64_t key, count
        cdef uint32_t cluster
        cdef int place, way
        for place in range(C_SETS):
            for way in range(C_WAYS):
                key = load_cell(&sketch[place].keys[way])
                if key == 0:
                    continue
                count, cluster = load_cell(&sketch[place].counts[way]), sketch[place].clusters[way]
                name = sketch[place].names[way]
                fence_reads()
                if load_cell(&sketch[place].keys[way]) != key:
                    continue
                service = name.text[:min(name.service_length, C_SERVICE_TEXT)]
                title = (name.text + len(service))[:min(name.title_length, C_TITLE_TEXT)]
                out.append((key, cluster, count, service.decode(), title.decode(errors="ignore")))
        out.sort(key=lambda row: (-row[2], row[0], row[1]))
        return out

    def heat(self):
        return [(key, count, service, title) for key, _, count, service, title in self.read_sketch(self.titles)]

    def misses(self):
        return self.read_sketch(self.missing)

    def reasons(self):
        return {reason: self.cell(C_REASONS + i) for i, reason in enumerate(REASONS)}

    def note(self, str endpoint not None, int status, double took_s):
        self.check()
        place = ENDPOINTS.index(endpoint) if endpoint in ENDPOINTS else C_ENDPOINTS - 1
        self.count(APP, place, status, <uint64_t> max(took_s * 1e9, 0.0))

    def note_event(self, str event not None, uint32_t times=1):
        cdef int place = EVENTS.index(event)
        self.check()
        add_cell(self.cells + C_EVENTS + place, times)

    def note_report(
        self, int64_t slot, uint32_t partner, uint32_t times, bint stalled, bint failed, int64_t throughput_kbps=-1,
        int64_t bitrate_kbps=-1, int64_t start_ms=-1
    ):
        cdef uint64_t* row
        cdef uint64_t place
        cdef int which
        self.check()
        for which in range(2):
            place = partner if which else <uint64_t> (slot + 1)
            if place >= (<uint64_t> C_PARTNERS if which else 1 + <uint64_t> self.slots):
                place = 0
            if self.cells[C_REPORTED + which] <= place:
                store_cell(self.cells + C_REPORTED + which, place + 1)
            row = self.quality + C_QUALITY * (place + (1 + self.slots if which else 0))
            add_cell(row, times)
            if throughput_kbps >= 0:
                add_cell(row + 1, times)
                add_cell(row + 2, times * throughput_kbps)
            if bitrate_kbps >= 0:
                add_cell(row + 3, times)
                add_cell(row + 4, times * bitrate_kbps)
            if stalled:
                add_cell(row + 5, times)
            if failed:
                add_cell(row + 6, times)
            if start_ms >= 0:
                add_cell(row + 7, times)
                add_cell(row + 8, times * start_ms)

    def note_voice(self, uint32_t slot, bint failing):
        self.check()
        if slot < self.slots:
            add_cell(self.quality + C_QUALITY * (1 + <uint64_t> slot) + VOICES + failing, 1)

    def set_gauge(self, str name not None, uint64_t value):
        cdef int place = GAUGES.index(name)
        self.check()
        store_cell(self.cells + C_GAUGES + place, value)

    cdef int check(self) except -1:
        if not self.writable:
            raise ValueError("these counters are mapped read-only")
        return 0

    @property
    def began_at(self):
        return HEADER.unpack_from(self.map)[4]

    def answers(self):
        return {
            (door, endpoint, status): count
            for i, door in enumerate(DOORS)
            for j, endpoint in enumerate(ENDPOINTS)
            for k, status in enumerate(STATUSES)
            if (count := self.cell(C_ANSWERS + (i * C_ENDPOINTS + j) * C_STATUSES + k))
        }

    def latency(self, str door not None):
        cdef int place = DOORS.index(door)
        buckets = [self.cell(C_LATENCY + place * C_BUCKETS + i) for i in range(C_BUCKETS)]
        return buckets, self.cell(C_LATENCY_NS + place) / 1e9

    def targets(self):
        return {rank: self.cell(C_TARGETS + i) for i, rank in enumerate(RANKS)}

    def events(self):
        return {event: self.cell(C_EVENTS + i) for i, event in enumerate(EVENTS)}

    def gauges(self):
        return {name: self.cell(C_GAUGES + i) for i, name in enumerate(GAUGES)}

    def quality_of_appliances(self):
        return {place - 1: row for place, row in self.quality_rows(0, 1 + self.slots).items()}

    def quality_of_partners(self):
        return self.quality_rows(1 + self.slots, C_PARTNERS)

    def voices(self):
        cdef uint64_t* row
        cdef dict out = {}
        cdef uint64_t slot, count = load_cell(self.cells + C_REPORTED)
        for slot in range(min(count, 1 + <uint64_t> self.slots) - 1 if count else 0):
            row = self.quality + C_QUALITY * (1 + slot) + VOICES
            if row[0]:
                out[slot] = load_cell(row), load_cell(row + 1)
        return out

    cdef dict quality_rows(self, uint64_t first, uint64_t count):
        """Return the rows with reports by their place from the first on."""
        cdef dict out = {}
        cdef uint64_t place
        cdef uint64_t* row
        count = min(count, load_cell(self.cells + C_REPORTED + (first > 0)))
        for place in range(count):
            row = self.quality + C_QUALITY * (first + place)
            if row[0]:
                out[place] = tuple([load_cell(row + i) for i in range(C_QUALITY)])
        return out

    def appliances(self):
        cdef uint32_t slot
        return {slot: self.cell(C_CELLS + slot) for slot in range(self.slots) if self.cells[C_CELLS + slot]}

    def appliances_into(self, buffer not None):
        cdef Py_buffer out
        cdef uint64_t* cells
        cdef uint32_t slot, slots
        PyObject_GetBuffer(buffer, &out, PyBUF_WRITABLE)
        try:
            if out.itemsize != 8 or (out.len and <uint64_t> out.buf % 8):
                raise ValueError("counts are 64-bit numbers: array('Q')")
            cells = <uint64_t*> out.buf
            slots = <uint32_t> min(<uint64_t> out.len // 8, <uint64_t> self.slots)
            for slot in range(slots):
                cells[slot] = load_cell(self.cells + C_CELLS + slot)
        finally:
            PyBuffer_Release(&out)
        return slots

    cdef object cell(self, uint64_t place):
        return load_cell(self.cells + place)


def begin(str path not None, uint32_t slots):
    """Make the file of a worker's counters where there is none that fits, with every count at 0."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEADER.size)
            size = file.seek(0, os.SEEK_END)
        if why_unfit(path, head, size) is None and HEADER.unpack_from(head)[3] >= slots:
            return
    except OSError:
        pass
    beside = f"{path}.new"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, HEADER.pack(MAGIC, 0x01020304, C_CELLS, slots, time.time()))
        os.ftruncate(descriptor, size_of(slots))
    finally:
        os.close(descriptor)
    os.rename(beside, path)


cdef object why_unfit(str path, head, uint64_t size):
    """Return what is wrong with a file, None where it is one of this build's."""
    if size < HEADER.size or len(head) < HEADER.size:
        return f"{path}: {size} bytes, cut off in its header"
    magic, byte_order, cells, slots, _ = HEADER.unpack_from(head)
    if magic != MAGIC or cells != C_CELLS:
        return f"{path}: not a file of counters that this build reads"
    if byte_order != 0x01020304:
        return f"{path}: made on a machine of the other byte order"
    if size != size_of(slots):
        return f"{path}: {size} bytes, its header promises {size_of(slots)}"
    return None


cdef uint64_t size_of(uint64_t slots):
    return HEADER_SIZE + 8 * (C_CELLS + slots + C_QUALITY * (1 + slots + C_PARTNERS)) + 2 * C_SETS * sizeof(sketch_set)
