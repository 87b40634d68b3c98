from libc.stdint cimport uint16_t, uint32_t

# The records of a table file and a fleet file, in native byte order.
cdef packed struct zone_record:
    uint32_t first
    uint32_t count
    uint32_t partner
    char region[8]

cdef packed struct ranking_entry_record:
    uint32_t cluster
    uint32_t rank  # 15 bits; FALLBACK where no route leads; 16 bits of price

cdef packed struct cluster_record:
    uint32_t first
    uint32_t count
    uint32_t site
    uint32_t region
    uint32_t partner  # 0 for none

cdef packed struct appliance_record:
    uint32_t slot
    uint32_t host  # offsets in the text
    uint32_t id
    uint16_t host_length
    uint16_t id_length

cdef packed struct site_record:
    uint32_t id
    uint32_t id_length
