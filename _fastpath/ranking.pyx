# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Picker: a request in; the appliances that should serve it out, and why each other candidate was passed over.

*Where* was decided when the table was built: a zone's ranking lists clusters by rank, 0 nearest. *Who* is decided here,
in slots and numbers; the renderers write text. The ranking is walked rank by rank. A candidate is passed over for the
first of these reasons that holds (`reason_of`):

    R  its region may not serve the service     S  stale: its last report is too old
    D  disabled or draining                     F  it is not up in the client's address family
    X  the player could not play from it (*)    C  it reports its holdings, and the title is not among them
    U  unhealthy                                H  no headroom, over its limit, or of weight 0

The other candidates of a rank are ordered by weighted rendezvous hashing (Schindler and Barth, "Weighted Distributed
Hash Tables", SPAA 2005): each appliance draws u in (0, 1) from a hash of the key and its slot, and the lowest
-log(u) / weight wins; the lower position in the fleet file breaks a tie (`better`). So one key always gives one order,
shares are proportional to weight, and a changed appliance moves only its own keys. In integers: -log2(u) comes from a
table of 257 points, interpolated, in 32 fractional bits; two candidates are compared by multiplying crosswise, without
a division. Costs are below 2**39 and weights below 2**16: a product fits 64 bits.

The key is the title's where an appliance's holdings are unknown, so that caches fill. It is the viewer's, of title and
session together, where it holds the title: viewers spread over the copies. A viewer is a session; without one, the
client's /24 or /48. A hot title has a *fan-out* k in the status file: k keys, of which a viewer has one.

Where a cluster that was reached is under pressure, the ranking is walked in the order of price and pressure instead
(`ranking_prices.pxd`), and nobody is picked where the fallback is cheaper than all, unless the service fails open.

One round takes at most two picks of a site, one where two are requested, so that two sites serve where two can. Rounds
repeat over the candidates not picked yet, until there are n picks or a round adds none. Where no candidate is left and
the service fails open, the ranking is walked again and the reasons U, S and H do not count.

(*) Or from two others of its site, or from others at two sites of its partner (`is_lost`), if anything else can serve.
The viewers of a lost partner come all at once, before a report tells of them: for them all candidates are one rank.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from _fastpath.appliance_ids cimport ApplianceIds
from _fastpath.atomics cimport load_word
from _fastpath.counters cimport FAILED_OPEN
from _fastpath.hashing cimport content_key, hash_bytes, key_of_viewer, mix
from _fastpath.ranking_checks cimport check_appliances, check_clusters, check_rankings, seats_of
from _fastpath.ranking_prices cimport MOST_ORDERED, PRICE_SHIFT, order_by_price
from _fastpath.status_words cimport C_DISABLED, C_IPV4_UP, C_IPV6_UP, C_MOST_PRESSURE, C_NO_HEADROOM, C_OVER_LIMIT
from _fastpath.status_words cimport C_PRESSED, C_STALE, C_UNHEALTHY, C_WEIGHT

cimport cython

from _fastpath.status_words import REASONS

import math
import struct

MAX_TITLE = C_MAX_TITLE  # bytes of UTF-8
MAX_PICKS = C_MAX_PICKS
MAX_SESSION = C_MAX_SESSION

# The records of `ranking.pxd`.
ZONE = struct.Struct("=III8s")
CLUSTER = struct.Struct("=IIIII")
APPLIANCE = struct.Struct("=IIIHH")
SITE = struct.Struct("=II")
FALLBACK = C_FALLBACK  # set in the rank word of an entry that no route leads to
RANK = C_RANK
PRICE = 1 << PRICE_SHIFT
HOLDS = {UNKNOWN: None, NOT_HELD: False, HELD: True}

cdef enum:
    FORGIVABLE = C_UNHEALTHY | C_STALE | C_NO_HEADROOM | C_OVER_LIMIT  # where a service fails open

# The bit of a reason in `decision.reasons`, by letter.
cdef uint32_t REASON_BIT[128]
for _i, _letter in enumerate(REASONS):
    REASON_BIT[ord(_letter)] = 1 << _i

cdef uint64_t VARIANT = 0x9E3779B97F4A7C15u  # odd

# log2(1 + i / 256) with 32 fractional bits.
cdef uint64_t LOG2[257]
for _i in range(257):
    LOG2[_i] = round(math.log2(1 + _i / 256) * 2**32)

cdef extern from *:
    int __builtin_clzll(uint64_t x) noexcept nogil


cdef struct walk_state:
    candidate current
    int found
    int round_start  # number of picks when the round began
    int rank_start  # number of picks when the rank began
    int site_limit
    bint repeats  # candidates may be picked already
    bint forgives
    bint any_order  # all ranks are one
    uint32_t refused_flags
    uint32_t least_weight
    uint32_t services
    uint32_t words  # the bits of all words that were read
    int64_t title  # its row in the holdings, -1 for none


cdef inline uint64_t cost_of(uint64_t key, uint32_t slot) noexcept nogil:
    """Return -log2(u) with 32 fractional bits, where u in (0, 1) is drawn by key and slot."""
    cdef uint64_t draw = mix(key ^ (<uint64_t> slot + 1) * VARIANT) | 1
    cdef int zeros = __builtin_clzll(draw)
    cdef uint64_t fraction = draw << zeros << 1, low, high
    low = LOG2[fraction >> 56]
    high = LOG2[(fraction >> 56) + 1]
    return (<uint64_t> (zeros + 1) << 32) - low - ((high - low) * (fraction >> 24 & 0xFFFFFFFFu) >> 32)


cdef inline int insert(candidate* picks, const walk_state* walk, int n) noexcept nogil:
    """Insert the current candidate among the picks where it belongs, and return the number of picks."""
    cdef const candidate* current = &walk.current
    cdef int found = walk.found, same = 0, worst = -1, at
    if found == n and not better(current, picks + found - 1):
        return found
    # The picks of this site in this round, and the worst of them at this rank.
    for at in range(walk.round_start, found):
        if picks[at].site == current.site:
            same += 1
            if at >= walk.rank_start:
                worst = at
    if same >= walk.site_limit:
        if worst < 0 or not better(current, picks + worst):
            return found
        at = worst
    elif found < n:
        at = found
        found += 1
    else:
        at = found - 1
    while at > walk.rank_start and better(current, picks + at - 1):
        picks[at] = picks[at - 1]
        at -= 1
    picks[at] = current[0]
    return found


cdef inline void walk_cluster(
    Picker picker, uint32_t number, Service service, walk_state* walk, decision* made, note* notes, uint32_t* noted
) noexcept nogil:
    """Judge the appliances of one cluster, and pick from those that can serve."""
    cdef const cluster_record* cluster = picker.clusters + number
    cdef const appliance_record* appliance
    cdef const uint8_t* mask = NULL
    cdef bint allowed = service.any_region or service.regions[cluster.region >> 6] >> (cluster.region & 63) & 1
    cdef bint lost = made.failed_found > 1 and is_lost(made, cluster.site, cluster.partner)
    cdef bint reports = False, holds = False
    cdef uint32_t i, word
    cdef int held = UNKNOWN
    cdef char reason
    walk.current.site = cluster.site
    if walk.title >= 0:
        mask = picker.holdings.mask_of(number, <uint32_t> walk.title)
    for i in range(cluster.first, cluster.first + cluster.count):
        appliance = picker.appliances + i
        word = load_word(picker.status.words + appliance.slot)
        walk.words |= word
        if made.failed_count and (lost or has_failed(picker, appliance, made)):
            word |= C_FAILED
        if walk.services:
            held = held_of(picker.seats + i, walk.services, mask)
            reports |= held != UNKNOWN
            holds |= held == HELD
        if is_able(word, walk.refused_flags, made.family_bit, allowed, held):
            reason = ABLE
        else:
            reason = reason_of(word, made.family_bit, allowed, held, walk.forgives)
            made.reasons |= REASON_BIT[<uint8_t> reason]
        if notes != NULL and not walk.repeats:
            notes[noted[0]] = note(i, walk.current.rank, word, held, reason)
            noted[0] += 1
        if reason != ABLE or (walk.repeats and is_picked(made.picks, walk.round_start, i)):
            continue
        walk.current.appliance = i
        walk.current.weight = max(word & C_WEIGHT, walk.least_weight)
        walk.current.cost = cost_of(made.session_key if held == HELD else made.title_key, appliance.slot)
        walk.found = insert(made.picks, walk, made.n)
    if reports and not holds and allowed and not walk.repeats and made.missed < C_MAX_MISSED:
        made.missed_by[made.missed] = number
        made.missed += 1


cdef uint32_t walk_entries(
    Picker picker, const ranking_entry_record* first, const ranking_entry_record* end, Service service, bint forgives,
    decision* made, note* notes, uint32_t* noted
) noexcept nogil:
    """Fill the picks from the entries of a ranking, walked once a round; return the bits of all words that were read.

    What an earlier walk found is dropped, except where this one forgives. Consecutive entries that differ in nothing
    but the cluster, or in FALLBACK, are one rank.
    """
    cdef const ranking_entry_record* entry
    cdef uint32_t group
    cdef walk_state walk
    if not forgives:
        made.reasons = made.missed = 0
        if noted != NULL:
            noted[0] = 0
    walk.found = walk.words = 0
    walk.site_limit = 1 if made.n == 2 else 2
    walk.repeats = walk.forgives = forgives
    walk.any_order = made.any_order
    walk.refused_flags = C_DISABLED | C_FAILED if forgives else C_DISABLED | C_FAILED | FORGIVABLE
    walk.least_weight = 1 if forgives else 0
    walk.services = service.holdings_bit if picker.seats != NULL else 0
    walk.title = picker.holdings.find(made.content) if walk.services else -1
    while True:
        walk.round_start = walk.found
        entry = first
        while entry < end and walk.found < made.n:
            walk.rank_start = walk.found
            group = entry.rank | C_FALLBACK
            while entry < end and (entry.rank | C_FALLBACK == group or walk.any_order):
                walk.current.rank = entry.rank & C_RANK
                if entry.cluster < picker.cluster_count:
                    walk_cluster(picker, entry.cluster, service, &walk, made, notes, noted)
                entry += 1
        if walk.found == made.n or walk.found == walk.round_start:
            made.count = walk.found
            return walk.words
        walk.repeats = True


cdef void walk_by_price(
    Picker picker, const ranking_entry_record* first, const ranking_entry_record* end, Service service, decision* made,
    note* notes, uint32_t* noted
) noexcept nogil:
    """Fill the picks anew, in the order of price and pressure; with none where the fallback is cheapest."""
    cdef ranking_entry_record ordered[MOST_ORDERED]
    cdef int count = order_by_price(
        first, end, picker.clusters, picker.cluster_count, picker.appliances, picker.status.words, ordered
    )
    if count == 0:
        return
    made.by_price = True
    if ordered[0].rank >> PRICE_SHIFT >= C_MOST_PRESSURE and not service.fail_open:
        made.count = 0
        made.reasons |= REASON_BIT[72]  # H
    elif made.count:
        walk_entries(picker, ordered, ordered + count, service, False, made, notes, noted)


@cython.no_gc  # a view must not be cleared before what is exported of it
cdef class Picker:
    def __cinit__(
        self, PrefixTable table not None, zones, ranking_entries, clusters, appliances, sites, text,
        StatusWords status not None, Holdings holdings=None
    ):
        self.table = table
        self.status = status
        self.holdings = holdings
        for buffer in (zones, ranking_entries, clusters, appliances, sites, text):
            PyObject_GetBuffer(buffer, &self.buffers[self.buffer_count], PyBUF_SIMPLE)
            self.buffer_count += 1
        self.zones = <const zone_record*> self.buffers[0].buf
        self.ranking_entries = <const ranking_entry_record*> self.buffers[1].buf
        self.clusters = <const cluster_record*> self.buffers[2].buf
        self.appliances = <const appliance_record*> self.buffers[3].buf
        self.sites = <const site_record*> self.buffers[4].buf
        self.text = <const char*> self.buffers[5].buf
        self.zone_count = <uint32_t> (self.buffers[0].len // sizeof(zone_record))
        self.cluster_count = <uint32_t> (self.buffers[2].len // sizeof(cluster_record))
        self.appliance_count = <uint32_t> (self.buffers[3].len // sizeof(appliance_record))
        self.site_count = <uint32_t> (self.buffers[4].len // sizeof(site_record))
        self.check()
        self.ids = ApplianceIds()
        self.ids.fill(self.appliances, self.appliance_count, self.clusters, self.cluster_count, self.text)
        if holdings is not None:
            self.seats = seats_of(holdings, self.clusters, self.cluster_count, self.appliances, self.appliance_count)

    def __dealloc__(self):
        cdef int i
        for i in range(self.buffer_count):
            PyBuffer_Release(&self.buffers[i])
        free(self.seats)

    cdef int check(self) except -1:
        """Refuse records that point outside what they name, so that no pick checks them."""
        if self.zone_count != self.table.zones:
            raise ValueError(f"{self.zone_count} zone records for a table of {self.table.zones} zones")
        check_appliances(
            self.appliances, self.appliance_count, self.sites, self.site_count, self.buffers[5].len, self.status.slots
        )
        check_clusters(self.clusters, self.cluster_count, self.appliance_count, self.site_count)
        self.most_candidates = check_rankings(
            self.zones, self.zone_count, self.ranking_entries, self.buffers[1].len // sizeof(ranking_entry_record),
            self.clusters, self.cluster_count
        )
        return 0

    cdef void decide(self, const question* asked, Service service, decision* made) noexcept nogil:
        """Decide a request: up to n picks, best first, with the reasons and misses of the others."""
        self.prepare(asked, service, made)
        self.choose(asked.zone, service, made, NULL, NULL)

    cdef void prepare(self, const question* asked, Service service, decision* made) noexcept nogil:
        """Make the keys that a request's candidates are ranked by."""
        made.n = asked.n
        made.failed_count = asked.failed_count
        made.failed = asked.failed
        made.family_bit = C_IPV6_UP if asked.family == 6 else C_IPV4_UP
        made.content = content_key(asked.subject, service.salt)
        made.fan_out = self.status.fan_out_of(made.content)
        made.title_key = made.session_key = asked.key
        if made.fan_out > 1 or (service.holdings_bit and self.seats != NULL):
            if asked.viewer % made.fan_out:
                made.title_key = mix(asked.key ^ asked.viewer % made.fan_out * VARIANT)
            made.session_key = mix(asked.key ^ asked.viewer)

    cdef void choose(
        self, uint32_t zone, Service service, decision* made, note* notes, uint32_t* noted
    ) noexcept nogil:
        """Fill the picks for the keys of a decision; note every candidate where `notes` is given."""
        cdef const ranking_entry_record* first = self.ranking_entries + self.zones[zone].first
        cdef const ranking_entry_record* end = first + self.zones[zone].count
        cdef uint32_t words
        made.failed_open = made.by_price = made.any_order = False
        made.failed_found = 0
        if made.failed_count > 1:
            find_failed(self, zone, made)
        words = walk_entries(self, first, end, service, False, made, notes, noted)
        if made.count == 0 and made.failed_found > 1:
            made.failed_found, made.any_order = 0, False
            words = walk_entries(self, first, end, service, False, made, notes, noted)
        if words & C_PRESSED:
            walk_by_price(self, first, end, service, made, notes, noted)
        if made.count == 0 and service.fail_open:
            walk_entries(self, first, end, service, True, made, NULL, NULL)
            made.failed_open = made.count > 0

    cdef int held_at(self, uint32_t number, uint32_t i, Service service, const decision* made) noexcept nogil:
        """Return whether an appliance of a cluster holds the title of a decision."""
        cdef const uint8_t* mask = NULL
        cdef int64_t title
        if not service.holdings_bit or self.seats == NULL:
            return UNKNOWN
        title = self.holdings.find(made.content)
        if title >= 0:
            mask = self.holdings.mask_of(number, <uint32_t> title)
        return held_of(self.seats + i, service.holdings_bit, mask)

    cdef char judge(self, uint32_t number, uint32_t i, Service service, const decision* made) noexcept nogil:
        """Return why an appliance of a cluster is passed over, by the keys of a decision, ABLE where it could serve."""
        cdef const cluster_record* cluster = self.clusters + number
        cdef uint32_t word = load_word(self.status.words + self.appliances[i].slot)
        cdef bint allowed = service.any_region or service.regions[cluster.region >> 6] >> (cluster.region & 63) & 1
        cdef int held = self.held_at(number, i, service, made)
        if is_lost(made, cluster.site, cluster.partner) or has_failed(self, self.appliances + i, made):
            word |= C_FAILED
        if is_able(word, C_DISABLED | C_FAILED | FORGIVABLE, made.family_bit, allowed, held):
            return ABLE
        return reason_of(word, made.family_bit, allowed, held, False)

    cdef int decide_traced(self, const question* asked, Service service, decision* made, object trace) except -1:
        """Decide a request, and fill a `Trace` where one is given."""
        cdef uint32_t noted = 0, i
        cdef note* notes
        if trace is None:
            self.decide(asked, service, made)
            return 0
        notes = <note*> malloc((self.most_candidates + 1) * sizeof(note))
        if notes == NULL:
            raise MemoryError
        try:
            self.prepare(asked, service, made)
            self.choose(asked.zone, service, made, notes, &noted)
            order = {made.picks[i].appliance: i for i in range(<uint32_t> made.count)}
            for i in range(noted):
                position = order.get(notes[i].appliance)
                reason, held = chr(notes[i].reason), HOLDS[notes[i].held]
                trace.candidates.append((notes[i].appliance, notes[i].rank, notes[i].word, reason, position, held))
            if made.by_price:
                self.note_others(asked.zone, service, made, trace)
        finally:
            free(notes)
        trace.title_key, trace.session_key, trace.content_key = made.title_key, made.session_key, made.content
        trace.fan_out, trace.failed_open, trace.by_price = made.fan_out, made.failed_open, made.by_price
        return 0

    cdef int note_others(self, uint32_t zone, Service service, const decision* made, object trace) except -1:
        """Add to a trace the candidates that were not reached: their pressure decides the order too."""
        cdef const ranking_entry_record* entry = self.ranking_entries + self.zones[zone].first
        cdef const ranking_entry_record* end = entry + self.zones[zone].count
        cdef uint32_t first, i, word
        known = {appliance for appliance, *_ in trace.candidates}
        while entry < end:
            if entry.cluster < self.cluster_count:
                first = self.clusters[entry.cluster].first
                for i in range(first, first + self.clusters[entry.cluster].count):
                    if i not in known:
                        word = load_word(self.status.words + self.appliances[i].slot)
                        reason = chr(self.judge(entry.cluster, i, service, made))
                        held = HOLDS[self.held_at(entry.cluster, i, service, made)]
                        trace.candidates.append((i, entry.rank & C_RANK, word, reason, None, held))
            entry += 1
        return 0

    cdef int read(
        self, object address, str title, int n, int family, str session, Counters counters, object failed,
        question* asked
    ) except -1:
        """Read a request from Python objects, which outlive it. An empty title is for a playback of files alone."""
        cdef const char* viewer
        cdef Py_ssize_t length
        asked.zone = self.table.find(address, &asked.client_family, &asked.upper)
        asked.title = text_of(title, &asked.title_length)
        if asked.title_length > C_MAX_TITLE or is_dots(asked.title, asked.title_length):
            raise ValueError(f"a title has 1 to {C_MAX_TITLE} bytes, and is not . or ..")
        if not 1 <= n <= C_MAX_PICKS:
            raise ValueError(f"n is 1 to {MAX_PICKS}, not {n}")
        if len(session) > C_MAX_SESSION:
            raise ValueError(f"a session has at most {MAX_SESSION} characters, not {len(session)}")
        if counters is not None:
            counters.check()
        viewer = text_of(session, &length)
        asked.n, asked.family, asked.failed_count = n, family or asked.client_family, 0
        if failed:  # a loop over none costs a tenth of an answer
            for name in failed[:C_MAX_FAILED]:
                asked.failed[asked.failed_count].at = text_of(name, &asked.failed[asked.failed_count].length)
                asked.failed_count += 1
        asked.key = asked.subject = hash_bytes(asked.title, asked.title_length)
        asked.viewer = key_of_viewer(viewer, length, asked.client_family, asked.upper)
        return 0

    cdef void tally(
        self, Counters counters, Service service, const decision* made, const char* title, Py_ssize_t title_length
    ) noexcept nogil:
        """Count an answer: its targets, the reasons of the others, and the title."""
        cdef int i
        for i in range(made.count):
            counters.count_target(made.picks[i].rank, False)
        if made.count:
            counters.count_appliance(self.appliances[made.picks[0].appliance].slot)
        if made.count < made.n:
            counters.count_target(0, True)
        counters.count_reasons(made.reasons)
        if made.failed_open:
            counters.count_event(FAILED_OPEN)
        counters.count_title(
            counters.titles, made.content, 0, service.id_text, service.id_length, title, title_length
        )
        for i in range(made.missed):
            counters.count_title(
                counters.missing, made.content, made.missed_by[i], service.id_text, service.id_length, title,
                title_length
            )

    def slot_of(self, str id not None):
        cdef Py_ssize_t length
        cdef const char* name = text_of(id, &length)
        cdef int64_t number = self.ids.find(name, length)
        return self.appliances[number].slot if number >= 0 else -1

    def picks(
        self, address, str title not None, Service service not None, int n, int family, str session not None="",
        trace=None, Counters counters=None, failed=()
    ):
        cdef question asked
        cdef decision made
        cdef int i
        self.read(address, title, n, family, session, counters, failed, &asked)
        if not asked.title_length:
            raise ValueError(f"a title has 1 to {C_MAX_TITLE} bytes, not 0")
        self.decide_traced(&asked, service, &made, trace)
        if counters is not None:
            self.tally(counters, service, &made, asked.title, asked.title_length)
        return [
            (made.picks[i].appliance, made.picks[i].site, made.picks[i].rank, draw_of(made.picks + i))
            for i in range(made.count)
        ]

    def picks_of_keys(
        self, address, uint64_t title_key, uint64_t session_key, uint64_t content, Service service not None, int n,
        int family
    ):
        cdef question asked
        cdef decision made
        cdef int i
        self.read(address, "", n, family, "", None, (), &asked)
        self.prepare(&asked, service, &made)
        made.title_key, made.session_key, made.content = title_key, session_key, content
        self.choose(asked.zone, service, &made, NULL, NULL)
        return [(made.picks[i].appliance, made.picks[i].rank) for i in range(made.count)]


class Trace:
    def __init__(self):
        self.candidates = []
        self.title_key = self.session_key = self.content_key = 0
        self.fan_out = 1
        self.failed_open = self.by_price = False


def cost(uint64_t key, uint32_t slot):
    return cost_of(key, slot)
