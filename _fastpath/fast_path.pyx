# cython: wraparound=False, initializedcheck=False, cdivision=True
"""FastPath: one HTTP/1.1 request head in, one complete answer out, or "not mine".

The fast_path knows the requests that a service lives on, `GET` or `HEAD` of `/v1/steer?…`, of `/v1/hls/…` and `/v1/dash/…`
while players play, and of `/healthz`, byte for byte as well-behaved clients send them:

    GET /v1/steer?title=80100172&n=3 HTTP/1.1\r\n
    Host: steer.example\r\n
    X-Forwarded-For: 203.0.113.7\r\n
    \r\n

It walks the head once, in place, writes head and body of the answer into one bytes object, and makes no other Python
object. Whatever it does not recognise is *not mine*, and goes untouched to the door behind it: other paths and
methods, anything that would be an error, `explain`, `redirect`, bodies, `Expect`, `Upgrade`, a `Connection` that is not
keep-alive, HTTP/1.0, folded or odd header lines, a head that is not whole or over 16 kB, values that are not ASCII.
So there is no second set of rules and no second wording of an error; and what the fast_path does answer, it answers as the
door behind it would, byte for byte but for the date (tests/playback/test_parity.py).

Who is asking follows `playback/client.py`: the peer, or where it is trusted, the walk through `X-Forwarded-For`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from _fastpath.address cimport load_big_endian_32, load_big_endian_64, parse_v4, parse_v6
from _fastpath.counters cimport DASH, HEALTHZ, HLS, FAST_PATH, MOVED, PLAYBACK, STEER, Counters, now_ns
from _fastpath.hashing cimport content_key, hash_bytes, ttl_of
from _fastpath.steering_manifest cimport C_MAX_MANIFEST, Manifest, is_throughput, read_report, report
from _fastpath.ranking cimport (
    C_IPV4_UP,
    C_IPV6_UP,
    C_MAX_FILES,
    C_MAX_PICKS,
    C_MAX_TITLE,
    Picker,
    Service,
    candidate,
    digits_of,
    escape,
    is_dots,
    key_of_viewer,
    named,
    outcome,
    question,
    write_number,
)

MAX_HEAD = C_MAX_HEAD

cdef enum:
    C_MAX_HEAD = 16384
    MAX_FORWARDED = 4096
    MAX_HOPS = 32
    MAX_SESSION = 256
    MAX_SERVICE = 63
    MAX_ADDRESS = 45
    MAX_DIGITS = 6  # of a Content-Length
    MAX_REPORT = 1024  # bytes of what a player says of its pathways
    # Parameters seen, one bit each.
    TITLE = 1
    SERVICE = 2
    SESSION = 4
    N = 8
    FAMILY = 16
    IP = 32
    CMCD = 64
    PLAYER = 128
    PATHWAY = 256
    THROUGHPUT = 512
    FILES = 1024
    ELSEWHERE = 0xFFFFFFFF  # a parameter for the other door

cdef struct query:
    unsigned seen
    char title[C_MAX_TITLE]
    Py_ssize_t title_length
    char service[MAX_SERVICE]
    Py_ssize_t service_length
    char session[MAX_SESSION]
    Py_ssize_t session_length
    int n
    int family
    address ip

cdef struct hints:  # what a player says of itself
    unsigned seen
    char session[MAX_SESSION]
    Py_ssize_t session_length
    char text[MAX_REPORT]
    report pathways
    bint player
    int family
    address ip

cdef struct playback:  # what a playback request says; texts are pointed to
    unsigned seen
    const char* service
    Py_ssize_t service_length
    const char* title
    Py_ssize_t title_length
    const char* session
    Py_ssize_t session_length
    int n
    int family
    int count
    address ip

# Characters of a header's name (token, RFC 9110 5.6.2), of its value (5.5, without DEL), and of a query (RFC 3986 3.4).
cdef enum:
    IN_NAME = 1
    IN_VALUE = 2
    IN_QUERY = 4

cdef uint8_t CLASSES[256]
for _i in range(256):
    CLASSES[_i] = (
        IN_NAME * (chr(_i) in "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
        | IN_VALUE * (_i == 9 or (_i >= 32 and _i != 127))
        | IN_QUERY * (chr(_i) in "-._~!$&'()*+,;=:@/?%0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    )

cdef bytes PLAYER_HEAD = b"\r\ncache-control: no-store\r\naccess-control-allow-origin: *\r\ncontent-length: "
cdef bytes PLAYBACK_HEAD = (
    b"\r\ncache-control: no-store\r\naccess-control-allow-origin: *\r\nvary: accept-encoding\r\ncontent-length: "
)
cdef bytes GZIP_HEAD = PLAYBACK_HEAD.replace(b"\r\ncontent-length", b"\r\ncontent-encoding: gzip\r\ncontent-length")
cdef bytes MANIFEST_HEAD = PLAYER_HEAD.replace(
    b"\r\ncontent-length", b"\r\naccess-control-expose-headers: Retry-After\r\ncontent-length"
)
cdef bytes MANIFEST_END = b"\r\ncontent-type: application/vnd.apple.steering-list\r\n\r\n"
cdef bytes JSON_END = b"\r\ncontent-type: application/json\r\n\r\n"
cdef bytes HEALTH_END = b"\r\ncontent-length: 3\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n"
cdef bytes SHED_END = b"\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"


cdef class Peer:
    """Who is at the other end of a connection: a packed address, and whether its word is believed."""

    def __cinit__(self, bytes packed not None, bint trusted):
        cdef const unsigned char* data = <const unsigned char*> PyBytes_AS_STRING(packed)
        if len(packed) == 4:
            self.who = address(4, load_big_endian_32(data), 0, 0)
        elif len(packed) == 16:
            self.who = address(6, 0, load_big_endian_64(data), load_big_endian_64(data + 8))
        else:
            raise ValueError(f"a packed address has 4 or 16 bytes, this one has {len(packed)}")
        self.trusted = trusted


cdef class Served:
    """What answers are made from: a snapshot's picker, services, and their manifests. Frozen."""

    def __cinit__(self, Picker picker not None, services, str default_service not None, manifests):
        cdef Manifest manifest
        self.picker = picker
        self.services = tuple((name.encode(), service) for name, service in services.items())
        self.default = services.get(default_service)
        self.manifests = tuple(manifests)
        for manifest in self.manifests:
            if manifest.stands is not None and manifest.stands.shape[0] < picker.appliance_count:
                raise ValueError("nothing says of some appliances which pathways stand for them")

    cdef Service find(self, const char* name, Py_ssize_t length):
        """Return the service of a name, None where there is none."""
        cdef bytes known
        for known, service in self.services:
            if PyBytes_GET_SIZE(known) == length and memcmp(PyBytes_AS_STRING(known), name, length) == 0:
                return service
        return None

    cdef Manifest manifest_of(self, const char* name, Py_ssize_t length):
        """Return how the manifests of a service are made, None where there is no such service."""
        cdef Manifest manifest
        for manifest in self.manifests:
            if manifest.service.id_length == length and memcmp(manifest.service.id_text, name, length) == 0:
                return manifest
        return None


