# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Audience: the answers to many simulated viewers in one call, for the scorecard (`steering/simulation/scorecard`).

The answers are those of the fast path: the same `Picker.decide`, and for players the bytes of the same
`Manifest.write`, read back as a player reads them. Viewers are columns of numbers instead of requests: a zone, the key
of a title, the key of a viewer, an address family. Appliances are their indexes in the fleet file.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from _fastpath.file_records cimport appliance_record
from _fastpath.ranking cimport C_MAX_FAILED, C_MAX_PICKS, Picker, decision, piece, question
from _fastpath.service cimport Service
from _fastpath.steering_manifest cimport C_MAX_MANIFEST, Manifest, report

NONE = C_NONE  # no appliance
FALLBACK = C_FALLBACK  # the service's fallback, which players know as `cdn`
MAX_DECLARED = C_MAX_DECLARED

cdef enum:
    C_NONE = -1
    C_FALLBACK = -2
    C_MAX_DECLARED = 8

cdef piece CDN = piece(b"cdn", 3)


cdef class Audience:
    """The columns of the viewers that ask in one step."""

    cdef Picker picker
    cdef const uint32_t[::1] zones
    cdef const uint64_t[::1] titles, viewers
    cdef const uint8_t[::1] families
    cdef readonly Py_ssize_t count

    def __cinit__(self, Picker picker not None, zones, titles, viewers, families):
        cdef Py_ssize_t i
        self.picker = picker
        self.zones, self.titles, self.viewers, self.families = zones, titles, viewers, families
        self.count = self.zones.shape[0]
        if not self.count == self.titles.shape[0] == self.viewers.shape[0] == self.families.shape[0]:
            raise ValueError("zones, titles, viewers and families are columns of one length")
        for i in range(self.count):
            if self.zones[i] >= picker.zone_count:
                raise ValueError(f"viewer {i} is in zone {self.zones[i]}, there are {picker.zone_count}")
            if self.families[i] != 4 and self.families[i] != 6:
                raise ValueError(f"viewer {i} has family {self.families[i]}; 4 or 6")

    cdef void ask(self, Py_ssize_t viewer, int n, question* asked) noexcept nogil:
        asked.zone = self.zones[viewer]
        asked.title, asked.title_length = NULL, 0
        asked.key = asked.subject = self.titles[viewer]
        asked.viewer, asked.upper = self.viewers[viewer], 0
        asked.client_family = asked.family = self.families[viewer]
        asked.n, asked.failed_count = n, 0

    def pick(
        self, Service service not None, int n, int32_t[:, ::1] picks not None, const int32_t[:, ::1] failed=None
    ):
        """Fill each viewer's row of `picks` with up to n appliances, best first, and NONE behind them.

        `failed` are what the players name as failed, a row each, NONE behind them.
        """
        cdef question asked
        cdef decision made
        cdef Py_ssize_t viewer
        cdef int i
        if failed is not None and (failed.shape[0] != self.count or failed.shape[1] > C_MAX_FAILED):
            raise ValueError(f"failed has a row of at most {C_MAX_FAILED} for each of {self.count} viewers")
        if not 1 <= n <= C_MAX_PICKS or picks.shape[0] != self.count or picks.shape[1] < n:
            raise ValueError(f"n is 1 to {C_MAX_PICKS}, and picks has a row of n for each of {self.count} viewers")
        with nogil:
            for viewer in range(self.count):
                self.ask(viewer, n, &asked)
                for i in range(<int> failed.shape[1] if failed is not None else 0):
                    if 0 <= failed[viewer, i] < <int64_t> self.picker.appliance_count:
                        asked.failed[asked.failed_count] = self.name_of(failed[viewer, i])
                        asked.failed_count += 1
                self.picker.decide(&asked, service, &made)
                for i in range(<int> picks.shape[1]):
                    picks[viewer, i] = <int32_t> made.picks[i].appliance if i < made.count else C_NONE

    def steer(
        self, Manifest manifest not None, const int32_t[::1] current not None, const int32_t[:, ::1] declared not None,
        int32_t[:, ::1] order not None, uint32_t[::1] ttls not None, int32_t[::1] first not None
    ):
        """Answer a poll of each player.

        `current` is the appliance that it uses or FALLBACK, `declared` are the appliances of its playlist, NONE behind
        them. Filled are `order`, the declared ones and FALLBACK as the steering manifest lists them, NONE behind them;
        `ttls`; and `first`, the appliance that workers count the answer for, or NONE.
        """
        cdef Service service = manifest.service
        cdef question asked
        cdef decision made
        cdef report reported, brought
        cdef char body[C_MAX_MANIFEST]
        cdef bint moves
        cdef Py_ssize_t viewer, length
        cdef int i
        self.check_players(manifest, current, declared, order)
        if ttls.shape[0] != self.count or first.shape[0] != self.count:
            raise ValueError(f"ttls and first have an entry for each of {self.count} viewers")
        for viewer in range(self.count):
            self.ask(viewer, manifest.most, &asked)
            self.picker.decide(&asked, service, &made)
            reported.count, reported.ids[0] = 1, self.name_of(current[viewer])
            brought.count = 0
            for i in range(<int> declared.shape[1]):
                if declared[viewer, i] >= 0:
                    brought.ids[brought.count] = self.name_of(declared[viewer, i])
                    brought.count += 1
            length = manifest.write(self.picker, &asked, &made, &reported, &brought, False, body, &moves)
            ttls[viewer] = read_ttl(body)
            self.read_order(body, length, &declared[viewer, 0], <int> declared.shape[1], &order[viewer, 0])
            first[viewer] = <int32_t> made.picks[0].appliance if made.count else C_NONE

    cdef int check_players(
        self, Manifest manifest, const int32_t[::1] current, const int32_t[:, ::1] declared, int32_t[:, ::1] order
    ) except -1:
        """Refuse columns of other lengths, and appliances that do not exist."""
        cdef Py_ssize_t viewer
        cdef int i
        if manifest.count or manifest.clones:
            raise ValueError("players of a service with pathways are not simulated")
        if not current.shape[0] == declared.shape[0] == order.shape[0] == self.count:
            raise ValueError(f"current, declared and order have a row for each of {self.count} viewers")
        if not 1 <= declared.shape[1] <= C_MAX_DECLARED or order.shape[1] != declared.shape[1] + 1:
            raise ValueError(f"1 to {C_MAX_DECLARED} declared appliances, and one more in the order")
        for viewer in range(self.count):
            if current[viewer] != C_FALLBACK and not 0 <= current[viewer] < <int64_t> self.picker.appliance_count:
                raise ValueError(f"viewer {viewer} uses appliance {current[viewer]}, which does not exist")
            for i in range(<int> declared.shape[1]):
                if not C_NONE <= declared[viewer, i] < <int64_t> self.picker.appliance_count:
                    raise ValueError(f"viewer {viewer} has declared {declared[viewer, i]}, which does not exist")
        return 0

    cdef piece name_of(self, int32_t index) noexcept nogil:
        """Return the pathway id of an appliance or of the fallback."""
        cdef const appliance_record* appliance
        if index < 0:
            return CDN
        appliance = self.picker.appliances + index
        return piece(self.picker.text + appliance.id, appliance.id_length)

    cdef void read_order(
        self, const char* body, Py_ssize_t length, const int32_t* declared, int count, int32_t* order
    ) noexcept nogil:
        """Read the pathways of a body that the player's playlist declares."""
        cdef const char* end = body + length
        cdef const char* at = <const char*> memchr(body, b"[", length)
        cdef const char* close
        cdef piece name
        cdef int listed = 0, i
        while at != NULL and listed <= count:
            at = <const char*> memchr(at, b'"', end - at)
            if at == NULL:
                break
            at += 1
            close = <const char*> memchr(at, b'"', end - at)
            if close - at == 3 and memcmp(at, b"cdn", 3) == 0:
                order[listed] = C_FALLBACK
                listed += 1
            else:
                for i in range(count):
                    if declared[i] < 0:
                        break
                    name = self.name_of(declared[i])
                    if name.length == close - at and memcmp(name.at, at, name.length) == 0:
                        order[listed] = declared[i]
                        listed += 1
                        break
            at = close + 1
        for i in range(listed, count + 1):
            order[i] = C_NONE


cdef inline uint32_t read_ttl(const char* body) noexcept nogil:
    """Return the TTL of a body, which begins `{"VERSION":1,"TTL":28,`."""
    cdef const char* at = body + 19
    cdef uint32_t ttl = 0
    while 48 <= at[0] <= 57:
        ttl = 10 * ttl + <uint32_t> (at[0] - 48)
        at += 1
    return ttl
