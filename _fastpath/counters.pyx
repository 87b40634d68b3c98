# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Counters: what one worker did, in a mapped file that it alone stores to and anybody of its user reads.

    0    magic "STEERCN1", byte order mark, cells, appliance slots; when the counting began (seconds, double)
    64   the cells: aligned 64-bit numbers; then one for each appliance slot: how often it was the first target

A count is a load, an addition and a store of one aligned word by the only writer, so it needs no lock, and a reader
never sees half of one. Nothing here allocates or calls Python: counting one answer of the lane takes about 10 ns, most
of it the clock. A worker that is started again goes on counting in the file of its number.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t
from libc.time cimport timespec

cimport cython

import mmap
import os
import struct
import time

DOORS = ("lane", "app")
ENDPOINTS = ("steer", "healthz", "readyz", "hls", "dash", "playlist", "other")
STATUSES = (200, 204, 302, 400, 403, 404, 405, 411, 413, 431, 500, 503)
RANKS = ("0", "1", "2", "3", "4+", "fallback")
EVENTS = ("handed_over", "shed", "cut_off", "unreadable", "moved", "odd_hints")
GAUGES = ("generation", "table", "fleet", "mapped_at", "refused", "connections", "huge_pages", "published_at")
# Upper bounds in seconds; the last bucket is what takes longer.
BOUNDS = tuple(
    round(10**power * step, 7) for power in range(-6, 1) for step in (1, 2, 5) if (power, step) < (0, 2)
)

HEADER = struct.Struct("=8sIII4xd32x")

cdef enum:
    HEADER_SIZE = 64

cdef bytes MAGIC = b"STEERCN1"

assert HEADER.size == HEADER_SIZE and len(BOUNDS) == C_BUCKETS - 1 and len(STATUSES) == C_STATUSES
assert len(RANKS) == C_RANKS and len(ENDPOINTS) == C_ENDPOINTS and len(EVENTS) == 6 and len(GAUGES) == 8

cdef uint64_t BOUNDS_NS[C_BUCKETS]
for _i in range(C_BUCKETS - 1):
    BOUNDS_NS[_i] = round(BOUNDS[_i] * 1e9)
BOUNDS_NS[C_BUCKETS - 1] = 0xFFFFFFFFFFFFFFFFu

cdef int STATUS_PLACE[600]
for _i in range(600):
    STATUS_PLACE[_i] = STATUSES.index(_i) if _i in STATUSES else STATUSES.index(500)


cdef extern from *:
    """
    #include <time.h>
    static inline uint64_t load_cell(const uint64_t *cell) { return __atomic_load_n(cell, __ATOMIC_RELAXED); }
    static inline void store_cell(uint64_t *cell, uint64_t value) { __atomic_store_n(cell, value, __ATOMIC_RELAXED); }
    static inline void add_cell(uint64_t *cell, uint64_t more) { store_cell(cell, load_cell(cell) + more); }
    """
    uint64_t load_cell(const uint64_t* cell) noexcept nogil
    void store_cell(uint64_t* cell, uint64_t value) noexcept nogil
    void add_cell(uint64_t* cell, uint64_t more) noexcept nogil
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

    def note(self, str endpoint not None, int status, double took_s):
        self.check()
        place = ENDPOINTS.index(endpoint) if endpoint in ENDPOINTS else C_ENDPOINTS - 1
        self.count(APP, place, status, <uint64_t> max(took_s * 1e9, 0.0))

    def note_targets(self, targets):
        self.check()
        for target in targets:
            self.count_target(target.get("rank", 0), "fallback" in target)

    def note_event(self, str event not None):
        cdef int place = EVENTS.index(event)
        self.check()
        add_cell(self.cells + C_EVENTS + place, 1)

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

    def appliances(self):
        cdef uint32_t slot
        return {slot: self.cell(C_CELLS + slot) for slot in range(self.slots) if self.cells[C_CELLS + slot]}

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
        os.ftruncate(descriptor, HEADER.size + 8 * (C_CELLS + slots))
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
    if size != HEADER.size + 8 * (<uint64_t> C_CELLS + <uint64_t> slots):
        return f"{path}: {size} bytes, its header promises {HEADER.size + 8 * (C_CELLS + slots)}"
    return None