cdef class FastPath:
    def __cinit__(
        self, networks, str forwarded not None, Counters counters=None, uint32_t sample_every=0,
        uint64_t[::1] keys=None, uint32_t cmcd_sample=0
    ):
        if counters is not None and not counters.writable:
            raise ValueError("these counters are mapped read-only")
        self.counters = counters
        self.keys = keys
        self.sample_every = self.until_sample = sample_every
        self.cmcd_every = self.until_cmcd = cmcd_sample
        self.reads_plain = forwarded == "x-forwarded-for"
        if len(networks) > MAX_NETWORKS:
            raise ValueError(f"{len(networks)} trusted networks; the fast_path takes {MAX_NETWORKS}")
        for width, number, mask in networks:
            at = self.network_count
            if width == 4:
                number, mask = number << 96, mask << 96
            self.networks[at].family = 4 if width == 4 else 6
            self.networks[at].high, self.networks[at].low = number >> 64, number & 0xFFFFFFFFFFFFFFFF
            self.networks[at].high_mask, self.networks[at].low_mask = mask >> 64, mask & 0xFFFFFFFFFFFFFFFF
            self.network_count = at + 1
        self.set_date(b"Thu, 01 Jan 1970 00:00:00 GMT")

    def set_date(self, bytes date not None):
        self.opening = b"HTTP/1.1 200 OK\r\ndate: " + date

    def serve(self, picker, services, default_service, manifests=()):
        self.served = None if picker is None else Served(picker, services, default_service, manifests)

    def is_sampled(self):
        if self.sampled:
            self.sampled -= 1
            return True
        return self.falls_due()

    cdef bint falls_due(self) noexcept nogil:
        """Count one request down; True for one in `sample_every`."""
        if self.sample_every:
            self.until_sample -= 1
            if self.until_sample == 0:
                self.until_sample = self.sample_every
                return True
        return False

    cdef bint is_wanted(self, uint64_t key) noexcept nogil:
        """Tell whether the other door is to answer and record this request."""
        cdef Py_ssize_t i
        cdef bint wanted = self.falls_due()
        if self.keys is not None:
            for i in range(self.keys.shape[0]):
                wanted = wanted or self.keys[i] == key
        self.sampled += wanted
        return wanted

    def is_cmcd_drawn(self):
        if self.cmcd_drawn:
            self.cmcd_drawn -= 1
            return True
        return self.draws_cmcd()

    cdef bint draws_cmcd(self) noexcept nogil:
        """Count one request with CMCD down; True for one in `cmcd_every`."""
        if self.cmcd_every:
            self.until_cmcd -= 1
            if self.until_cmcd == 0:
                self.until_cmcd = self.cmcd_every
                return True
        return False

    cpdef bytes answer(self, bytes data, Py_ssize_t at, Peer peer, bint shed=False):
        cdef const char* base = PyBytes_AS_STRING(data)
        cdef const char* end = base + PyBytes_GET_SIZE(data)
        cdef const char* start = base + at
        cdef const char* target
        cdef const char* stop
        cdef bint has_body = True
        cdef head found
        cdef int endpoint = STEER
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
            target += 10
            stop = target
            while stop < end and CLASSES[<uint8_t> stop[0]] & IN_QUERY:
                stop += 1
            if not self.read_head(stop, end, peer.trusted, &found):
                return None
            out = self.steer(target, stop, &found, peer, has_body, shed)
        elif not shed and (memcmp(target, b"/v1/hls/", 8) == 0 or memcmp(target, b"/v1/dash/", 9) == 0):
            endpoint = HLS if target[4] == b"h" else DASH
            target += 8 if endpoint == HLS else 9
            stop = target
            while stop < end and CLASSES[<uint8_t> stop[0]] & IN_QUERY:
                stop += 1
            if not self.read_head(stop, end, peer.trusted, &found):
                return None
            out = self.steer_player(target, stop, b"HLS" if endpoint == HLS else b"DASH", &found, peer, has_body)
        elif memcmp(target, b"/healthz", 8) == 0:
            if not self.read_head(target + 8, end, False, &found):
                return None
            endpoint = HEALTHZ
            out = self.opening + HEALTH_END + b"ok\n" if has_body else self.opening + HEALTH_END
        else:
            return None
        if out is not None:
            self.end = found.end - base
            if self.counters is not None:
                self.counters.count(FAST_PATH, endpoint, 200, now_ns() - began)
        return out

    def read_playback(self, bytes data not None, Py_ssize_t at, Peer peer not None):
        cdef const char* base = PyBytes_AS_STRING(data)
        cdef const char* end = base + PyBytes_GET_SIZE(data)
        cdef const char* start = base + at
        cdef head found
        cdef body_head body
        if self.counters is not None:
            self.began = now_ns()
        if end - start > C_MAX_HEAD:
            end = start + C_MAX_HEAD
        if at < 0 or end - start < 17 or memcmp(start, b"POST /v1/playback", 17) != 0:
            return None
        body.length, body.accepts, body.typed, body.odd = -1, NULL, False, False
        if not self.read_head(start + 17, end, peer.trusted, &found, &body) or body.length < 0:
            return None
        self.client, self.trusted = peer.who, peer.trusted
        if self.trusted and found.forwarded != NULL:
            if not self.walk(found.forwarded, found.forwarded_end, &self.client, &self.trusted):
                return None
        self.end = found.end - base + body.length
        return found.end - base, None if body.accepts == NULL else body.accepts[:body.accepts_end - body.accepts]

    def answer_playback(self, bytes data not None, Py_ssize_t start):
        cdef const char* base = PyBytes_AS_STRING(data)
        cdef Served served = self.served
        cdef Service service
        cdef Picker picker
        cdef address client = self.client
        cdef playback said
        cdef question wanted
        cdef uint32_t zone
        if served is None or not 0 <= start <= self.end <= PyBytes_GET_SIZE(data):
            return None
        if not read_playback_body(base + start, base + self.end, &said, self.files):
            return None
        service = served.find(said.service, said.service_length) if said.service_length else served.default
        if service is None:
            return None
        if said.seen & IP:
            if not self.trusted:
                return None
            client = said.ip
        unwrap(&client)
        picker = served.picker
        if client.family == 4:
            client.high = client.four
            zone = picker.table.zone_v4(client.four)
        else:
            zone = picker.table.zone_v6(client.high, client.low)
        if not service.serves(picker.zones + zone):
            return None
        wanted.n = said.n or service.n
        wanted.family_bit = C_IPV6_UP if (said.family or client.family) == 6 else C_IPV4_UP
        return picker.answer_files(
            zone, service, &wanted, self.files, said.count, said.title, said.title_length, said.session,
            said.session_length, client.family, client.high, self.counters
        )

    def close_playback(self, bytes body not None, bint is_gzip):
        if self.counters is not None:
            self.counters.count(FAST_PATH, PLAYBACK, 200, now_ns() - self.began)
        return b"".join((self.opening, GZIP_HEAD if is_gzip else PLAYBACK_HEAD, b"%d" % len(body), JSON_END, body))

    cdef bytes steer(self, const char* text, const char* stop, const head* found, Peer peer, bint has_body, bint shed):
        """Return the answer to a query, or None."""
        cdef Served served = self.served
        cdef Service service
        cdef Picker picker
        cdef address client = peer.who
        cdef bint trusted = peer.trusted
        cdef query asked
        cdef candidate chosen[C_MAX_PICKS]
        cdef question wanted
        cdef outcome came
        cdef char escaped[3 * C_MAX_TITLE]
        cdef Py_ssize_t escaped_length, length, total
        cdef uint64_t key
        cdef uint32_t zone = 0, ttl
        cdef int picks
        cdef bytes out, ending, token = None
        cdef char* at
        if served is None or not read_query(text, stop, &asked):
            return None
        service = served.find(asked.service, asked.service_length) if asked.seen & SERVICE else served.default
        if service is None:
            return None
        if asked.n == 0:
            asked.n = service.n
        if trusted and found.forwarded != NULL:
            if not self.walk(found.forwarded, found.forwarded_end, &client, &trusted):
                return None
        if asked.seen & IP:
            if not trusted:
                return None
            client = asked.ip
        unwrap(&client)
        picker = served.picker
        if client.family == 4:
            client.high = client.four
        if not shed or not service.everywhere:
            if client.family == 4:
                zone = picker.table.zone_v4(client.four)
            else:
                zone = picker.table.zone_v6(client.high, client.low)
            if not service.serves(picker.zones + zone):
                return None
        if not shed and (asked.seen & CMCD or found.cmcd) and self.draws_cmcd():
            self.cmcd_drawn += 1
            return None
        key = hash_bytes(asked.title, asked.title_length)
        if not shed and self.is_wanted(key):
            return None
        wanted.viewer = key_of_viewer(asked.session, asked.session_length, client.family, client.high)
        ttl = ttl_of(service.ttl_s, service.jitter_s, key, wanted.viewer)
        escaped_length = escape(asked.title, asked.title_length, escaped)
        picks = 0
        came.failed_open = False
        if not shed:
            wanted.n = asked.n
            wanted.family_bit = C_IPV6_UP if (asked.family or client.family) == 6 else C_IPV4_UP
            wanted.content = content_key(key, service.salt)
            picker.ask(service, key, &wanted)
            picks = picker.choose(zone, &wanted, service, chosen, &came, NULL, NULL)
            if service.sign is not None and picks:
                token = service.token_for(escaped, escaped_length, client.family, client.high)
                if token is None:
                    picks = came.failed_open = 0
        if self.counters is not None:
            if shed:
                self.counters.count_target(0, True)
            else:
                picker.tally(
                    self.counters, service, &wanted, chosen, picks, &came, asked.title, asked.title_length
                )
        length = picker.measure(service, ttl, chosen, picks, asked.n, &came, escaped_length, token)
        ending = SHED_END if shed else JSON_END
        total = PyBytes_GET_SIZE(self.opening) + PyBytes_GET_SIZE(PLAYER_HEAD) + digits_of(<uint32_t> length)
        total += PyBytes_GET_SIZE(ending)
        out = PyBytes_FromStringAndSize(NULL, total + length if has_body else total)
        at = join(PyBytes_AS_STRING(out), self.opening)
        at = join(at, PLAYER_HEAD)
        at = join(write_number(at, <uint32_t> length), ending)
        if has_body:
            picker.write(at, service, ttl, chosen, picks, asked.n, &came, escaped, escaped_length, token)
        return out

    cdef bytes steer_player(
        self, const char* text, const char* stop, const char* protocol, const head* found, Peer peer, bint has_body
    ):
        """Return a player's steering manifest, for `{service}/{title}?…`, or None."""
        cdef Served served = self.served
        cdef Manifest manifest
        cdef Service service
        cdef Picker picker
        cdef address client = peer.who
        cdef bint trusted = peer.trusted, moves = False
        cdef hints said
        cdef candidate chosen[C_MAX_PICKS]
        cdef question wanted
        cdef outcome came
        cdef char name[MAX_SERVICE]
        cdef char title[C_MAX_TITLE]
        cdef char body[C_MAX_MANIFEST]
        cdef const char* query = <const char*> memchr(text, b"?", stop - text)
        cdef const char* end = query if query != NULL else stop
        cdef const char* slash = <const char*> memchr(text, b"/", end - text)
        cdef Py_ssize_t name_length, title_length, length, total
        cdef uint64_t key
        cdef uint32_t zone
        cdef int picks
        cdef bytes out
        cdef char* at
        if served is None or slash == NULL or memchr(slash + 1, b"/", end - slash - 1) != NULL:
            return None
        name_length = decode(text, slash, name, MAX_SERVICE, False)
        title_length = decode(slash + 1, end, title, C_MAX_TITLE, False)
        if name_length < 1 or title_length < 1 or is_dots(title, title_length):
            return None
        if not read_hints(stop if query == NULL else query + 1, stop, protocol, &said):
            return None
        manifest = served.manifest_of(name, name_length)
        if manifest is None or (said.player and manifest.clones):
            return None
        if trusted and found.forwarded != NULL:
            if not self.walk(found.forwarded, found.forwarded_end, &client, &trusted):
                return None
        if said.seen & IP:
            if not trusted:
                return None
            client = said.ip
        unwrap(&client)
        if (said.seen & CMCD or found.cmcd) and self.draws_cmcd():
            self.cmcd_drawn += 1
            return None
        service = manifest.service
        picker = served.picker
        if client.family == 4:
            client.high = client.four
            zone = picker.table.zone_v4(client.four)
        else:
            zone = picker.table.zone_v6(client.high, client.low)
        key = hash_bytes(title, title_length)
        wanted.n = manifest.most
        wanted.family_bit = C_IPV6_UP if (said.family or client.family) == 6 else C_IPV4_UP
        wanted.content = content_key(key, service.salt)
        wanted.viewer = key_of_viewer(said.session, said.session_length, client.family, client.high)
        picker.ask(service, key, &wanted)
        picks = picker.choose(zone, &wanted, service, chosen, &came, NULL, NULL)
        length = manifest.write(picker, chosen, picks, &said.pathways, key, wanted.viewer, body, &moves)
        if length < 0:
            return None
        if self.counters is not None:
            picker.tally(self.counters, service, &wanted, chosen, picks, &came, title, title_length)
            if moves:
                self.counters.count_event(MOVED)
        total = PyBytes_GET_SIZE(self.opening) + PyBytes_GET_SIZE(MANIFEST_HEAD) + digits_of(<uint32_t> length)
        total += PyBytes_GET_SIZE(MANIFEST_END)
        out = PyBytes_FromStringAndSize(NULL, total + length if has_body else total)
        at = join(PyBytes_AS_STRING(out), self.opening)
        at = join(write_number(join(at, MANIFEST_HEAD), <uint32_t> length), MANIFEST_END)
        if has_body:
            memcpy(at, body, length)
        return out

    cdef bint read_head(
        self, const char* at, const char* end, bint trusted, head* found, body_head* body=NULL
    ) noexcept nogil:
        """Walk from the end of the target to the empty line; False at a line that may not be passed over."""
        cdef const char* name
        cdef const char* value
        cdef Py_ssize_t length
        found.forwarded = NULL
        found.cmcd = False
        if end - at < 13 or memcmp(at, b" HTTP/1.1\r\n", 11) != 0:
            return False
        at += 11
        while True:
            if end - at < 2:
                return False
            if at[0] == b"\r":
                if at[1] != b"\n":
                    return False
                found.end = at + 2
                return True
            name = at
            while at < end and CLASSES[<uint8_t> at[0]] & IN_NAME:
                at += 1
            length = at - name
            if at == end or length == 0 or at[0] != b":":
                return False
            at += 1
            while at < end and (at[0] == b" " or at[0] == b"\t"):
                at += 1
            value = at
            while at < end and CLASSES[<uint8_t> at[0]] & IN_VALUE:
                at += 1
            if end - at < 2 or at[0] != b"\r" or at[1] != b"\n":
                return False
            if body != NULL and read_body_line(name, length, value, at, body):
                if body.odd:
                    return False
            elif length == 10 and is_name(name, b"connection", 10):
                if at - value != 10 or not is_name(value, b"keep-alive", 10):
                    return False
            elif length == 15 and trusted and is_name(name, b"x-forwarded-for", 15):
                if self.reads_plain:
                    if found.forwarded != NULL:
                        return False
                    found.forwarded = value
                    found.forwarded_end = at
            elif (length == 11 or length == 12) and is_name(name, b"cmcd-", 5):
                found.cmcd = found.cmcd or is_cmcd(name + 5, length - 5)
            elif (
                (length == 6 and is_name(name, b"expect", 6))
                or (length == 7 and is_name(name, b"upgrade", 7))
                or (length == 9 and trusted and not self.reads_plain and is_name(name, b"forwarded", 9))
                or (length == 14 and is_name(name, b"content-length", 14))
                or (length == 16 and is_name(name, b"proxy-connection", 16))
                or (length == 17 and is_name(name, b"transfer-encoding", 17))
            ):
                return False
            at += 2

    cdef bint walk(self, const char* text, const char* end, address* client, bint* trusted) noexcept nogil:
        """Walk X-Forwarded-For from right to left, from a trusted peer; False where a hop is not plainly an address."""
        cdef const char* start
        cdef const char* stop
        cdef int hops = 0
        if end - text > MAX_FORWARDED:
            return False
        while end > text:
            start = end
            while start > text and (start - 1)[0] != b",":
                start -= 1
            stop = end
            end = start - 1 if start > text else text
            while start < stop and (start[0] == b" " or start[0] == b"\t"):
                start += 1
            while start < stop and ((stop - 1)[0] == b" " or (stop - 1)[0] == b"\t"):
                stop -= 1
            if start == stop:
                continue
            hops += 1
            if hops > MAX_HOPS or not read_address(start, stop - start, client):
                return False
            if not self.believes(client):
                trusted[0] = False
                return True
        return True

    cdef bint believes(self, const address* who) noexcept nogil:
        """Tell whether an address lies in a trusted network."""
        cdef uint64_t high = who.high, low = who.low
        cdef const network* trusted
        cdef int i
        if who.family == 4:
            high, low = <uint64_t> who.four << 32, 0
        for i in range(self.network_count):
            trusted = self.networks + i
            if trusted.family == who.family and high & trusted.high_mask == trusted.high \
                    and low & trusted.low_mask == trusted.low:
                return True
        return False


