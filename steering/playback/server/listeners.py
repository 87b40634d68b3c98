"""Listeners: addresses that are served. The supervisor binds their sockets once and keeps them; workers inherit them.

A TCP listener has a SO_REUSEPORT socket for each worker: the kernel distributes connections, and a worker's successor
inherits its queue. A Unix listener has one socket that all workers accept from; the mode of its file limits access.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from steering.errors import SettingsError
from steering.settings import TLS, is_tls, split_address, unix_path

BACKLOG: Final = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class Listener:
    """One address that is served, with a socket for each worker; a Unix listener has the same socket for all."""

    sockets: tuple[socket.socket, ...]
    path: Path | None = None
    file: tuple[int, int] = (0, 0)  # device and inode that the path had when it was bound
    is_tls: bool = False

    def __str__(self) -> str:
        """Return `http://127.0.0.1:8080` or `unix:/run/steering/playback.sock`, as this machine reaches it."""
        if self.path:
            return f"unix:{self.path}"
        host, port = self.address()
        return f"http{'s' * self.is_tls}://{f'[{host}]' if ':' in host else host}:{port}"

    def address(self) -> tuple[str, int]:
        """Return host and port by which this machine reaches a TCP listener."""
        host, port = self.sockets[0].getsockname()[:2]
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104

    def connect(self, timeout_s: float) -> socket.socket:
        """Return a connection to the listener. Raises OSError."""
        if not self.path:
            return socket.create_connection(self.address(), timeout_s)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(str(self.path))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close this process's sockets; remove the path, unless another process has bound it since."""
        if self.path:
            with contextlib.suppress(OSError):
                status = self.path.lstat()
                if (status.st_dev, status.st_ino) == self.file:
                    self.path.unlink()
        for listening in self.sockets:
            listening.close()


@contextlib.contextmanager
def bound(listen: Sequence[str], count: int) -> Iterator[list[Listener]]:
    """Give the listeners of the setting `listen`, for so many workers, and close them.

    Raises SettingsError where an address cannot be bound, or another process has it.
    """
    with contextlib.ExitStack() as closing:
        listeners = []
        for text in listen:
            try:
                path = unix_path(text)
                address = text.removeprefix(TLS)
                listener = bind_unix(path, count) if path else bind_tcp(*split_address(address), count, is_tls(text))
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                raise SettingsError(
                    f"cannot listen on {text}: {error.strerror}",
                    hint="end the process that has it, or choose another with --listen"
                    if taken
                    else "choose another with --listen",
                ) from error
            closing.callback(listener.close)
            listeners.append(listener)
        yield listeners


def bind_tcp(host: str, port: int, count: int, is_tls: bool = False) -> Listener:
    """Return a listener of so many sockets on one address. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without SO_REUSEPORT, which would let us share the port with another of our user's services.
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        set_options(probe, family)
        probe.bind((host, port))
    with contextlib.ExitStack() as on_error:
        sockets = []
        for _ in range(count):
            listening = on_error.enter_context(socket.socket(family, socket.SOCK_STREAM))
            set_options(listening, family)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind((host, port))
            port = listening.getsockname()[1]
            listening.listen(BACKLOG)
            listening.setblocking(False)
            sockets.append(listening)
        on_error.pop_all()
    return Listener(tuple(sockets), is_tls=is_tls)


def set_options(listening: socket.socket, family: socket.AddressFamily) -> None:
    """Let a port be bound on which old connections linger, and `[::]` beside `0.0.0.0`."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def bind_unix(path: Path, count: int) -> Listener:
    """Return a listener on a path, mode 0660; it replaces a socket on which no process listens. Raises OSError."""
    remove_stale(path)
    with contextlib.ExitStack() as on_error:
        listening = on_error.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listening.bind(str(path))  # no client can connect before it listens
        on_error.callback(path.unlink, missing_ok=True)
        path.chmod(0o660)
        listening.listen(BACKLOG)
        listening.setblocking(False)
        status = path.lstat()
        on_error.pop_all()
    return Listener((listening,) * count, path, (status.st_dev, status.st_ino))


def remove_stale(path: Path) -> None:
    """Remove the socket that a killed service left. Raises OSError where a process listens, or it is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file, and it is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # EAGAIN: the queue is full, so a process listens
        error = probe.connect_ex(str(path))
    if error == errno.ECONNREFUSED:
        path.unlink(missing_ok=True)
    elif error != errno.ENOENT:
        taken = error in (0, errno.EAGAIN, errno.EPROTOTYPE)
        raise OSError(errno.EADDRINUSE if taken else error, os.strerror(errno.EADDRINUSE if taken else error))
