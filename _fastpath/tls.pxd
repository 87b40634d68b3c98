cdef class Records:
    cdef public object raw  # the transport of the socket
    cdef public object connection  # an `ssl.SSLObject`
    cdef public object incoming, outgoing  # its `ssl.MemoryBIO`s
    cdef public bint is_open, has_ended, is_buffered
    cdef public int fd
    cdef bint is_aligned  # the next bytes from the socket begin a record
    cdef object feed, read, encrypt, drain, unread, deliver

    cdef object decrypt(self, Py_ssize_t size, bint single)
    cdef bint send(self, bytes plain) except? False
    cdef bint send_sealed(self, bytes sealed) except? False