cdef bint read_body_line(
    const char* name, Py_ssize_t length, const char* value, const char* end, body_head* body
) noexcept nogil:
    """Note a header line that concerns bodies, and if it is odd; False for any other."""
    cdef const char* at = value
    if length == 12 and is_name(name, b"content-type", 12):
        body.odd = body.typed or end - value < 16 or not is_name(value, b"application/json", 16)
        body.odd = body.odd or (end - value > 16 and value[16] != b";")
        body.typed = True
    elif length == 14 and is_name(name, b"content-length", 14):
        body.odd = body.length >= 0 or not 1 <= end - value <= MAX_DIGITS
        body.length = 0
        while at < end and b"0" <= at[0] <= b"9" and not body.odd:
            body.length = 10 * body.length + at[0] - 48
            at += 1
        body.odd = body.odd or at < end
    elif length == 15 and is_name(name, b"accept-encoding", 15):
        body.odd = body.accepts != NULL
        body.accepts, body.accepts_end = value, end
    elif length == 16 and is_name(name, b"content-encoding", 16):
        body.odd = True
    else:
        return False
    return True


cdef inline char* join(char* at, bytes part) noexcept:
    memcpy(at, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
    return at + PyBytes_GET_SIZE(part)


cdef inline bint is_name(const char* text, const char* lower, Py_ssize_t length) noexcept nogil:
    """Tell whether a header's name or value is this one, in any case."""
    cdef Py_ssize_t i
    for i in range(length):
        if (text[i] | 0x20 if b"A" <= text[i] <= b"Z" else text[i]) != lower[i]:
            return False
    return True


cdef bint is_cmcd(const char* text, Py_ssize_t length) noexcept nogil:
    """Tell whether a header's name is one of CMCD's, by what follows its `cmcd-`."""
    if length == 6:
        return is_name(text, b"object", 6) or is_name(text, b"status", 6)
    return is_name(text, b"request", 7) or is_name(text, b"session", 7)


cdef bint read_query(const char* at, const char* end, query* asked) noexcept nogil:
    """Read the parameters of /v1/steer; False where one is wrong, twice, or for the other door."""
    cdef const char* name
    cdef const char* name_end
    cdef const char* stop
    cdef char digit[1]
    cdef char text[MAX_ADDRESS]
    cdef Py_ssize_t length
    cdef unsigned parameter
    asked.seen = 0
    asked.n = 0
    asked.family = 0
    asked.session_length = 0
    while True:
        stop = <const char*> memchr(at, b"&", end - at)
        if stop == NULL:
            stop = end
        name = at
        name_end = <const char*> memchr(at, b"=", stop - at)
        at = stop
        if name_end == NULL:
            name_end = stop
        parameter = parameter_of(name, name_end - name)
        if parameter:
            if asked.seen & parameter or name_end == stop:
                return False  # twice, without a value, or not for the fast_path
            asked.seen |= parameter
            name_end += 1
            if parameter == TITLE:
                asked.title_length = decode(name_end, stop, asked.title, C_MAX_TITLE)
                if asked.title_length < 1 or is_dots(asked.title, asked.title_length):
                    return False
            elif parameter == SERVICE:
                asked.service_length = decode(name_end, stop, asked.service, MAX_SERVICE)
                if asked.service_length < 0:
                    return False
            elif parameter == SESSION:
                asked.session_length = decode(name_end, stop, asked.session, MAX_SESSION)
                if asked.session_length < 0:
                    return False
            elif parameter == N:
                if decode(name_end, stop, digit, 1) != 1 or not b"1" <= digit[0] <= b"8":
                    return False
                asked.n = digit[0] - 48
            elif parameter == FAMILY:
                if decode(name_end, stop, digit, 1) != 1 or (digit[0] != b"4" and digit[0] != b"6"):
                    return False
                asked.family = digit[0] - 48
            elif parameter == IP:
                length = decode(name_end, stop, text, MAX_ADDRESS)
                if length < 1 or not read_address(text, length, &asked.ip):
                    return False
            elif parameter != CMCD:  # which is read where it is drawn
                return False
        if at == end:
            return asked.seen & TITLE != 0
        at += 1


cdef bint read_hints(const char* at, const char* end, const char* protocol, hints* said) noexcept nogil:
    """Read what a player says of itself, the last of a hint that is repeated; False where one is odd, or not ASCII."""
    cdef const char* name
    cdef const char* name_end
    cdef const char* stop
    cdef char text[MAX_REPORT]
    cdef Py_ssize_t length
    cdef unsigned hint
    said.seen = 0
    said.session_length = 0
    said.pathways.count = 0
    said.player = False
    said.family = 0
    while at < end:
        stop = <const char*> memchr(at, b"&", end - at)
        if stop == NULL:
            stop = end
        name = at
        name_end = <const char*> memchr(at, b"=", stop - at)
        at = stop + 1
        if name_end == NULL:
            name_end = stop
        hint = hint_of(name, name_end - name, protocol)
        said.seen |= hint
        name_end += name_end < stop
        if hint == SESSION:
            said.session_length = decode(name_end, stop, said.session, MAX_SESSION)
            if said.session_length < 0:
                return False
        elif hint == PATHWAY:
            length = decode(name_end, stop, said.text, MAX_REPORT)
            if length < 0 or not read_report(said.text, length, &said.pathways):
                return False
        elif hint == PLAYER:
            said.player = name_end < stop
        elif hint and hint != CMCD:
            length = decode(name_end, stop, text, MAX_REPORT)
            if length < 0:
                return False
            if hint == THROUGHPUT:
                if not is_throughput(text, length):
                    return False
            elif hint == FAMILY:
                if length > 1 or (length == 1 and text[0] != b"4" and text[0] != b"6"):
                    return False
                said.family = text[0] - 48 if length else 0
            elif length < 1 or length > MAX_ADDRESS or not read_address(text, length, &said.ip):
                return False
    return True


cdef inline unsigned hint_of(const char* name, Py_ssize_t length, const char* protocol) noexcept nogil:
    """Return the bit of a parameter that is a hint, 0 of any other. A protocol's own begin with `_HLS_` or `_DASH_`."""
    cdef Py_ssize_t own = 5 if protocol[0] == b"H" else 6
    if length > own and name[0] == b"_" and memcmp(name + 1, protocol, own - 2) == 0 and name[own - 1] == b"_":
        if length - own == 7 and memcmp(name + own, b"pathway", 7) == 0:
            return PATHWAY
        return THROUGHPUT if length - own == 10 and memcmp(name + own, b"throughput", 10) == 0 else 0
    if length == 6 and memcmp(name, b"player", 6) == 0:
        return PLAYER
    return parameter_of(name, length) & (SESSION | FAMILY | IP | CMCD)


cdef inline unsigned parameter_of(const char* name, Py_ssize_t length) noexcept nogil:
    """Return the bit of a parameter that is known, all bits of one that is not for the fast_path, 0 of one unknown."""
    if length == 5 and memcmp(name, b"title", 5) == 0:
        return TITLE
    if length == 2 and memcmp(name, b"ip", 2) == 0:
        return IP
    if length == 1 and name[0] == b"n":
        return N
    if length == 4 and memcmp(name, b"CMCD", 4) == 0:
        return CMCD
    if length == 7:
        if memcmp(name, b"session", 7) == 0:
            return SESSION
        if memcmp(name, b"service", 7) == 0:
            return SERVICE
        if memcmp(name, b"explain", 7) == 0:
            return ELSEWHERE
    if length == 6 and memcmp(name, b"family", 6) == 0:
        return FAMILY
    if length == 8 and memcmp(name, b"redirect", 8) == 0:
        return ELSEWHERE
    return 0


cdef Py_ssize_t decode(
    const char* at, const char* end, char* out, Py_ssize_t most, bint plus_is_space=True
) noexcept nogil:
    """Write a value percent-decoded; return its length, or -1 where it is longer, wrong or not ASCII."""
    cdef Py_ssize_t length = 0
    cdef int high, low
    while at < end:
        if length == most:
            return -1
        out[length] = at[0]
        if at[0] == b"+" and plus_is_space:
            out[length] = b" "
        elif at[0] == b"%":
            if end - at < 3:
                return -1
            high, low = digit_of(at[1]), digit_of(at[2])
            if high < 0 or high > 7 or low < 0:
                return -1
            out[length] = <char> (high << 4 | low)
            at += 2
        at += 1
        length += 1
    return length


cdef bint read_playback_body(const char* at, const char* end, playback* said, named* files) noexcept nogil:
    """Read the body of a playback request as back ends write it; False where it is odd, wrong, or not plain ASCII."""
    cdef named name
    cdef unsigned member
    said.seen = 0
    said.service_length = said.title_length = said.session_length = 0
    said.n = said.family = said.count = 0
    at = skip(at, end)
    if at == end or at[0] != b"{":
        return False
    at = skip(at + 1, end)
    while True:
        at = read_text(at, end, &name)
        if at == NULL:
            return False
        at = skip(at, end)
        member = member_of(&name)
        if member == 0 or said.seen & member or at == end or at[0] != b":":
            return False
        said.seen |= member
        at = skip(at + 1, end)
        if member == FILES:
            at = read_files(at, end, files, &said.count)
        elif member == N or member == FAMILY:
            if end - at < 2 or not b"1" <= at[0] <= b"8" or is_in_number(at[1]):
                return False
            if member == N:
                said.n = at[0] - 48
            elif at[0] == b"4" or at[0] == b"6":
                said.family = at[0] - 48
            else:
                return False
            at += 1
        else:
            at = read_text(at, end, &name)
            if at == NULL:
                return False
            if member == SERVICE:
                said.service, said.service_length = name.text, name.length
            elif member == SESSION:
                said.session, said.session_length = name.text, name.length
            elif member == TITLE:
                said.title, said.title_length = name.text, name.length
                if name.length > C_MAX_TITLE or (name.length and is_dots(name.text, name.length)):
                    return False
            elif not 1 <= name.length <= MAX_ADDRESS or not read_address(name.text, name.length, &said.ip):
                return False
        if at == NULL:
            return False
        at = skip(at, end)
        if at == end or (at[0] != b"," and at[0] != b"}"):
            return False
        if at[0] == b"}":
            return skip(at + 1, end) == end and said.seen & FILES and said.session_length <= MAX_SESSION
        at = skip(at + 1, end)


cdef const char* read_files(const char* at, const char* end, named* files, int* count) noexcept nogil:
    """Read a list of names of files; return its end, NULL where one is odd."""
    if at == end or at[0] != b"[":
        return NULL
    while count[0] < C_MAX_FILES:
        at = read_text(skip(at + 1, end), end, files + count[0])
        if at == NULL or not 1 <= files[count[0]].length <= C_MAX_TITLE \
                or is_dots(files[count[0]].text, files[count[0]].length):
            return NULL
        count[0] += 1
        at = skip(at, end)
        if at == end or (at[0] != b"," and at[0] != b"]"):
            return NULL
        if at[0] == b"]":
            return at + 1
    return NULL


cdef inline const char* read_text(const char* at, const char* end, named* out) noexcept nogil:
    """Read a JSON string without escapes, of ASCII; return its end, NULL where it is another."""
    if at == end or at[0] != b'"':
        return NULL
    at += 1
    out.text = at
    while at < end and 0x20 <= at[0] <= 0x7E and at[0] != b'"' and at[0] != b"\\":
        at += 1
    out.length = at - out.text
    return at + 1 if at < end and at[0] == b'"' else NULL


cdef inline unsigned member_of(const named* name) noexcept nogil:
    """Return the bit of a member of a playback request, 0 of one that is not known."""
    if name.length == 5 and memcmp(name.text, b"files", 5) == 0:
        return FILES
    return parameter_of(name.text, name.length) & (TITLE | SERVICE | SESSION | N | FAMILY | IP)


cdef inline const char* skip(const char* at, const char* end) noexcept nogil:
    """Pass over the white space of JSON."""
    while at < end and (at[0] == b" " or at[0] == b"\n" or at[0] == b"\r" or at[0] == b"\t"):
        at += 1
    return at


cdef inline bint is_in_number(char character) noexcept nogil:
    return b"0" <= character <= b"9" or character == b"." or character == b"e" or character == b"E"


cdef inline int digit_of(char character) noexcept nogil:
    """Return what a hexadecimal digit is worth, -1 for any other character."""
    if b"0" <= character <= b"9":
        return character - 48
    if b"a" <= character <= b"f":
        return character - 87
    if b"A" <= character <= b"F":
        return character - 55
    return -1


cdef bint read_address(const char* text, Py_ssize_t length, address* out) noexcept nogil:
    """Read a text address, an IPv4-mapped one as IPv4."""
    if memchr(text, b":", length) == NULL:
        out.family = 4
        return parse_v4(text, length, &out.four)
    out.family = 6
    if not parse_v6(text, length, &out.high, &out.low):
        return False
    if out.high == 0 and out.low >> 32 == 0xFFFF:  # ::ffff:0:0/96, RFC 4291
        out.family = 4
        out.four = <uint32_t> out.low
    return True


cdef inline void unwrap(address* who) noexcept nogil:
    """Take the IPv4 address out of a NAT64 (64:ff9b::/96, RFC 6052) or 6to4 (2002::/16, RFC 3056) one."""
    if who.family == 6:
        if who.high == 0x0064FF9B00000000u and who.low >> 32 == 0:
            who.family, who.four = 4, <uint32_t> who.low
        elif who.high >> 48 == 0x2002:
            who.family, who.four = 4, <uint32_t> (who.high >> 16)
