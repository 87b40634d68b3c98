"""The control door's endpoints: the writer's verbs over HTTP, one after another, their reports as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar
from urllib.parse import unquote

import pydantic
from fastapi import APIRouter, Header, Query, Request, Response

from steering.control.fleet.documents import format_fleet, parse_fleet
from steering.control.network.feeds import FeedSource
from steering.control.writer import Writer

T = TypeVar("T")


class Run(Protocol):
    """Calls a verb of the writer in the writer's own thread."""

    def __call__(self, verb: Callable[[], T], /) -> Awaitable[T]:
        """Return what the verb returns."""


Who = Annotated[
    str, Header(alias="Steering-Who", max_length=200, description="who asks, percent-encoded; goes on record")
]


class Source(pydantic.BaseModel, extra="forbid"):
    """A feed to read: its kind and absolute path; kind `asn` without a path is the shipped table."""

    kind: Literal["asn", "csv"]
    path: str = ""

    @pydantic.model_validator(mode="after")
    def check_path(self) -> Source:
        """Refuse a path that would depend on where the control process stands."""
        if self.path and not Path(self.path).is_absolute():
            raise ValueError(f"path {self.path!r} is not absolute")
        if not self.path and self.kind != "asn":
            raise ValueError(f"a {self.kind} feed has a path")
        return self


class Publish(pydantic.BaseModel, extra="forbid"):
    """What to check or publish, and for the record why. No sources: the shipped table."""

    sources: list[Source] = pydantic.Field([Source(kind="asn")], min_length=1, max_length=100)
    why: str = pydantic.Field("", max_length=1000)


class WishChange(pydantic.BaseModel, extra="forbid"):
    """A wish for appliances: `enabled`, or `weight` (null goes back to the capacity's), or both."""

    appliances: list[str] = pydantic.Field(min_length=1, max_length=1_000_000)
    enabled: bool = True
    weight: pydantic.StrictInt | None = None

    @pydantic.model_validator(mode="after")
    def check_given(self) -> WishChange:
        """Refuse a body that wishes nothing."""
        if not self.model_fields_set & {"enabled", "weight"}:
            raise ValueError("give enabled, weight, or both")
        return self


def make_router(writer: Writer, run: Run) -> APIRouter:
    """Return the endpoints over a writer, called through `run`."""
    router = APIRouter()

    @router.get("/healthz", summary="Whether the control process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.post("/v1/tables/check", summary="What publishing these sources would serve; changes nothing")
    async def check(body: Publish) -> dict[str, Any]:
        return await run(lambda: writer.check(sources_of(body)))

    @router.post("/v1/tables/publish", summary="Read, build, prove and serve a table of these sources")
    async def publish(body: Publish, who: Who = "local") -> dict[str, Any]:
        return await run(lambda: writer.publish(sources_of(body), unquote(who), body.why))

    @router.get("/v1/tables", summary="Every published version, newest first")
    async def tables() -> list[dict[str, Any]]:
        return await run(writer.tables)

    @router.get("/v1/routes", summary="The routes of a prefix, of what covers it, and what lies inside it")
    async def routes(prefix: Annotated[str, Query(max_length=64)]) -> dict[str, Any]:
        return await run(lambda: writer.routes(prefix))

    @router.post("/v1/reload", summary="Read the last publish's sources again and publish them")
    async def reload(who: Who = "local") -> dict[str, Any]:
        return await run(lambda: writer.reload(unquote(who)))

    @router.get("/v1/fleet", summary="The fleet on record, as a fleet document", response_class=Response)
    async def export_fleet() -> Response:
        document = await run(lambda: format_fleet(writer.fleet()))
        return Response(document, media_type="application/json")

    @router.post("/v1/fleet", summary="Make a fleet document the fleet on record, and the one served")
    async def import_fleet(request: Request, who: Who = "local") -> dict[str, Any]:
        document = await request.body()
        return await run(lambda: writer.import_fleet(parse_fleet(document), unquote(who)))

    @router.post("/v1/wishes", summary="Drain, enable or weigh appliances, from the next request on")
    async def wish(body: WishChange, who: Who = "local") -> dict[str, Any]:
        changes = {name: getattr(body, name) for name in ("enabled", "weight") if name in body.model_fields_set}
        return await run(lambda: writer.wish(body.appliances, unquote(who), **changes))

    return router


def sources_of(body: Publish) -> list[FeedSource]:
    """Return the sources of a request."""
    return [FeedSource(source.kind, source.path) for source in body.sources]
