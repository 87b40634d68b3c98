# The prices of a ranking's entries, under pressure.
#
# The table has a price for each entry: what a byte from that cluster costs, where one from the fallback costs
# C_MOST_PRESSURE. Prices never fall with the rank. A cluster that runs out of room has a pressure, and viewers go where
# price and pressure together are least. So those leave first who have another cluster that is nearly as cheap, and the
# pressure rises until no more come than there is room for. This is congestion pricing, as in Fortz and Thorup,
# "Internet Traffic Engineering by Optimizing OSPF Weights" (INFOCOM 2000).

from libc.stdint cimport uint32_t

from _fastpath.atomics cimport load_word
from _fastpath.file_records cimport appliance_record, cluster_record, ranking_entry_record
from _fastpath.status_words cimport pressure_of

cdef enum:
    MOST_ORDERED = 512  # entries of a ranking; what stands behind them takes no part
    PRICE_SHIFT = 16  # in a rank word


cdef inline int order_by_price(
    const ranking_entry_record* entry, const ranking_entry_record* end, const cluster_record* clusters,
    uint32_t cluster_count, const appliance_record* appliances, uint32_t* words, ranking_entry_record* ordered
) noexcept nogil:
    """Fill `ordered` with the entries of clusters that have appliances, and return how many there are.

    They are in order of price and pressure together, which stand in place of the price; equal ones keep their order.
    All appliances of a cluster have its pressure in their words.
    """
    cdef int count = 0, at
    cdef uint32_t total
    while entry < end and count < MOST_ORDERED:
        if entry.cluster < cluster_count and clusters[entry.cluster].count:
            total = pressure_of(load_word(words + appliances[clusters[entry.cluster].first].slot))
            total = min(entry.rank >> PRICE_SHIFT, <uint32_t> 0x7FFF) + total
            at = count
            while at and ordered[at - 1].rank >> PRICE_SHIFT > total:
                ordered[at] = ordered[at - 1]
                at -= 1
            ordered[at] = ranking_entry_record(entry.cluster, total << PRICE_SHIFT | entry.rank & 0xFFFF)
            count += 1
        entry += 1
    return count
