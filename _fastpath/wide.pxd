"""128-bit addresses in C: IPv6 as it is, IPv4 in the top 32 bits. Cython has no 128-bit type, so C does the sums."""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef STEERING_WIDE
    #define STEERING_WIDE
    typedef unsigned __int128 wide;
    static inline wide wide_of(uint64_t high, uint64_t low) { return (wide)high << 64 | low; }
    static inline uint64_t high_of(wide x) { return (uint64_t)(x >> 64); }
    static inline uint64_t low_of(wide x) { return (uint64_t)x; }
    static inline wide last_of(wide start, unsigned length) /* the last address of a prefix */
    {
        return length == 128 ? start : start | ~(wide)0 >> length;
    }
    #endif
    """
    ctypedef unsigned long long wide
    wide wide_of(uint64_t high, uint64_t low) noexcept nogil
    uint64_t high_of(wide x) noexcept nogil
    uint64_t low_of(wide x) noexcept nogil
    wide last_of(wide start, unsigned length) noexcept nogil


cdef inline int compare_prefixes(
    uint64_t high, uint64_t low, uint32_t length, uint64_t other_high, uint64_t other_low, uint32_t other_length
) noexcept nogil:
    if high != other_high:
        return -1 if high < other_high else 1
    if low != other_low:
        return -1 if low < other_low else 1
    return (length > other_length) - (length < other_length)
