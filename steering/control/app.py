"""The control process: the control in a thread of its own, and a door on `control.sock` that only its user can open."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from steering.control.api import KEYS, make_router
from steering.control.auth import Caller, caller_of
from steering.control.health import report_endpoint as reports
from steering.control.health import report_format as wire
from steering.control.health.registry import Registry
from steering.control.jobs.check_appliances import Checker
from steering.control.jobs.clockwork import Errands, Job, work
from steering.control.jobs.follow_bgp import FollowBgp
from steering.control.jobs.health_tick import Pulse
from steering.control.jobs.publish_holdings import PublishHoldings
from steering.control.jobs.refresh_playlists import Refresh
from steering.control.jobs.send_alarms import Webhook
from steering.control.jobs.watch_sources import Watch
from steering.control.records.documents import MAX_DOCUMENT
from steering.control.services.control import Control
from steering.control.services.events import WIRE, Hub, Wire, follow
from steering.errors import FeedError, RequestError, SettingsError, SnapshotError, SteeringError
from steering.process.child import FORK, run_gently
from steering.settings import MAX_SOCKET_PATH, Settings
from steering.state.folder import SOCKET

T = TypeVar("T")
LOCAL: Final = "is_local"
MAX_CONNECTIONS: Final = 1000  # over TCP
REQUEST_S: Final = 60.0  # for a request to arrive whole; a fleet document may have 64 MB
SWITCH_S: Final = 0.0005  # how long the loop may wait for the thread that takes lists of titles
MAX_WHO: Final = 600  # bytes, percent-encoded
logger = logging.getLogger("steering.control")


def run(
    settings: Settings, serve: Callable[[ASGIApp, socket.socket], None], reloaded: Callable[[], None] = lambda: None
) -> None:
    """Hold the state folder and answer on its `control.sock`; `serve` runs the server and returns when it is to end.

    The server must run `ControlProtocol`, or nobody on the socket is let in.

    `reloaded` is called when a reload that SIGHUP asked for is over, however it went.
    Raises SettingsError where the folder cannot be held.
    """
    thread = ThreadPoolExecutor(1, "control")
    errands = Errands(thread)
    control = thread.submit(Control, settings, run=partial(run_gently, meanwhile=errands.do, context=FORK)).result()
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()  # a fleet stays: looking through it for garbage again and again takes a tenth of a second each time
    try:
        with listening(settings.state) as listener:
            serve(make_app(control, thread, errands, reloaded, jobs_of(settings, control.registry)), listener)
    finally:
        thread.submit(control.close).result()
        thread.shutdown()


def jobs_of(settings: Settings, registry: Registry) -> list[Job]:
    """Return the jobs that the settings ask for."""
    jobs: list[Job] = [Pulse(settings.tick_s), PublishHoldings(settings), Refresh(settings)]
    if settings.check_s:
        jobs.append(Checker(settings))
    if settings.alarm_url:
        webhook = Webhook(settings)
        registry.on_alarm(webhook.tell)
        jobs.append(webhook)
    if settings.bgp:
        jobs.append(FollowBgp(settings))
    if settings.watch:
        jobs.append(Watch(settings))
    return jobs


@contextmanager
def listening(state: Path) -> Iterator[socket.socket]:
    """Give the bound socket of the state folder, mode 0600; only the holder of the lock may call this."""
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
    thread: ThreadPoolExecutor,
    errands: Errands,
    reloaded: Callable[[], None] = lambda: None,
    jobs: Sequence[Job] = (),
) -> FastAPI:
    """Return the control door over a control that was made in, and is used from, this one thread; jobs run beside it."""

    async def run_there(verb: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, verb)

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
        # What is no error of ours is raised once more where the executor logs it.
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, lambda: thread.submit(reload).add_done_callback(Future.result)
        )
        working = asyncio.create_task(work(jobs, control, run_there))
        yield
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working

    app = Application(title="steering control", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.default_service = control.settings.default_service
    app.state.hub = hub = Hub()
    follow(control.registry, hub)
    app.include_router(make_router(control, run_there, errands.run, hub))
    app.add_exception_handler(SteeringError, answer_error)
    app.add_exception_handler(RequestValidationError, answer_error)
    app.add_exception_handler(HTTPException, answer_error)
    app.add_middleware(BodyLimit)
    app.add_middleware(Entrance, control=control)
    app.take_reports = Entrance(reports.ReportsEndpoint(control.registry, control.holdings.intake, refuse), control)
    return app


class Application(FastAPI):
    """FastAPI's application, but for reports: those go past it, and it describes them alone."""

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
            found = super().openapi()
            found["paths"][reports.PATH] = {"post": reports.DESCRIPTION}
            found["components"].setdefault("schemas", {}).update(wire.schemas())
        return super().openapi()


