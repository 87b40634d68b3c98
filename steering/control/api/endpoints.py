"""How a function becomes an endpoint: the verb of its name gives it a path, the roles that may call it, and a thread.

    endpoints = Endpoints()

    @endpoints.verb("tables.pin")
    def pin(api: Api, body: Reason, caller: Asking) -> dict[str, Any]:
        return api.control.tables.pin(caller.who, body.why)

The first parameter is given by `register`; FastAPI reads the others from the request. An `async` function is awaited in
the event loop and calls `api.run` itself where it needs the control thread.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Protocol, TypeVar

import pydantic
from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Request

from steering.control.records.auth import Caller
from steering.control.services.control import Control
from steering.control.services.events import Hub
from steering.control.verbs import BY_NAME, Runs
from steering.errors import RequestError

T = TypeVar("T")
Function = Callable[..., Any]


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


class Endpoints:
    """The endpoints of one module."""

    def __init__(self) -> None:
        self.functions: list[tuple[str, Function]] = []

    def verb(self, name: str) -> Callable[[Function], Function]:
        """Return the decorator for the function that answers a verb."""

        def note(function: Function) -> Function:
            self.functions.append((name, function))
            return function

        return note

    def register(self, router: APIRouter, api: Api) -> None:
        """Add the endpoints to a router."""
        for name, function in self.functions:
            add_endpoint(router, api, name, function)


def add_endpoint(router: APIRouter, api: Api, name: str, function: Function) -> None:
    """Add one endpoint to a router."""
    verb = BY_NAME[name]
    signature = inspect.signature(function, eval_str=True)

    async def endpoint(**arguments: Any) -> Any:
        answer = functools.partial(function, api, **arguments)
        return await (answer() if inspect.iscoroutinefunction(function) else api.run(name, answer))

    parameters = list(signature.parameters.values())[1:]
    endpoint.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    router.add_api_route(
        verb.path,
        endpoint,
        methods=[verb.method],
        name=name,
        summary=verb.summary,
        status_code=verb.status,
        dependencies=[Depends(require_role(verb.roles))],
    )


def require_role(roles: tuple[str, ...]) -> Callable[[Request], None]:
    """Return the dependency that refuses callers of other roles."""

    def check(request: Request) -> None:
        caller: Caller = request.state.caller
        if caller.role not in roles:
            raise RequestError(
                f"{request.method} {request.url.path}: not for the role {caller.role}",
                hint=f"it is for {' and '.join(roles)}",
                status=403,
            )

    return check


def caller_of(request: Request) -> Caller:
    """Return the caller that the entrance let in."""
    caller: Caller = request.state.caller
    return caller


async def body_of(request: Request) -> bytes:
    """Return the whole body of a request."""
    return await request.body()


class Reason(pydantic.BaseModel, extra="forbid"):
    """The reason for a change, for the audit log."""

    why: str = pydantic.Field("", max_length=1000)


Asking = Annotated[Caller, Depends(caller_of)]
Body = Annotated[bytes, Depends(body_of)]
Version = Annotated[int, Path(ge=1, lt=1 << 32, description="a table's version")]
Number = Annotated[int, Path(ge=1, lt=1 << 63)]
Count = Annotated[int, Query(ge=1, le=10_000, description="the most rows to return")]
OfPartner = Annotated[str, Query(max_length=63, description="only rows of this partner")]
MAX_WHY: Final = 1000
