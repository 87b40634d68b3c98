"""The public shape of `connection.pyx`."""

from _fastpath.fast_path import FastPath, Peer
from _fastpath.tls import Records

class Connection:
    """The compiled part of a connection.

    While `direct`, the fast path answers what comes in, and its answers go to the socket `fd` at once: the subclass
    sets it only while nothing waits in the transport and nothing else writes to it. The subclass has three methods:
    `receive(data)` takes what comes in while it is not direct; `answer_requests(data, declined=False)` takes what
    follows an answer that could not be sent whole, or, with `declined`, data whose first request the fast path does not
    answer; `send_buffered(rest)` sends what the socket did not take.
    """

    fast_path: FastPath
    peer: Peer
    tls: Records | None
    """Through which answers are sent while `direct`, in the place of `fd`."""
    direct: bool
    fd: int
    active_at: int
    """When data came last, by the fast path's clock."""

    def data_received(self, data: bytes) -> None:
        """Answer the requests that begin in the data."""

    def send(self, answer: bytes) -> None:
        """Send an answer: straight to the socket where `direct`, and what it does not take by `send_buffered`."""
