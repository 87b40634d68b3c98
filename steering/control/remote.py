"""The writer's verbs from another process: over `control.sock`, and `open_writer`, which finds out."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import httpx

from steering.control.records.documents import format_fleet, parse_fleet
from steering.control.routes.build import Progress, quiet
from steering.control.routes.feeds import FeedSource
from steering.control.services.writer import Writer
from steering.errors import FeedError, RequestError, SettingsError, SnapshotError, SteeringError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.folder import SOCKET, LockHeldError, make_folder

PATIENCE_S: Final = 10.0  # a control process starting up, or another command's publish, is done by then
OTHERS: Final = {"SettingsError": SettingsError, "FeedError": FeedError, "SnapshotError": SnapshotError}
CONNECT_S: Final = 5.0
TIMEOUT: Final = httpx.Timeout(CONNECT_S, read=900.0)  # a publish of a large table answers when it serves


class RemoteWriter:
    """The verbs of `Writer`, done by the running control process. Raises what the writer there raised."""

    def __init__(self, settings: Settings) -> None:
        self.path = str(settings.state / SOCKET)
        # There is no TLS on this socket, and loading the certificates of all authorities takes 20 ms.
        transport = httpx.HTTPTransport(uds=self.path, verify=False)
        self.client = httpx.Client(transport=transport, base_url="http://control", timeout=TIMEOUT)

    def __enter__(self) -> RemoteWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def answers(self) -> bool:
        """Tell whether a control process is there."""
        # Where control has just died, the client would leave a socket open.
        asked = http.client.HTTPConnection("control", timeout=CONNECT_S)
        try:
            with socket.socket(socket.AF_UNIX) as asked.sock:
                asked.sock.settimeout(CONNECT_S)
                asked.sock.connect(self.path)
                asked.request("GET", "/healthz")
                answer = asked.getresponse()
                answer.read()
                return answer.status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def ask(self, method: str, path: str, who: str = "", **body: Any) -> httpx.Response:
        """Return the answer to one request, or raise the error that it reports."""
        headers = {"Steering-Who": quote(who)} if who else {}
        try:
            answer = self.client.request(method, path, headers=headers, **body)
        except httpx.TransportError as error:
            raise SettingsError(
                f"control went away during {method} {path}: {error}", hint="`steering table list` shows what is serving"
            ) from error
        if answer.is_error:
            raise error_of(answer)
        return answer

    def fleet(self) -> Fleet:
        """Return the fleet on record, unnumbered."""
        return parse_fleet(self.ask("GET", "/v1/fleet").content)

    def import_fleet(self, fleet: Fleet, who: str) -> dict[str, Any]:
        """As `Writer.import_fleet`."""
        return report(self.ask("POST", "/v1/fleet", who, content=format_fleet(fleet).encode()))

    def check(self, sources: Sequence[FeedSource], progress: Progress = quiet) -> dict[str, Any]:
        """As `Writer.check`."""
        progress("check in the control process")
        return report(self.ask("POST", "/v1/tables/check", json={"sources": rows_of(sources)}))

    def publish(
        self,
        sources: Sequence[FeedSource],
        who: str,
        why: str = "",
        progress: Progress = quiet,
        force: str = "",
        canary: float = 0.0,
    ) -> dict[str, Any]:
        """As `Writer.publish`."""
        progress("publish in the control process")
        body = {"sources": rows_of(sources), "why": why, "force": force, "canary": canary}
        return report(self.ask("POST", "/v1/tables/publish", who, json=body))

    def rollback(self, version: int, who: str, why: str = "") -> dict[str, Any]:
        """As `Writer.rollback`."""
        return report(self.ask("POST", f"/v1/tables/{version}/rollback", who, json={"why": why}))

    def promote(self, who: str, why: str = "") -> dict[str, Any]:
        """As `Writer.promote`."""
        return report(self.ask("POST", "/v1/canary/promote", who, json={"why": why}))

    def withdraw(self, who: str, why: str = "") -> dict[str, Any]:
        """As `Writer.withdraw`."""
        return report(self.ask("POST", "/v1/canary/withdraw", who, json={"why": why}))

    def pin(self, who: str, why: str = "") -> dict[str, Any]:
        """As `Writer.pin`."""
        return report(self.ask("POST", "/v1/pin", who, json={"why": why}))

    def unpin(self, who: str) -> dict[str, Any]:
        """As `Writer.unpin`."""
        return report(self.ask("DELETE", "/v1/pin", who))

    def diff(self, before: int, after: int, examples: int = 20) -> dict[str, Any]:
        """As `Writer.diff`."""
        return report(self.ask("GET", f"/v1/tables/{before}/diff/{after}", params={"examples": examples}))

    def table(self, version: int) -> dict[str, Any]:
        """As `Writer.table`."""
        return report(self.ask("GET", f"/v1/tables/{version}"))

    def reload(self, who: str, progress: Progress = quiet) -> dict[str, Any]:
        """As `Writer.reload`."""
        progress("reload in the control process")
        return report(self.ask("POST", "/v1/reload", who))

    def tables(self) -> list[dict[str, Any]]:
        """As `Writer.tables`."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/tables").json()
        return rows

    def route_report(self, partner: str = "") -> dict[str, Any]:
        """As `Writer.route_report`."""
        return report(self.ask("GET", "/v1/reports/routes", params={"partner": partner}))

    def missing(self, partner: str = "", count: int = 1000) -> list[dict[str, Any]]:
        """As `Writer.missing`."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/missing", params={"partner": partner, "count": count}).json()
        return rows

    def quality(self, by: str = "partner", partner: str = "", count: int = 1000) -> list[dict[str, Any]]:
        """As `Writer.quality`."""
        params: dict[str, Any] = {"by": by, "partner": partner, "count": count}
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/quality", params=params).json()
        return rows

    def sessions(self) -> list[dict[str, Any]]:
        """As `Writer.sessions`."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/sessions").json()
        return rows

    def routes(self, prefix: str) -> dict[str, Any]:
        """As `Writer.routes`."""
        return report(self.ask("GET", "/v1/routes", params={"prefix": prefix}))

    def drain(self, ids: Sequence[str], who: str) -> dict[str, Any]:
        """As `Writer.drain`."""
        return report(self.ask("POST", "/v1/overrides", who, json={"appliances": list(ids), "enabled": False}))

    def enable(self, ids: Sequence[str], who: str) -> dict[str, Any]:
        """As `Writer.enable`."""
        return report(self.ask("POST", "/v1/overrides", who, json={"appliances": list(ids), "enabled": True}))

    def weight(self, ids: Sequence[str], value: int | None, who: str) -> dict[str, Any]:
        """As `Writer.weight`."""
        return report(self.ask("POST", "/v1/overrides", who, json={"appliances": list(ids), "weight": value}))

    def add_window(
        self, kind: str, subject: str, begins_at: float | None, ends_at: float, who: str, why: str
    ) -> dict[str, Any]:
        """As `Writer.add_window`."""
        body = {"kind": kind, "subject": subject, "begins_at": begins_at, "ends_at": ends_at, "why": why}
        return report(self.ask("POST", "/v1/windows", who, json=body))

    def cancel_window(self, number: int, who: str, why: str = "") -> dict[str, Any]:
        """As `Writer.cancel_window`."""
        return report(self.ask("DELETE", f"/v1/windows/{number}", who, params={"why": why}))

    def windows(self, ended: bool = False) -> list[dict[str, Any]]:
        """As `Writer.windows`."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/windows", params={"ended": ended}).json()
        return rows

    def overview(self, count: int = 20) -> dict[str, Any]:
        """Return the fleet at a glance, with so many of the worst clusters and of the last changes."""
        return report(self.ask("GET", "/v1/state", params={"count": count}))

    def alarms(self, resolved: bool = False) -> list[dict[str, Any]]:
        """Return the alarms that are raised, and with `resolved` those lately over."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/alarms", params={"resolved": resolved}).json()
        return rows

    def set_health_source(self, ids: Sequence[str], health_source: str, who: str) -> dict[str, Any]:
        """As `Writer.set_health_source`."""
        return report(
            self.ask("POST", "/v1/overrides", who, json={"appliances": list(ids), "health_source": health_source})
        )

    def held(self) -> list[dict[str, Any]]:
        """As `Writer.held`."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/held").json()
        return rows

    def release(self, who: str, why: str = "") -> dict[str, Any]:
        """As `Writer.release`."""
        return report(self.ask("POST", "/v1/held/release", who, json={"why": why}))

    def make_token(self, role: str, name: str, who: str, days: float | None = None) -> dict[str, Any]:
        """As `Writer.make_token`."""
        return report(self.ask("POST", "/v1/tokens", who, json={"role": role, "name": name, "days": days}))

    def list_tokens(self) -> list[dict[str, Any]]:
        """As `Writer.list_tokens`."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/tokens").json()
        return rows

    def revoke_token(self, number: int, who: str) -> dict[str, Any]:
        """As `Writer.revoke_token`."""
        return report(self.ask("DELETE", f"/v1/tokens/{number}", who))

    def make_key(self, name: str, who: str, secret: str = "") -> dict[str, Any]:
        """As `Writer.make_key`."""
        return report(self.ask("POST", "/v1/keys", who, json={"id": name, "secret": secret}))

    def list_keys(self) -> list[dict[str, Any]]:
        """As `Writer.list_keys`."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/keys").json()
        return rows

    def retire_key(self, name: str, who: str) -> dict[str, Any]:
        """As `Writer.retire_key`."""
        return report(self.ask("DELETE", f"/v1/keys/{quote(name, safe='')}", who))

    @property
    def shelf(self) -> RemoteShelf:
        """As `Writer.shelf`."""
        return RemoteShelf(self)

    def audit(self, count: int = 100, below: int | None = None) -> list[dict[str, Any]]:
        """As `Writer.audit`."""
        params = {"count": count} | ({"below": below} if below else {})
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/audit", params=params).json()
        return rows


class RemoteShelf:
    """The verbs of `Shelf`, done by the running control process."""

    def __init__(self, writer: RemoteWriter) -> None:
        self.ask = writer.ask

    def put(self, service: str, title: str, kind: str, body: bytes | None, who: str) -> dict[str, Any]:
        """As `Shelf.put`."""
        return report(
            self.ask("PUT", path_of(service, title, kind), who, content=b"" if body is None else body or b"\n")
        )

    def rows(self, count: int = 1000, after: str = "") -> list[dict[str, Any]]:
        """As `Shelf.rows`."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/playlists", params={"count": count, "after": after}).json()
        return rows

    def get(self, service: str, title: str, kind: str) -> dict[str, Any]:
        """As `Shelf.get`."""
        return report(self.ask("GET", path_of(service, title, kind)))

    def delete(self, service: str, title: str, kind: str, who: str) -> dict[str, Any]:
        """As `Shelf.delete`."""
        return report(self.ask("DELETE", path_of(service, title, kind), who))


