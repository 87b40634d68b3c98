# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Checks of the records that a Picker reads, made once when files are mapped: no pick checks an index again."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc

from _fastpath.file_records cimport appliance_record, cluster_record, ranking_entry_record, site_record, zone_record
from _fastpath.holdings cimport Holdings, cluster_members, member, seat
from _fastpath.ranking cimport C_MAX_APPLIANCE_ID, C_RANK
from _fastpath.service cimport REGION_WORDS


cdef int check_appliances(
    const appliance_record* appliances, uint32_t count, const site_record* sites, uint32_t site_count,
    uint64_t text_length, uint32_t slots
) except -1:
    """Refuse appliances without a status word, and names that lie outside the text or are too long."""
    cdef const appliance_record* appliance
    cdef uint32_t i
    for i in range(count):
        appliance = appliances + i
        if appliance.slot >= slots:
            raise ValueError(f"appliance {i} has slot {appliance.slot}, there are {slots}")
        if <uint64_t> appliance.host + appliance.host_length > text_length \
                or <uint64_t> appliance.id + appliance.id_length > text_length:
            raise ValueError(f"appliance {i}: its text lies outside the text part")
        if appliance.id_length > C_MAX_APPLIANCE_ID:
            raise ValueError(f"appliance {i}: an id of {appliance.id_length} bytes; at most {C_MAX_APPLIANCE_ID}")
    for i in range(site_count):
        if <uint64_t> sites[i].id + sites[i].id_length > text_length:
            raise ValueError(f"site {i}: its text lies outside the text part")
    return 0


cdef int check_clusters(
    const cluster_record* clusters, uint32_t count, uint32_t appliance_count, uint32_t site_count
) except -1:
    """Refuse clusters of appliances, a site or a region that do not exist."""
    cdef uint32_t i
    for i in range(count):
        if <uint64_t> clusters[i].first + clusters[i].count > appliance_count \
                or clusters[i].region >= REGION_WORDS * 64 or (clusters[i].count and clusters[i].site >= site_count):
            raise ValueError(f"cluster {i}: its appliances, its site or its region do not exist")
    return 0


cdef uint32_t check_rankings(
    const zone_record* zones, uint32_t count, const ranking_entry_record* entries, uint64_t entry_count,
    const cluster_record* clusters, uint32_t cluster_count
) except? 0:
    """Refuse rankings outside the entries, and ranks that do not ascend; return the most candidates of a zone."""
    cdef uint64_t candidates, most = 0, j
    cdef uint32_t i
    for i in range(count):
        if <uint64_t> zones[i].first + zones[i].count > entry_count:
            raise ValueError(f"zone {i}: its ranking lies outside the ranking entries")
        candidates = 0
        for j in range(zones[i].first, zones[i].first + zones[i].count):
            # A cluster that left the fleet is an empty one: tables and fleets change apart.
            if entries[j].cluster < cluster_count:
                candidates += clusters[entries[j].cluster].count
            if j > zones[i].first and entries[j].rank & C_RANK < entries[j - 1].rank & C_RANK:
                raise ValueError(f"zone {i}: the ranks of its ranking do not ascend")
        most = max(most, candidates)
    return <uint32_t> most


cdef seat* seats_of(
    Holdings holdings, const cluster_record* clusters, uint32_t cluster_count, const appliance_record* appliances,
    uint32_t count
) except NULL:
    """Return the number of each appliance among its cluster's members in the holdings: both are sorted by slot.

    The holdings of an appliance that is not among them, for example one that has just moved, are unknown.
    """
    cdef uint32_t number, i, at
    cdef const cluster_members* known
    cdef const member* members
    cdef seat* seats = <seat*> calloc(count + 1, sizeof(seat))
    if seats == NULL:
        raise MemoryError
    for number in range(min(cluster_count, holdings.clusters)):
        known = holdings.cluster_table + number
        members = holdings.member_table + known.first
        at = 0
        for i in range(clusters[number].first, clusters[number].first + clusters[number].count):
            while at < known.count and members[at].slot < appliances[i].slot:
                at += 1
            if at < known.count and members[at].slot == appliances[i].slot:
                seats[i] = seat(members[at].services, at)
    return seats
