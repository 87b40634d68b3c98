"""The control door's endpoints: the control's verbs over HTTP, one after another, their reports as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import pydantic
from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from starlette.types import Receive, Scope, Send

from steering.control.auth import Caller
from steering.control.health.overview import overview
from steering.control.health.presenter import describe, describe_cluster
from steering.control.health.quality import By
from steering.control.health.windows import KINDS as WINDOW_KINDS
from steering.control.health.windows import covers_only
from steering.control.jobs.clockwork import Run
from steering.control.records import fleet_objects as nouns
from steering.control.records.documents import format_fleet, parse_fleet
from steering.control.routes.feeds import FeedSource, Kind
from steering.control.routes.fetch import is_url
from steering.control.services.control import MAX_TOKEN_NAME, Control, no_window
from steering.control.services.events import WIRE, Hub, Listener, Wire, subject_of
from steering.control.services.playlists import bring
from steering.decision.snapshot import Snapshot
from steering.decision.what_if import Question, first_address, what_if
from steering.errors import RequestError
from steering.model.fleet import Fleet


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


KEYS: Final = "/v1/keys"
OVERRIDES = {"enabled", "weight", "health_source"}


class OverrideChange(pydantic.BaseModel, extra="forbid"):
    """A override for appliances: `enabled`, `weight` (null is the capacity's), or `health_source` (empty is the setting's)."""

    appliances: list[str] = pydantic.Field(min_length=1, max_length=1_000_000)
    enabled: bool = True
    weight: pydantic.StrictInt | None = None
    health_source: Literal["", "assumed", "reported"] = ""

    @pydantic.model_validator(mode="after")
    def check_given(self) -> OverrideChange:
        """Refuse a body that overrides nothing."""
        if not self.model_fields_set & OVERRIDES:
            raise ValueError("give at least one of enabled, weight and health_source")
        return self


class WindowRequest(pydantic.BaseModel, extra="forbid"):
    """Maintenance of an appliance, a cluster or a site; times in seconds since 1970, no `begins_at` is now."""

    kind: Literal["appliance", "cluster", "site"]
    subject: str = pydantic.Field(max_length=63)
    begins_at: float | None = None
    ends_at: float
    why: str = pydantic.Field(min_length=1, max_length=1000)


class TokenRequest(pydantic.BaseModel, extra="forbid"):
    """A token to make: for which role, its name for the record, and for how many days (null: until it is revoked)."""

    role: str = pydantic.Field(max_length=100)
    name: str = pydantic.Field("", max_length=MAX_TOKEN_NAME)
    days: float | None = None


SEND_S: Final = 30.0  # for a reader of events to make room for one more


class KeyRequest(pydantic.BaseModel, extra="forbid"):
    """A key to make: its id, and its secret where that is not to be made here."""

    id: str = pydantic.Field(max_length=63)
    secret: pydantic.SecretStr = pydantic.SecretStr("")


def role_in(*roles: str) -> Any:
    """Return the dependency that lets these roles in and gives the caller."""

    def let_in(request: Request) -> Caller:
        caller: Caller = request.state.caller
        if caller.role not in roles:
            raise RequestError(
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
Number = Annotated[int, Path(ge=1, lt=1 << 63)]
Page = Annotated[int, Query(ge=1, le=10_000, description="how many at most")]
OfPartner = Annotated[str, Query(max_length=63, description="of this partner alone")]
IfMatch = Annotated[str, Header(max_length=1000, description="the ETag of what was seen")]
IfNoneMatch = Annotated[str, Header(max_length=1000, description="* to make what is not there")]


def make_router(control: Control, run: Run, run_soon: Run, hub: Hub) -> APIRouter:
    """Return the endpoints over a control, called through `run`, or `run_soon` where it need not wait for a publish.

    What only looks at the fleet waits for nobody. The hub has the events.
    """
    router = APIRouter()

    @router.get("/healthz", summary="Whether the control process answers; for everybody")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.post("/v1/tables/check", summary="What publishing these sources would serve; changes nothing")
    async def check(body: Publish, _: Ops) -> dict[str, Any]:
        return await run(lambda: control.tables.check(sources_of(body)))

    @router.post("/v1/tables/publish", summary="Read, build, prove and serve a table of these sources")
    async def publish(body: Publish, caller: Ops) -> dict[str, Any]:
        return await run(
            lambda: control.tables.publish(sources_of(body), caller.who, body.why, force=body.force, canary=body.canary)
        )

    @router.get("/v1/tables", summary="Every published version, newest first")
    async def tables(_: Ops) -> list[dict[str, Any]]:
        return await run_soon(control.tables.list)

    @router.get("/v1/tables/{version}", summary="One published version: its sources, counts, time, who and why")
    async def table(version: Version, _: Ops) -> dict[str, Any]:
        return await run_soon(lambda: control.tables.get(version))

    @router.get("/v1/tables/{before}/diff/{after}", summary="What one kept table changes beside another")
    async def diff(
        before: Version, after: Version, _: Ops, examples: Annotated[int, Query(ge=0, le=100_000)] = 20
    ) -> dict[str, Any]:
        return await run(lambda: control.tables.diff(before, after, examples))

    @router.post("/v1/tables/{version}/rollback", summary="Serve a kept table again; pins it against reloads")
    async def rollback(version: Version, body: Reason, caller: Ops) -> dict[str, Any]:
        return await run(lambda: control.tables.rollback(version, caller.who, body.why))

    @router.post("/v1/canary/promote", summary="Serve all clients with the table whose canary serves")
    async def promote(body: Reason, caller: Ops) -> dict[str, Any]:
        return await run(lambda: control.tables.promote(caller.who, body.why))

    @router.post("/v1/canary/withdraw", summary="Serve all clients with the table from before the canary; pins it")
    async def withdraw(body: Reason, caller: Ops) -> dict[str, Any]:
        return await run(lambda: control.tables.withdraw(caller.who, body.why))

    @router.post("/v1/pin", summary="Keep the table that serves: no reload replaces it")
    async def pin(body: Reason, caller: Ops) -> dict[str, Any]:
        return await run_soon(lambda: control.tables.pin(caller.who, body.why))

    @router.delete("/v1/pin", summary="Let reloads publish again")
    async def unpin(caller: Ops) -> dict[str, Any]:
        return await run_soon(lambda: control.tables.unpin(caller.who))

    @router.get("/v1/routes", summary="The routes of a prefix, of what covers it, and what lies inside it")
    async def routes(prefix: Annotated[str, Query(max_length=64)], _: Ops) -> dict[str, Any]:
        return await run_soon(lambda: control.tables.routes(prefix))

    @router.post("/v1/reload", summary="Read the last publish's sources again and publish them")
    async def reload(caller: Ops) -> dict[str, Any]:
        return await run(lambda: control.tables.reload(caller.who))

    @router.get("/v1/explain", summary="Why a client is sent where")
    async def explain(question: Annotated[Question, Depends(asked)], _: Ops) -> dict[str, Any]:
        state = control.settings.state
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
            lambda: what_if(control.settings, question, table=table, off=off or (), routes=route or ())
        )

    @router.get("/v1/missing", summary="Titles that clusters were asked for and do not hold, most asked first")
    async def missing(caller: Owner, partner: OfPartner = "", count: Page = 1000) -> list[dict[str, Any]]:
        partner = own_partner(caller, partner)
        return await run_soon(lambda: control.holdings.missing(partner, count))

    @router.get("/v1/quality", summary="How playback goes by what players report, where it hurts most first")
    async def quality(
        caller: Owner, by: By = "partner", partner: OfPartner = "", count: Page = 1000
    ) -> list[dict[str, Any]]:
        partner = own_partner(caller, partner)
        return await to_thread.run_sync(lambda: control.quality.list(by, partner, count))

    @router.get("/v1/reports/routes", summary="What could be mended in the routes, by partner")
    async def report_routes(caller: Owner, partner: OfPartner = "") -> dict[str, Any]:
        partner = own_partner(caller, partner)
        return await run(lambda: control.tables.route_report(partner))

    @router.get("/v1/sessions", summary="The live BGP sessions, and how many routes each has announced")
    async def sessions(_: Ops) -> list[dict[str, Any]]:
        return control.sessions()

    @router.get("/v1/fleet", summary="The fleet on record, as a fleet document", response_class=Response)
    async def export_fleet(_: Ops) -> Response:
        document = await run(lambda: format_fleet(control.fleet.current()))
        return Response(document, media_type="application/json")

    @router.post("/v1/fleet", summary="Make a fleet document the fleet on record, and the one served")
    async def import_fleet(request: Request, caller: Ops) -> dict[str, Any]:
        document = await request.body()
        return await run(lambda: control.fleet.replace(parse_fleet(document), caller.who))

    @router.get("/v1/overrides", summary="The appliances that are drained, or whose weight was set")
    async def overrides(caller: Owner) -> list[dict[str, Any]]:
        own = seen_by(caller, control.fleet.current(), "appliances")
        return [row for row in control.overrides.list() if own is None or row["appliance"] in own]

    @router.post("/v1/overrides", summary="Drain, enable or weigh appliances, from the next request on")
    async def override(body: OverrideChange, caller: Owner) -> dict[str, Any]:
        changes = {name: getattr(body, name) for name in sorted(OVERRIDES & body.model_fields_set)}
        own = seen_by(caller, control.fleet.current(), "appliances")
        for name in body.appliances:
            if own is not None and name not in own:
                raise nouns.missing("appliances", name)
        return await run_soon(lambda: control.overrides.change(body.appliances, caller.who, **changes))

    @router.get("/v1/windows", summary="Maintenance windows that are on or to come; with `ended`, all there ever were")
    async def windows(caller: Owner, ended: bool = False) -> list[dict[str, Any]]:
        rows = await run_soon(lambda: control.maintenance.list(ended))
        fleet = control.fleet.current()
        own = {kind: seen_by(caller, fleet, f"{kind}s") for kind in WINDOW_KINDS}
        return [row for row in rows if (ids := own[row["kind"]]) is None or row["subject"] in ids]

    @router.post("/v1/windows", summary="Plan maintenance; it begins and ends by itself", status_code=201)
    async def add_window(body: WindowRequest, caller: Owner) -> dict[str, Any]:
        missing = nouns.missing(f"{body.kind}s", body.subject)
        require_own(caller, control.fleet.current(), body.kind, body.subject, missing)
        return await run_soon(
            lambda: control.maintenance.add(body.kind, body.subject, body.begins_at, body.ends_at, caller.who, body.why)
        )

    @router.delete("/v1/windows/{number}", summary="Cancel a window that is to come, or end one early that is on")
    async def cancel_window(
        number: Number, caller: Owner, why: Annotated[str, Query(max_length=1000)] = ""
    ) -> dict[str, Any]:
        def cancel() -> dict[str, Any]:
            window = control.maintenance.get(number)
            require_own(caller, control.fleet.current(), window.kind, window.subject, no_window(number))
            return control.maintenance.cancel(number, caller.who, why)

        return await run_soon(cancel)

    @router.get("/v1/state", summary="The fleet at a glance: totals, worst clusters, recent changes, alarms")
    async def state(_: Ops, count: Annotated[int, Query(ge=0, le=1000)] = 20) -> dict[str, Any]:
        changes = hub.recent(count)
        found = await to_thread.run_sync(lambda: overview(control.registry, control.fleet.current(), count))
        now = control.clock()
        return {
            "at": now,
            "serving": control.hand_over.serving(),
            **found,
            "windows_on": control.maintenance.count_on(),
            "alarms": [dataclasses.asdict(alarm) for alarm in control.registry.alarms()],
            "changes": changes,
        }

    @router.get("/v1/alarms", summary="The alarms that are raised; with `resolved`, also those lately over")
    async def alarms(caller: Owner, resolved: bool = False) -> list[dict[str, Any]]:
        sees = eyes_of(caller, control)
        found = [dataclasses.asdict(alarm) for alarm in control.registry.alarms() if sees(subject_of(alarm))]
        over = [event.data for event in hub.ring if event.kind == "alarm" and sees(event.subject)] if resolved else []
        return found + [row for row in reversed(over) if row["resolved"]]

    @router.get(
        "/v1/events",
        summary="State changes and alarms as server-sent events",
        response_class=EventStream,
        status_code=200,
    )
    async def events(
        caller: Annotated[Caller, EVERY_ROLE], last_event_id: Annotated[str, Header(max_length=100)] = ""
    ) -> EventStream:
        def is_good() -> bool:
            token = control.tokens.known.get(caller.token)
            return not caller.token or (token is not None and token.is_good(control.clock()))

        owner = "" if caller.role == "ops" else f"{caller.role}:{caller.subject}"
        return EventStream(hub, hub.listen(owner, eyes_of(caller, control), last_event_id), is_good)

    @router.get("/v1/held", summary="The appliances that seem down and serve on: more than may be inferred at once")
    async def held(_: Ops) -> list[dict[str, Any]]:
        return control.ejections.list()

    @router.post("/v1/held/release", summary="Let them go: a person's word that they are down")
    async def release(body: Reason, caller: Ops) -> dict[str, Any]:
        return await run_soon(lambda: control.ejections.release(caller.who, body.why))

    @router.get("/v1/tokens", summary="Every token ever made; never what opens a door")
    async def list_tokens(_: Ops) -> list[dict[str, Any]]:
        return control.tokens.list()

    @router.post("/v1/tokens", summary="Make a token; its text is in this answer and nowhere else", status_code=201)
    async def make_token(body: TokenRequest, caller: Ops, response: Response) -> dict[str, Any]:
        response.headers["cache-control"] = "no-store"
        return await run_soon(lambda: control.tokens.make(body.role, body.name, caller.who, body.days))

    @router.delete("/v1/tokens/{number}", summary="Let a token open no door any more")
    async def revoke_token(number: Number, caller: Ops) -> dict[str, Any]:
        return await run_soon(lambda: control.tokens.revoke(number, caller.who))

    @router.get(KEYS, summary="Every key that URLs are signed with, and for which services; never its secret")
    async def list_keys(_: Ops) -> list[dict[str, Any]]:
        return await run_soon(control.keys.list)

    @router.post(KEYS, summary="Make a key; its secret is in this answer and nowhere else", status_code=201)
    async def make_key(body: KeyRequest, caller: Ops, response: Response) -> dict[str, Any]:
        response.headers["cache-control"] = "no-store"
        return await run_soon(lambda: control.keys.make(body.id, caller.who, body.secret.get_secret_value()))

    @router.delete(f"{KEYS}/{{name}}", summary="Take a key away that no service names any more")
    async def retire_key(name: str, caller: Ops) -> dict[str, Any]:
        return await run_soon(lambda: control.keys.retire(name, caller.who))

    @router.get("/v1/audit", summary="Who changed what, newest first")
    async def audit(
        _: Ops, count: Page = 100, below: Annotated[int | None, Query(ge=1, lt=1 << 62)] = None
    ) -> list[dict[str, Any]]:
        return await run_soon(lambda: control.audit.list(count, below))

    add_playlists(router, control, run)
    for kind in nouns.SINGULAR:
        add_nouns(router, control, run, kind)
    return router


def add_playlists(router: APIRouter, control: Control, run: Run) -> None:
    """Add the endpoints of playlists. A title may have slashes in it."""
    one = "/v1/playlists/{service}/{title:path}/{kind}"

    @router.get("/v1/playlists", summary="The registered playlists, without their texts")
    async def list_playlists(
        _: Ops,
        count: Page = 1000,
        after: Annotated[str, Query(max_length=400, description="begin behind this service/title/kind")] = "",
    ) -> list[dict[str, Any]]:
        return await run(lambda: control.playlists.rows(count, after))

    @router.get(one, summary="One registered playlist, as it came")
    async def get_playlist(service: str, title: str, kind: str, _: Ops) -> dict[str, Any]:
        return await run(lambda: control.playlists.get(service, title, kind))

    @router.put(one, summary="Register a playlist; with no body, the one that the service's origin has, from now on")
    async def put_playlist(
        service: str, title: str, kind: str, request: Request, caller: Ops, response: Response
    ) -> dict[str, Any]:
        body, arrived = await request.body() or None, None
        if body is None:
            found = await run(lambda: control.playlists.require(service, title, kind))
            arrived = await to_thread.run_sync(lambda: bring(control.settings.state, found, title, kind))
        report = await run(lambda: control.playlists.put(service, title, kind, body, caller.who, arrived))
        response.status_code = 201 if report["made"] else 200
        return report

    @router.delete(one, summary="Forget a playlist")
    async def delete_playlist(service: str, title: str, kind: str, caller: Ops) -> dict[str, Any]:
        return await run(lambda: control.playlists.delete(service, title, kind, caller.who))


def asked(
    request: Request,
    ip: Annotated[str, Query(max_length=64, description="an address, or a prefix: its first address")],
    title: Annotated[str, Query(max_length=256)] = "a title",
    service: Annotated[str, Query(max_length=63)] = "",
    session: Annotated[str, Query(max_length=256)] = "",
    n: Annotated[int | None, Query(ge=1, le=8)] = None,
    family: Annotated[Literal["4", "6", ""], Query()] = "",
) -> Question:
    """Return the question of a request."""
    default: str = request.app.state.default_service
    return Question(first_address(ip), title, service or default, session, n or 0, int(family or 0))


def add_nouns(router: APIRouter, control: Control, run: Run, kind: str) -> None:
    """Add the endpoints of one kind of noun. Who may not see an object is told the same as where there is none."""
    one = nouns.SINGULAR[kind]
    readers = {"services": OPS, "appliances": EVERY_ROLE}.get(kind, OWNERS)

    @router.get(f"/v1/{kind}", summary=f"The {kind}, ordered by id", name=f"list {kind}")
    async def list_rows(
        caller: Caller = readers,
        count: Page = 1000,
        after: Annotated[str, Query(max_length=63, description="begin behind this id")] = "",
    ) -> dict[str, Any]:
        def find() -> dict[str, Any]:
            fleet = control.fleet.current()
            own = seen_by(caller, fleet, kind)
            rows = [
                row
                for name, row in nouns.rows_by_id(fleet, kind).items()
                if name > after and (own is None or name in own)
            ]
            following = rows[count - 1]["id"] if len(rows) > count else None
            return {kind: [with_state(control, kind, row) for row in rows[:count]], "next": following}

        return await to_thread.run_sync(find)

    @router.get(f"/v1/{kind}/{{name}}", summary=f"One {one}, with its ETag", name=f"get {one}")
    async def get_row(name: str, response: Response, caller: Caller = readers) -> dict[str, Any]:
        row = find_seen(caller, control.fleet.current(), kind, name)
        response.headers["etag"] = nouns.etag_of(row)
        return with_state(control, kind, row)

    @router.put(f"/v1/{kind}/{{name}}", summary=f"Make or replace one {one}", name=f"put {one}")
    async def put_row(
        name: str,
        caller: Ops,
        row: dict[str, Any],
        response: Response,
        if_match: IfMatch = "",
        if_none_match: IfNoneMatch = "",
    ) -> dict[str, Any]:
        if kind in DESCRIBED:
            row.pop("state", None)  # who changes an object sends back what was read
        report = await run(lambda: control.fleet.put(kind, name, row, caller.who, if_match, if_none_match))
        made: dict[str, Any] = report["row"]
        response.status_code = 201 if report["made"] else 200
        response.headers["etag"] = nouns.etag_of(made)
        return with_state(control, kind, made)

    @router.delete(f"/v1/{kind}/{{name}}", summary=f"Delete one {one}", name=f"delete {one}", status_code=204)
    async def delete_row(name: str, caller: Ops, if_match: IfMatch = "") -> None:
        await run(lambda: control.fleet.delete(kind, name, caller.who, if_match))


def own_partner(caller: Caller, partner: str) -> str:
    """Return whose rows are asked for, empty for all; a partner has its own. Raises RequestError 404."""
    if caller.role == "partner":
        if partner not in ("", caller.subject):
            raise nouns.missing("partners", partner)
        return caller.subject
    return partner


def seen_by(caller: Caller, fleet: Fleet, kind: str) -> set[str] | None:
    """Return the ids of a kind that the caller may know of; None where it is all."""
    if caller.role == "ops":
        return None
    if caller.role == "partner":
        return nouns.ids_of_partner(fleet, kind, caller.subject)
    return {caller.subject} if kind == "appliances" else set()


DESCRIBED: Final = ("appliances", "clusters")


def with_state(control: Control, kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return an object with its state of this moment, which is no part of it; null where it has only just come."""
    if kind == "clusters":
        return {**row, "state": describe_cluster(control.registry, row["id"])}
    if kind == "appliances":
        try:
            return {**row, "state": describe(control.registry, row["id"])}
        except RequestError:
            return {**row, "state": None}
    return row


