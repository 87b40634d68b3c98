# cython: wraparound=False, initializedcheck=False, cdivision=True
"""TLS records of a connection: decrypted before the protocol above, encrypted before the socket.

OpenSSL works on two buffers in memory through Python's `ssl`, so the event loop reads the socket once for many records,
and an answer leaves in one send(2). A request costs four calls of `ssl` beside the ciphers: put records in, read the
plain text, write the answer, take its records out. They are calls of the object behind `ssl.SSLObject`, whose methods
do nothing but call it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

import ssl

cdef object WantRead = ssl.SSLWantReadError
cdef object TlsError = ssl.SSLError

cdef enum:
    LEAST_READ = 4096
    MOST_READ = 65536


cdef extern from "<sys/socket.h>" nogil:
    int MSG_NOSIGNAL, MSG_DONTWAIT
    Py_ssize_t send_now "send"(int fd, const void* data, size_t size, int flags)


cdef bint is_one_record(bytes data) noexcept:
    """Return whether bytes that begin with a record end with it (RFC 8446, 5.1)."""
    cdef const unsigned char* start = <const unsigned char*> PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    return size > 5 and size - 5 == (start[3] << 8 | start[4])


cdef class Records:
    def begin(self, context not None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.connection = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.feed, self.drain = self.incoming.write, self.outgoing.read
        inner = getattr(self.connection, "_sslobj", self.connection)
        self.read, self.encrypt, self.unread = inner.read, inner.write, inner.pending

    def open(self, deliver not None):
        self.deliver = deliver
        self.is_open = True
        if self.incoming.pending or self.unread():
            self.decrypt(LEAST_READ, False)

    def release(self):
        self.is_open, self.has_ended = False, True
        self.connection = self.incoming = self.outgoing = self.deliver = None
        self.feed = self.drain = self.read = self.encrypt = self.unread = None

    def data_received(self, bytes data not None):
        if not self.is_open:
            self.receive(data)
        elif not self.has_ended:
            self.feed(data)
            self.decrypt(PyBytes_GET_SIZE(data), self.is_aligned and is_one_record(data))

    cdef object decrypt(self, Py_ssize_t size, bint single):
        """Deliver what the records in memory have; then send what OpenSSL answers by itself.

        A single record with data, as most requests are, makes OpenSSL answer nothing, and leaves nothing to be read.
        """
        cdef bytes plain
        if not single:
            size = min(max(size, <Py_ssize_t> LEAST_READ), <Py_ssize_t> MOST_READ)
        while True:
            try:
                plain = self.read(size)
            except WantRead:
                self.is_aligned = False  # there may be a part of a record
                break
            except TlsError as error:
                self.fail(error)
                return
            if not plain:
                self.has_ended = True
                self.input_ended()
                return
            self.deliver(plain)
            if single:
                return
            if not (self.incoming.pending or self.unread()):
                self.is_aligned = True
                break
        if self.outgoing.pending:
            self.flush()

    def flush(self):
        self.send_sealed(self.drain())

    def write(self, data not None):
        if not self.raw.is_closing():
            self.send(bytes(data))

    cdef bint send(self, bytes plain) except? False:
        """Encrypt and send; return whether the socket took all of it."""
        if PyBytes_GET_SIZE(plain) == 0:
            return not self.is_buffered
        self.encrypt(plain)
        return self.send_sealed(self.drain())

    cdef bint send_sealed(self, bytes sealed) except? False:
        """Send records, after those that the transport still holds; return whether the socket took all of them."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(sealed), sent = 0
        if size == 0:
            return True
        if self.is_buffered and self.raw.get_write_buffer_size() == 0:
            self.is_buffered = False
        if not self.is_buffered:
            sent = send_now(self.fd, PyBytes_AS_STRING(sealed), size, MSG_NOSIGNAL | MSG_DONTWAIT)
            if sent == size:
                return True
        self.is_buffered = True
        self.raw.write(sealed if sent <= 0 else sealed[sent:])
        return False
