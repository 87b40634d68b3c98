from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp

from _fastpath.appliance_ids cimport ApplianceIds
from _fastpath.counters cimport Counters
from _fastpath.file_records cimport appliance_record, cluster_record, ranking_entry_record, site_record, zone_record
from _fastpath.holdings cimport Holdings, seat
from _fastpath.lpm cimport PrefixTable, PyUnicode_1BYTE_DATA, PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII
from _fastpath.service cimport Service
from _fastpath.status_words cimport C_DISABLED, C_STALE, C_UNHEALTHY, C_WEIGHT, StatusWords

cdef enum:
    C_MAX_PICKS = 8
    C_MAX_TITLE = 256  # bytes of UTF-8
    C_MAX_SESSION = 256  # characters
    C_MAX_APPLIANCE_ID = 96  # bytes; renderers reserve room for it
    C_MAX_MISSED = 16  # clusters that one answer counts a miss for
    C_MAX_FAILED = 8  # appliances that a player could not play from
    NOWHERE = 0xFFFFFFFF  # no site
    C_FAILED = 0x80000000  # set for one of them in its status word, for one decision
    # Whether a candidate holds the title.
    UNKNOWN = -1
    NOT_HELD = 0
    HELD = 1
    C_RANK = 0x7FFF
    C_FALLBACK = 0x8000  # set in the rank word of an entry that no route leads to; its price stands above
    ABLE = 45  # "-", the reason of a candidate that could serve

cdef struct piece:  # of a text
    const char* at
    Py_ssize_t length

cdef struct candidate:
    uint64_t cost
    uint32_t weight
    uint32_t appliance
    uint32_t site
    uint32_t rank

cdef struct note:
    uint32_t appliance
    uint32_t rank
    uint32_t word
    int held
    char reason

cdef struct question:
    const char* title  # empty where a playback names files alone
    Py_ssize_t title_length
    uint64_t key  # of the title, which ranks
    uint64_t subject  # of what appliances hold: the title, or a file of it
    uint64_t viewer
    uint64_t upper  # the client's 32 bits of IPv4, or the upper 64 of IPv6
    int client_family
    uint32_t zone
    int n
    int family  # of the appliances
    piece failed[C_MAX_FAILED]  # ids or hosts that the player could not play from
    int failed_count

cdef struct place:  # of an appliance that the player could not play from
    uint32_t site
    uint32_t partner

cdef struct decision:
    candidate picks[C_MAX_PICKS]
    int count  # of picks
    int n
    uint64_t title_key  # ranks the appliances with unknown holdings
    uint64_t session_key  # ranks those that hold the title
    uint64_t content
    uint32_t fan_out
    uint32_t family_bit
    const piece* failed
    int failed_count
    place failed_at[C_MAX_FAILED]  # where those are that the ranking has
    int failed_found  # 0 where what is lost to the player is not passed over
    bint any_order  # a partner is lost: all others are one rank
    uint32_t reasons  # a bit each
    bint failed_open
    bint by_price  # a cluster that was reached is under pressure
    int missed
    uint32_t missed_by[C_MAX_MISSED]  # the clusters that report holdings and lack the title


cdef class Picker:
    cdef readonly PrefixTable table
    cdef readonly StatusWords status
    cdef readonly Holdings holdings
    cdef seat* seats
    cdef ApplianceIds ids
    cdef Py_buffer buffers[6]
    cdef int buffer_count
    cdef const zone_record* zones
    cdef const ranking_entry_record* ranking_entries
    cdef const cluster_record* clusters
    cdef const appliance_record* appliances
    cdef const site_record* sites
    cdef const char* text
    cdef uint32_t zone_count, cluster_count, appliance_count, site_count, most_candidates

    cdef int check(self) except -1
    cdef void decide(self, const question* asked, Service service, decision* made) noexcept nogil
    cdef void prepare(self, const question* asked, Service service, decision* made) noexcept nogil
    cdef void choose(
        self, uint32_t zone, Service service, decision* made, note* notes, uint32_t* noted
    ) noexcept nogil
    cdef int held_at(self, uint32_t number, uint32_t i, Service service, const decision* made) noexcept nogil
    cdef char judge(self, uint32_t number, uint32_t i, Service service, const decision* made) noexcept nogil
    cdef int note_others(self, uint32_t zone, Service service, const decision* made, object trace) except -1
    cdef int decide_traced(self, const question* asked, Service service, decision* made, object trace) except -1
    cdef int read(
        self, object address, str title, int n, int family, str session, Counters counters, object failed,
        question* asked
    ) except -1
    cdef void tally(
        self, Counters counters, Service service, const decision* made, const char* title, Py_ssize_t title_length
    ) noexcept nogil


