"""How a verb becomes an endpoint: it has the verb's path and method, and runs in the thread that the verb names.

A verb is answered by the service's method of its name: `tables.pin` by `control.tables.pin`, called with the arguments
that the verb takes, read from the request as ARGUMENTS says. A verb that needs more has a function of its own:

    @answers("explain")
    def explain(api: Api, question: Asked) -> Any: ...

The first parameter is given here; FastAPI reads the others from the request. An `async` function is awaited in the
event loop and calls `api.run` itself where it needs the control thread. Answers are encoded where the verb runs.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec
import pydantic
from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from steering.control.api.access import own_partner
from steering.control.health.quality import By
from steering.control.records.auth import Caller
from steering.control.services.control import Control
from steering.control.services.events import Hub
from steering.control.verbs import BY_NAME, Runs, Verb

T = TypeVar("T")
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
    """What every endpoint may use."""

    control: Control
    thread: Thread
    hub: Hub

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


class Reason(pydantic.BaseModel, extra="forbid"):
    """The reason for a change, for the audit log."""

    why: str = pydantic.Field("", max_length=MAX_WHY)


async def caller_of(request: Request) -> Caller:
    """Return the caller that the entrance let in."""
    caller: Caller = request.state.caller
    return caller


Asking = Annotated[Caller, Depends(caller_of)]


async def who_of(caller: Asking) -> str:
    """Return the name of the caller for the audit log."""
    return caller.who


async def why_of(body: Reason) -> str:
    """Return the reason in a request."""
    return body.why


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
    "why": Annotated[str, Depends(why_of)],
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

    def answer(api: Api, **given: Any) -> Any:
        method = operator.attrgetter(verb.name)(api.control)
        return method(**{argument: given[key] for argument, key in taken.items()})

    parameter = functools.partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    first = inspect.Parameter("api", inspect.Parameter.POSITIONAL_ONLY)
    others = (
        parameter(key, annotation=ARGUMENTS[key], default=DEFAULTS.get(key, inspect.Parameter.empty))
        for key in taken.values()
    )
    answer.__signature__ = inspect.Signature([first, *others])  # type: ignore[attr-defined]
    return answer


def add_endpoint(router: APIRouter, api: Api, verb: Verb) -> None:
    """Add the endpoint of a verb to a router."""
    function = FUNCTIONS.get(verb.name) or service_function(verb)
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    async def endpoint(response: Response, **given: Any) -> Response:
        if "response" in function.__annotations__:
            given["response"] = response
        if inspect.iscoroutinefunction(function):
            content = encoded(await function(api, **given))
        else:
            content = await api.run(verb.name, lambda: encoded(function(api, **given)))
        if isinstance(content, Response):
            return content
        return Response(content, response.status_code or verb.status, dict(response.headers), "application/json")

    answered = inspect.Parameter("response", inspect.Parameter.KEYWORD_ONLY, annotation=Response)
    others = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [answered, *(parameter for parameter in others if parameter.name != "response")]
    )
    router.add_api_route(
        verb.path,
        endpoint,
        methods=[verb.method],
        name=verb.name,
        summary=verb.summary,
        status_code=verb.status,
        response_model=None,
    )


def encoded(answer: Any) -> bytes | Response:
    """Return an answer as JSON, nothing for None, and a whole response as it is."""
    if isinstance(answer, Response):
        return answer
    return b"" if answer is None else msgspec.json.encode(answer)
