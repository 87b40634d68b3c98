# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Counters: what one worker did, in a mapped file that only the worker writes and any process of its user reads.

    0    magic "STEERCN3", byte order mark, cells, appliance slots; when the counting began (seconds, double)
    64   the cells: aligned 64-bit numbers; then one for each appliance slot: how often it was the first target
    …    what players report, QUALITY in a row: without an appliance, for each slot, for each partner's number
    …    two sketches: titles requested most, and titles that clusters lack

A count is one load, addition and store of an aligned word by the only writer, so it needs no lock, and a reader never
sees half of it. Nothing here allocates or calls Python: counting one answer of the fast path takes about 10 ns, most of
it for the clock. A restarted worker goes on counting in the file of its number.

A sketch has 512 sets of four titles, and a title belongs to one set, by its key. A title in its set is counted. For a
title that is not, the lightest of the four loses weight; without weight, it is replaced. So frequent titles stay,
whatever else is requested once (Misra and Gries, "Finding repeated elements", 1982, in each set). Weights are halved
every 256
requests of a set, so that yesterday's hot titles make room. The count itself is of all requests since the title entered
the sketch: never too high, and the difference of two readings is the requests between them.
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

PATHS = ("fast", "fallback")
ENDPOINTS = ("steer", "healthz", "readyz", "hls", "dash", "playlist", "playback", "cmcd", "other")
STATUSES = (200, 204, 302, 400, 403, 404, 405, 411, 413, 415, 431, 451, 500, 503)
RANKS = ("0", "1", "2", "3", "4+", "fallback")
EVENTS = (
    "handed_over", "shed", "cut_off", "unreadable", "failed_open", "moved", "odd_hints", "unread_reports", "handshakes",
    "failed_handshakes", "refused_certificates",
)
GAUGES = (
    "generation", "table", "fleet", "mapped_at", "refused", "connections", "huge_pages", "published_at", "holdings",
    "certificate_expires_at",
)
# Of an appliance or a partner: counts and sums of reported figures. `attested` counts viewers with a session tag that
# we signed, each once a window, and `failing` those of them that had a stall or an error.
QUALITY = (
    "reports", "throughputs", "throughput_kbps", "bitrates", "bitrate_kbps", "stalls", "errors", "starts", "start_ms",
    "attested", "failing",
)
# Upper bounds in seconds; one more bucket is for longer times.
BOUNDS = tuple(
    round(10**power * step, 7) for power in range(-6, 1) for step in (1, 2, 5) if (power, step) < (0, 2)
)

HEADER = struct.Struct("=8sIII4xd32x")

cdef enum:
    HEADER_SIZE = 64
    HALVED_EVERY = 256
    ATTESTED = 9  # index in a row

cdef bytes MAGIC = b"STEERCN3"

assert HEADER.size == HEADER_SIZE and len(BOUNDS) == C_BUCKETS - 1 and len(STATUSES) == C_STATUSES
assert len(RANKS) == C_RANKS and len(ENDPOINTS) == C_ENDPOINTS
assert len(EVENTS) == C_KNOWN_EVENTS and len(GAUGES) == C_KNOWN_GAUGES
assert len(REASONS) <= C_MAX_REASONS and EVENTS[FAILED_OPEN] == "failed_open"
assert len(QUALITY) == C_QUALITY and QUALITY[ATTESTED:] == ("attested", "failing")

cdef uint64_t BOUNDS_NS[C_BUCKETS]
for _i in range(C_BUCKETS - 1):
    BOUNDS_NS[_i] = round(BOUNDS[_i] * 1e9)
BOUNDS_NS[C_BUCKETS - 1] = 0xFFFFFFFFFFFFFFFFu

