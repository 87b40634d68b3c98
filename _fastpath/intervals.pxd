from cpython cimport array as c_array
from libc.stdint cimport uint32_t, uint64_t


cdef class Pairs:
    cdef uint64_t* slots  # number + 1 of the pair that has the slot, 0 if it is empty
    cdef uint64_t mask, factor
    cdef readonly c_array.array left, right
    cdef uint32_t count

    cdef uint64_t slot_of(self, uint32_t left, uint32_t right) noexcept
    cdef uint32_t number(self, uint32_t left, uint32_t right) except? 0xFFFFFFFF
    cdef int grow(self) except -1
