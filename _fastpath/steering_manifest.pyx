# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Manifest: the picks of a request in, a player's steering manifest out.

    {"VERSION":1,"TTL":28,"PATHWAY-PRIORITY":["c001-bom001","c002-bom001","cdn"]}

The bytes are those that `steering/playback/answers/steering_manifests.py: steering_body` makes of the order of
`steering/playback/answers/pathways.py`, which has the rules; here they are made without a Python object. The fallback
path alone makes clones, bodies without a viewer, and bodies for hints that it passes over.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from _fastpath.hashing cimport jittered_ttl
from _fastpath.ranking cimport C_MAX_PICKS, Picker, appliance_record, candidate, decision, draw_of, note, piece
from _fastpath.ranking cimport question
from _fastpath.service cimport Service
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
    ) noexcept:
        """Write the body for these picks, and return its length; `moves` is whether the player is to change pathways.

        The keys of title and viewer give the TTL its jitter; with `shed` it is long. Without picks, what the player
        uses stays first where it is only full, and what its playlist declared is listed.
        """
        cdef listing listed
        cdef char* end = out
        cdef int i, full = -1
        listed.count = 0
        if self.count:
            self.list_mapped(made, reported, &listed)
        else:
            self.list_appliances(picker, made, reported, &listed)
        if made.count == 0:
            if reported.count:
                full = self.find_full(picker, asked, made, reported)
            if full >= 0:
                put_first(reported.ids + full, &listed)
            for i in range(0 if self.count else declared.count):
                add(declared.ids + i, &listed)
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

    cdef void list_appliances(
        self, Picker picker, const decision* made, const report* reported, listing* listed
    ) noexcept nogil:
        """List the picked appliances, then the fallback; without picks, then what the player uses."""
        cdef const appliance_record* appliance
        cdef choice best[C_MAX_PICKS]
        cdef int i
        for i in range(made.count):
            appliance = picker.appliances + made.picks[i].appliance
            best[i].id = piece(picker.text + appliance.id, appliance.id_length)
            best[i].pick = i
        self.keep_current(best, made.count, made, reported)
        for i in range(made.count):
            listed.ids[i] = best[i].id
        listed.count = made.count
        add(&FALLBACK, listed)
        for i in range(0 if made.count else reported.count):
            add(reported.ids + i, listed)

    cdef void list_mapped(self, const decision* made, const report* reported, listing* listed) noexcept nogil:
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
            while at and goes_before(made, current.pick, best[at - 1].pick):
                best[at] = best[at - 1]
                at -= 1
            best[at] = current
        self.keep_current(best, count, made, reported)
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

    cdef void keep_current(
        self, choice* best, int count, const decision* made, const report* reported
    ) noexcept nogil:
        """Move the first pathway that the player uses to the front, unless the front is better by the gain."""
        cdef const candidate* first
        cdef const candidate* used
        cdef choice kept
        cdef int i
        for i in range(count if reported.count else 0):
            if among(&best[i].id, reported.ids, reported.count):
                first = &made.picks[best[0].pick]
                used = &made.picks[best[i].pick]
                if used.rank == first.rank and draw_of(used) <= draw_of(first) * (1 + self.gain):
                    kept = best[i]
                    while i:
                        best[i] = best[i - 1]
                        i -= 1
                    best[0] = kept
                return

    cdef int find_full(
        self, Picker picker, const question* asked, const decision* made, const report* reported
    ) noexcept:
        """Return the first pathway that the player uses and that is passed over for its load alone, -1 for none."""
        cdef note* notes = <note*> malloc((picker.most_candidates + 1) * sizeof(note))
        cdef decision again = made[0]
        cdef uint32_t noted = 0, i
        cdef int j, found = -1
        if notes == NULL:
            return -1
        picker.choose(asked.zone, self.service, &again, notes, &noted)
        for j in range(reported.count):
            for i in range(noted):
                if found < 0 and notes[i].reason == b"H" and self.names(picker, notes[i].appliance, reported.ids + j):
                    found = j
        free(notes)
        return found

    cdef bint names(self, Picker picker, uint32_t appliance, const piece* id) noexcept nogil:
        """Return whether a pathway stands for an appliance."""
        cdef const appliance_record* record = picker.appliances + appliance
        cdef piece own = piece(picker.text + record.id, record.id_length)
        cdef int j
        for j in range(self.count):
            if among(id, self.pathways + j, 1):
                return self.stands[appliance] >> j & 1
        return self.count == 0 and among(id, &own, 1)


cdef inline bint goes_before(const decision* made, int left, int right) noexcept nogil:
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
    """Move an id to the front of those that are listed."""
    cdef int i = 0
    while i < listed.count - 1 and not among(name, listed.ids + i, 1):
        i += 1
    while i:
        listed.ids[i] = listed.ids[i - 1]
        i -= 1
    listed.ids[0] = name[0]
