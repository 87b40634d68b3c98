# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Manifest: the picks of a request in, a player's steering manifest out.

    {"VERSION":1,"TTL":28,"PATHWAY-PRIORITY":["c001-bom001","c002-bom001","cdn"]}

The pathways are in the order of the picks. A player that uses one of them already stays there, first in the list,
while that can serve, unless it is to move (`find_kept`):

    full             who plays at a full appliance stays; it only takes no new clients
    a better rank    a move up is paced: the best appliance's status word holds back so many in 64 of its viewers,
                     each by a number of its own, and lets all come back in time
    the same rank    the best must be better than what is used by the share `gain`, and is paced too

What its playlist declared and could serve comes before the fallback, and a player that can use none of the picks is
not moved for them. What failed comes last. The rules stand here only: FastAPI's endpoints call `order`. Clones and
static bodies are made there, in `steering/playback/answers/`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp

from _fastpath.atomics cimport load_word
from _fastpath.file_records cimport appliance_record, ranking_entry_record
from _fastpath.hashing cimport jittered_ttl, mix
from _fastpath.ranking cimport ABLE, C_MAX_PICKS, C_RANK, Picker, decision, draw_of, piece, question
from _fastpath.ranking cimport text_of
from _fastpath.service cimport Service
from _fastpath.status_words cimport C_PACE, PACE_SHIFT
from _fastpath.writing cimport join, write_number

cdef piece FALLBACK = piece(b"cdn", 3)


