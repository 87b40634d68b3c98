from _fastpath.fast_path cimport FastPath, Peer
from _fastpath.tls cimport Records


cdef class Connection:
    cdef public FastPath fast_path
    cdef public Peer peer
    cdef public Records tls
    cdef public bint direct
    cdef public int fd
    cdef public long active_at

    cdef bint send_or_buffer(self, bytes answer) except? False
