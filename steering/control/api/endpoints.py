"""How a verb becomes an endpoint: it has the verb's path and method, and runs in the thread that the verb names.

A verb is answered by the service's method of its name: `tables.pin` by `control.tables.pin`, called with the arguments
that the verb takes, read from the request as ARGUMENTS says. A verb that needs more has a function of its own:

    @answers("explain")
    def explain(api: Api, question: Asked) -> Any: ...

The first parameter is given here; FastAPI reads the others from the request. An `async` function is awaited in the
event loop and calls `api.run` itself where it needs the control thread. A parameter `body` of a msgspec struct is the
JSON of the request's body. Bodies are decoded where the verb runs, not in the event loop; answers are encoded there,
too, but in a thread of their own where that is the control thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from msgspec import Meta, Struct

from steering.control.api.access import own_partner
from steering.control.api.report_format import REFERENCE, fault_of
from steering.control.health.quality import By
from steering.control.records.auth import Caller
from steering.control.services.control import Control
from steering.control.services.events import Hub
from steering.control.verbs import BY_NAME, Runs, Verb
from steering.errors import RequestError
from steering.escape import for_json

T = TypeVar("T")
S = TypeVar("S", bound=Struct)
Function = Callable[..., Any]
FUNCTIONS: Final[dict[str, Function]] = {}  # by the name of their verb
MAX_WHY: Final = 1000


class Thread(Protocol):
    """The control thread."""

    def run(self, verb: Callable[[], T]) -> Awaitable[T]:
        """Return what a verb returns, after the verbs before it."""

    def run_during_publish(self, verb: Callable[[], T]) -> Awaitable[T]:
        """Return what a verb returns, also while a publish waits for its child process."""


@dataclasses.dataclass(frozen=True, slots=True)
class Api:
    """What every endpoint may use.

    `of_many` lets one change of very many appliances be made at a time, and `encoders` two large answers be encoded.
    """

    control: Control
    thread: Thread
    hub: Hub
    of_many: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    encoders: CapacityLimiter = dataclasses.field(default_factory=lambda: CapacityLimiter(2))

    async def run(self, name: str, function: Callable[[], T]) -> T:
        """Return what a function returns, run where its verb is declared to run."""
        runs = BY_NAME[name].runs
        if runs is Runs.AFTER_PUBLISH:
            return await self.thread.run(function)
        if runs is Runs.DURING_PUBLISH:
            return await self.thread.run_during_publish(function)
        if runs is Runs.ASIDE:
            return await to_thread.run_sync(function)
        return function()


Why = Annotated[str, Meta(max_length=MAX_WHY)]


class Reason(Struct, frozen=True, forbid_unknown_fields=True):
    """The reason for a change, for the audit log."""

    why: Why = ""


async def caller_of(request: Request) -> Caller:
    """Return the caller that the entrance let in."""
    caller: Caller = request.state.caller
    return caller


Asking = Annotated[Caller, Depends(caller_of)]


async def who_of(caller: Asking) -> str:
    """Return the name of the caller for the audit log."""
    return caller.who


async def partner_of(
    caller: Asking, partner: Annotated[str, Query(max_length=63, description="only rows of this partner")] = ""
) -> str:
    """Return the partner whose rows the caller asks for and may see, empty for all."""
    return own_partner(caller, partner)


async def body_of(request: Request) -> bytes:
    """Return the whole body of a request."""
    return await request.body()


Body = Annotated[bytes, Depends(body_of)]
Version = Annotated[int, Path(ge=1, lt=1 << 32, description="a table's version")]
Number = Annotated[int, Path(ge=1, lt=1 << 63)]
Count = Annotated[int, Query(ge=1, le=10_000, description="the most rows to return")]
# Where the arguments of services come from, and the defaults of those that a request may leave out.
ARGUMENTS: Final[dict[str, Any]] = {
    "who": Annotated[str, Depends(who_of)],
    "partner": Annotated[str, Depends(partner_of)],
    **dict.fromkeys(("version", "before", "after"), Version),
    **dict.fromkeys(("name", "service", "title", "kind"), str),
    "number": Number,
    "examples": Annotated[int, Query(ge=0, le=100_000)],
    "prefix": Annotated[str, Query(max_length=64)],
    "count": Count,
    "by": By,
}
DEFAULTS: Final[dict[str, Any]] = {"examples": 20, "count": 1000, "by": "partner"}


def answers(name: str) -> Callable[[Function], Function]:
    """Return the decorator for the function that answers a verb."""

    def note(function: Function) -> Function:
        FUNCTIONS[name] = function
        return function

    return note


def service_function(verb: Verb) -> Function:
    """Return the function that answers a verb by the service's method of its name."""
    taken = {argument: key for argument, key in verb.takes.items() if key in ARGUMENTS}

    def answer(api: Api, *, body: Reason | None = None, **given: Any) -> Any:
        method = operator.attrgetter(verb.name)(api.control)
        why = {"why": body.why} if body else {}
        return method(**{argument: given[key] for argument, key in taken.items()}, **why)

    parameter = functools.partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    parameters = [inspect.Parameter("api", inspect.Parameter.POSITIONAL_ONLY)]
    if "why" in verb.takes:
        parameters.append(parameter("body", annotation=Reason))
    for key in taken.values():
        default = DEFAULTS.get(key, inspect.Parameter.empty)
        parameters.append(parameter(key, annotation=ARGUMENTS[key], default=default))
    answer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return answer


