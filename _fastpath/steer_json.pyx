# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Targets: picks written as URLs, and signed. The steer answer has them as compact JSON, best first.

    {"table":42,"ttl":300,"targets":[{"url":"…","appliance":"…","site":"…","rank":0},{"url":"…","fallback":true}]}

The fallback is the last where there are too few. Ids and hosts need no escaping: the writer of the fleet file checks
them. A title is percent-encoded.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

from _fastpath.counters cimport Counters
from _fastpath.file_records cimport appliance_record, site_record
from _fastpath.hashing cimport jittered_ttl
from _fastpath.ranking cimport C_MAX_TITLE, candidate, question
from _fastpath.writing cimport digits_of, escape, join, join_bytes, write_number


def answer_steer(
    Picker picker not None, address, str title not None, Service service not None, int n, int family,
    str session not None="", trace=None, Counters counters=None, failed=()
):
    cdef decision made
    cdef answer_parts parts
    cdef bytes out, token
    token = decide(picker, address, title, service, n, family, session, trace, counters, failed, &made, &parts)
    out = PyBytes_FromStringAndSize(NULL, measure(picker, service, &made, &parts, token))
    write(PyBytes_AS_STRING(out), picker, service, &made, &parts, token)
    return out


def target_urls(
    Picker picker not None, address, str title not None, Service service not None, int n, int family,
    str session not None="", trace=None, Counters counters=None, failed=()
):
    cdef decision made
    cdef answer_parts parts
    cdef bytes token, url
    cdef list urls = []
    cdef int i
    token = decide(picker, address, title, service, n, family, session, trace, counters, failed, &made, &parts)
    for i in range(made.count):
        url = PyBytes_FromStringAndSize(
            NULL, url_length(service, &parts, token) + picker.appliances[made.picks[i].appliance].host_length
        )
        write_url(PyBytes_AS_STRING(url), picker, service, &made.picks[i], &parts, token)
        urls.append(url.decode())
    if made.count < made.n:
        urls.append((service.before_fallback + parts.title[:parts.title_length] + service.after_fallback).decode())
    return urls


cdef bytes decide(
    Picker picker, address, str title, Service service, int n, int family, str session, trace, Counters counters,
    failed, decision* made, answer_parts* parts
):
    """Decide a request of Python objects, sign and count it; return the token."""
    cdef question asked
    picker.read(address, title, n, family, session, counters, failed, &asked)
    if not asked.title_length:
        raise ValueError(f"a title has 1 to {C_MAX_TITLE} bytes, not 0")
    picker.decide_traced(&asked, service, made, trace)
    return prepare(picker, service, &asked, made, counters, parts)


cdef bytes prepare(
    Picker picker, Service service, const question* asked, decision* made, Counters counters, answer_parts* parts
):
    """Make the parts of a decision's answer, sign it, and count it where there are counters; return the token."""
    cdef bytes token
    parts.ttl = jittered_ttl(service.ttl_s, service.jitter_s, asked.key, asked.viewer)
    parts.title_length = escape(asked.title, asked.title_length, parts.title)
    token = sign_picks(service, made, parts.title, parts.title_length, asked.client_family, asked.upper)
    if counters is not None:
        picker.tally(counters, service, made, asked.title, asked.title_length)
    return token


cdef bytes sign_picks(
    Service service, decision* made, const char* title, Py_ssize_t title_length, int family, uint64_t upper
):
    """Return the token for the URLs of a decision, None where they have none. The title is percent-encoded.

    A service that signs and has no key takes its picks back: the answer is the fallback.
    """
    cdef bytes token
    if service.sign is None or made.count == 0:
        return None
    token = service.sign(title[:title_length], family, upper)
    if token is None:
        made.count = 0
        made.failed_open = False
    return token


cdef inline Py_ssize_t url_length(Service service, const answer_parts* parts, bytes token) noexcept:
    """Return the length of a pick's URL without its host."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(service.before_host) + PyBytes_GET_SIZE(service.before_title)
    length += parts.title_length + PyBytes_GET_SIZE(service.after_title)
    if token is not None:
        length += PyBytes_GET_SIZE(token) + PyBytes_GET_SIZE(service.after_token)
    return length


cdef inline char* write_url(
    char* out, Picker picker, Service service, const candidate* pick, const answer_parts* parts, bytes token
) noexcept:
    cdef const appliance_record* appliance = picker.appliances + pick.appliance
    out = join_bytes(out, service.before_host)
    out = join(out, picker.text + appliance.host, appliance.host_length)
    out = join_bytes(out, service.before_title)
    if token is not None and service.token_is_first:
        out = join_bytes(join_bytes(out, token), service.after_token)
    out = join(out, parts.title, parts.title_length)
    out = join_bytes(out, service.after_title)
    if token is not None and not service.token_is_first:
        out = join_bytes(join_bytes(out, token), service.after_token)
    return out


cdef Py_ssize_t measure(
    Picker picker, Service service, const decision* made, const answer_parts* parts, bytes token
) noexcept:
    """Return the length of the answer that `write` writes."""
    cdef bint fallback = made.count < made.n
    cdef Py_ssize_t length = 9 + PyBytes_GET_SIZE(service.table) + 7 + digits_of(parts.ttl) + 12
    cdef Py_ssize_t each = 8 + url_length(service, parts, token) + 15 + 10 + 9 + 1
    cdef const appliance_record* appliance
    cdef int i
    for i in range(made.count):
        appliance = picker.appliances + made.picks[i].appliance
        length += each + appliance.host_length + appliance.id_length + picker.sites[made.picks[i].site].id_length
        length += digits_of(made.picks[i].rank)
    if fallback:
        length += 8 + PyBytes_GET_SIZE(service.before_fallback) + parts.title_length
        length += PyBytes_GET_SIZE(service.after_fallback) + 18
    length += max(made.count + fallback - 1, 0)  # commas
    return length + (19 if made.failed_open else 2)


cdef char* write(
    char* out, Picker picker, Service service, const decision* made, const answer_parts* parts, bytes token
) noexcept:
    """Write the answer where there is room for it, and return its end."""
    cdef const candidate* pick
    cdef const appliance_record* appliance
    cdef const site_record* site
    cdef int i
    out = join_bytes(join(out, b'{"table":', 9), service.table)
    out = write_number(join(out, b',"ttl":', 7), parts.ttl)
    out = join(out, b',"targets":[', 12)
    for i in range(made.count):
        pick = &made.picks[i]
        appliance = picker.appliances + pick.appliance
        site = picker.sites + pick.site
        if i:
            out = join(out, b",", 1)
        out = join(out, b'{"url":"', 8)
        out = write_url(out, picker, service, pick, parts, token)
        out = join(out, b'","appliance":"', 15)
        out = join(out, picker.text + appliance.id, appliance.id_length)
        out = join(out, b'","site":"', 10)
        out = join(out, picker.text + site.id, site.id_length)
        out = write_number(join(out, b'","rank":', 9), pick.rank)
        out = join(out, b"}", 1)
    if made.count < made.n:
        if made.count:
            out = join(out, b",", 1)
        out = join_bytes(join(out, b'{"url":"', 8), service.before_fallback)
        out = join_bytes(join(out, parts.title, parts.title_length), service.after_fallback)
        out = join(out, b'","fallback":true}', 18)
    if made.failed_open:
        return join(out, b'],"fail_open":true}', 19)
    return join(out, b"]}", 2)
