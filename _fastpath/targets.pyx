# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Targets: picks written as URLs, and signed. The renderers of steer answers and of redirects share it."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t

from _fastpath.counters cimport Counters
from _fastpath.ranking cimport C_MAX_TITLE, question
from _fastpath.writing cimport escape


cdef bytes sign_picks(
    Service service, decision* made, const char* title, Py_ssize_t title_length, int family, uint64_t upper
):
    """Return the token for the URLs of a decision, None where they have none.

    A service that signs and has no key takes its picks back: the answer is the fallback. The title is percent-encoded.
    """
    cdef bytes token
    if service.sign is None or made.count == 0:
        return None
    token = service.sign(title[:title_length], family, upper)
    if token is None:
        made.count = 0
        made.failed_open = False
    return token


def target_urls(
    Picker picker not None, address, str title not None, Service service not None, int n, int family,
    str session not None="", trace=None, Counters counters=None
):
    cdef question asked
    cdef decision made
    cdef char escaped[3 * C_MAX_TITLE]
    cdef Py_ssize_t length
    cdef bytes token, url
    cdef list urls = []
    cdef int i
    picker.read(address, title, n, family, session, counters, &asked)
    if not asked.title_length:
        raise ValueError(f"a title has 1 to {C_MAX_TITLE} bytes, not 0")
    picker.decide_traced(&asked, service, &made, trace)
    length = escape(asked.title, asked.title_length, escaped)
    token = sign_picks(service, &made, escaped, length, asked.client_family, asked.upper)
    if counters is not None:
        picker.tally(counters, service, &made, asked.title, asked.title_length)
    for i in range(made.count):
        url = PyBytes_FromStringAndSize(
            NULL, url_length(service, length, token) + picker.appliances[made.picks[i].appliance].host_length
        )
        write_url(PyBytes_AS_STRING(url), picker, service, &made.picks[i], escaped, length, token)
        urls.append(url.decode())
    if made.count < made.n:
        urls.append((service.before_fallback + escaped[:length] + service.after_fallback).decode())
    return urls
