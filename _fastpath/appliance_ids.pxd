from libc.stdint cimport int64_t, uint32_t

from _fastpath.file_records cimport appliance_record, cluster_record


cdef class ApplianceIds:
    cdef const appliance_record* appliances
    cdef const char* text
    cdef uint32_t* cells  # number of an appliance plus one; open addressing, at most half full
    cdef uint32_t mask
    cdef uint32_t* homes  # the cluster of each appliance

    cdef int fill(
        self, const appliance_record* appliances, uint32_t count, const cluster_record* clusters,
        uint32_t cluster_count, const char* text
    ) except -1
    cdef int64_t find(self, const char* id, Py_ssize_t length) noexcept nogil