cdef int STATUS_INDEX[600]
for _i in range(600):
    STATUS_INDEX[_i] = STATUSES.index(_i) if _i in STATUSES else STATUSES.index(500)


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
        cdef object reason
        if writable:
            begin(path, slots)
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size < HEADER.size:
                raise ValueError(f"{path}: {size} bytes, cut off in its header")
            self.map = mmap.mmap(descriptor, size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
        finally:
            os.close(descriptor)
        reason = why_unfit(path, self.map, size)
        if reason:
            raise ValueError(reason)
        PyObject_GetBuffer(self.map, &self.buffer, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        self.exported = True
        self.cells = <uint64_t*> (<char*> self.buffer.buf + HEADER_SIZE)
        self.slots = HEADER.unpack_from(self.map)[3]
        self.quality = self.cells + C_CELLS + self.slots
        self.titles = <sketch_set*> (self.quality + C_QUALITY * (1 + self.slots + C_PARTNERS))
        self.missing = self.titles + C_SETS
        self.writable = writable

    def __dealloc__(self):
        if self.exported:
            PyBuffer_Release(&self.buffer)

    cdef void count(self, int path_taken, int endpoint, int status, uint64_t took_ns) noexcept nogil:
        cdef int bucket = 0, index = STATUS_INDEX[status] if 0 <= status < 600 else STATUS_INDEX[500]
        while took_ns > BOUNDS_NS[bucket]:
            bucket += 1
        add_cell(self.cells + C_ANSWERS + (path_taken * C_ENDPOINTS + endpoint) * C_STATUSES + index, 1)
        add_cell(self.cells + C_LATENCY + path_taken * C_BUCKETS + bucket, 1)
        add_cell(self.cells + C_LATENCY_NS + path_taken, took_ns)

    cdef void count_target(self, uint32_t rank, bint fallback) noexcept nogil:
        add_cell(self.cells + C_TARGETS + (C_RANKS - 1 if fallback else min(rank, <uint32_t> C_RANKS - 2)), 1)

    cdef void count_appliance(self, uint32_t slot) noexcept nogil:
        if slot < self.slots:
            add_cell(self.cells + C_CELLS + slot, 1)

    cdef void count_reasons(self, uint32_t seen) noexcept nogil:
        """Count a request for each reason for which it passed an appliance over: bits in the order of REASONS."""
        cdef int index = 0
        while seen:
            if seen & 1:
                add_cell(self.cells + C_REASONS + index, 1)
            seen >>= 1
            index += 1

    cdef void count_event(self, int event) noexcept nogil:
        add_cell(self.cells + C_EVENTS + event, 1)

    cdef void count_title(
        self, sketch_set* sketch, uint64_t key, uint32_t cluster, const char* service, Py_ssize_t service_length,
        const char* title, Py_ssize_t title_length
    ) noexcept nogil:
        """Count one request for a title, of a cluster or of none (0)."""
        cdef sketch_set* titles = sketch + ((key ^ <uint64_t> cluster * 0x9E3779B1u) & (C_SETS - 1))
        cdef name_record* name
        cdef int way, lightest = 0
        titles.age += 1
        if titles.age == HALVED_EVERY:
            titles.age = 0
            for way in range(C_WAYS):
                titles.weights[way] >>= 1
        for way in range(C_WAYS):
            if titles.keys[way] == key and titles.clusters[way] == cluster:
                store_cell(&titles.counts[way], titles.counts[way] + 1)
                titles.weights[way] += 1
                return
            if titles.weights[way] < titles.weights[lightest]:
                lightest = way
        if titles.weights[lightest]:
            titles.weights[lightest] -= 1
            return
        # A reader checks the key before and after; without a key it reads nothing.
        store_cell(&titles.keys[lightest], 0)
        fence_writes()
        titles.counts[lightest] = 1
        titles.weights[lightest] = 1
        titles.clusters[lightest] = cluster
        name = titles.names + lightest
        name.service_length = <uint8_t> min(service_length, C_SERVICE_TEXT)
        name.title_length = <uint8_t> min(title_length, C_TITLE_TEXT)
        memcpy(name.text, service, name.service_length)
        memcpy(name.text + name.service_length, title, name.title_length)
        store_cell(&titles.keys[lightest], key)

    cdef list read_sketch(self, const sketch_set* sketch):
        """Return (key, cluster, count, service, title) of the titles in a sketch, the largest count first."""
        cdef list out = []
        cdef name_record name
        cdef uint64_t key, count
        cdef uint32_t cluster
        cdef int index, way
        for index in range(C_SETS):
            for way in range(C_WAYS):
                key = load_cell(&sketch[index].keys[way])
                if key == 0:
                    continue
                count, cluster = load_cell(&sketch[index].counts[way]), sketch[index].clusters[way]
                name = sketch[index].names[way]
                fence_reads()
                if load_cell(&sketch[index].keys[way]) != key:
                    continue
                service = name.text[:min(name.service_length, C_SERVICE_TEXT)]
                title = (name.text + len(service))[:min(name.title_length, C_TITLE_TEXT)]
                out.append((key, cluster, count, service.decode(errors="replace"), title.decode(errors="ignore")))
        out.sort(key=lambda row: (-row[2], row[0], row[1]))
        return out

    def popularity(self):
        return [(key, count, service, title) for key, _, count, service, title in self.read_sketch(self.titles)]

    def misses(self):
        return self.read_sketch(self.missing)

    def reasons(self):
        return {reason: self.cell(C_REASONS + i) for i, reason in enumerate(REASONS)}

    def note(self, str endpoint not None, int status, double took_s):
        self.check()
        index = ENDPOINTS.index(endpoint) if endpoint in ENDPOINTS else C_ENDPOINTS - 1
        self.count(FALLBACK_PATH, index, status, <uint64_t> max(took_s * 1e9, 0.0))

    def note_event(self, str event not None, uint32_t times=1):
        cdef int index = EVENTS.index(event)
        self.check()
        add_cell(self.cells + C_EVENTS + index, times)

    def note_report(
        self, int64_t slot, uint32_t partner, uint32_t times, bint stalled, bint failed, int64_t throughput_kbps=-1,
        int64_t bitrate_kbps=-1, int64_t start_ms=-1
    ):
        cdef uint64_t* row
        cdef uint64_t index
        cdef int which
        self.check()
        for which in range(2):
            index = partner if which else <uint64_t> (slot + 1)
            if index >= (<uint64_t> C_PARTNERS if which else 1 + <uint64_t> self.slots):
                index = 0
            if self.cells[C_REPORTED + which] <= index:
                store_cell(self.cells + C_REPORTED + which, index + 1)
            row = self.quality + C_QUALITY * (index + (1 + self.slots if which else 0))
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

    def note_attested(self, uint32_t slot, bint failing):
        self.check()
        if slot < self.slots:
            add_cell(self.quality + C_QUALITY * (1 + <uint64_t> slot) + ATTESTED + failing, 1)

    def set_gauge(self, str name not None, uint64_t value):
        cdef int index = GAUGES.index(name)
        self.check()
        store_cell(self.cells + C_GAUGES + index, value)

    cdef int check(self) except -1:
        if not self.writable:
            raise ValueError("the counters are mapped read-only")
        return 0

    @property
    def began_at(self):
        return HEADER.unpack_from(self.map)[4]

    def answers(self):
        return {
            (path, endpoint, status): count
            for i, path in enumerate(PATHS)
            for j, endpoint in enumerate(ENDPOINTS)
            for k, status in enumerate(STATUSES)
            if (count := self.cell(C_ANSWERS + (i * C_ENDPOINTS + j) * C_STATUSES + k))
        }

    def latency(self, str path not None):
        cdef int index = PATHS.index(path)
        buckets = [self.cell(C_LATENCY + index * C_BUCKETS + i) for i in range(C_BUCKETS)]
        return buckets, self.cell(C_LATENCY_NS + index) / 1e9

    def targets(self):
        return {rank: self.cell(C_TARGETS + i) for i, rank in enumerate(RANKS)}

    def events(self):
        return {event: self.cell(C_EVENTS + i) for i, event in enumerate(EVENTS)}

    def gauges(self):
        return {name: self.cell(C_GAUGES + i) for i, name in enumerate(GAUGES)}

    def quality_of_appliances(self):
        return {index - 1: row for index, row in self.quality_rows(0, 1 + self.slots).items()}

    def quality_of_partners(self):
        return self.quality_rows(1 + self.slots, C_PARTNERS)

    def attested(self):
        cdef uint64_t* row
        cdef dict out = {}
        cdef uint64_t slot, count = load_cell(self.cells + C_REPORTED)
        for slot in range(min(count, 1 + <uint64_t> self.slots) - 1 if count else 0):
            row = self.quality + C_QUALITY * (1 + slot) + ATTESTED
            if row[0]:
                out[slot] = load_cell(row), load_cell(row + 1)
        return out

    cdef dict quality_rows(self, uint64_t first, uint64_t count):
        """Return the rows that have reports, by their index from the first on."""
        cdef dict out = {}
        cdef uint64_t index
        cdef uint64_t* row
        count = min(count, load_cell(self.cells + C_REPORTED + (first > 0)))
        for index in range(count):
            row = self.quality + C_QUALITY * (first + index)
            if row[0]:
                out[index] = tuple([load_cell(row + i) for i in range(C_QUALITY)])
        return out

    def appliances(self):
        cdef uint32_t slot
        return {slot: self.cell(C_CELLS + slot) for slot in range(self.slots) if self.cells[C_CELLS + slot]}

    cdef object cell(self, uint64_t index):
        return load_cell(self.cells + index)


def begin(str path not None, uint32_t slots):
    """Create the counters file of a worker, with every count at 0, unless one that fits is there."""
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
    """Return what is wrong with a file, or None."""
    if size < HEADER.size or len(head) < HEADER.size:
        return f"{path}: {size} bytes, cut off in its header"
    magic, byte_order, cells, slots, _ = HEADER.unpack_from(head)
    if magic != MAGIC or cells != C_CELLS:
        return f"{path}: no counters file of this version"
    if byte_order != 0x01020304:
        return f"{path}: made on a machine with the other byte order"
    if size != size_of(slots):
        return f"{path}: {size} bytes, its header promises {size_of(slots)}"
    return None


cdef uint64_t size_of(uint64_t slots):
    return HEADER_SIZE + 8 * (C_CELLS + slots + C_QUALITY * (1 + slots + C_PARTNERS)) + 2 * C_SETS * sizeof(sketch_set)
