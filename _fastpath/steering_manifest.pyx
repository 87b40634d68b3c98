# cython: wraparound=False, initializedcheck=False, cdivision=True
"""manifest: who was picked in, a player's steering manifest out.

    {"VERSION":1,"TTL":28,"PATHWAY-PRIORITY":["c001-bom001","c002-bom001","cdn"]}

The bytes that `playback/manifests.py: steering_body` makes of the order of `playback/pathways.py`, where what is meant
is told; here is how it is made without a Python object. Clones, bodies for nobody, and hints that are odd are theirs.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from _fastpath.hashing cimport ttl_of
from _fastpath.ranking cimport C_MAX_PICKS, Picker, Service, appliance_record, candidate, write_number

cdef enum:
    BEFORE_ID = 15  # ","appliance":" of an appliance's tail
    MAX_NAME = 96  # of an appliance's id; the fleet has at most 63

cdef bytes OPENING = b'{"VERSION":1,"TTL":'
cdef bytes PRIORITY = b',"PATHWAY-PRIORITY":['
cdef piece FALLBACK = piece(b"cdn", 3)


cdef class Manifest:
    def __cinit__(
        self, Service service not None, uint32_t ttl_s, uint32_t jitter_s, double gain, int most,
        pathways=(), stands=None, bint clones=False
    ):
        if not jitter_s < ttl_s:
            raise ValueError(f"a manifest that lives {ttl_s} s, more or less by {jitter_s} s")
        if len(pathways) > C_MAX_PATHWAYS or any(not 1 <= len(name) <= C_MAX_ID for name, _ in pathways):
            raise ValueError(f"at most {C_MAX_PATHWAYS} pathways, with ids of 1 to {C_MAX_ID} characters")
        if pathways and stands is None:
            raise ValueError("pathways, and nothing says whom they stand for")
        self.service = service
        self.ttl_s, self.jitter_s = ttl_s, jitter_s
        if not 1 <= most <= C_MAX_PICKS:
            raise ValueError(f"{most} picks; 1 to {C_MAX_PICKS}")
        self.gain, self.most = gain, most
        self.clones = clones
        self.names = tuple(name.encode("ascii") for name, _ in pathways)
        self.count = len(self.names)
        self.stands = stands
        for i, (_, other) in enumerate(pathways):
            self.pathways[i] = piece(PyBytes_AS_STRING(self.names[i]), PyBytes_GET_SIZE(self.names[i]))
            self.hosted |= <uint32_t> bool(other) << i

    cdef Py_ssize_t write(
        self, Picker picker, const candidate* chosen, int picks, const report* said, uint64_t title, uint64_t viewer,
        char* out, bint* moves
    ) noexcept:
        """Write the body for these picks, and return its length; -1 where it is not one for here.

        By the keys of title and viewer the TTL is more or less; `moves` tells if the player is to leave
        what it says it plays from.
        """
        cdef listing found
        cdef char* at = out
        cdef int i
        found.count = 0
        if self.count:
            self.list_mapped(chosen, picks, said, &found)
        elif not self.list_appliances(picker, chosen, picks, said, &found):
            return -1
        moves[0] = said.count > 0 and not among(&found.ids[0], said.ids, said.count)
        at = join(at, PyBytes_AS_STRING(OPENING), PyBytes_GET_SIZE(OPENING))
        at = write_number(at, ttl_of(self.ttl_s, self.jitter_s, title, viewer))
        at = join(at, PyBytes_AS_STRING(PRIORITY), PyBytes_GET_SIZE(PRIORITY))
        for i in range(found.count):
            at = join(at, b',"' if i else b'"', 2 if i else 1)
            at = join(at, found.ids[i].at, found.ids[i].length)
            at = join(at, b'"', 1)
        return join(at, b"]}", 2) - out

    cdef bint list_appliances(
        self, Picker picker, const candidate* chosen, int picks, const report* said, listing* found
    ) noexcept nogil:
        """List the appliances and then the fallback; where there are none, what the player uses behind it."""
        cdef const appliance_record* appliance
        cdef const char* name
        cdef const char* end
        cdef place best[C_MAX_PICKS]
        cdef int i
        for i in range(picks):
            appliance = picker.appliances + chosen[i].appliance
            if appliance.tail_length <= BEFORE_ID:
                return False
            name = picker.text + appliance.tail + BEFORE_ID
            end = <const char*> memchr(name, b'"', appliance.tail_length - BEFORE_ID)
            if end == NULL or end - name > MAX_NAME:
                return False
            best[i].id = piece(name, end - name)
            best[i].pick = i
        self.keep_current(best, picks, chosen, said)
        for i in range(picks):
            found.ids[i] = best[i].id
        found.count = picks
        add(&FALLBACK, found)
        for i in range(0 if picks else said.count):
            add(said.ids + i, found)
        return True

    cdef void list_mapped(self, const candidate* chosen, int picks, const report* said, listing* found) noexcept nogil:
        """List all pathways that are declared: those that a pick stands behind by their best, and then the others."""
        cdef place best[C_MAX_PATHWAYS]
        cdef place current
        cdef int count = 0, i, j, at
        cdef uint32_t used = 0, unused
        for j in range(self.count):
            current.pick = -1
            for i in range(picks):
                if self.stands[chosen[i].appliance] >> j & 1:
                    if current.pick < 0 or chosen[i].rank < chosen[current.pick].rank:
                        current.pick = i
            if current.pick < 0:
                continue
            current.id = self.pathways[j]
            used |= <uint32_t> 1 << j
            at = count
            count += 1
            while at and goes_before(chosen, current.pick, best[at - 1].pick):
                best[at] = best[at - 1]
                at -= 1
            best[at] = current
        self.keep_current(best, count, chosen, said)
        for i in range(count):
            found.ids[i] = best[i].id
        found.count = count
        unused = ~(used | self.hosted)
        # Who was not picked may still serve, unless everybody that could is among the picks.
        for i in range(2):
            for j in range(self.count):
                if (self.hosted if (i == 0) == (picks < self.most) else unused) >> j & 1:
                    found.ids[found.count] = self.pathways[j]
                    found.count += 1

    cdef void keep_current(self, place* best, int count, const candidate* chosen, const report* said) noexcept nogil:
        """Put the first that the player uses in front, where that before it is not better enough."""
        cdef const candidate* first
        cdef const candidate* used
        cdef place kept
        cdef int i
        for i in range(count if said.count else 0):
            if among(&best[i].id, said.ids, said.count):
                first, used = chosen + best[0].pick, chosen + best[i].pick
                if used.rank == first.rank and draw_of(used) <= draw_of(first) * (1 + self.gain):
                    kept = best[i]
                    while i:
                        best[i] = best[i - 1]
                        i -= 1
                    best[0] = kept
                return


cdef inline double draw_of(const candidate* pick) noexcept nogil:
    return <double> pick.cost / pick.weight


cdef inline bint goes_before(const candidate* chosen, int left, int right) noexcept nogil:
    """Tell whether a pick comes before another: by rank, then as they were picked."""
    if chosen[left].rank != chosen[right].rank:
        return chosen[left].rank < chosen[right].rank
    return left < right


cdef inline bint among(const piece* name, const piece* names, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if names[i].length == name.length and memcmp(names[i].at, name.at, name.length) == 0:
            return True
    return False


cdef inline void add(const piece* name, listing* found) noexcept nogil:
    """List an id that is not listed yet."""
    if not among(name, found.ids, found.count):
        found.ids[found.count] = name[0]
        found.count += 1


cdef inline char* join(char* at, const char* part, Py_ssize_t length) noexcept nogil:
    memcpy(at, part, length)
    return at + length


cdef bint read_report(char* text, Py_ssize_t length, report* said) noexcept nogil:
    """Read a list of pathways, which may stand in quotes; False where one is odd. The text is pointed to."""
    cdef const char* at = text
    cdef const char* end = text + length
    cdef piece name
    cdef int items = 0
    said.count = 0
    unquote(&at, &end)
    while at < end:
        items += 1
        name.at = at
        while at < end and is_in_id(at[0]):
            at += 1
        name.length = at - name.at
        if (at < end and at[0] != b",") or name.length > C_MAX_ID or items > C_MAX_REPORTED:
            return False
        at += 1
        if name.length and not among(&name, said.ids, said.count):
            said.ids[said.count] = name
            said.count += 1
    return True


cdef bint is_throughput(const char* text, Py_ssize_t length) noexcept nogil:
    """Tell whether a text is a list of numbers, which may stand in quotes; they are no more than that here."""
    cdef const char* at = text
    cdef const char* end = text + length
    unquote(&at, &end)
    while at < end and (b"0" <= at[0] <= b"9" or at[0] == b","):
        at += 1
    return at == end


cdef inline void unquote(const char** at, const char** end) noexcept nogil:
    """Leave out a pair of quotes around a text."""
    if end[0] - at[0] >= 2 and at[0][0] == b'"' and (end[0] - 1)[0] == b'"':
        at[0] += 1
        end[0] -= 1


cdef inline bint is_in_id(char c) noexcept nogil:
    return (
        b"a" <= c <= b"z" or b"0" <= c <= b"9" or c == b"-" or b"A" <= c <= b"Z" or c == b"." or c == b"_"
    )
