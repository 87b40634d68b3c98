"""Listeners: bound once, a socket for each worker; the address of another service is left alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from steering.errors import SettingsError
from steering.playback.server.listeners import bind_unix, bound


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a socket may be made."""
    return tmp_path / "playback.sock"


@pytest.fixture
def stale(path: Path) -> Path:
    """Return a socket on which no process listens any more."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    return path


def test_a_tcp_listener_is_a_socket_for_each_worker_on_one_port() -> None:
    with bound(["127.0.0.1:0", "[::1]:0"], 3) as (four, six):
        for listener in (four, six):
            assert len({each.getsockname() for each in listener.sockets}) == 1
            assert len({each.fileno() for each in listener.sockets}) == 3
            listener.connect(5).close()
        host, port = four.address()
        assert (str(four), host) == (f"http://127.0.0.1:{port}", "127.0.0.1")
        assert str(six) == f"http://[::1]:{six.address()[1]}"


def test_a_listener_on_every_address_is_reached_on_this_machine() -> None:
    with bound(["0.0.0.0:0", "[::]:0"], 1) as listeners:
        assert [listener.address()[0] for listener in listeners] == ["127.0.0.1", "::1"]
        for listener in listeners:
            listener.connect(5).close()


def test_ipv4_and_ipv6_may_have_the_same_port() -> None:
    with bound(["0.0.0.0:0"], 2) as (listener,), bound([f"[::]:{listener.address()[1]}"], 2) as (other,):
        assert listener.address()[1] == other.address()[1]


def test_a_unix_listener_is_one_socket_for_all_workers_open_to_its_group_and_removed_at_the_end(path: Path) -> None:
    before = os.umask(0)
    try:
        with bound([f"unix:{path}"], 3) as (listener,):
            assert len({each.fileno() for each in listener.sockets}) == 1
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            listener.connect(5).close()
            assert str(listener) == f"unix:{path}"
    finally:
        os.umask(before)
    assert not path.exists()


def test_a_socket_without_a_process_is_replaced(stale: Path) -> None:
    with bound([f"unix:{stale}"], 1) as (listener,):
        listener.connect(5).close()


def test_a_path_that_another_process_has_bound_since_stays(path: Path) -> None:
    with bound([f"unix:{path}"], 1):
        path.unlink()
        other = bind_unix(path, 1)
    other.connect(5).close()
    other.close()
    assert not path.exists()


def test_the_address_of_another_service_is_refused_and_left_alone(path: Path) -> None:
    with bound(["127.0.0.1:0", f"unix:{path}"], 1) as (tcp, unix):
        for text in (str(tcp).removeprefix("http://"), str(unix)):
            with pytest.raises(SettingsError, match="Address already in use") as caught, bound([text], 1):
                pass
            assert caught.value.hint == "end the process that has it, or choose another with --listen"
        tcp.connect(5).close()
        unix.connect(5).close()


def test_a_service_whose_queue_is_full_is_a_live_one(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        waiting.connect(str(path))
        with pytest.raises(SettingsError, match="Address already in use"), bound([f"unix:{path}"], 1):
            pass
        assert path.exists()


def test_a_file_that_is_no_socket_is_not_replaced(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(SettingsError, match="there is a file, and it is no socket"), bound([f"unix:{path}"], 1):
        pass
    assert path.read_text() == "precious"


def test_when_one_address_cannot_be_bound_the_others_are_released(path: Path) -> None:
    wanted = [f"unix:{path}", "127.0.0.1:0", f"unix:{path.parent}/absent/playback.sock"]
    with pytest.raises(SettingsError, match=os.strerror(errno.ENOENT)), bound(wanted, 2):
        pass
    assert not path.exists()
