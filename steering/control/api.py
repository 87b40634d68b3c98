"""The control door's endpoints: the writer's verbs over HTTP, one after another, their reports as JSON."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any, Literal

import pydantic
from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from steering.control import nouns
from steering.control.callers import Caller
from steering.control.fleet.documents import format_fleet, parse_fleet
from steering.control.loop import Run
from steering.control.network.feeds import FeedSource, Kind
from steering.control.network.fetch import is_url
from steering.control.network.what_if import Question, first_address, what_if
from steering.control.shelf import bring
from steering.control.writer import MAX_TOKEN_NAME, Writer
from steering.errors import PartnerError
from steering.model import Fleet
from steering.snapshot import Snapshot


class Source(pydantic.BaseModel, extra="forbid"):
    """A feed to read: its kind and absolute path; kind `asn` without a path is the shipped table."""

    kind: Kind
    path: str = ""

    @pydantic.model_validator(mode="after")
    def check_path(self) -> Source:
        """Refuse a path that would depend on where the control process stands."""
        if self.path and not pathlib.Path(self.path).is_absolute() and not is_url(self.path):
            raise ValueError(f"path {self.path!r} is neither absolute nor a URL")
        if not self.path and self.kind not in ("asn", "bgp"):
            raise ValueError(f"a {self.kind} feed has a path")
        return self


class Publish(pydantic.BaseModel, extra="forbid"):
    """What to check or publish, and for the record why. No sources: the shipped table."""

    sources: list[Source] = pydantic.Field([Source(kind="asn")], min_length=1, max_length=100)
    why: str = pydantic.Field("", max_length=1000)
    force: str = pydantic.Field("", max_length=1000, description="the reason to publish past the guards")
    canary: float = pydantic.Field(0.0, ge=0, lt=1, description="only this share of the clients that would move")


class Reason(pydantic.BaseModel, extra="forbid"):
    """Why something is done, for the record."""

    why: str = pydantic.Field("", max_length=1000)


WISHES = {"enabled", "weight", "belief"}


class WishChange(pydantic.BaseModel, extra="forbid"):
    """A wish for appliances: `enabled`, `weight` (null is the capacity's), or `belief` (empty is the setting's)."""

    appliances: list[str] = pydantic.Field(min_length=1, max_length=1_000_000)
    enabled: bool = True
    weight: pydantic.StrictInt | None = None
    belief: Literal["", "assumed", "reported"] = ""

    @pydantic.model_validator(mode="after")
    def check_given(self) -> WishChange:
        """Refuse a body that wishes nothing."""
        if not self.model_fields_set & WISHES:
            raise ValueError("give at least one of enabled, weight and belief")
        return self


class TokenWish(pydantic.BaseModel, extra="forbid"):
    """A token to make: for which role, its name for the record, and for how many days (null: until it is revoked)."""

    role: str = pydantic.Field(max_length=100)
    name: str = pydantic.Field("", max_length=MAX_TOKEN_NAME)
    days: float | None = None


def role_in(*roles: str) -> Any:
    """Return the dependency that lets these roles in and gives the caller."""

    def let_in(request: Request) -> Caller:
        caller: Caller = request.state.caller
        if caller.role not in roles:
            raise PartnerError(
                f"{request.method} {request.url.path}: not for the role {caller.role}",
                hint=f"it is for {' and '.join(roles)}",
                status=403,
            )
        return caller

    return Depends(let_in)


OPS = role_in("ops")
OWNERS = role_in("ops", "partner")
EVERY_ROLE = role_in("ops", "partner", "appliance")
Ops = Annotated[Caller, OPS]
Owner = Annotated[Caller, OWNERS]
Version = Annotated[int, Path(ge=1, lt=1 << 32, description="a table's version")]
Page = Annotated[int, Query(ge=1, le=10_000, description="how many at most")]
IfMatch = Annotated[str, Header(max_length=1000, description="the ETag of what was seen")]
IfNoneMatch = Annotated[str, Header(max_length=1000, description="* to make what is not there")]


def make_router(writer: Writer, run: Run, run_soon: Run) -> APIRouter:
    """Return the endpoints over a writer, called through `run`, or `run_soon` where it need not wait for a publish.

    What only looks at the fleet waits for nobody.
    """
    router = APIRouter()

    @router.get("/healthz", summary="Whether the control process answers; for everybody")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.post("/v1/tables/check", summary="What publishing these sources would serve; changes nothing")
    async def check(body: Publish, _: Ops) -> dict[str, Any]:
        return await run(lambda: writer.check(sources_of(body)))

    @router.post("/v1/tables/publish", summary="Read, build, prove and serve a table of these sources")
    async def publish(body: Publish, caller: Ops) -> dict[str, Any]:
        return await run(
            lambda: writer.publish(sources_of(body), caller.who, body.why, force=body.force, canary=body.canary)
        )

    @router.get("/v1/tables", summary="Every published version, newest first")
    async def tables(_: Ops) -> list[dict[str, Any]]:
        return await run_soon(writer.tables)

    @router.get("/v1/tables/{version}", summary="One published version: its sources, counts, time, who and why")
    async def table(version: Version, _: Ops) -> dict[str, Any]:
        return await run_soon(lambda: writer.table(version))

    @router.get("/v1/tables/{before}/diff/{after}", summary="What one kept table changes beside another")
    async def diff(
        before: Version, after: Version, _: Ops, examples: Annotated[int, Query(ge=0, le=100_000)] = 20
    ) -> dict[str, Any]:
        return await run(lambda: writer.diff(before, after, examples))

    @router.post("/v1/tables/{version}/rollback", summary="Serve a kept table again; pins it against reloads")
    async def rollback(version: Version, body: Reason, caller: Ops) -> dict[str, Any]:
        return await run(lambda: writer.rollback(version, caller.who, body.why))

    @router.post("/v1/canary/promote", summary="Serve all clients with the table whose canary serves")
    async def promote(body: Reason, caller: Ops) -> dict[str, Any]:
        return await run(lambda: writer.promote(caller.who, body.why))

    @router.post("/v1/canary/withdraw", summary="Serve all clients with the table from before the canary; pins it")
    async def withdraw(body: Reason, caller: Ops) -> dict[str, Any]:
        return await run(lambda: writer.withdraw(caller.who, body.why))

    @router.post("/v1/pin", summary="Keep the table that serves: no reload replaces it")
    async def pin(body: Reason, caller: Ops) -> dict[str, Any]:
        return await run_soon(lambda: writer.pin(caller.who, body.why))

    @router.delete("/v1/pin", summary="Let reloads publish again")
    async def unpin(caller: Ops) -> dict[str, Any]:
        return await run_soon(lambda: writer.unpin(caller.who))

    @router.get("/v1/routes", summary="The routes of a prefix, of what covers it, and what lies inside it")
    async def routes(prefix: Annotated[str, Query(max_length=64)], _: Ops) -> dict[str, Any]:
        return await run_soon(lambda: writer.routes(prefix))

    @router.post("/v1/reload", summary="Read the last publish's sources again and publish them")
    async def reload(caller: Ops) -> dict[str, Any]:
        return await run(lambda: writer.reload(caller.who))

    @router.get("/v1/explain", summary="Why a client is sent where")
    async def explain(question: Annotated[Question, Depends(asked)], _: Ops) -> dict[str, Any]:
        state = writer.settings.state
        return await to_thread.run_sync(lambda: question.asked_of(Snapshot.map(state)))

    @router.get("/v1/what-if", summary="The same with another table, appliances or sites off, or a route more")
    async def if_so(
        question: Annotated[Question, Depends(asked)],
        _: Ops,
        table: Annotated[int | None, Query(ge=1, lt=1 << 32)] = None,
        off: Annotated[list[str] | None, Query(max_length=1000)] = None,
        route: Annotated[list[str] | None, Query(max_length=100)] = None,
    ) -> dict[str, Any]:
        return await to_thread.run_sync(
            lambda: what_if(writer.settings, question, table=table, off=off or (), routes=route or ())
        )

    @router.get("/v1/reports/routes", summary="What could be mended in the routes, by partner")
    async def report_routes(
        caller: Owner, partner: Annotated[str, Query(max_length=63, description="of this partner alone")] = ""
    ) -> dict[str, Any]:
        if caller.role == "partner":
            if partner not in ("", caller.subject):
                raise nouns.missing("partners", partner)
            partner = caller.subject
        return await run(lambda: writer.route_report(partner))

    @router.get("/v1/sessions", summary="The live BGP sessions, and how many routes each has announced")
    async def sessions(_: Ops) -> list[dict[str, Any]]:
        return writer.sessions()

    @router.get("/v1/fleet", summary="The fleet on record, as a fleet document", response_class=Response)
    async def export_fleet(_: Ops) -> Response:
        document = await run(lambda: format_fleet(writer.fleet()))
        return Response(document, media_type="application/json")

    @router.post("/v1/fleet", summary="Make a fleet document the fleet on record, and the one served")
    async def import_fleet(request: Request, caller: Ops) -> dict[str, Any]:
        document = await request.body()
        return await run(lambda: writer.import_fleet(parse_fleet(document), caller.who))

    @router.get("/v1/wishes", summary="The appliances that are drained, or whose weight was set")
    async def wishes(caller: Owner) -> list[dict[str, Any]]:
        own = seen_by(caller, writer.fleet(), "appliances")
        return [row for row in writer.wished() if own is None or row["appliance"] in own]

    @router.post("/v1/wishes", summary="Drain, enable or weigh appliances, from the next request on")
    async def wish(body: WishChange, caller: Owner) -> dict[str, Any]:
        changes = {name: getattr(body, name) for name in sorted(WISHES & body.model_fields_set)}
        own = seen_by(caller, writer.fleet(), "appliances")
        for name in body.appliances:
            if own is not None and name not in own:
                raise nouns.missing("appliances", name)
        return await run_soon(lambda: writer.wish(body.appliances, caller.who, **changes))

    @router.get("/v1/held", summary="The appliances that seem down and serve on: more than may be inferred at once")
    async def held(_: Ops) -> list[dict[str, Any]]:
        return writer.held()

    @router.post("/v1/held/release", summary="Let them go: a person's word that they are down")
    async def release(body: Reason, caller: Ops) -> dict[str, Any]:
        return await run_soon(lambda: writer.release(caller.who, body.why))

    @router.get("/v1/tokens", summary="Every token ever made; never what opens a door")
    async def list_tokens(_: Ops) -> list[dict[str, Any]]:
        return writer.list_tokens()

    @router.post("/v1/tokens", summary="Make a token; its text is in this answer and nowhere else", status_code=201)
    async def make_token(body: TokenWish, caller: Ops, response: Response) -> dict[str, Any]:
        response.headers["cache-control"] = "no-store"
        return await run_soon(lambda: writer.make_token(body.role, body.name, caller.who, body.days))

    @router.delete("/v1/tokens/{number}", summary="Let a token open no door any more")
    async def revoke_token(number: Annotated[int, Path(ge=1, lt=1 << 63)], caller: Ops) -> dict[str, Any]:
        return await run_soon(lambda: writer.revoke_token(number, caller.who))

    @router.get("/v1/audit", summary="Who changed what, newest first")
    async def audit(
        _: Ops, count: Page = 100, below: Annotated[int | None, Query(ge=1, lt=1 << 62)] = None
    ) -> list[dict[str, Any]]:
        return await run_soon(lambda: writer.audit(count, below))

    add_playlists(router, writer, run)
    for kind in nouns.SINGULAR:
        add_nouns(router, writer, run, kind)
    return router


def add_playlists(router: APIRouter, writer: Writer, run: Run) -> None:
    """Add the endpoints of playlists. A title may have slashes in it."""
    one = "/v1/playlists/{service}/{title:path}/{kind}"

    @router.get("/v1/playlists", summary="The registered playlists, without their texts")
    async def list_playlists(
        _: Ops,
        count: Page = 1000,
        after: Annotated[str, Query(max_length=400, description="begin behind this service/title/kind")] = "",
    ) -> list[dict[str, Any]]:
        return await run(lambda: writer.shelf.rows(count, after))

    @router.get(one, summary="One registered playlist, as it came")
    async def get_playlist(service: str, title: str, kind: str, _: Ops) -> dict[str, Any]:
        return await run(lambda: writer.shelf.get(service, title, kind))

    @router.put(one, summary="Register a playlist; with no body, the one that the service's origin has, from now on")
    async def put_playlist(
        service: str, title: str, kind: str, request: Request, caller: Ops, response: Response
    ) -> dict[str, Any]:
        body, arrived = await request.body() or None, None
        if body is None:
            found = await run(lambda: writer.shelf.require(service, title, kind))
            arrived = await to_thread.run_sync(lambda: bring(writer.settings.state, found, title, kind))
        report = await run(lambda: writer.shelf.put(service, title, kind, body, caller.who, arrived))
        response.status_code = 201 if report["made"] else 200
        return report

    @router.delete(one, summary="Forget a playlist")
    async def delete_playlist(service: str, title: str, kind: str, caller: Ops) -> dict[str, Any]:
        return await run(lambda: writer.shelf.delete(service, title, kind, caller.who))


def asked(
    request: Request,
    ip: Annotated[str, Query(max_length=64, description="an address, or a prefix: its first address")],
    title: Annotated[str, Query(max_length=256)] = "a title",
    service: Annotated[str, Query(max_length=63)] = "",
    session: Annotated[str, Query(max_length=256)] = "",
    n: Annotated[int, Query(ge=1, le=8)] = 3,
    family: Annotated[Literal["4", "6", ""], Query()] = "",
) -> Question:
    """Return the question of a request."""
    default: str = request.app.state.default_service
    return Question(first_address(ip), title, service or default, session, n, int(family or 0))


def add_nouns(router: APIRouter, writer: Writer, run: Run, kind: str) -> None:
    """Add the endpoints of one kind of noun. Who may not see an object is told the same as where there is none."""
    one = nouns.SINGULAR[kind]
    readers = {"services": OPS, "appliances": EVERY_ROLE}.get(kind, OWNERS)

    @router.get(f"/v1/{kind}", summary=f"The {kind}, ordered by id", name=f"list {kind}")
    async def list_rows(
        caller: Caller = readers,
        count: Page = 1000,
        after: Annotated[str, Query(max_length=63, description="begin behind this id")] = "",
    ) -> dict[str, Any]:
        fleet = writer.fleet()
        own = seen_by(caller, fleet, kind)
        rows = [
            row for name, row in nouns.rows_by_id(fleet, kind).items() if name > after and (own is None or name in own)
        ]
        return {kind: rows[:count], "next": rows[count - 1]["id"] if len(rows) > count else None}

    @router.get(f"/v1/{kind}/{{name}}", summary=f"One {one}, with its ETag", name=f"get {one}")
    async def get_row(name: str, response: Response, caller: Caller = readers) -> dict[str, Any]:
        row = find_seen(caller, writer.fleet(), kind, name)
        response.headers["etag"] = nouns.etag_of(row)
        return row

    @router.put(f"/v1/{kind}/{{name}}", summary=f"Make or replace one {one}", name=f"put {one}")
    async def put_row(
        name: str,
        caller: Ops,
        row: dict[str, Any],
        response: Response,
        if_match: IfMatch = "",
        if_none_match: IfNoneMatch = "",
    ) -> dict[str, Any]:
        report = await run(lambda: writer.put(kind, name, row, caller.who, if_match, if_none_match))
        made: dict[str, Any] = report["row"]
        response.status_code = 201 if report["made"] else 200
        response.headers["etag"] = nouns.etag_of(made)
        return made

    @router.delete(f"/v1/{kind}/{{name}}", summary=f"Delete one {one}", name=f"delete {one}", status_code=204)
    async def delete_row(name: str, caller: Ops, if_match: IfMatch = "") -> None:
        await run(lambda: writer.delete(kind, name, caller.who, if_match))


def seen_by(caller: Caller, fleet: Fleet, kind: str) -> set[str] | None:
    """Return the ids of a kind that the caller may know of; None where it is all."""
    if caller.role == "ops":
        return None
    if caller.role == "partner":
        return nouns.ids_of_partner(fleet, kind, caller.subject)
    return {caller.subject} if kind == "appliances" else set()


def find_seen(caller: Caller, fleet: Fleet, kind: str, name: str) -> dict[str, Any]:
    """Return one object that the caller may know of. Raises PartnerError 404."""
    own = seen_by(caller, fleet, kind)
    if own is not None and name not in own:
        raise nouns.missing(kind, name)
    return nouns.find_row(fleet, kind, name)


def sources_of(body: Publish) -> list[FeedSource]:
    """Return the sources of a request."""
    return [FeedSource(source.kind, source.path) for source in body.sources]