cdef inline double draw_of(const candidate* pick) noexcept nogil:
    return <double> pick.cost / pick.weight


cdef inline bint better(const candidate* a, const candidate* b) noexcept nogil:
    """Return whether a comes before b within a rank."""
    cdef uint64_t left = a.cost * b.weight, right = b.cost * a.weight
    return left < right or (left == right and a.appliance < b.appliance)


cdef inline int held_of(const seat* own, uint32_t services, const uint8_t* mask) noexcept nogil:
    """Return whether an appliance holds the title that the mask of its cluster is for; NULL for no holder."""
    if not own.services & services:
        return UNKNOWN
    return mask != NULL and mask[own.member >> 3] >> (own.member & 7) & 1  # one of those that the mask has bits for


cdef inline bint is_able(uint32_t word, uint32_t refused, uint32_t family_bit, bint allowed, int held) noexcept nogil:
    """Return whether a candidate can serve: whether no reason holds."""
    return word & refused == 0 and word & family_bit and word & C_WEIGHT and allowed and held


cdef inline char reason_of(uint32_t word, uint32_t family_bit, bint allowed, int held, bint forgives) noexcept nogil:
    """Return the letter of the first reason that holds, or ABLE."""
    if not allowed:
        return b"R"
    if word & C_DISABLED:
        return b"D"
    if word & C_FAILED:
        return b"X"
    if word & C_UNHEALTHY and not forgives:
        return b"U"
    if word & C_STALE and not forgives:
        return b"S"
    if not word & family_bit:
        return b"F"
    if held == NOT_HELD:
        return b"C"
    return ABLE if forgives else b"H"


cdef inline bint is_picked(const candidate* picks, int count, uint32_t appliance) noexcept nogil:
    cdef int i
    for i in range(count):
        if picks[i].appliance == appliance:
            return True
    return False


cdef inline bint is_dots(const char* title, Py_ssize_t length) noexcept nogil:
    """Return whether a title is . or .., which clients resolve as path segments."""
    return title[0] == b"." and (length == 1 or (length == 2 and title[1] == b"."))


cdef inline bint has_failed(Picker picker, const appliance_record* appliance, const decision* made) noexcept nogil:
    """Return whether the player named an appliance: its host, its id, or its id with the digest of a clone."""
    cdef const piece* name
    cdef Py_ssize_t length = appliance.id_length
    cdef int i
    for i in range(made.failed_count):
        name = made.failed + i
        if name.length == appliance.host_length and memcmp(name.at, picker.text + appliance.host, name.length) == 0:
            return True
        if name.length == length or (name.length == length + 9 and name.at[length] == b"."):
            if memcmp(name.at, picker.text + appliance.id, length) == 0:
                return True
    return False


cdef inline bint is_lost(const decision* made, uint32_t site, uint32_t partner) noexcept nogil:
    """Return whether the player failed at two appliances of a site, or at two sites of a partner (0 is none)."""
    cdef const place* other = NULL
    cdef int i, same_site = 0
    for i in range(made.failed_found):
        same_site += made.failed_at[i].site == site
        if partner and made.failed_at[i].partner == partner:
            if other != NULL and other.site != made.failed_at[i].site:
                return True
            other = made.failed_at + i
    return same_site > 1


cdef inline void find_failed(Picker picker, uint32_t zone, decision* made) noexcept nogil:
    """Find where those are that the player could not play from, as far as the ranking has them."""
    cdef const ranking_entry_record* entry = picker.ranking_entries + picker.zones[zone].first
    cdef const ranking_entry_record* end = entry + picker.zones[zone].count
    cdef const cluster_record* cluster
    cdef uint32_t i
    while entry < end and made.failed_found < made.failed_count:
        if entry.cluster < picker.cluster_count:
            cluster = picker.clusters + entry.cluster
            for i in range(cluster.first, cluster.first + cluster.count):
                if made.failed_found < made.failed_count and has_failed(picker, picker.appliances + i, made):
                    made.failed_at[made.failed_found] = place(cluster.site, cluster.partner)
                    made.failed_found += 1
                    made.any_order |= is_lost(made, NOWHERE, cluster.partner)
        entry += 1


cdef inline const char* text_of(str text, Py_ssize_t* length) except NULL:
    """Return the UTF-8 of a string, as long as the string lives."""
    if PyUnicode_IS_COMPACT_ASCII(text):
        length[0] = PyUnicode_GET_LENGTH(text)
        return <const char*> PyUnicode_1BYTE_DATA(text)
    return PyUnicode_AsUTF8AndSize(text, length)
