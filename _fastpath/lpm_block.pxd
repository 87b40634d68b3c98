from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    HEADER_WORDS = 64
    SLOTS = 64  # the /24s of a record
    DIRECTORY = 1 << 18
    FORMAT = 1
    # Positions in the header, an array of uint64_t.
    H_MAGIC = 0
    H_FORMAT = 1
    H_LENGTH = 2
    H_ZONES = 3
    H_WIDE = 4
    H_DIRECTORY = 5
    H_RECORDS = 6
    H_RECORD_WORDS = 7
    H_DEEP = 8
    H_DEEP_BLOCKS = 9
    H_LEVELS = 10
    H_INTERVALS = 11
    H_LEAVES = 12
    H_FINE = 13
    H_FINE_BLOCKS = 14
    H_FINE_KEYS = 15
    H_FINE_LEAVES = 16
    H_FINE_COUNT = 17
    H_LEVEL = 20
    H_NODES = 40


cdef extern from *:
    """
    #define TABLE_MAGIC 0x3142415458465250u /* "PRFXTAB1", little-endian */
    #define PADDING INT64_MAX /* the key behind the last of a node */
    """
    uint64_t TABLE_MAGIC
    int64_t PADDING


cdef bytearray build_block(v4, v6, uint32_t zones)
