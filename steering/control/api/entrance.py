"""What every request passes before FastAPI sees it: who is the caller, and how long may the body be."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from steering.control.api.problems import problem_of
from steering.control.records.auth import Caller, caller_of
from steering.control.records.documents import MAX_DOCUMENT
from steering.control.services.control import Control
from steering.errors import RequestError

LOCAL: Final = "is_local"  # the key in the state of a request: it came over control.sock
MAX_WHO: Final = 600  # bytes, percent-encoded


class Entrance:
    """Answers 401 before a body is read, unless the request came over `control.sock` (as ops) or has a good token.

    /healthz needs neither. The application finds the caller in `request.state.caller`.
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
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            caller = caller_of(authorization, self.control.tokens.known, self.control.clock())
        if caller:
            state["caller"] = caller
            await self.app(scope, receive, send)
            return
        request = f"{scope['method']} {scope['path'][:200]}"
        error = RequestError(f"{request}: no good bearer token", hint="steering token make ROLE", status=401)
        answer = problem_of(error)
        answer.headers["www-authenticate"] = "Bearer"
        await answer(scope, receive, send)


class BodyLimit:
    """Refuses, before it is read, a body that is longer than a fleet document may be."""

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