def refuse(error: RequestError) -> JSONResponse:
    """Return an error of the reports' endpoint as a problem document."""
    answer = problem_of(error)
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["allow"] = "POST"
    elif error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["retry-after"] = "1"
    return answer


class Entrance:
    """Lets in who comes over `control.sock`, as ops, and who has a good token, as its role; before a body is read.

    /healthz is everybody's. What the application sees is `request.state.caller`.
    """

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self.app = app
        self.control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its caller, or answer 401."""
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        state = scope.setdefault("state", {})
        caller: Caller | None
        if state.get(LOCAL) is True:
            caller = Caller("ops", "", unquote(headers.get(b"steering-who", b"local")[:MAX_WHO].decode("latin-1")))
        else:
            given = headers.get(b"authorization", b"").decode("latin-1")
            caller = caller_of(given, self.control.tokens.known, self.control.clock())
        if caller:
            state["caller"] = caller
            await self.app(scope, receive, send)
            return
        asked = f"{scope['method']} {scope['path'][:200]}"
        error = RequestError(f"{asked}: no good bearer token", hint="steering token make ROLE", status=401)
        answer = problem_of(error)
        answer.headers["www-authenticate"] = "Bearer"
        await answer(scope, receive, send)


class ControlProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which tells the application whether a connection came over a Unix socket.

    Others are bounded: in number, and each in the time that a request may take to arrive.
    """

    is_local = False
    patience: asyncio.TimerHandle | None = None
    wire: Wire | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the mark goes into the state that uvicorn gives to each request's scope."""
        connection = transport.get_extra_info("socket")
        self.is_local = connection is not None and connection.family == socket.AF_UNIX
        others = sum(not other.is_local for other in self.connections if isinstance(other, ControlProtocol))
        super().connection_made(transport)
        self.wire = Wire(transport.abort)
        self.app_state = {**self.app_state, LOCAL: self.is_local, WIRE: self.wire}
        if not self.is_local and others >= MAX_CONNECTIONS:
            transport.abort()
        self.await_request()

    def await_request(self) -> None:
        """Give the client so much time to send a whole request."""
        if not self.is_local and not self.patience:
            self.patience = self.loop.call_later(REQUEST_S, self.transport.abort)

    def stop_waiting(self) -> None:
        """Wait for no request, or no longer."""
        if self.patience:
            self.patience.cancel()
            self.patience = None

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.await_request()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """End a request; between two, uvicorn keeps the time."""
        self.stop_waiting()
        super().on_message_complete()

    def shutdown(self) -> None:
        """Finish what is in flight and close, for the process is ending; an answer without end is told to end."""
        if self.wire:
            self.wire.leave()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.stop_waiting()
        super().connection_lost(exc)


class BodyLimit:
    """Refuses a body longer than a fleet document may be before it is read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem document."""
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers:
            error = RequestError("a body needs its Content-Length", status=411)
        elif not length.isdigit() or int(length) > MAX_DOCUMENT:
            error = RequestError(f"a body of {length[:20].decode('latin-1')} bytes; at most {MAX_DOCUMENT}", status=413)
        else:
            await self.app(scope, receive, send)
            return
        await problem_of(error)(scope, receive, send)


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """Return an error of ours, of validation or of routing as a problem document."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        # What was given for a key may be a secret.
        given = "" if request.url.path.startswith(KEYS) else str(first.get("input", ""))
        error = RequestError.of_parameter(where, given, str(first["msg"]), status=422)
    elif isinstance(error, HTTPException):
        error = RequestError(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code)
    assert isinstance(error, SteeringError)
    return problem_of(error)


def problem_of(error: SteeringError) -> JSONResponse:
    """Return an error as application/problem+json (RFC 9457); `error` names its class and `hint` what to do."""
    status = 500
    members: dict[str, Any] = {}
    if isinstance(error, SnapshotError):
        status = 503
    elif isinstance(error, RequestError):
        status = error.status
        members = {name: getattr(error, name) for name in ("parameter", "value", "rule") if getattr(error, name)}
    elif isinstance(error, FeedError):
        status = 422
    elif isinstance(error, SettingsError):
        status = 503
    document = {"title": HTTPStatus(status).phrase, "status": status, "detail": error.message, **members}
    if error.hint:
        document["hint"] = error.hint
    document["error"] = type(error).__name__
    return JSONResponse(document, status, media_type="application/problem+json")
