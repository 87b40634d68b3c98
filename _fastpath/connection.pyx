# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The compiled part of a connection: requests that the fast path answers, sent straight to the socket.

The event loop calls `data_received`, which calls `FastPath.answer` and send(2): no Python code runs and no object but
the answer is made for a request, as long as nothing is out of the ordinary. Under TLS, `tls.pyx` stands between.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from _fastpath.fast_path cimport FastPath


cdef extern from "<sys/socket.h>" nogil:
    int MSG_NOSIGNAL, MSG_DONTWAIT
    Py_ssize_t send_now "send"(int fd, const void* data, size_t size, int flags)


cdef class Connection:
    def data_received(self, bytes data not None):
        cdef Py_ssize_t start = 0, end = PyBytes_GET_SIZE(data)
        cdef FastPath fast_path = self.fast_path
        cdef bytes answer
        self.active_at = fast_path.second
        if not self.direct:
            self.receive(data)
            return
        while start < end:
            answer = fast_path.answer(data, start, self.peer)
            if answer is None:
                self.answer_requests(data[start:] if start else data, True)
                return
            start = fast_path.end
            if not self.send_or_buffer(answer):
                self.answer_requests(data[start:])
                return

    def send(self, bytes answer not None):
        self.send_or_buffer(answer)

    cdef bint send_or_buffer(self, bytes answer) except? False:
        """Send an answer; return whether the socket took all of it."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(answer), sent = 0
        if self.direct and self.tls is not None:
            if self.tls.send(answer):
                return True
            self.send_buffered(b"")
            return False
        if self.direct:
            sent = send_now(self.fd, PyBytes_AS_STRING(answer), size, MSG_NOSIGNAL | MSG_DONTWAIT)
            if sent == size:
                return True
        self.send_buffered(answer if sent <= 0 else answer[sent:])
        return False
