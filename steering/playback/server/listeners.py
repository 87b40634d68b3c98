"""The playback doors: bound once by the supervisor, kept by it, and handed to each worker as it is forked.

A TCP door is a SO_REUSEPORT socket for each worker: the kernel deals connections out, and a worker's successor inherits
its queue. A Unix door is one socket that all workers accept from; its file says who may connect.
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
from steering.settings import split_address, unix_path

BACKLOG: Final = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class Door:
    """One address that is listened on, with a socket for each worker; those of a Unix door are all the same one."""

    sockets: tuple[socket.socket, ...]
    path: Path | None = None
    file: tuple[int, int] = (0, 0)  # device and inode that the path had when it was bound

    def __str__(self) -> str:
        """Return `http://127.0.0.1:8080` or `unix:/run/steering/door.sock`, as it can be reached from here."""
        if self.path:
            return f"unix:{self.path}"
        host, port = self.address()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def address(self) -> tuple[str, int]:
        """Return host and port that reach a TCP door from here."""
        host, port = self.sockets[0].getsockname()[:2]
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104

    def connect(self, timeout_s: float) -> socket.socket:
        """Return a connection to the door. Raises OSError."""
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
        """Let nobody in any more, as far as this process is asked; a path that is somebody else's by now stays."""
        if self.path:
            with contextlib.suppress(OSError):
                found = self.path.lstat()
                if (found.st_dev, found.st_ino) == self.file:
                    self.path.unlink()
        for listener in self.sockets:
            listener.close()


@contextlib.contextmanager
def opened(listen: Sequence[str], count: int) -> Iterator[list[Door]]:
    """Give the doors of the setting `listen`, for so many workers, and close them.

    Raises SettingsError where one cannot be had, or somebody has it.
    """
    with contextlib.ExitStack() as closing:
        doors = []
        for text in listen:
            try:
                door = bind_unix(path, count) if (path := unix_path(text)) else bind_tcp(*split_address(text), count)
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                raise SettingsError(
                    f"cannot listen on {text}: {error.strerror}",
                    hint="end who has it, or choose another with --listen" if taken else "choose another with --listen",
                ) from error
            closing.callback(door.close)
            doors.append(door)
        yield doors


def bind_tcp(host: str, port: int, count: int) -> Door:
    """Return a door of so many sockets on one address. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without SO_REUSEPORT, which would let us share the port with another of our user's services.
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        set_options(probe, family)
        probe.bind((host, port))
    with contextlib.ExitStack() as on_error:
        sockets = []
        for _ in range(count):
            listener = on_error.enter_context(socket.socket(family, socket.SOCK_STREAM))
            set_options(listener, family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            port = listener.getsockname()[1]
            listener.listen(BACKLOG)
            listener.setblocking(False)
            sockets.append(listener)
        on_error.pop_all()
    return Door(tuple(sockets))


def set_options(listener: socket.socket, family: socket.AddressFamily) -> None:
    """Let a port be bound that connections of before still linger on, and `[::]` beside `0.0.0.0`."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def bind_unix(path: Path, count: int) -> Door:
    """Return a door on a path, mode 0660, in the place of a socket that nobody listens on. Raises OSError."""
    remove_stale(path)
    with contextlib.ExitStack() as on_error:
        listener = on_error.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(str(path))  # nobody can connect before it listens
        on_error.callback(path.unlink, missing_ok=True)
        path.chmod(0o660)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        found = path.lstat()
        on_error.pop_all()
    return Door((listener,) * count, path, (found.st_dev, found.st_ino))


def remove_stale(path: Path) -> None:
    """Remove the socket that a killed service left. Raises OSError where somebody listens, or it is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file, and it is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue is answered with EAGAIN, and is somebody's
        found = probe.connect_ex(str(path))
    if found == errno.ECONNREFUSED:
        path.unlink(missing_ok=True)
    elif found != errno.ENOENT:
        taken = found in (0, errno.EAGAIN, errno.EPROTOTYPE)
        raise OSError(errno.EADDRINUSE if taken else found, os.strerror(errno.EADDRINUSE if taken else found))