cdef class Manifest:
    def __cinit__(
        self, Service service not None, uint32_t ttl_s, uint32_t jitter_s, double gain, int most,
        pathways=(), stands=None, bint clones=False, uint32_t long_ttl_s=300, uint32_t long_jitter_s=0
    ):
        if not jitter_s < ttl_s or not long_jitter_s < long_ttl_s:
            raise ValueError(f"the jitter of {jitter_s} s is not below a manifest's TTL of {ttl_s} s")
        if len(pathways) > C_MAX_PATHWAYS or any(not 1 <= len(name) <= C_MAX_ID for name, _ in pathways):
            raise ValueError(f"at most {C_MAX_PATHWAYS} pathways, with ids of 1 to {C_MAX_ID} characters")
        if pathways and stands is None:
            raise ValueError("pathways need `stands`: which of them stand for each appliance")
        self.service = service
        self.ttl_s, self.jitter_s = ttl_s, jitter_s
        self.long_ttl_s, self.long_jitter_s = long_ttl_s, long_jitter_s
        if not 1 <= most <= C_MAX_PICKS:
            raise ValueError(f"{most} picks; 1 to {C_MAX_PICKS}")
        self.gain, self.most = gain, most
        self.clones = clones
        self.ids = tuple(name.encode("ascii") for name, _ in pathways)
        self.count = len(self.ids)
        self.stands = stands
        for i, (_, other) in enumerate(pathways):
            self.pathways[i] = piece(PyBytes_AS_STRING(self.ids[i]), PyBytes_GET_SIZE(self.ids[i]))
            self.hosted |= <uint32_t> bool(other) << i

    cdef Py_ssize_t write(
        self, Picker picker, const question* asked, const decision* made, const report* reported,
        const report* declared, bint shed, char* out, bint* moves
    ) noexcept nogil:
        """Write the body for these picks, and return its length; `moves` is whether the player is to change pathways.

        The keys of title and viewer give the TTL its jitter; with `shed` it is long.
        """
        cdef listing listed
        cdef char* end = out
        cdef int i
        self.arrange(picker, asked, made, reported, declared, &listed)
        moves[0] = reported.count > 0 and not among(&listed.ids[0], reported.ids, reported.count)
        end = join(end, b'{"VERSION":1,"TTL":', 19)
        end = write_number(end, jittered_ttl(
            self.long_ttl_s if shed else self.ttl_s, self.long_jitter_s if shed else self.jitter_s, asked.key,
            asked.viewer
        ))
        end = join(end, b',"PATHWAY-PRIORITY":[', 21)
        for i in range(listed.count):
            end = join(end, b',"' if i else b'"', 2 if i else 1)
            end = join(end, listed.ids[i].at, listed.ids[i].length)
            end = join(end, b'"', 1)
        return join(end, b"]}", 2) - out

    def order(
        self, Picker picker not None, address, str title not None, str session not None, int family, current,
        declared, failed
    ):
        cdef question asked
        cdef decision made
        cdef report reported, brought
        cdef listing listed
        cdef int i, kept
        read_names(current, &reported)
        read_names(declared, &brought)
        picker.read(address, title, self.most, family, session, None, failed, &asked)
        picker.decide(&asked, self.service, &made)
        kept = self.arrange(picker, &asked, &made, &reported, &brought, &listed)
        ids = tuple([listed.ids[i].at[:listed.ids[i].length].decode() for i in range(listed.count)])
        return ids, None if kept < 0 else current[kept]

    cdef int arrange(
        self, Picker picker, const question* asked, const decision* made, const report* reported,
        const report* declared, listing* listed
    ) noexcept nogil:
        """List the pathways, best first; return the number of the one that the player uses and keeps, -1 for none."""
        cdef standing used[C_MAX_REPORTED]
        cdef standing brought[C_MAX_REPORTED]
        cdef int i, unfit, kept
        cdef const report* own = declared  # what limits the player to its own appliances
        if self.count:
            own = NULL
        for i in range(reported.count):
            self.judge(picker, asked, made, reported.ids + i, used + i)
        for i in range(0 if self.count else declared.count):
            self.judge(picker, asked, made, declared.ids + i, brought + i)
        listed.count = 0
        if self.count:
            self.list_mapped(made, listed)
        else:
            self.list_appliances(picker, made, declared, brought, listed)
        kept = self.find_kept(picker, asked, made, reported, used, own, brought)
        for unfit in range(0 if self.count or made.count else 2):
            for i in range(reported.count):
                if (used[i].state == UNFIT) == unfit:
                    add(reported.ids + i, listed)
            for i in range(declared.count):
                if (brought[i].state == UNFIT) == unfit:
                    add(declared.ids + i, listed)
        if kept >= 0:
            put_first(reported.ids + kept, listed)
        if asked.failed_count:
            put_last(asked.failed, asked.failed_count, listed)
        return kept

    cdef void judge(
        self, Picker picker, const question* asked, const decision* made, const piece* name, standing* found
    ) noexcept nogil:
        """Find how a pathway stands that a player uses, or that its playlist declared."""
        cdef int64_t own
        cdef int i
        found.state, found.rank, found.pick, found.appliance = UNFIT, C_RANK, -1, 0
        if asked.failed_count and among(name, asked.failed, asked.failed_count):
            return
        if self.is_other(name):
            found.state = OTHER
            return
        for i in range(self.count):
            if among(name, self.pathways + i, 1):
                self.judge_mapped(picker, asked, made, <uint32_t> 1 << i, found)
                return
        own = picker.ids.find(name.at, name.length)
        if own < 0 and self.clones and name.length > C_CLONE and name.at[name.length - C_CLONE] == b".":
            own = picker.ids.find(name.at, name.length - C_CLONE)
        if own >= 0:
            self.judge_own(picker, asked, made, <uint32_t> own, found)

    cdef void judge_own(
        self, Picker picker, const question* asked, const decision* made, uint32_t own, standing* found
    ) noexcept nogil:
        """Find how an appliance stands: as a pick, or where the ranking has its cluster."""
        cdef const ranking_entry_record* entry = picker.ranking_entries + picker.zones[asked.zone].first
        cdef const ranking_entry_record* end = entry + picker.zones[asked.zone].count
        cdef uint32_t home = picker.ids.homes[own]
        cdef int i
        for i in range(made.count):
            if made.picks[i].appliance == own:
                found[0] = standing(OPEN, made.picks[i].rank, i, own)
                return
        while entry < end and entry.cluster != home:
            entry += 1
        if entry < end:
            self.take(picker.judge(home, own, self.service, made), entry.rank & C_RANK, own, found)

    cdef void judge_mapped(
        self, Picker picker, const question* asked, const decision* made, uint32_t bit, standing* found
    ) noexcept nogil:
        """Find how a mapped pathway stands: by its best pick, or the nearest appliance that can serve or is full."""
        cdef const ranking_entry_record* entry = picker.ranking_entries + picker.zones[asked.zone].first
        cdef const ranking_entry_record* end = entry + picker.zones[asked.zone].count
        cdef uint32_t first, j
        cdef int i
        for i in range(made.count):
            if self.stands[made.picks[i].appliance] & bit and made.picks[i].rank < found.rank:
                found[0] = standing(OPEN, made.picks[i].rank, i, made.picks[i].appliance)
        while entry < end and found.pick < 0 and entry.rank & C_RANK <= found.rank:
            if entry.cluster < picker.cluster_count:
                first = picker.clusters[entry.cluster].first
                for j in range(first, first + picker.clusters[entry.cluster].count):
                    if self.stands[j] & bit:
                        self.take(picker.judge(entry.cluster, j, self.service, made), entry.rank & C_RANK, j, found)
            entry += 1

    cdef void take(self, char reason, uint32_t rank, uint32_t appliance, standing* found) noexcept nogil:
        """Take an appliance that can serve, or is only full, for a pathway, unless that has a better one."""
        cdef int state = OPEN if reason == ABLE else FULL if reason == b"H" else UNFIT
        if rank < found.rank and state > UNFIT or rank == found.rank and state > found.state:
            found[0] = standing(state, rank, -1, appliance)

    cdef int find_kept(
        self, Picker picker, const question* asked, const decision* made, const report* reported,
        const standing* used, const report* declared, const standing* brought
    ) noexcept nogil:
        """Return the number of the pathway that the player uses and keeps, -1 where it is to move or uses none."""
        cdef const standing* kept = NULL
        cdef standing best
        cdef int i
        for i in range(reported.count):
            if used[i].state > UNFIT and (kept == NULL or goes_before(used + i, kept)):
                kept = used + i
        if kept == NULL:
            return -1
        best.state = UNFIT
        if declared == NULL or declared.count == 0:
            if made.count:
                best = standing(OPEN, made.picks[0].rank, 0, made.picks[0].appliance)
        else:
            for i in range(declared.count):
                if brought[i].state == OPEN and (best.state == UNFIT or goes_before(brought + i, &best)):
                    best = brought[i]
        if best.state == UNFIT or kept.rank < best.rank or (kept.rank == best.rank and kept.state == FULL):
            return <int> (kept - used)
        if kept.rank == best.rank and kept.pick >= 0:
            # An appliance that was not picked is no better than one that was.
            if best.pick < 0 or draw_of(made.picks + kept.pick) <= draw_of(made.picks + best.pick) * (1 + self.gain):
                return <int> (kept - used)
        return <int> (kept - used) if is_held_back(picker, best.appliance, asked.viewer) else -1

    cdef void list_appliances(
        self, Picker picker, const decision* made, const report* declared, const standing* brought, listing* listed
    ) noexcept nogil:
        """List the picked appliances, the declared ones that could serve as well, and the fallback."""
        cdef const appliance_record* appliance
        cdef int i
        for i in range(made.count):
            appliance = picker.appliances + made.picks[i].appliance
            listed.ids[i] = piece(picker.text + appliance.id, appliance.id_length)
        listed.count = made.count
        for i in range(declared.count):
            if brought[i].state == OPEN and brought[i].pick < 0:
                add(declared.ids + i, listed)
        add(&FALLBACK, listed)

    cdef void list_mapped(self, const decision* made, listing* listed) noexcept nogil:
        """List all declared pathways: those that stand for a pick, by their best pick, then the others."""
        cdef choice best[C_MAX_PATHWAYS]
        cdef choice current
        cdef int count = 0, i, j, at
        cdef uint32_t used = 0, unused
        for j in range(self.count):
            current.pick = -1
            for i in range(made.count):
                if self.stands[made.picks[i].appliance] >> j & 1:
                    if current.pick < 0 or made.picks[i].rank < made.picks[current.pick].rank:
                        current.pick = i
            if current.pick < 0:
                continue
            current.id = self.pathways[j]
            used |= <uint32_t> 1 << j
            at = count
            count += 1
            while at and comes_first(made, current.pick, best[at - 1].pick):
                best[at] = best[at - 1]
                at -= 1
            best[at] = current
        for i in range(count):
            listed.ids[i] = best[i].id
        listed.count = count
        unused = ~(used | self.hosted)
        # A pathway without a pick may still serve, unless the picks are all appliances that can serve.
        for i in range(2):
            for j in range(self.count):
                if (self.hosted if (i == 0) == (made.count < self.most) else unused) >> j & 1:
                    listed.ids[listed.count] = self.pathways[j]
                    listed.count += 1

    cdef bint is_other(self, const piece* name) noexcept nogil:
        """Return whether a pathway leads to another network: the fallback, or one that names its host."""
        cdef int j
        for j in range(self.count):
            if self.hosted >> j & 1 and among(name, self.pathways + j, 1):
                return True
        return self.count == 0 and among(name, &FALLBACK, 1)