def add_endpoint(router: APIRouter, api: Api, verb: Verb) -> None:
    """Add the endpoint of a verb to a router."""
    function = FUNCTIONS.get(verb.name) or service_function(verb)
    parameters = {parameter.name: parameter for parameter in parameters_of(function)}
    takes_response = parameters.pop("response", None) is not None
    is_async = inspect.iscoroutinefunction(function)
    body_type = parameters["body"].annotation if "body" in parameters else bytes
    if is_struct(body_type):
        parameters["body"] = parameters["body"].replace(annotation=Body)

    async def endpoint(response: Response, **given: Any) -> Response:
        def answer() -> Any:
            if is_struct(body_type):
                given["body"] = read_body(verb, given["body"], body_type)
            return function(api, **given)

        if takes_response:
            given["response"] = response
        if verb.runs in (Runs.AFTER_PUBLISH, Runs.DURING_PUBLISH):
            made = await (answer() if is_async else api.run(verb.name, answer))
            content = await to_thread.run_sync(encoded, made, limiter=api.encoders)
        else:
            content = await api.run(verb.name, lambda: encoded(answer()))
        if isinstance(content, Response):
            return content
        return Response(content, response.status_code or verb.status, dict(response.headers), "application/json")

    first = inspect.Parameter("response", inspect.Parameter.KEYWORD_ONLY, annotation=Response)
    endpoint.__signature__ = inspect.Signature([first, *parameters.values()])  # type: ignore[attr-defined]
    router.add_api_route(
        verb.path,
        endpoint,
        methods=[verb.method],
        name=verb.name,
        summary=verb.summary,
        status_code=verb.status,
        response_model=None,
        openapi_extra=described(body_type),
    )


def parameters_of(function: Function) -> list[inspect.Parameter]:
    """Return the parameters of a function that the request gives."""
    signature = inspect.signature(function, eval_str=True)
    return [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in list(signature.parameters.values())[1:]]


def is_struct(kind: Any) -> bool:
    """Return whether a body is decoded to this type."""
    return isinstance(kind, type) and issubclass(kind, Struct)


def described(kind: Any) -> dict[str, Any] | None:
    """Return what OpenAPI shows of a body."""
    if not is_struct(kind):
        return None
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=REFERENCE)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def body_types() -> list[type[Struct]]:
    """Return the types of all bodies that are structs."""
    annotations = [item.annotation for function in FUNCTIONS.values() for item in parameters_of(function)]
    return [Reason, *(kind for kind in annotations if is_struct(kind))]


def read_body(verb: Verb, body: bytes, kind: type[S]) -> S:
    """Return a body as a struct. Raises RequestError 422 that names the field, its value and the rule."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fault = fault_of(error, body)
        value = "" if verb.path.startswith("/v1/keys") else fault.value  # it may be a secret
        raise RequestError.of_parameter(fault.field, value, fault.rule, status=422) from None


def encoded(answer: Any) -> bytes | Response:
    """Return an answer as JSON, nothing for None, and a whole response as it is."""
    if isinstance(answer, Response):
        return answer
    return b"" if answer is None else for_json(answer)
