from libc.stdint cimport uint32_t

from _fastpath.ranking cimport Picker, decision
from _fastpath.service cimport Service


cdef Py_ssize_t measure(
    Picker picker, Service service, uint32_t ttl, const decision* made, Py_ssize_t title_length, bytes token
) noexcept
cdef char* write(
    char* out, Picker picker, Service service, uint32_t ttl, const decision* made, const char* title,
    Py_ssize_t title_length, bytes token
) noexcept
