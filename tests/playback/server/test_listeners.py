"""Doors: bound once, a socket for each worker; what another service has is left alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from steering.errors import SettingsError
from steering.playback.server.listeners import bind_unix, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a socket may be made."""
    return tmp_path / "door.sock"


@pytest.fixture
def stale(path: Path) -> Path:
    """Return a socket that nobody listens on any more."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return path


def test_a_tcp_door_is_a_socket_for_each_worker_on_one_port() -> None:
    with opened(["127.0.0.1:0", "[::1]:0"], 3) as (four, six):
        for door in (four, six):
            assert len({listener.getsockname() for listener in door.sockets}) == 1
            assert len({listener.fileno() for listener in door.sockets}) == 3
            door.connect(5).close()
        host, port = four.address()
        assert (str(four), host) == (f"http://127.0.0.1:{port}", "127.0.0.1")
        assert str(six) == f"http://[::1]:{six.address()[1]}"


def test_a_door_on_every_address_is_reached_on_this_machine() -> None:
    with opened(["0.0.0.0:0", "[::]:0"], 1) as doors:
        assert [door.address()[0] for door in doors] == ["127.0.0.1", "::1"]
        for door in doors:
            door.connect(5).close()


def test_ipv4_and_ipv6_may_have_the_same_port() -> None:
    with opened(["0.0.0.0:0"], 2) as (door,), opened([f"[::]:{door.address()[1]}"], 2) as (other,):
        assert door.address()[1] == other.address()[1]


def test_a_unix_door_is_one_socket_for_all_workers_open_to_its_group_and_removed_at_the_end(path: Path) -> None:
    before = os.umask(0)
    try:
        with opened([f"unix:{path}"], 3) as (door,):
            assert len({listener.fileno() for listener in door.sockets}) == 1
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            door.connect(5).close()
            assert str(door) == f"unix:{path}"
    finally:
        os.umask(before)
    assert not path.exists()


def test_a_socket_that_nobody_listens_on_is_replaced(stale: Path) -> None:
    with opened([f"unix:{stale}"], 1) as (door,):
        door.connect(5).close()


def test_a_path_that_somebody_else_has_by_now_stays(path: Path) -> None:
    with opened([f"unix:{path}"], 1):
        path.unlink()
        other = bind_unix(path, 1)
    other.connect(5).close()
    other.close()
    assert not path.exists()


def test_what_another_service_has_is_refused_and_left_alone(path: Path) -> None:
    with opened(["127.0.0.1:0", f"unix:{path}"], 1) as (tcp, unix):
        for text in (str(tcp).removeprefix("http://"), str(unix)):
            with pytest.raises(SettingsError, match="Address already in use") as caught, opened([text], 1):
                pass
            assert caught.value.hint == "end who has it, or choose another with --listen"
        tcp.connect(5).close()
        unix.connect(5).close()


def test_a_service_whose_queue_is_full_is_a_live_one(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        waiting.connect(str(path))
        with pytest.raises(SettingsError, match="Address already in use"), opened([f"unix:{path}"], 1):
            pass
        assert path.exists()


def test_a_file_that_is_no_socket_is_not_replaced(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(SettingsError, match="there is a file, and it is no socket"), opened([f"unix:{path}"], 1):
        pass
    assert path.read_text() == "precious"


def test_when_one_door_cannot_be_had_the_others_are_given_back(path: Path) -> None:
    wanted = [f"unix:{path}", "127.0.0.1:0", f"unix:{path.parent}/absent/door.sock"]
    with pytest.raises(SettingsError, match=os.strerror(errno.ENOENT)), opened(wanted, 2):
        pass
    assert not path.exists()
