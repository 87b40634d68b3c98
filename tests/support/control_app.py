"""Control for the tests: on `control.sock` and over TCP, in threads of the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI

from steering.control.app import ControlProtocol, listening, make_app
from steering.control.jobs.clockwork import ControlThread
from steering.control.services.control import Control
from steering.settings import Settings

T = TypeVar("T")


class Server(uvicorn.Server):
    """A server whose loop is known."""

    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)


@dataclasses.dataclass(frozen=True, slots=True)
class ControlApp:
    """A running control process: its application, its address over TCP, its loop, and its services with their thread."""

    app: FastAPI
    address: tuple[str, int]
    control: Control
    thread: ControlThread
    server: Server

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def make_token(self, role: str, **more: Any) -> dict[str, str]:
        """Return the headers of a caller with a new token."""
        report = self.thread.submit(self.control.tokens.make, role, more.pop("name", ""), "test", **more).result()
        return {"authorization": f"Bearer {report['token']}"}

    def in_loop(self, do: Callable[[], T]) -> T:
        """Call a function in the event loop, as jobs do."""

        async def done() -> T:
            return do()

        return asyncio.run_coroutine_threadsafe(done(), self.server.loop).result(20)

    def client(self, headers: dict[str, str] | None = None) -> httpx.Client:
        """Return a client over TCP."""
        return httpx.Client(base_url=self.url, headers=headers or {}, timeout=20)


@contextlib.contextmanager
def running_control_app(
    settings: Settings, clock: Callable[[], float] = time.time, loop: Literal["auto", "asyncio"] = "auto"
) -> Iterator[ControlApp]:
    """Run a control process: its services in one thread, its server in another."""
    thread = ControlThread()
    control = thread.open_control(settings, clock)
    try:
        with listening(settings.state) as listener, socket.create_server(("127.0.0.1", 0)) as tcp:
            app = make_app(control, thread)
            server = Server(uvicorn.Config(app, lifespan="off", log_config=None, http=ControlProtocol, loop=loop))
            serving = threading.Thread(target=server.run, kwargs={"sockets": [listener, tcp]})
            serving.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield ControlApp(app, tcp.getsockname(), control, thread, server)
            finally:
                server.should_exit = True
                serving.join()
    finally:
        thread.submit(control.close).result()
        thread.shutdown()
