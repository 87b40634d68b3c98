"""What every request passes before its body is read: is there a caller, may it call this verb, is the body too long."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from steering.control.api.problems import problem_of
from steering.control.records.auth import Caller, caller_of
from steering.control.services.control import Control
from steering.control.services.events import CONNECTION
from steering.control.verbs import SMALL, VERBS, Verb
from steering.errors import RequestError

LOCAL: Final = "is_local"  # the key in the state of a request: it came over control.sock
CERTIFICATE: Final = "certificate"  # the common name in the client's certificate, empty where it has none
MAX_WHO: Final = 600  # bytes, percent-encoded
PATTERNS: Final = [(compile_path(verb.path)[0], verb) for verb in VERBS if "{" in verb.path]
STATIC: Final[dict[str, dict[str, Verb]]] = {}  # by path and method
for item in VERBS:
    STATIC.setdefault(item.path, {})[item.method] = item


class Entrance:
    """Answers 401, 403, 405, 411 or 413 before a body is read. The application finds `request.state.caller`.

    A caller over `control.sock` is ops; over TCP, a good token names its role, and without a token a client certificate
    the appliance. /healthz needs neither.
    """

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self.app = app
        self.control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its caller, or answer it with a problem document."""
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        try:
            state["caller"] = caller = self.admit(scope)
            if connection := state.get(CONNECTION):
                connection.role = caller.role
        except RequestError as error:
            allowed = {"allow": error.rule} if error.status == HTTPStatus.METHOD_NOT_ALLOWED else None
            await problem_of(error, allowed)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def admit(self, scope: Scope) -> Caller:
        """Return the caller of a request. Raises RequestError where it may not go on."""
        headers = dict(scope["headers"])
        request = f"{scope['method']} {scope['path'][:200]}"
        caller: Caller | None
        state = scope.get("state", {})
        if state.get(LOCAL) is True:
            caller = Caller("ops", "", unquote(headers.get(b"steering-who", b"local")[:MAX_WHO].decode("latin-1")))
        elif state.get(CERTIFICATE) and b"authorization" not in headers:
            caller = Caller("appliance", state[CERTIFICATE], f"certificate of {state[CERTIFICATE]}")
        else:
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            caller = caller_of(authorization, self.control.tokens.known, self.control.clock())
        if caller is None:
            raise RequestError(f"{request}: no good bearer token", hint="steering token make ROLE", status=401)
        verbs = STATIC.get(scope["path"]) or {verb.method: verb for rule, verb in PATTERNS if rule.match(scope["path"])}
        verb = verbs.get(scope["method"])
        if verbs and not verb:
            methods = ", ".join(verbs)
            raise RequestError(f"{request}: only {methods} is allowed", status=405, parameter="method", rule=methods)
        if verb and caller.role not in verb.roles:
            hint = f"it is for {' and '.join(verb.roles)}"
            raise RequestError(f"{request}: not for the role {caller.role}", hint=hint, status=403)
        length, most = headers.get(b"content-length", b"0"), verb.most_bytes if verb else SMALL
        if b"transfer-encoding" in headers:
            raise RequestError(f"{request}: a body needs its Content-Length", status=411)
        if not length.isdigit() or int(length) > most:
            shown = length[:20].decode("latin-1")
            raise RequestError(f"{request}: a body of {shown} bytes; at most {most}", status=413)
        return caller
