"""The states of a connection: random clients never lead out of the table, and every transition of it is used."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from steering.playback.http.app import make_app
from steering.playback.server import protocol
from steering.playback.server.connections import Connections
from steering.playback.server.follower import Follower
from steering.playback.server.protocol import HttpProtocol
from steering.playback.server.states import TRANSITIONS, Event, State
from steering.settings import Settings
from steering.uvicorn_adapter import UvicornServer

pytestmark = pytest.mark.anyio

HIGH, LOW = 4096, 1024  # bytes in the transport at which it pauses and resumes its protocol
STEER = b"GET /v1/steer?title=t&ip=203.0.113.7 HTTP/1.1\r\nHost: x\r\n\r\n"
PLAYBACK = b'POST /v1/playback HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"files":["a"]}'
PIECES = {  # what clients send, and how often
    STEER: 9,
    40 * STEER: 2,
    40 * STEER + PLAYBACK: 5,
    PLAYBACK: 5,
    STEER.replace(b" HTTP", b"&explain=1 HTTP"): 5,
    STEER.replace(b"Host: x", b"Connection: close"): 1,
    b"POST /v1/steer HTTP/1.1\r\nContent-Length: 4\r\n\r\nhalf": 3,
    b"\x00 no request\r\n\r\n": 1,
}
PREFACE = b"PROXY TCP4 203.0.113.7 10.0.0.1 5 80\r\n"


class FakeTransport(asyncio.Transport):
    """A transport whose client reads when the test says so."""

    def __init__(self, ours: socket.socket, late: bool) -> None:
        super().__init__({"socket": ours, "peername": ("127.0.0.1", 5)})
        self.protocol: HttpProtocol
        self.late = late  # it pauses its protocol only when it is asked, as uvloop may
        self.buffered = 0
        self.paused = self.reads_paused = self.closing = self.lost = False

    def write(self, data: Any) -> None:
        self.buffered += len(data)
        if not self.late:
            self.pause()

    def pause(self) -> None:
        if self.buffered > HIGH and not self.paused:
            self.paused = True
            self.protocol.pause_writing()

    def drain(self, most: int) -> None:
        """Let the client take so many bytes."""
        self.buffered = max(0, self.buffered - most)
        if self.paused and self.buffered < LOW:
            self.paused = False
            self.protocol.resume_writing()
        if self.closing and not self.buffered:
            self.lose()

    def lose(self) -> None:
        self.closing = True
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(None)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing, self.buffered = True, 0

    def pause_reading(self) -> None:
        self.reads_paused = True

    def resume_reading(self) -> None:
        self.reads_paused = False


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[tuple[State, Event]]:
    """Return the transitions that are used from now on."""
    result: set[tuple[State, Event]] = set()
    move = HttpProtocol.move

    def record(self: HttpProtocol, event: Event) -> None:
        result.add((self.state, event))
        move(self, event)  # KeyError where the table has no such transition
        assert self.direct == (self.state is State.FAST)

    monkeypatch.setattr(HttpProtocol, "move", record)
    return result


def packets_of(rnd: random.Random, is_relayed: bool) -> list[bytes]:
    """Return what a client sends: requests whole or cut in two, several in a packet or one."""
    pieces = rnd.choices(list(PIECES), weights=list(PIECES.values()), k=rnd.randrange(1, 12))
    if is_relayed:
        pieces.insert(0, PREFACE if rnd.random() < 0.9 else b"PROXY none\r\n")
    packets = [b""]
    for piece in pieces:
        cut = rnd.choice([0, 0, len(piece) - 5, rnd.randrange(len(piece))])
        packets[-1] += piece[:cut]
        packets += [piece[cut:]] if rnd.random() < 0.6 else [piece[cut:], b""]
    return [packet for packet in packets if packet][: rnd.randrange(1, 30)]


async def play(rnd: random.Random, connections: Connections, server: UvicornServer) -> None:
    """Play one connection to its end: random packets, ticks, ends of input, and pauses of the client."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport = FakeTransport(ours, late=rnd.random() < 0.5)
        connection = transport.protocol = HttpProtocol(connections, server)
        connection.connection_made(transport)
        packets = packets_of(rnd, connection.state is State.PREFACE)
        ended = False
        for _ in range(200):
            if transport.lost:
                break
            step = rnd.choices(
                ["receive", "run", "read", "tick", "late", "eof", "stop", "lose"], [40, 30, 12, 4, 9, 2, 1, 2]
            )[0]
            may_read = not (transport.closing or transport.reads_paused or ended)
            if step == "receive" and may_read and packets:
                connection.data_received(packets.pop(0))
            elif step == "run":
                await asyncio.sleep(0)
            elif step == "read":
                transport.drain(rnd.choice([500, 1 << 20]))
                if rnd.random() < 0.5:
                    while transport_bytes(theirs):
                        pass
            elif step == "tick":
                for _ in range(rnd.choice([1, 1, 40])):
                    await connections.tick()
            elif step == "late":
                transport.pause()
            elif step == "eof" and may_read:
                ended = True
                if not connection.eof_received():
                    transport.close()
            elif step == "stop" and not transport.closing:
                connection.shutdown()
            elif step == "lose":
                transport.lose()
        transport.lose()
        await asyncio.sleep(0)


def transport_bytes(theirs: socket.socket) -> bytes:
    try:
        return theirs.recv(1 << 16)
    except BlockingIOError:
        return b""


async def test_random_clients_never_leave_the_table_and_use_all_of_it(
    used: set[tuple[State, Event]], state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(state_folder, 0.1)
    follower.step()
    assert follower.snapshot
    configs: dict[tuple[int, bool], uvicorn.Config] = {}  # an application for each of the settings
    for seed in range(60):
        rnd = random.Random(seed)
        settings = Settings(max_connections=rnd.choice([1, 3, 100]), proxy_protocol=rnd.random() < 0.3)
        connections = Connections(settings)
        connections.serve(follower.snapshot)
        monkeypatch.setattr(protocol, "MAX_PENDING", 1 if rnd.random() < 0.2 else 256)
        config = configs.get((settings.max_connections, settings.proxy_protocol))
        if config is None:
            config = uvicorn.Config(make_app(follower, settings), log_config=None, access_log=False, ws="none")
            config.load()
            configs[settings.max_connections, settings.proxy_protocol] = config
        server = UvicornServer(config, ServerState(), {}, asyncio.get_running_loop())
        await asyncio.gather(*(play(rnd, connections, server) for _ in range(12)))
        assert not connections.open
        async with asyncio.timeout(5):
            while server.pending:
                await asyncio.sleep(0)
    assert used == {(state, event) for state, events in TRANSITIONS.items() for event in events}


def test_every_state_can_lose_its_connection() -> None:
    for state, events in TRANSITIONS.items():
        assert events.get(Event.LOST) is (None if state is State.CLOSED else State.CLOSED)