def eyes_of(caller: Caller, control: Control) -> Callable[[str], bool]:
    """Return what tells whether the caller may know of an event's subject, by the fleet on record at that moment."""
    if caller.role == "ops":
        return lambda _: True
    seen: tuple[Fleet | None, frozenset[str]] = None, frozenset()

    def sees(subject: str) -> bool:
        nonlocal seen
        fleet = control.fleet.current()
        if fleet is not seen[0]:
            own = {kind: seen_by(caller, fleet, kind) or () for kind in DESCRIBED}
            seen = fleet, frozenset(f"{kind}/{name}" for kind, names in own.items() for name in names)
        return subject in seen[1]

    return sees


def require_own(caller: Caller, fleet: Fleet, kind: str, subject: str, missing: RequestError) -> None:
    """Raise `missing` where a window's subject is not the caller's to know of, and 403 where it is not its alone."""
    own = seen_by(caller, fleet, f"{kind}s")
    if own is None:
        return
    if subject not in own:
        raise missing
    if not covers_only(kind, subject, fleet, nouns.ids_of_partner(fleet, "clusters", caller.subject)):
        raise RequestError(f"{kind} {subject}: is not yours alone", hint="name your clusters there", status=403)


class EventStream(Response):
    """A listener's events, as long as somebody reads them; who does not is cut off."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, listener: Listener, is_good: Callable[[], bool]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.hub = hub
        self.listener = listener
        self.is_good = is_good

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the reader is gone, its token is no longer good, or the process ends."""
        wire: Wire | None = scope.get("state", {}).get(WIRE)
        if wire:
            wire.leaving.append(lambda: self.listener.end("bye", {"why": "control ends; come back"}))
        gone = asyncio.create_task(self.until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with contextlib.aclosing(self.listener.chunks()) as chunks:
                async for chunk in chunks:
                    if not self.is_good():
                        break
                    async with asyncio.timeout(SEND_S):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            if wire:
                wire.abort()
        finally:
            gone.cancel()
            self.hub.leave(self.listener)

    async def until_gone(self, receive: Receive) -> None:
        """Wait for the reader to go, and end its events."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.listener.end("bye", {})


def find_seen(caller: Caller, fleet: Fleet, kind: str, name: str) -> dict[str, Any]:
    """Return one object that the caller may know of. Raises RequestError 404."""
    own = seen_by(caller, fleet, kind)
    if own is not None and name not in own:
        raise nouns.missing(kind, name)
    return nouns.find_row(fleet, kind, name)


def sources_of(body: Publish) -> list[FeedSource]:
    """Return the sources of a request."""
    return [FeedSource(source.kind, source.path) for source in body.sources]
