"""The control process: services in a thread of their own, jobs, and the API on `control.sock` and over TCP."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from steering.control.api import make_router, report_format
from steering.control.api import report_endpoint as reports
from steering.control.api.endpoints import Api, body_types
from steering.control.api.entrance import Entrance
from steering.control.api.problems import answer_error, problem_of
from steering.control.api.protocol import ControlProtocol
from steering.control.jobs.clockwork import ControlThread, Job, run_jobs
from steering.control.jobs.schedule import jobs_of
from steering.control.records.database import RecordsError
from steering.control.services.control import Control
from steering.control.services.events import Hub, follow
from steering.control.without_records import WithoutRecords
from steering.errors import SettingsError, SteeringError
from steering.settings import MAX_SOCKET_PATH, Settings
from steering.state.folder import SOCKET

__all__ = ["ControlProtocol", "listening", "make_app", "run"]

SWITCH_S: Final = 0.0005  # how long the event loop may wait for the thread that reads lists of titles
YOUNG: Final = (700, 10)  # as Python has it: see `gc.set_threshold`
FULL_COLLECTION: Final = 10_000  # collections of young garbage before one of all
logger = logging.getLogger("steering.control")


def run(
    settings: Settings, serve: Callable[[ASGIApp, socket.socket], None], reloaded: Callable[[], None] = lambda: None
) -> None:
    """Lock the state folder and answer on its `control.sock` until `serve`, which runs the server, returns.

    The server must run `ControlProtocol`; otherwise no caller over the socket is let in. `reloaded` is called at the
    end of each reload that SIGHUP asked for. Without a usable database, every answer is the reason. Raises
    SettingsError when the folder cannot be locked.
    """
    thread = ControlThread()
    try:
        control = thread.open_control(settings)
    except RecordsError as error:
        thread.shutdown()
        logger.error("control: %s (%s)", error.message, error.hint)
        with listening(settings.state) as listener:
            serve(WithoutRecords(settings.state, error), listener)
        return
    divide_time()
    try:
        with listening(settings.state) as listener:
            serve(make_app(control, thread, reloaded, jobs_of(control, thread.run)), listener)
    finally:
        thread.submit(control.close).result()
        thread.shutdown()


def divide_time() -> None:
    """Let no thread hold the interpreter for long.

    A collection of all garbage would look through the whole fleet and hold it for a tenth of a second. So what is there
    now is left out for good, and young garbage is collected alone, but once in a day or more: cycles seldom grow old.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*YOUNG, FULL_COLLECTION)


@contextmanager
def listening(state: Path) -> Iterator[socket.socket]:
    """Yield the bound socket of the state folder, mode 0600; only the holder of the lock may call this."""
    path = state / SOCKET
    if len(bytes(path)) > MAX_SOCKET_PATH:
        raise SettingsError(
            f"{path}: {len(bytes(path))} bytes, a socket's path has at most {MAX_SOCKET_PATH}",
            hint="name the state folder by a shorter path",
        )
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))  # nobody can connect before it listens
        path.chmod(0o600)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def make_app(
    control: Control,
    thread: ControlThread,
    reloaded: Callable[[], None] = lambda: None,
    jobs: Sequence[Job] = (),
) -> FastAPI:
    """Return the application over services that were made in this thread; the jobs run beside it."""

    def reload() -> None:
        try:
            report = control.tables.reload("SIGHUP")
            logger.info("reloaded: table %s serves", report["serving"]["table"])
        except SteeringError as error:
            logger.error("reload refused: %s", error.message)
        finally:
            reloaded()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # `Future.result` raises an unexpected error again, and the executor logs it.
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, lambda: thread.submit(reload).add_done_callback(Future.result)
        )
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # the supervisor's children start with it blocked
        working = asyncio.create_task(run_jobs(jobs))
        yield
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working

    app = Application(
        title="steering control", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.default_service = control.settings.default_service
    app.state.hub = hub = Hub()
    follow(control.registry, hub)
    app.include_router(make_router(Api(control, thread, hub)))
    for kind in (SteeringError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer_error)
    app.add_middleware(Entrance, control=control)
    endpoint = reports.ReportsEndpoint(control.registry, control.intake, control.fill_answers, problem_of)
    app.take_reports = Entrance(endpoint, control)
    return app


class Application(FastAPI):
    """FastAPI's application. Reports do not pass through FastAPI, which only describes them."""

    take_reports: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"] == reports.PATH:
            await self.take_reports(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the description of all endpoints."""
        if not self.openapi_schema:
            schema = super().openapi()
            schema["paths"][reports.PATH] = {"post": reports.DESCRIPTION}
            schema["components"].setdefault("schemas", {}).update(report_format.schemas(body_types()))
        return super().openapi()
