"""The services of the running control process, called over `control.sock`; `open_control` returns them or local ones.

control.tables.pin("alice", "test")   ──> the verb `tables.pin` ──> POST /v1/pin {"why": "test"}
"""

from __future__ import annotations

import functools
import http.client
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import httpx

from steering.control.records.documents import format_fleet, parse_fleet
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.control.verbs import CALLABLE, Runs, Verb
from steering.errors import FeedError, RequestError, SettingsError, SnapshotError, SteeringError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.folder import SOCKET, LockHeldError, make_folder

PATIENCE_S: Final = 10.0  # a control process that starts, or another command's publish, is done by then
PAUSE_S: Final = 0.1
CLASSES: Final = {"SettingsError": SettingsError, "FeedError": FeedError, "SnapshotError": SnapshotError}
CONNECT_S: Final = 5.0
SHORT_S: Final = 30.0  # for the answer of a verb that nothing is in front of
LONG_S: Final = 900.0  # of one that publishes, or that runs after a publish


class RemoteVerbs:
    """The verbs whose names begin with a prefix: those of a service, or all."""

    def __init__(self, call: Callable[..., Any], prefix: str = "") -> None:
        self.call = call
        self.prefix = prefix

    def __getattr__(self, name: str) -> Any:
        """Return a verb, or the verbs of a service."""
        name = f"{self.prefix}{name}"
        if verb := CALLABLE.get(name):
            return functools.partial(self.call, verb)
        if any(other.startswith(f"{name}.") for other in CALLABLE):
            return RemoteVerbs(self.call, f"{name}.")
        raise AttributeError(name)


class RemoteControl(RemoteVerbs):
    """The services of `Control`, in the running control process. A call raises what the service there raised."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(self.call_verb)
        self.path = str(settings.state / SOCKET)
        # There is no TLS on this socket, and loading the certificates of all authorities takes 20 ms.
        transport = httpx.HTTPTransport(uds=self.path, verify=False)
        self.client = httpx.Client(transport=transport, base_url="http://control", timeout=CONNECT_S)

    def __enter__(self) -> RemoteControl:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def answers(self) -> bool:
        """Return whether a control process answers on the socket."""
        # httpx would leave a socket open here when control has just died.
        connection = http.client.HTTPConnection("control", timeout=CONNECT_S)
        try:
            with socket.socket(socket.AF_UNIX) as connection.sock:
                connection.sock.settimeout(CONNECT_S)
                connection.sock.connect(self.path)
                connection.request("GET", "/healthz")
                answer = connection.getresponse()
                answer.read()
                return answer.status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def call_verb(self, verb: Verb, *positional: Any, **keyword: Any) -> Any:
        """Return what a verb returns. Raises the error that its service raised."""
        given = dict(zip(verb.takes, positional, strict=False)) | keyword
        if progress := given.pop("progress", None):
            progress(f"{verb.name.rpartition('.')[2]} in the control process")
        headers = {"Steering-Who": quote(who)} if (who := given.pop("who", "")) else {}
        values = {**verb.fixed, **{verb.takes[name]: encoded(value) for name, value in given.items()}}
        path, request = request_of(verb, values)
        most_s = LONG_S if verb.runs is Runs.AFTER_PUBLISH else SHORT_S
        timeout = httpx.Timeout(CONNECT_S, read=most_s, write=SHORT_S)
        try:
            answer = self.client.request(verb.method, path, headers=headers, timeout=timeout, **request)
        except httpx.TimeoutException as error:
            raise SettingsError(
                f"control did not answer {verb.method} {path} within {most_s:.0f} s",
                hint="the change may have been made; the log of control says what it does",
            ) from error
        except httpx.TransportError as error:
            raise SettingsError(
                f"control went away during {verb.method} {path}: {error}",
                hint="`steering table list` shows the table that serves",
            ) from error
        if answer.is_error:
            raise error_of(answer)
        return parse_fleet(answer.content) if verb.name == "fleet.current" else answer.json()


def encoded(value: Any) -> Any:
    """Return an argument as JSON has it; bytes are a whole body."""
    if isinstance(value, Fleet):
        return format_fleet(value).encode()
    if isinstance(value, list | tuple):
        return [encoded(item) for item in value]
    return {"kind": value.kind, "path": value.path} if isinstance(value, FeedSource) else value


def request_of(verb: Verb, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the path of a verb's request, and httpx's arguments for the values that are not in the path."""
    template = verb.path.replace(":path", "")
    names = [name for name in values if f"{{{name}}}" in template]
    path = template.format(**{name: quote(str(values.pop(name)), safe="") for name in names})
    if verb.method in ("GET", "DELETE"):
        return path, {"params": {name: value for name, value in values.items() if value is not None}}
    for name in ("fleet", "body"):
        if name in verb.takes:
            content = values.get(name)
            return path, {"content": b"" if content is None else content or b"\n"}
    return path, {"json": values}


def running_control(settings: Settings) -> RemoteControl:
    """Return the running control process, the only one that knows the live state. Raises SettingsError without one."""
    remote = RemoteControl(settings)
    if not remote.answers():
        remote.close()
        raise SettingsError(
            f"state folder {settings.state}: no control process answers on {SOCKET}", hint="steering serve"
        )
    return remote


def error_of(answer: httpx.Response) -> SteeringError:
    """Return the error of a problem document, of the class that was raised in the control process."""
    if answer.headers.get("content-type") != "application/problem+json":
        return RequestError(
            f"control answered {answer.status_code}", hint="the log of control says why", status=answer.status_code
        )
    problem = answer.json()
    if error := CLASSES.get(problem.get("error", "")):
        return error(problem["detail"], problem.get("hint", ""))
    members = {name: problem[name] for name in ("parameter", "value", "rule") if name in problem}
    return RequestError(problem["detail"], problem.get("hint", ""), status=problem["status"], **members)


def open_control(
    settings: Settings,
    patience_s: float = PATIENCE_S,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Control | RemoteControl:
    """Return the services of the running control process or, without one, services in this process.

    When another process has the lock and does not answer, it waits up to `patience_s`, then raises SettingsError.
    """
    make_folder(settings.state)
    until, tries = clock() + patience_s, max(1, round(patience_s / PAUSE_S))
    while True:
        tries -= 1
        if (settings.state / SOCKET).exists():
            remote = RemoteControl(settings)
            if remote.answers():
                return remote
            remote.close()
        try:
            return Control(settings)
        except LockHeldError:
            if not tries or clock() > until:
                raise
        pause(PAUSE_S)
