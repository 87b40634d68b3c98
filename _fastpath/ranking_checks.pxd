from libc.stdint cimport uint32_t, uint64_t

from _fastpath.file_records cimport appliance_record, cluster_record, ranking_entry_record, site_record, zone_record
from _fastpath.holdings cimport Holdings, seat

cdef int check_appliances(
    const appliance_record* appliances, uint32_t count, const site_record* sites, uint32_t site_count,
    uint64_t text_length, uint32_t slots
) except -1
cdef int check_clusters(
    const cluster_record* clusters, uint32_t count, uint32_t appliance_count, uint32_t site_count
) except -1
cdef uint32_t check_rankings(
    const zone_record* zones, uint32_t count, const ranking_entry_record* entries, uint64_t entry_count,
    const cluster_record* clusters, uint32_t cluster_count
) except? 0
cdef seat* seats_of(
    Holdings holdings, const cluster_record* clusters, uint32_t cluster_count, const appliance_record* appliances,
    uint32_t count
) except NULL
