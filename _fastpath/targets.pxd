from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

from _fastpath.ranking cimport Picker, appliance_record, candidate, decision
from _fastpath.service cimport Service
from _fastpath.writing cimport join, join_bytes


cdef bytes sign_picks(
    Service service, decision* made, const char* title, Py_ssize_t title_length, int family, uint64_t upper
)


cdef inline Py_ssize_t url_length(Service service, Py_ssize_t title_length, bytes token) noexcept:
    """Return the length of a pick's URL without its host; the title is percent-encoded."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(service.before_host) + PyBytes_GET_SIZE(service.before_title)
    length += title_length + PyBytes_GET_SIZE(service.after_title)
    if token is not None:
        length += PyBytes_GET_SIZE(token) + PyBytes_GET_SIZE(service.after_token)
    return length


cdef inline char* write_url(
    char* out, Picker picker, Service service, const candidate* pick, const char* title, Py_ssize_t title_length,
    bytes token
) noexcept:
    """Write the URL of a pick for a percent-encoded title."""
    cdef const appliance_record* appliance = picker.appliances + pick.appliance
    out = join_bytes(out, service.before_host)
    out = join(out, picker.text + appliance.host, appliance.host_length)
    out = join_bytes(out, service.before_title)
    if token is not None and service.token_is_first:
        out = join_bytes(join_bytes(out, token), service.after_token)
    out = join(out, title, title_length)
    out = join_bytes(out, service.after_title)
    if token is not None and not service.token_is_first:
        out = join_bytes(join_bytes(out, token), service.after_token)
    return out
