from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t


cdef extern from "writing.h":
    char* join(char* out, const char* part, Py_ssize_t length) noexcept nogil
    int digits_of(uint32_t number) noexcept nogil
    char* write_number(char* out, uint32_t number) noexcept nogil
    Py_ssize_t escape(const char* title, Py_ssize_t length, char* out) noexcept nogil
    char* write_json_string(char* out, const char* text, Py_ssize_t length) noexcept nogil


cdef inline char* join_bytes(char* out, bytes part) noexcept:
    return join(out, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
