# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The compiled part of a connection: requests that the fast path answers, sent straight to the socket.

The event loop calls `data_received`, which calls `FastPath.answer` and send(2): no Python code runs and no object but
the answer is made for a request, as long as nothing is out of the ordinary.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from _fastpath.fast_path cimport FastPath


cdef extern from "<sys/socket.h>" nogil:
    int MSG_NOSIGNAL, MSG_DONTWAIT
    Py_ssize_t send_now "send"(int fd, const void* data, size_t size, int flags)


cdef class Connection:
    def data_received(self, bytes data not None):
        cdef Py_ssize_t at = 0, end = PyBytes_GET_SIZE(data)
        cdef FastPath fast_path = self.fast_path
        cdef bytes found
        self.active_at = fast_path.second
        if not self.plain:
            self.receive(data)
            return
        while at < end:
            found = fast_path.answer(data, at, self.peer)
            if found is None:
                self.go_on(data[at:] if at else data, True)
                return
            at = fast_path.end
            if not self.send_or_queue(found):
                self.go_on(data[at:])
                return

    def send(self, bytes answer not None):
        self.send_or_queue(answer)

    cdef bint send_or_queue(self, bytes answer) except? False:
        """Send an answer, at once where nothing waits to be sent; tell whether it has gone."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(answer), sent = 0
        if self.plain:
            sent = send_now(self.fd, PyBytes_AS_STRING(answer), size, MSG_NOSIGNAL | MSG_DONTWAIT)
            if sent == size:
                return True
        self.plain = False
        self.transport.write(answer if sent <= 0 else answer[sent:])
        return False
