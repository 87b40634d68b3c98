from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SLOTS = 64  # the /24s of a record
    DIRECTORY = 1 << 18

cdef inline uint64_t deep_lines_of(uint64_t runs, uint64_t width) noexcept nogil:
    """Return how many cache lines a deep record of so many runs has."""
    return (32 + runs * width + 63) // 64


cdef bytearray build_block(v4, v6, uint32_t zones)
