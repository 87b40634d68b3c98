"""`POST /v1/reports`: what appliances say of themselves, taken row by row, before FastAPI costs anything.

    body -> unpacked -> rows (`wire.py`) -> whose word is it? -> health and routes to `Vitals`, at once, in the loop
                                                              -> holdings to `HoldingsReported`, in a thread of its own

19,000 appliances report every ten seconds, so this is a raw ASGI callable; `app.py` documents it. What is large, or
is a list of titles, is worked on in the one thread, and the loop goes on answering. An appliance reports itself alone;
ops report any appliance, and that is a monitor's word (`own` False): inferred, not believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar

from steering.control.fill.holdings import HoldingsReported
from steering.control.health.report_format import (
    ENCODER,
    MAX_BODY,
    BatchResult,
    Fault,
    HoldingsRow,
    ReportRow,
    RowResult,
    parse,
    report_of,
    unpack,
)
from steering.control.health.rules import Report
from steering.control.records.auth import Caller
from steering.errors import RequestError

PATH: Final = "/v1/reports"
LIGHT: Final = 16_384  # bytes of a body that is read in the loop: a millisecond at most, also where it unpacks badly
MOST_WAITING: Final = 256 << 20  # bytes of all bodies at once
BREATH: Final = 200  # rows of a batch; between, others are answered


def schema_of(name: str) -> dict[str, str]:
    """Return where OpenAPI finds a schema of `wire.py`."""
    return {"$ref": f"#/components/schemas/{name}"}


ROW: Final = schema_of("ReportRow")
DESCRIPTION: Final[dict[str, Any]] = {
    "summary": "Reports of appliances: health and headroom, holdings, routes heard",
    "description": "One report, or an array of them, which is answered row by row. `Content-Encoding: gzip` is taken.",
    "operationId": "report",
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"anyOf": [ROW, {"type": "array", "items": ROW}]}}},
    },
    "responses": {
        "200": {
            "description": "What became of each report",
            "content": {"application/json": {"schema": {"anyOf": [schema_of("RowResult"), schema_of("BatchResult")]}}},
        },
        **{
            status: {"description": text, "content": {"application/problem+json": {}}}
            for status, text in (
                ("400", "The body is neither JSON nor packed JSON"),
                ("403", "The report is of another appliance than the token's"),
                ("404", "The report is of no appliance of the fleet"),
                ("411", "The body does not say its length"),
                ("413", "The body is too long, as it is or unpacked"),
                ("415", "The body is packed by other means than gzip"),
                ("422", "The report breaks a rule, which is named with its field"),
                ("503", "Too many large reports at once"),
            )
        },
    },
}

T = TypeVar("T")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Endpoint = Callable[[Message, Receive, Send], Awaitable[None]]


class Vitals(Protocol):
    """What takes health and routes."""

    def report(self, name: str, report: Report, own: bool) -> str:
        """Return accepted, repeated or late. Raises RequestError 404 where there is no such appliance."""

    def believed(self, name: str) -> bool:
        """Tell whether the appliance is believed by its reports."""


class ReportsEndpoint:
    """The endpoint. `scope["state"]["caller"]` says who asks; `refuse` makes a problem document of an error."""

    def __init__(self, vitals: Vitals, holdings: HoldingsReported, refuse: Callable[[RequestError], Endpoint]) -> None:
        self.vitals = vitals
        self.holdings = holdings
        self.refuse = refuse
        self.waiting = 0
        self.thread = ThreadPoolExecutor(1, "holdings")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await self.answer(scope, receive)
        except RequestError as error:
            await self.refuse(error)(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def answer(self, scope: Message, receive: Receive) -> bytes:
        """Return the body of an answer. Raises RequestError."""
        caller: Caller = scope["state"]["caller"]
        if scope["method"] != "POST":
            raise RequestError(f"{scope['method']} {PATH}: it takes POST", status=405)
        if caller.role not in ("appliance", "ops"):
            raise RequestError(
                f"POST {PATH}: not for the role {caller.role}", hint="it is for appliance and ops", status=403
            )
        said = await self.read(*framing_of(scope), receive)
        if not isinstance(said, list):
            return ENCODER.encode(await self.finish(said, self.judge(said, caller)))
        results: list[RowResult] = []
        for number, row in enumerate(said):
            try:
                result = self.judge(row, caller)
            except RequestError as error:
                result = RowResult(row.appliance, "refused", f"row {number}: {error.message}")
            results.append(await self.finish(row, result))
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
        return ENCODER.encode(BatchResult(results))

    async def read(self, length: int, encoding: str, receive: Receive) -> ReportRow | Fault | list[ReportRow | Fault]:
        """Return what the body of a request says."""
        if self.waiting + length > MOST_WAITING:
            raise RequestError("too many large reports at once", hint="send it again a little later", status=503)
        self.waiting += length
        try:
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body"):
                parts = [body]
                while message.get("more_body"):
                    message = await receive()
                    parts.append(message.get("body", b""))
                body = b"".join(parts)
            if message["type"] != "http.request":
                raise RequestError("the client went away in its body")
            if len(body) <= LIGHT:
                return parse(unpack(body, encoding))
            return await self.apart(lambda: parse(unpack(body, encoding)))
        finally:
            self.waiting -= length

    async def apart(self, work: Callable[[], T]) -> T:
        """Return what some work in the thread for holdings returns."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    def judge(self, row: ReportRow | Fault, caller: Caller) -> RowResult:
        """Take the health and routes of a row. Raises RequestError, which names what is wrong with it."""
        if isinstance(row, Fault):
            raise RequestError(str(row), status=422, parameter=row.field, value=row.value, rule=row.rule)
        own = caller.role == "appliance"
        if own and row.appliance != caller.subject:
            raise RequestError.of_parameter("appliance", row.appliance, f"{caller.subject}, as the token says", 403)
        found = self.vitals.report(row.appliance, report_of(row), own)
        return RowResult(row.appliance, found, believed=self.vitals.believed(row.appliance))  # type: ignore[arg-type]

    async def finish(self, row: ReportRow | Fault, result: RowResult) -> RowResult:
        """Take the holdings of a row, where it has any and is not too late, and return its result.

        Those of a repeated report are looked at again: the answer may be what was lost, and digests guard them.
        """
        if not isinstance(row, ReportRow) or row.holdings is None or result.result not in ("accepted", "repeated"):
            return result
        said: Sequence[HoldingsRow] = row.holdings if isinstance(row.holdings, list) else [row.holdings]
        if self.holdings.agree(row.appliance, said):
            return result
        found = await self.apart(lambda: self.holdings.take(row.appliance, said))
        return RowResult(row.appliance, result.result, found.error, found.resync, result.believed)


def framing_of(scope: Message) -> tuple[int, str]:
    """Return length and encoding of a request's body. Raises RequestError where it may not be read."""
    length, encoding = b"", b""
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"content-encoding":
            encoding = value
        elif name == b"transfer-encoding":
            raise RequestError("a body needs its Content-Length", status=411)
    if not length.isdigit():
        raise RequestError("a body needs its Content-Length", status=411)
    if int(length) > MAX_BODY:
        raise RequestError(f"a body of {length[:20].decode()} bytes; at most {MAX_BODY}", status=413)
    return int(length), encoding.decode("latin-1").strip().lower()
