# cython: wraparound=False, initializedcheck=False, cdivision=True
"""StatusWords: one 32-bit word for each appliance slot, and the hot titles, in a file that workers map.

A word is 16 bits of weight, the flags below, and a pace: 0 to 63 for so many in 64 of the viewers elsewhere who are
held back from moving up to the appliance; above that all are held back, and its cluster has a *pressure* of 1 to 192,
which is added to the cluster's price (`ranking_prices.pxd`). Each pick reads the words with one relaxed atomic load
each, so a changed word counts at the next pick of every worker. Behind the words stands an open-addressed table of hot
titles: the content key, and the fan-out of the title's viewers. A title's cell follows from its key and the file's
random seed, and it is at most MAX_PROBES behind it, so that no choice of titles makes a search long.

    0   magic, byte order mark, slots, hot titles; a seed
    64  the words; then the hot titles, on a multiple of eight bytes
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from _fastpath.atomics cimport fence_writes, load_cell, load_word, store_cell, store_word
from _fastpath.hashing cimport mix

cimport cython

import mmap
import os
import struct

DISABLED = C_DISABLED
NO_HEADROOM = C_NO_HEADROOM
UNHEALTHY = C_UNHEALTHY
STALE = C_STALE
OVER_LIMIT = C_OVER_LIMIT
IPV4_UP = C_IPV4_UP
IPV6_UP = C_IPV6_UP
HELD_BACK = 1 << PACE_SHIFT
MOST_HELD_BACK = C_MOST_HELD_BACK
MOST_PRESSURE = C_MOST_PRESSURE
PACE = C_PACE * HELD_BACK

# Why a candidate is passed over. Counters hold them in this order; `ranking.reason_of` decides which comes first.
REASONS = {
    "C": "does not hold the title",
    "D": "disabled or draining",
    "F": "not up in the client's address family",
    "H": "no headroom, over its limit, or of weight 0",
    "R": "its region may not serve this service",
    "S": "its last report is too old",
    "U": "unhealthy",
    "X": "failed for this client, as its player reports, or its site or partner did",
}


def pressure_in(uint32_t word):
    return pressure_of(word)


MAX_HOT = C_MAX_HOT
MAX_FAN_OUT = C_MAX_FAN_OUT

cdef enum:
    HEADER = 64
    HOT_COUNT = 4  # position among the header's 32-bit words
    SEED = 3  # among its 64-bit words
    MAX_PROBES = 64
    HOT_CELLS = 1024  # twice as many as hot titles, so that a search is short
    C_MAX_HOT = 512
    C_MAX_FAN_OUT = 4096

cdef uint64_t MOST = C_MAX_FAN_OUT
cdef bytes MAGIC = b"STEERWT4"


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class StatusWords:
    def __cinit__(self, path not None, bint writable=False):
        cdef int flags = os.O_RDWR if writable else os.O_RDONLY
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if writable:
                os.posix_fallocate(descriptor, 0, max(size, 1))  # a store to a hole of a full disk is SIGBUS
            if size < HEADER:
                raise ValueError(f"{path}: {size} bytes; a status file has at least {HEADER}")
            protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
            self.map = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED, prot=protection)
        finally:
            os.close(descriptor)
        PyObject_GetBuffer(self.map, &self.buffer, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        self.is_mapped = True
        magic, byte_order, self.slots = struct.unpack_from("=8sII", self.map)
        if magic != MAGIC:
            raise ValueError(f"{path}: not a status file that this build reads")
        if byte_order != 0x01020304:
            raise ValueError(f"{path}: written on a machine of the other byte order")
        promised = hot_offset(self.slots) + HOT_CELLS * sizeof(hot_title)
        if promised != <uint64_t> size:
            raise ValueError(f"{path}: {size} bytes, its header promises {promised}")
        self.hot_count = <uint32_t*> self.buffer.buf + HOT_COUNT
        self.hot_table = <hot_title*> (<char*> self.buffer.buf + hot_offset(self.slots))
        self.words = <uint32_t*> (<char*> self.buffer.buf + HEADER)
        self.seed = (<uint64_t*> self.buffer.buf)[SEED]
        self.writable = writable

    def __dealloc__(self):
        if self.is_mapped:
            PyBuffer_Release(&self.buffer)

    @staticmethod
    def image(words):
        header = struct.pack("=8sII8xQ", MAGIC, 0x01020304, len(words), int.from_bytes(os.urandom(8), "little"))
        table = hot_offset(len(words)) + HOT_CELLS * sizeof(hot_title) - HEADER - 4 * len(words)
        return header + bytes(HEADER - len(header)) + words.tobytes() + bytes(table)

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
            raise ValueError("these status words are mapped read-only")
        return 0

    cdef uint32_t fan_out_of(self, uint64_t key) noexcept nogil:
        """Return the fan-out of a title by its content key: 1 where it is not hot."""
        cdef uint64_t stored, first
        cdef int i
        if load_word(self.hot_count) == 0:
            return 1
        first = mix(key ^ self.seed)
        for i in range(MAX_PROBES):
            stored = load_cell(&self.hot_table[(first + i) & (HOT_CELLS - 1)].key)
            if stored == key:
                stored = load_cell(&self.hot_table[(first + i) & (HOT_CELLS - 1)].fan_out)
                return <uint32_t> stored if 1 <= stored <= MOST else 1
            if stored == 0:
                return 1
        return 1

    def set_hot(self, fan_outs not None):
        cdef hot_title table[HOT_CELLS]
        cdef uint64_t key, fan_out
        cdef int cell, probe
        self.check_writable()
        if len(fan_outs) > C_MAX_HOT:
            raise ValueError(f"{len(fan_outs)} hot titles; at most {C_MAX_HOT}")
        memset(table, 0, sizeof(table))
        for key, fan_out in sorted(fan_outs.items()):
            if key == 0 or not 1 <= fan_out <= C_MAX_FAN_OUT:
                raise ValueError(f"key {key} with a fan-out of {fan_out}; a fan-out is 1 to {MAX_FAN_OUT}")
            for probe in range(MAX_PROBES):
                cell = (mix(key ^ self.seed) + probe) & (HOT_CELLS - 1)
                if not table[cell].key:
                    table[cell] = hot_title(key, fan_out)
                    break
        for cell in range(HOT_CELLS):
            if self.hot_table[cell].key != table[cell].key:
                store_cell(&self.hot_table[cell].key, 0)  # so that no reader takes the fan-out of another title
                fence_writes()
            store_cell(&self.hot_table[cell].fan_out, table[cell].fan_out)
            store_cell(&self.hot_table[cell].key, table[cell].key)
        store_word(self.hot_count, <uint32_t> len(fan_outs))

    def hot(self):
        cdef int cell
        if load_word(self.hot_count) == 0:
            return {}
        return {
            self.hot_table[cell].key: self.hot_table[cell].fan_out
            for cell in range(HOT_CELLS) if self.hot_table[cell].key
        }


cdef inline uint64_t hot_offset(uint64_t slots) noexcept nogil:
    """Return where the hot titles begin: behind the words, on a multiple of eight bytes."""
    return (HEADER + 4 * slots + 7) & ~<uint64_t> 7
