from cpython cimport array as c_array
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    MAX_LISTED = 1000  # refusals, duplicates and examples are listed up to here; all are counted

cdef c_array.array zeros(str code, Py_ssize_t count)
cdef c_array.array uninitialized(str code, Py_ssize_t count)


cdef class RowWriter:
    cdef object columns
    cdef uint64_t[::1] high, low
    cdef uint8_t[::1] length
    cdef uint32_t[::1] value, row
    cdef Py_ssize_t count

    cdef int append(self, uint64_t high, uint64_t low, unsigned length, uint32_t value, uint32_t row) except -1
    cdef object finish(self)
