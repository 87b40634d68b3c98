# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The steer answer as compact JSON: the targets best first, the fallback last where there are too few.

    {"table":42,"ttl":300,"targets":[{"url":"…","appliance":"…","site":"…","rank":0},{"url":"…","fallback":true}]}

Ids and hosts need no escaping: the writer of the fleet file checks them. A title is percent-encoded.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from _fastpath.counters cimport Counters
from _fastpath.hashing cimport jittered_ttl
from _fastpath.ranking cimport C_MAX_TITLE, appliance_record, candidate, question, site_record
from _fastpath.targets cimport sign_picks, url_length, write_url
from _fastpath.writing cimport digits_of, escape, join, join_bytes, write_number


def answer_steer(
    Picker picker not None, address, str title not None, Service service not None, int n, int family,
    str session not None="", trace=None, Counters counters=None
):
    cdef question asked
    cdef decision made
    cdef char escaped[3 * C_MAX_TITLE]
    cdef Py_ssize_t length
    cdef uint32_t ttl
    cdef bytes out, token
    picker.read(address, title, n, family, session, counters, &asked)
    if not asked.title_length:
        raise ValueError(f"a title has 1 to {C_MAX_TITLE} bytes, not 0")
    picker.decide_traced(&asked, service, &made, trace)
    ttl = jittered_ttl(service.ttl_s, service.jitter_s, asked.key, asked.viewer)
    length = escape(asked.title, asked.title_length, escaped)
    token = sign_picks(service, &made, escaped, length, asked.client_family, asked.upper)
    if counters is not None:
        picker.tally(counters, service, &made, asked.title, asked.title_length)
    out = PyBytes_FromStringAndSize(NULL, measure(picker, service, ttl, &made, length, token))
    write(PyBytes_AS_STRING(out), picker, service, ttl, &made, escaped, length, token)
    return out


cdef Py_ssize_t measure(
    Picker picker, Service service, uint32_t ttl, const decision* made, Py_ssize_t title_length, bytes token
) noexcept:
    """Return the length of the answer that `write` writes."""
    cdef bint fallback = made.count < made.n
    cdef Py_ssize_t length = 9 + PyBytes_GET_SIZE(service.table) + 7 + digits_of(ttl) + 12
    cdef Py_ssize_t each = 8 + url_length(service, title_length, token) + 15 + 10 + 9 + 1
    cdef const appliance_record* appliance
    cdef int i
    for i in range(made.count):
        appliance = picker.appliances + made.picks[i].appliance
        length += each + appliance.host_length + appliance.id_length + picker.sites[made.picks[i].site].id_length
        length += digits_of(made.picks[i].rank)
    if fallback:
        length += 8 + PyBytes_GET_SIZE(service.before_fallback) + title_length
        length += PyBytes_GET_SIZE(service.after_fallback) + 18
    length += max(made.count + fallback - 1, 0)  # commas
    return length + (19 if made.failed_open else 2)


cdef char* write(
    char* out, Picker picker, Service service, uint32_t ttl, const decision* made, const char* title,
    Py_ssize_t title_length, bytes token
) noexcept:
    """Write the answer where there is room for it, and return its end."""
    cdef const candidate* pick
    cdef const appliance_record* appliance
    cdef const site_record* site
    cdef int i
    out = join_bytes(join(out, b'{"table":', 9), service.table)
    out = write_number(join(out, b',"ttl":', 7), ttl)
    out = join(out, b',"targets":[', 12)
    for i in range(made.count):
        pick = &made.picks[i]
        appliance = picker.appliances + pick.appliance
        site = picker.sites + pick.site
        if i:
            out = join(out, b",", 1)
        out = join(out, b'{"url":"', 8)
        out = write_url(out, picker, service, pick, title, title_length, token)
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
        out = join_bytes(join(out, title, title_length), service.after_fallback)
        out = join(out, b'","fallback":true}', 18)
    if made.failed_open:
        return join(out, b'],"fail_open":true}', 19)
    return join(out, b"]}", 2)
