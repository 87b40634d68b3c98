"""The control door for the tests: on `control.sock` and over TCP, in threads of the test's own process."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from steering.apart import run_gently
from steering.control.app import ControlProtocol, listening, make_app
from steering.control.loop import Errands
from steering.control.writer import Writer
from steering.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """A running control door: its application, its address over TCP, and the writer, to be used from its thread."""

    app: FastAPI
    address: tuple[str, int]
    writer: Writer
    thread: ThreadPoolExecutor

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def make_token(self, role: str, **more: Any) -> dict[str, str]:
        """Return the headers of a new holder of a token."""
        report = self.thread.submit(self.writer.make_token, role, more.pop("name", ""), "test", **more).result()
        return {"authorization": f"Bearer {report['token']}"}

    def client(self, headers: dict[str, str] | None = None) -> httpx.Client:
        """Return a client over TCP."""
        return httpx.Client(base_url=self.url, headers=headers or {}, timeout=20)


@contextlib.contextmanager
def control(settings: Settings) -> Iterator[Control]:
    """Run a control process's doors: the writer in one thread, the server in another."""
    thread = ThreadPoolExecutor(1, "writer")
    errands = Errands(thread)
    writer = thread.submit(Writer, settings, run=partial(run_gently, meanwhile=errands.do)).result()
    try:
        with listening(settings.state) as listener, socket.create_server(("127.0.0.1", 0)) as tcp:
            app = make_app(writer, thread, errands)
            server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http=ControlProtocol))
            serving = threading.Thread(target=server.run, kwargs={"sockets": [listener, tcp]})
            serving.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield Control(app, tcp.getsockname(), writer, thread)
            finally:
                server.should_exit = True
                serving.join()
    finally:
        thread.submit(writer.close).result()
        thread.shutdown()
