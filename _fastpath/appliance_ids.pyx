# cython: wraparound=False, initializedcheck=False, cdivision=True
"""ApplianceIds: the number of an appliance in the fleet file by its id, and the cluster that it stands in.

Players name the appliances that they use and that their playlists declare, four at every poll: a search costs one hash
and one comparison. Ids come from the operator's fleet, so that no stranger can make searches long.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from _fastpath.file_records cimport appliance_record, cluster_record
from _fastpath.hashing cimport hash_bytes


cdef class ApplianceIds:
    def __dealloc__(self):
        free(self.cells)
        free(self.homes)

    cdef int fill(
        self, const appliance_record* appliances, uint32_t count, const cluster_record* clusters,
        uint32_t cluster_count, const char* text
    ) except -1:
        """Take the records of a fleet file, which outlive this object and are checked."""
        cdef uint32_t i, j, cell
        self.appliances, self.text = appliances, text
        self.mask = (<uint32_t> 1 << (2 * count).bit_length()) - 1
        self.cells = <uint32_t*> calloc(<size_t> self.mask + 1, 4)
        self.homes = <uint32_t*> calloc(<size_t> count + 1, 4)
        if self.cells == NULL or self.homes == NULL:
            raise MemoryError
        for i in range(count):
            cell = <uint32_t> hash_bytes(text + appliances[i].id, appliances[i].id_length) & self.mask
            while self.cells[cell]:
                cell = (cell + 1) & self.mask
            self.cells[cell] = i + 1
        for i in range(cluster_count):
            for j in range(clusters[i].first, clusters[i].first + clusters[i].count):
                self.homes[j] = i
        return 0

    cdef int64_t find(self, const char* id, Py_ssize_t length) noexcept nogil:
        """Return the number of an appliance, -1 for an id that the fleet does not have."""
        cdef uint32_t cell = <uint32_t> hash_bytes(id, length) & self.mask
        cdef const appliance_record* record
        while self.cells[cell]:
            record = self.appliances + (self.cells[cell] - 1)
            if record.id_length == length and memcmp(self.text + record.id, id, length) == 0:
                return self.cells[cell] - 1
            cell = (cell + 1) & self.mask
        return -1
