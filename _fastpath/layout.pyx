# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which appliance of a cluster holds which of the cluster's titles.

Hottest first, each copy goes to the appliance that has most of its share of the load left for each byte of disk that it
has left. So fast appliances with small disks get few hot titles, large slow ones the tail, and load and disk run out
together. An appliance that holds a title already keeps it while that leaves its load within BOUND of its share.
"""

from libc.math cimport INFINITY
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc

BOUND = 1.10

cdef double C_BOUND = BOUND


cdef struct appliance:
    double share  # of the cluster's load
    double load
    double disk
    double room
    const uint8_t* held  # a bit a title; NULL for none
    uint32_t held_titles
    uint8_t* bits


def lay_out(const uint32_t[::1] titles not None, const double[::1] loads not None, const double[::1] sizes not None,
            const uint8_t[::1] copies not None, speeds not None, disks not None, held not None, bitmaps not None):
    """Place the copies of a cluster's titles, and return (places that no disk had room for, highest load by share).

    `titles` are indexes, hottest first, with the load of each, its bytes and its copies. Each appliance has a speed, a
    disk in bytes, a bitmap of what it holds by title, or None, and a bytearray that gets the bits of what it should
    hold. Raises ValueError.
    """
    cdef Py_ssize_t count = titles.shape[0], i, missing = 0
    cdef uint32_t last = 0
    cdef int members = len(speeds), number
    cdef double total = 0, speed = sum(speeds), highest = 0
    cdef const uint8_t[::1] view
    cdef uint8_t[::1] out
    cdef appliance* appliances
    if not loads.shape[0] == sizes.shape[0] == copies.shape[0] == count:
        raise ValueError("titles, loads, sizes and copies have different lengths")
    if not len(disks) == len(held) == len(bitmaps) == members or not members or speed <= 0:
        raise ValueError(f"{members} appliances, not each with speed, disk, holdings and bitmap")
    for i in range(count):
        total += loads[i]
        last = max(last, titles[i])
    for out in bitmaps:
        if count and last >> 3 >= <uint32_t> out.shape[0]:
            raise ValueError(f"title {last} is beyond a bitmap of {out.shape[0]} bytes")
    appliances = <appliance*> malloc(members * sizeof(appliance))
    if appliances == NULL:
        raise MemoryError
    try:
        for number in range(members):
            out = bitmaps[number]
            appliances[number] = appliance(
                total * speeds[number] / speed, 0, disks[number], disks[number], NULL, 0, NULL)
            if out.shape[0]:
                appliances[number].bits = &out[0]
            if held[number] is not None and len(held[number]):
                view = held[number]
                appliances[number].held = &view[0]
                appliances[number].held_titles = <uint32_t> view.shape[0] << 3
        with nogil:
            for i in range(count):
                missing += place(appliances, members, titles[i], loads[i], sizes[i], copies[i])
        for number in range(members):
            if appliances[number].share > 0:
                highest = max(highest, appliances[number].load / appliances[number].share)
        return missing, highest
    finally:
        free(appliances)


cdef int place(
    appliance* appliances, int members, uint32_t title, double load, double size, int copies
) noexcept nogil:
    """Place the copies of a title; return how many found no room."""
    cdef int copy, number, chosen
    cdef double score, best
    cdef appliance* one
    if copies > members:
        copies = members
    load /= max(copies, 1)
    for copy in range(copies):
        chosen, best = -1, -INFINITY
        for number in range(members):
            one = appliances + number
            if one.room < size or one.bits[title >> 3] >> (title & 7) & 1:
                continue
            score = (one.share - one.load - load) / max(one.room, 1)
            if title < one.held_titles and one.held[title >> 3] >> (title & 7) & 1 and (
                one.load + load <= C_BOUND * one.share
            ):
                score = INFINITY
            if score > best:
                chosen, best = number, score
        if chosen < 0:
            return copies - copy
        one = appliances + chosen
        one.bits[title >> 3] |= 1 << (title & 7)
        one.load += load
        one.room -= size
    return 0
