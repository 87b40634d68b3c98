from cpython cimport array as c_array
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    MAX_LISTED = 1000  # refusals, duplicates and examples are listed up to here; all are counted

cdef c_array.array zeros(str code, Py_ssize_t count)
cdef c_array.array uninitialized(str code, Py_ssize_t count)

cdef struct prefix_struct:
    uint64_t high
    uint64_t low
    unsigned length
    int family

cdef str unwrap(prefix_struct* prefix)
cdef str text_of(const prefix_struct* prefix)


cdef class RowWriter:
    cdef object columns
    cdef uint64_t* high  # of the columns, which have `limit` rows until `finish`
    cdef uint64_t* low
    cdef uint8_t* length
    cdef uint32_t* value
    cdef uint32_t* row
    cdef Py_ssize_t count, limit

    cdef inline int append(self, uint64_t high, uint64_t low, unsigned length, uint32_t value, uint32_t row) except -1:
        cdef Py_ssize_t i = self.count
        if i >= self.limit:
            raise IndexError(f"columns were made for {self.limit} rows")
        self.high[i], self.low[i], self.length[i] = high, low, <uint8_t> length
        self.value[i], self.row[i] = value, row
        self.count = i + 1
        return 0

    cdef object finish(self)