def path_of(service: str, title: str, kind: str) -> str:
    """Return the path of a playlist."""
    return "/v1/playlists/" + "/".join(quote(part, safe="") for part in (service, title, kind))


def running_control(settings: Settings) -> RemoteWriter:
    """Return the running control process. Raises SettingsError where none answers: what is live, nobody else knows."""
    remote = RemoteWriter(settings)
    if not remote.answers():
        remote.close()
        raise SettingsError(
            f"state folder {settings.state}: no control process answers on {SOCKET}", hint="steering serve"
        )
    return remote


def report(answer: httpx.Response) -> dict[str, Any]:
    """Return the report in an answer."""
    found: dict[str, Any] = answer.json()
    return found


def rows_of(sources: Sequence[FeedSource]) -> list[dict[str, str]]:
    """Return sources as a request has them."""
    return [{"kind": source.kind, "path": source.path} for source in sources]


def error_of(answer: httpx.Response) -> SteeringError:
    """Return the error of a problem document, of the class that was raised in the control process."""
    if answer.headers.get("content-type") != "application/problem+json":
        return RequestError(
            f"control answered {answer.status_code}", hint="its log says why", status=answer.status_code
        )
    problem = answer.json()
    if kind := OTHERS.get(problem.get("error", "")):
        return kind(problem["detail"], problem.get("hint", ""))
    members = {name: problem[name] for name in ("parameter", "value", "rule") if name in problem}
    return RequestError(problem["detail"], problem.get("hint", ""), status=problem["status"], **members)


def open_writer(
    settings: Settings, patience_s: float = PATIENCE_S, pause: Callable[[float], None] = time.sleep
) -> Writer | RemoteWriter:
    """Return the running control process, or where there is none, a writer in this process.

    Where somebody else holds the lock and answers to nobody, it waits so long and then raises SettingsError.
    """
    make_folder(settings.state)
    tries = max(1, round(patience_s / 0.1))
    while True:
        tries -= 1
        if (settings.state / SOCKET).exists():
            remote = RemoteWriter(settings)
            if remote.answers():
                return remote
            remote.close()
        try:
            return Writer(settings)
        except LockHeldError:
            if not tries:
                raise
        pause(0.1)
