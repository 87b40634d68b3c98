# cython: wraparound=False, initializedcheck=False, cdivision=True
"""FastPath: one HTTP/1.1 request head in, one complete answer out, or None where FastAPI answers.

The fast path answers the requests that a service lives on: `GET` or `HEAD` of `/v1/steer?…`, of `/v1/hls/…` and
`/v1/dash/…` while players play, of `/healthz`, and `POST /v1/playback`, as well-behaved clients send them:

    GET /v1/steer?title=80100172&n=3 HTTP/1.1\r\n
    Host: steer.example\r\n
    X-Forwarded-For: 203.0.113.7\r\n
    \r\n

It walks the head once, in place, writes head and body of the answer into one bytes object, and makes no other Python
object. It reads with `head`, `request`, `hints`, `body` and `client`, as FastAPI's endpoints do. It leaves to them what
is refused, and what is rare: `explain`, `redirect`, playlists, other paths and methods, `Expect`, `Upgrade`, a
`Connection` that is not keep-alive, HTTP/1.0, odd header lines, a head over 16 kB, values that are not ASCII. What it
does answer, it answers byte for byte as they do, except the date (tests/system/test_parity.py).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from _fastpath.body cimport C_MAX_BODY, playback_request, read_body
from _fastpath.characters cimport IN_QUERY, is_in
from _fastpath.client cimport CHOSEN, Trust, address, address_of_packed, choose_address, unwrap_address
from _fastpath.counters cimport DASH, FAST_PATH, HEALTHZ, HLS, MOVED, PLAYBACK, STEER, Counters, now_ns
from _fastpath.hashing cimport hash_bytes, key_of_viewer
from _fastpath.head cimport C_MAX_HEAD, body_head, head, read_head
from _fastpath.hints cimport player_request, read_player
from _fastpath.playback_json cimport answer_files
from _fastpath.ranking cimport C_MAX_SESSION, Picker, decision, piece, question
from _fastpath.request cimport CMCD, DEVICE, FAILED, IP, RARE, SERVICE, is_title, read_steer, refusal, steer_request
from _fastpath.service cimport Service
from _fastpath.steer_json cimport answer_parts, measure, prepare, write
from _fastpath.steering_manifest cimport C_MAX_MANIFEST, Manifest
from _fastpath.writing cimport digits_of, join_bytes, write_number

MAX_HEAD = C_MAX_HEAD

cdef bytes PLAYER_HEAD = b"\r\ncache-control: no-store\r\naccess-control-allow-origin: *\r\ncontent-length: "
cdef bytes PLAYBACK_HEAD = (
    b"\r\ncache-control: no-store\r\naccess-control-allow-origin: *\r\nvary: accept-encoding\r\ncontent-length: "
)
cdef bytes GZIP_HEAD = PLAYBACK_HEAD.replace(b"\r\ncontent-length", b"\r\ncontent-encoding: gzip\r\ncontent-length")
cdef bytes MANIFEST_HEAD = PLAYER_HEAD.replace(
    b"\r\ncontent-length", b"\r\naccess-control-expose-headers: Retry-After\r\ncontent-length"
)
cdef bytes MANIFEST_END = b"\r\ncontent-type: application/vnd.apple.steering-list\r\n\r\n"
cdef bytes MANIFEST_SHED_END = MANIFEST_END.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
cdef bytes JSON_END = b"\r\ncontent-type: application/json\r\n\r\n"
cdef bytes HEALTH_END = b"\r\ncontent-length: 3\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n"
cdef bytes SHED_END = b"\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"


cdef class Peer:
    def __cinit__(self, bytes packed not None, bint trusted):
        address_of_packed(packed, &self.address)
        self.trusted = trusted


cdef class Served:
    """The parts of a snapshot that answers are made from: its picker, its services and their manifests. Frozen."""

    def __cinit__(self, Picker picker not None, services, str default_service not None, manifests):
        cdef Manifest manifest
        self.picker = picker
        self.services = tuple(services.values())
        self.default = services.get(default_service)
        self.manifests = tuple(manifests.values())
        for manifest in self.manifests:
            if manifest.stands is not None and manifest.stands.shape[0] < picker.appliance_count:
                raise ValueError("some appliances have no pathways that stand for them")

    cdef Service find(self, const char* name, Py_ssize_t length):
        """Return the service of a name, None where there is none."""
        cdef Service service
        for service in self.services:
            if service.id_length == length and memcmp(service.id_text, name, length) == 0:
                return service
        return None

    cdef Manifest manifest_of(self, const char* name, Py_ssize_t length):
        """Return the manifest of a service, None where there is no such service."""
        cdef Manifest manifest
        for manifest in self.manifests:
            if manifest.service.id_length == length and memcmp(manifest.service.id_text, name, length) == 0:
                return manifest
        return None


cdef class FastPath:
    def __cinit__(
        self, Trust trust not None, str forwarded not None, Counters counters=None, uint32_t sample_every=0,
        uint64_t[::1] keys=None, uint32_t cmcd_sample=0
    ):
        if counters is not None and not counters.writable:
            raise ValueError("these counters are mapped read-only")
        self.trust = trust
        self.header = forwarded.encode()
        self.forwarded = piece(PyBytes_AS_STRING(self.header), PyBytes_GET_SIZE(self.header))
        self.is_forwarded = forwarded == "forwarded"
        self.counters = counters
        self.keys = keys
        self.decisions = sampler(sample_every, sample_every, 0)
        self.cmcd = sampler(cmcd_sample, cmcd_sample, 0)
        self.set_date(b"Thu, 01 Jan 1970 00:00:00 GMT")

    def set_date(self, bytes date not None):
        self.opening = b"HTTP/1.1 200 OK\r\ndate: " + date

    def serve(self, picker, services, default_service, manifests=None):
        self.served = None if picker is None else Served(picker, services, default_service, manifests or {})

    def is_sampled(self):
        return is_drawn(&self.decisions)

    def is_cmcd_drawn(self):
        return is_drawn(&self.cmcd)

    cdef bint is_wanted(self, uint64_t key) noexcept nogil:
        """Return whether this request is left to FastAPI, which records it."""
        cdef Py_ssize_t i
        cdef bint wanted = falls_due(&self.decisions)
        if self.keys is not None:
            for i in range(self.keys.shape[0]):
                wanted = wanted or self.keys[i] == key
        self.decisions.left += wanted
        return wanted

    cdef bint draws_cmcd(self) noexcept nogil:
        """Return whether this request, which brings CMCD, is left to FastAPI, which reads it."""
        cdef bint drawn = falls_due(&self.cmcd)
        self.cmcd.left += drawn
        return drawn

    cpdef bytes answer(self, bytes data, Py_ssize_t at, Peer peer, bint shed=False):
        cdef const char* base = PyBytes_AS_STRING(data)
        cdef const char* end = base + PyBytes_GET_SIZE(data)
        cdef const char* start = base + at
        cdef const char* target
        cdef const char* stop
        cdef bint has_body = True
        cdef head lines
        cdef int endpoint
        cdef uint64_t began = now_ns() if self.counters is not None else 0
        if at < 0 or end - start < 25:  # GET /healthz HTTP/1.1 and an empty line
            return None
        if end - start > C_MAX_HEAD:
            end = start + C_MAX_HEAD
        if memcmp(start, b"GET ", 4) == 0:
            target = start + 4
        elif memcmp(start, b"HEAD ", 5) == 0:
            target = start + 5
            has_body = False
        else:
            return None
        if memcmp(target, b"/v1/steer?", 10) == 0:
            endpoint = STEER
            stop = target + 10
        elif memcmp(target, b"/v1/hls/", 8) == 0:
            endpoint = HLS
            stop = target + 8
        elif memcmp(target, b"/v1/dash/", 9) == 0:
            endpoint = DASH
            stop = target + 9
        elif memcmp(target, b"/healthz", 8) == 0:
            endpoint = HEALTHZ
            stop = target + 8
        else:
            return None
        while endpoint != HEALTHZ and stop < end and is_in(stop[0], IN_QUERY):
            stop += 1
        if not read_head(stop, end, &self.forwarded if peer.trusted and endpoint != HEALTHZ else NULL, &lines, NULL):
            return None
        if endpoint == STEER:
            out = self.steer(target + 10, stop, &lines, peer, has_body, shed)
        elif endpoint == HEALTHZ:
            out = self.opening + HEALTH_END + b"ok\n" if has_body else self.opening + HEALTH_END
        else:
            out = self.steer_player(target, stop, &lines, peer, has_body, shed)
        if out is not None:
            self.end = lines.end - base
            if self.counters is not None:
                self.counters.count(FAST_PATH, endpoint, 200, now_ns() - began)
        return out

    cdef bint find_client(self, const head* lines, Peer peer, address* client) noexcept nogil:
        """Find the client of a request, not yet unwrapped; return whether every hop is trusted."""
        client[0] = peer.address
        if peer.trusted and lines.forwarded != NULL:
            return self.trust.walk(lines.forwarded, lines.forwarded_end, self.is_forwarded, client)
        return peer.trusted

    def read_playback(self, bytes data not None, Py_ssize_t at, Peer peer not None):
        cdef const char* base = PyBytes_AS_STRING(data)
        cdef const char* end = base + PyBytes_GET_SIZE(data)
        cdef const char* start = base + at
        cdef head lines
        cdef body_head body
        if self.counters is not None:
            self.began = now_ns()
        if end - start > C_MAX_HEAD:
            end = start + C_MAX_HEAD
        if at < 0 or end - start < 17 or memcmp(start, b"POST /v1/playback", 17) != 0:
            return None
        body.length, body.accepts, body.typed, body.odd = -1, NULL, False, False
        if not read_head(start + 17, end, &self.forwarded if peer.trusted else NULL, &lines, &body):
            return None
        if not 0 <= body.length <= C_MAX_BODY:
            return None
        self.trusted = self.find_client(&lines, peer, &self.client)
        self.end = lines.end - base + body.length
        return lines.end - base, None if body.accepts == NULL else body.accepts[:body.accepts_end - body.accepts]

    def answer_playback(self, bytes data not None, Py_ssize_t start):
        cdef const char* base = PyBytes_AS_STRING(data)
        cdef Served served = self.served
        cdef Service service
        cdef Picker picker
        cdef address client = self.client
        cdef playback_request asked
        cdef refusal why
        cdef question wanted
        if served is None or not 0 <= start <= self.end <= PyBytes_GET_SIZE(data):
            return None
        if not read_body(base + start, base + self.end, NULL, &asked, self.files, &why) or not asked.is_ascii:
            return None
        if asked.seen & (1 << DEVICE | 1 << FAILED):
            return None
        service = served.find(asked.service.at, asked.service.length) if asked.service.length else served.default
        if service is None:
            return None
        if not settle_client(self.trusted, &asked.ip if asked.seen & 1 << IP else NULL, &client):
            return None
        picker = served.picker
        wanted.zone = find_zone(picker, &client)
        if not service.serves(picker.zones[wanted.zone].region):
            return None
        wanted.title, wanted.title_length = asked.title.at, asked.title.length
        wanted.client_family, wanted.upper = client.family, client.high
        wanted.viewer = key_of_viewer(asked.session.at, asked.session.length, client.family, client.high)
        wanted.n, wanted.family, wanted.failed_count = asked.n or service.n, asked.family or client.family, 0
        return answer_files(
            picker, service, &wanted, self.files, asked.count, asked.session.at, asked.session.length, self.counters
        )

    def close_playback(self, bytes body not None, bint is_gzip):
        if self.counters is not None:
            self.counters.count(FAST_PATH, PLAYBACK, 200, now_ns() - self.began)
        return b"".join((self.opening, GZIP_HEAD if is_gzip else PLAYBACK_HEAD, b"%d" % len(body), JSON_END, body))

    cdef bytes start_answer(self, bytes fields, Py_ssize_t length, bytes ending, bint has_body, char** body):
        """Return an answer with its head written and, with a body, room for it at `body`."""
        cdef Py_ssize_t total = PyBytes_GET_SIZE(self.opening) + PyBytes_GET_SIZE(fields) + PyBytes_GET_SIZE(ending)
        cdef bytes out
        total += digits_of(<uint32_t> length)
        out = PyBytes_FromStringAndSize(NULL, total + length if has_body else total)
        body[0] = join_bytes(join_bytes(PyBytes_AS_STRING(out), self.opening), fields)
        body[0] = join_bytes(write_number(body[0], <uint32_t> length), ending)
        return out

    cdef bytes steer(self, const char* text, const char* stop, const head* lines, Peer peer, bint has_body, bint shed):
        """Return the answer to a query, or None."""
        cdef Served served = self.served
        cdef Service service
        cdef Picker picker
        cdef address client
        cdef bint trusted
        cdef steer_request asked
        cdef refusal why
        cdef question wanted
        cdef decision made
        cdef answer_parts parts
        cdef bytes out, token
        cdef char* at
        if served is None or not read_steer(text, stop, self.room, &asked, &why) or not asked.is_ascii:
            return None
        if asked.seen & RARE or not is_title(&asked.title):
            return None
        if asked.session.length > C_MAX_SESSION:
            return None
        service = served.find(asked.service.at, asked.service.length) if asked.seen & 1 << SERVICE else served.default
        if service is None:
            return None
        trusted = self.find_client(lines, peer, &client)
        if not settle_client(trusted, &asked.ip if asked.seen & 1 << IP else NULL, &client):
            return None
        picker = served.picker
        if not shed or not service.everywhere:
            wanted.zone = find_zone(picker, &client)
            if not service.serves(picker.zones[wanted.zone].region):
                return None
        if not shed and (asked.seen & 1 << CMCD or lines.cmcd) and self.draws_cmcd():
            return None
        wanted.title, wanted.title_length = asked.title.at, asked.title.length
        wanted.key = wanted.subject = hash_bytes(asked.title.at, asked.title.length)
        if not shed and self.is_wanted(wanted.key):
            return None
        wanted.client_family, wanted.upper = client.family, client.high
        wanted.viewer = key_of_viewer(asked.session.at, asked.session.length, client.family, client.high)
        wanted.n, wanted.family, wanted.failed_count = asked.n or service.n, asked.family or client.family, 0
        if shed:
            made.n, made.count, made.failed_open = wanted.n, 0, False
        else:
            picker.decide(&wanted, service, &made)
        token = prepare(picker, service, &wanted, &made, None if shed else self.counters, &parts)
        if shed and self.counters is not None:
            self.counters.count_target(0, True)
        out = self.start_answer(
            PLAYER_HEAD, measure(picker, service, &made, &parts, token), SHED_END if shed else JSON_END, has_body, &at
        )
        if has_body:
            write(at, picker, service, &made, &parts, token)
        return out

    cdef bytes steer_player(
        self, const char* target, const char* stop, const head* lines, Peer peer, bint has_body, bint shed
    ):
        """Return a player's steering manifest, for `/v1/hls/{service}/{title}?…`, or None."""
        cdef Served served = self.served
        cdef Manifest manifest
        cdef Service service
        cdef Picker picker
        cdef address client
        cdef bint trusted, moves = False
        cdef player_request asked
        cdef question wanted
        cdef decision made
        cdef char body[C_MAX_MANIFEST]
        cdef const char* query = <const char*> memchr(target, b"?", stop - target)
        cdef Py_ssize_t length
        cdef bytes out
        cdef char* at
        if served is None:
            return None
        if query == NULL:
            query = stop
        read_player(target, query, query + (query < stop), stop, self.room, &asked)
        if asked.is_playlist or asked.hints.odd or not asked.hints.is_ascii or not is_title(&asked.title):
            return None
        manifest = served.manifest_of(asked.service.at, asked.service.length)
        if manifest is None or asked.hints.failed_count or (asked.hints.player.length and manifest.clones):
            return None
        trusted = self.find_client(lines, peer, &client)
        if not settle_client(trusted, &asked.hints.ip if asked.hints.seen & 1 << IP else NULL, &client):
            return None
        if not shed and (asked.hints.seen & 1 << CMCD or lines.cmcd) and self.draws_cmcd():
            return None
        service = manifest.service
        picker = served.picker
        wanted.zone = find_zone(picker, &client)
        wanted.key = wanted.subject = hash_bytes(asked.title.at, asked.title.length)
        wanted.n, wanted.family, wanted.failed_count = manifest.most, asked.hints.family or client.family, 0
        wanted.viewer = key_of_viewer(
            asked.hints.session.at, asked.hints.session.length, client.family, client.high
        )
        picker.decide(&wanted, service, &made)
        length = manifest.write(
            picker, &wanted, &made, &asked.hints.pathways, &asked.hints.declared, shed, body, &moves
        )
        if self.counters is not None:
            picker.tally(self.counters, service, &made, asked.title.at, asked.title.length)
            if moves:
                self.counters.count_event(MOVED)
        out = self.start_answer(MANIFEST_HEAD, length, MANIFEST_SHED_END if shed else MANIFEST_END, has_body, &at)
        if has_body:
            memcpy(at, body, length)
        return out


cdef inline bint falls_due(sampler* sampled) noexcept nogil:
    """Count one request down; True for one in `every`."""
    if sampled.every:
        sampled.until -= 1
        if sampled.until == 0:
            sampled.until = sampled.every
            return True
    return False


cdef inline bint is_drawn(sampler* sampled) noexcept nogil:
    """Return whether the request at hand is one that the fast path left to be sampled, or else falls due."""
    if sampled.left:
        sampled.left -= 1
        return True
    return falls_due(sampled)


cdef inline bint settle_client(bint trusted, const piece* ip, address* client) noexcept nogil:
    """Take the client that `ip` names, NULL for none, and unwrap it; False where `ip` is refused."""
    if ip != NULL and choose_address(trusted, ip.at, ip.length, client) != CHOSEN:
        return False
    unwrap_address(client)
    if client.family == 4:
        client.high = client.four  # as the keys of viewers want it
    return True


cdef inline uint32_t find_zone(Picker picker, const address* client) noexcept nogil:
    if client.family == 4:
        return picker.table.zone_v4(client.four)
    return picker.table.zone_v6(client.high, client.low)
