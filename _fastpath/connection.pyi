"""The public shape of `connection.pyx`."""

from _fastpath.fast_path import FastPath, Peer

class Connection:
    """The compiled part of a connection: the protocol that a subclass is, as long as nothing is out of the ordinary.

    While `plain`, the fast path is asked first, and its answers go to the socket `fd` at once: nothing may wait in
    `transport`, and nothing else may write to it. The subclass sets `plain`, and has `transport` and two methods:
    `receive(data)` gets what comes in while it is not plain, `go_on(data, asked=False)` what follows where an answer
    could not be sent whole, or, `asked`, a request that the fast path has left.
    """

    fast_path: FastPath
    peer: Peer
    plain: bool
    fd: int
    active_at: int
    """When data came last, by the fast path's clock."""

    def data_received(self, data: bytes) -> None:
        """Answer the requests that begin in the data."""

    def send(self, answer: bytes) -> None:
        """Send an answer, at once where plain, or else through the transport."""
