"""`POST /v1/reports`: reports of appliances and monitors, used row by row, without FastAPI's cost.

    body -> unpacked -> rows (`report_format.py`) -> caller checked -> health and routes to the registry, in the loop
                                                                    -> holdings to `HoldingsReported`, in a thread

19,000 appliances report every ten seconds, so this is a raw ASGI callable; `app.py` adds it to the OpenAPI document.
Large bodies and lists of titles are processed in one thread, so that the loop keeps answering. An appliance may report
only itself. Ops may report any appliance: that is a monitor's observation, used for inference only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from steering.control.api.report_format import (
    ENCODER,
    REFERENCE,
    BatchResult,
    Fault,
    HealthSource,
    ReportRow,
    RowResult,
    parse,
    report_of,
    unpack,
)
from steering.control.fill.holdings import HoldingsReported
from steering.control.fill.holdings_rows import HoldingsRow
from steering.control.health.registry import Registry
from steering.control.records.auth import Caller
from steering.control.services.fill_answers import FillAnswers
from steering.control.verbs import BY_NAME
from steering.errors import RequestError
from steering.escape import escaped_json

PATH: Final = BY_NAME["reports"].path
SMALL_BODY: Final = 16_384  # bytes that are parsed in the loop: at most a millisecond
MOST_PACKED: Final = 64  # how many bytes a byte of gzip is taken for: a bomb has a thousand
MOST_WAITING: Final = 256 << 20  # bytes of all bodies at once
ROWS_AT_ONCE: Final = 200  # of a batch; after them the loop answers others


def schema_of(name: str) -> dict[str, str]:
    """Return the OpenAPI reference to a schema of `report_format.py`."""
    return {"$ref": REFERENCE.format(name=name)}


ROW: Final = schema_of("ReportRow")
DESCRIPTION: Final[dict[str, Any]] = {
    "summary": "Reports of appliances: health and headroom, holdings, routes heard",
    "description": "One report, or an array, which is answered row by row. `Content-Encoding: gzip` is accepted.",
    "operationId": "report",
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"anyOf": [ROW, {"type": "array", "items": ROW}]}}},
    },
    "responses": {
        "200": {
            "description": "The result of each report",
            "content": {"application/json": {"schema": {"anyOf": [schema_of("RowResult"), schema_of("BatchResult")]}}},
        },
        **{
            status: {"description": text, "content": {"application/problem+json": {}}}
            for status, text in (
                ("400", "The body is neither JSON nor compressed JSON"),
                ("403", "The report is of another appliance than the token's"),
                ("404", "The report is of no appliance of the fleet"),
                ("411", "The body has no Content-Length"),
                ("413", "The body is too long, compressed or not"),
                ("415", "The body has another Content-Encoding than gzip"),
                ("422", "The report breaks a rule; field and rule are named"),
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


class ReportsEndpoint:
    """The endpoint behind the entrance, which knows the caller and the length; `refuse` answers an error."""

    def __init__(
        self,
        registry: Registry,
        holdings: HoldingsReported,
        fill: FillAnswers,
        refuse: Callable[[RequestError], Endpoint],
    ) -> None:
        self.fill = fill
        self.registry = registry
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
        headers = dict(scope["headers"])
        encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        rows = await self.read(int(headers.get(b"content-length", b"0")), encoding, receive)
        if not isinstance(rows, list):
            return escaped_json(ENCODER.encode(await self.finish(rows, self.take(rows, caller))))
        results: list[RowResult] = []
        for number, row in enumerate(rows):
            try:
                result = self.take(row, caller)
            except RequestError as error:
                result = RowResult(row.appliance, "refused", f"row {number}: {error.message}")
            results.append(await self.finish(row, result))
            if number % ROWS_AT_ONCE == ROWS_AT_ONCE - 1:
                await asyncio.sleep(0)
        return escaped_json(ENCODER.encode(BatchResult(results)))

    async def read(self, length: int, encoding: str, receive: Receive) -> ReportRow | Fault | list[ReportRow | Fault]:
        """Return the reports in the body of a request. Raises RequestError."""
        if self.waiting + length > MOST_WAITING:
            raise RequestError("too many large reports at once", hint="send it again later", status=503)
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
                raise RequestError("the client closed the connection before the end of the body")
            if len(body) * (MOST_PACKED if encoding else 1) <= SMALL_BODY:
                return parse(unpack(body, encoding))
            return await self.in_thread(lambda: parse(unpack(body, encoding)))
        finally:
            self.waiting -= length

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run a function in the thread for holdings and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    def take(self, row: ReportRow | Fault, caller: Caller) -> RowResult:
        """Use the health and routes of a row. Raises RequestError naming field, value and rule."""
        if isinstance(row, Fault):
            raise RequestError(str(row), status=422, parameter=row.field, value=row.value, rule=row.rule)
        own = caller.role == "appliance"
        if own and row.appliance != caller.subject:
            raise RequestError.of_parameter("appliance", row.appliance, f"{caller.subject}, as the token says", 403)
        verdict = self.registry.report(row.appliance, report_of(row), None if own else caller.token)
        health_source: HealthSource = "reported" if self.registry.is_reported(row.appliance) else "assumed"
        return RowResult(row.appliance, verdict, health_source=health_source)  # type: ignore[arg-type]

    async def finish(self, row: ReportRow | Fault, result: RowResult) -> RowResult:
        """Use the holdings of a row that was accepted or repeated, and return its result.

        Holdings of a repeated report are used again: perhaps the first answer was lost, and digests protect them.
        """
        progress = row.fill if isinstance(row, ReportRow) and result.result == "accepted" else None
        if progress and (progress.active or progress.done or progress.failed):  # most appliances fetch nothing
            await self.in_thread(lambda: self.fill.take_progress(row.appliance, progress))
        if not isinstance(row, ReportRow) or row.holdings is None or result.result not in ("accepted", "repeated"):
            return result
        lists: Sequence[HoldingsRow] = row.holdings if isinstance(row.holdings, list) else [row.holdings]
        if self.holdings.is_unchanged(row.appliance, lists):
            return result
        taken = await self.in_thread(lambda: self.holdings.take(row.appliance, lists))
        return RowResult(row.appliance, result.result, taken.error, taken.resync, result.health_source)