cdef inline bint is_held_back(Picker picker, uint32_t appliance, uint64_t viewer) noexcept nogil:
    """Return whether a viewer may not yet move up to an appliance: by a number of the two, and the status word.

    Nobody moves up to an appliance of a cluster under pressure.
    """
    cdef uint32_t slot = picker.appliances[appliance].slot
    cdef uint32_t word = load_word(picker.status.words + slot)
    return mix(viewer ^ slot + 1) >> 58 < word >> PACE_SHIFT & C_PACE


cdef inline bint goes_before(const standing* left, const standing* right) noexcept nogil:
    """Return whether a pathway is better: by rank, then in the order of the picks, before those that are no picks."""
    if left.rank != right.rank or (left.pick < 0 and right.pick < 0):
        return left.rank < right.rank
    return <uint32_t> left.pick < <uint32_t> right.pick  # -1 is the largest


cdef inline bint comes_first(const decision* made, int left, int right) noexcept nogil:
    """Return whether a pick comes before another: by rank, then in the order of the picks."""
    if made.picks[left].rank != made.picks[right].rank:
        return made.picks[left].rank < made.picks[right].rank
    return left < right


cdef inline bint among(const piece* name, const piece* names, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if names[i].length == name.length and memcmp(names[i].at, name.at, name.length) == 0:
            return True
    return False


cdef inline void add(const piece* name, listing* listed) noexcept nogil:
    """List an id that is not listed yet."""
    if not among(name, listed.ids, listed.count):
        listed.ids[listed.count] = name[0]
        listed.count += 1


cdef inline void put_first(const piece* name, listing* listed) noexcept nogil:
    """Put an id in front, from its place if it is listed."""
    cdef int i = 0
    while i < listed.count and not among(name, listed.ids + i, 1):
        i += 1
    listed.count += i == listed.count
    while i:
        listed.ids[i] = listed.ids[i - 1]
        i -= 1
    listed.ids[0] = name[0]


cdef inline void put_last(const piece* names, int count, listing* listed) noexcept nogil:
    """Put the ids that are among `names` behind the others."""
    cdef listing all = listed[0]
    cdef int turn, i
    listed.count = 0
    for turn in range(2):
        for i in range(all.count):
            if among(all.ids + i, names, count) == turn:
                listed.ids[listed.count] = all.ids[i]
                listed.count += 1


cdef int read_names(names, report* out) except -1:
    """Read pathways from Python strings, which outlive it."""
    out.count = 0
    if len(names) > C_MAX_REPORTED:
        raise ValueError(f"{len(names)} pathways; at most {C_MAX_REPORTED}")
    for name in names:
        out.ids[out.count].at = text_of(name, &out.ids[out.count].length)
        out.count += 1
    return 0
