"""The control's verbs from another process: over `control.sock`, and `open_control`, which finds out."""

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
from steering.control.services.control import Control
from steering.errors import FeedError, RequestError, SettingsError, SnapshotError, SteeringError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.folder import SOCKET, LockHeldError, make_folder

PATIENCE_S: Final = 10.0  # a control process starting up, or another command's publish, is done by then
OTHERS: Final = {"SettingsError": SettingsError, "FeedError": FeedError, "SnapshotError": SnapshotError}
CONNECT_S: Final = 5.0
Rows = list[dict[str, Any]]
TIMEOUT: Final = httpx.Timeout(CONNECT_S, read=900.0)  # a publish of a large table answers when it serves


class Group:
    """Verbs of one concern; `ask` sends one request to the control process."""

    def __init__(self, ask: Callable[..., httpx.Response]) -> None:
        self.ask = ask


class RemoteTables(Group):
    """The verbs of `control.tables`."""

    def check(self, sources: Sequence[FeedSource], progress: Progress = quiet) -> dict[str, Any]:
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
        progress("publish in the control process")
        body = {"sources": rows_of(sources), "why": why, "force": force, "canary": canary}
        return report(self.ask("POST", "/v1/tables/publish", who, json=body))

    def reload(self, who: str, progress: Progress = quiet) -> dict[str, Any]:
        progress("reload in the control process")
        return report(self.ask("POST", "/v1/reload", who))

    def rollback(self, version: int, who: str, why: str = "") -> dict[str, Any]:
        return report(self.ask("POST", f"/v1/tables/{version}/rollback", who, json={"why": why}))

    def promote(self, who: str, why: str = "") -> dict[str, Any]:
        return report(self.ask("POST", "/v1/canary/promote", who, json={"why": why}))

    def withdraw(self, who: str, why: str = "") -> dict[str, Any]:
        return report(self.ask("POST", "/v1/canary/withdraw", who, json={"why": why}))

    def pin(self, who: str, why: str = "") -> dict[str, Any]:
        return report(self.ask("POST", "/v1/pin", who, json={"why": why}))

    def unpin(self, who: str) -> dict[str, Any]:
        return report(self.ask("DELETE", "/v1/pin", who))

    def diff(self, before: int, after: int, examples: int = 20) -> dict[str, Any]:
        return report(self.ask("GET", f"/v1/tables/{before}/diff/{after}", params={"examples": examples}))

    def list(self) -> Rows:
        rows: Rows = self.ask("GET", "/v1/tables").json()
        return rows

    def get(self, version: int) -> dict[str, Any]:
        return report(self.ask("GET", f"/v1/tables/{version}"))

    def routes(self, prefix: str) -> dict[str, Any]:
        return report(self.ask("GET", "/v1/routes", params={"prefix": prefix}))

    def route_report(self, partner: str = "") -> dict[str, Any]:
        return report(self.ask("GET", "/v1/reports/routes", params={"partner": partner}))


class RemoteFleet(Group):
    """The verbs of `control.fleet`."""

    def current(self) -> Fleet:
        """Return the fleet on record, unnumbered."""
        return parse_fleet(self.ask("GET", "/v1/fleet").content)

    def replace(self, fleet: Fleet, who: str) -> dict[str, Any]:
        return report(self.ask("POST", "/v1/fleet", who, content=format_fleet(fleet).encode()))


class RemoteOverrides(Group):
    """The verbs of `control.overrides`."""

    def drain(self, ids: Sequence[str], who: str) -> dict[str, Any]:
        return report(self.ask("POST", "/v1/overrides", who, json={"appliances": list(ids), "enabled": False}))

    def enable(self, ids: Sequence[str], who: str) -> dict[str, Any]:
        return report(self.ask("POST", "/v1/overrides", who, json={"appliances": list(ids), "enabled": True}))

    def weight(self, ids: Sequence[str], value: int | None, who: str) -> dict[str, Any]:
        return report(self.ask("POST", "/v1/overrides", who, json={"appliances": list(ids), "weight": value}))

    def set_health_source(self, ids: Sequence[str], health_source: str, who: str) -> dict[str, Any]:
        return report(
            self.ask("POST", "/v1/overrides", who, json={"appliances": list(ids), "health_source": health_source})
        )


class RemoteMaintenance(Group):
    """The verbs of `control.maintenance`."""

    def add(
        self, kind: str, subject: str, begins_at: float | None, ends_at: float, who: str, why: str
    ) -> dict[str, Any]:
        body = {"kind": kind, "subject": subject, "begins_at": begins_at, "ends_at": ends_at, "why": why}
        return report(self.ask("POST", "/v1/windows", who, json=body))

    def cancel(self, number: int, who: str, why: str = "") -> dict[str, Any]:
        return report(self.ask("DELETE", f"/v1/windows/{number}", who, params={"why": why}))

    def list(self, ended: bool = False) -> Rows:
        rows: Rows = self.ask("GET", "/v1/windows", params={"ended": ended}).json()
        return rows


class RemoteEjections(Group):
    """The verbs of `control.ejections`."""

    def list(self) -> Rows:
        rows: Rows = self.ask("GET", "/v1/held").json()
        return rows

    def release(self, who: str, why: str = "") -> dict[str, Any]:
        return report(self.ask("POST", "/v1/held/release", who, json={"why": why}))


class RemoteTokens(Group):
    """The verbs of `control.tokens`."""

    def make(self, role: str, name: str, who: str, days: float | None = None) -> dict[str, Any]:
        return report(self.ask("POST", "/v1/tokens", who, json={"role": role, "name": name, "days": days}))

    def list(self) -> Rows:
        rows: Rows = self.ask("GET", "/v1/tokens").json()
        return rows

    def revoke(self, number: int, who: str) -> dict[str, Any]:
        return report(self.ask("DELETE", f"/v1/tokens/{number}", who))


class RemoteKeys(Group):
    """The verbs of `control.keys`."""

    def make(self, name: str, who: str, secret: str = "") -> dict[str, Any]:
        return report(self.ask("POST", "/v1/keys", who, json={"id": name, "secret": secret}))

    def list(self) -> Rows:
        rows: Rows = self.ask("GET", "/v1/keys").json()
        return rows

    def retire(self, name: str, who: str) -> dict[str, Any]:
        return report(self.ask("DELETE", f"/v1/keys/{quote(name, safe='')}", who))


class RemoteHoldings(Group):
    """The verbs of `control.holdings`."""

    def missing(self, partner: str = "", count: int = 1000) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/missing", params={"partner": partner, "count": count}).json()
        return rows


class RemoteQuality(Group):
    """The verbs of `control.quality`."""

    def list(self, by: str = "partner", partner: str = "", count: int = 1000) -> Rows:
        params: dict[str, Any] = {"by": by, "partner": partner, "count": count}
        rows: Rows = self.ask("GET", "/v1/quality", params=params).json()
        return rows


class RemoteAudit(Group):
    """The verbs of `control.audit`."""

    def list(self, count: int = 100, below: int | None = None) -> Rows:
        params = {"count": count} | ({"below": below} if below else {})
        rows: Rows = self.ask("GET", "/v1/audit", params=params).json()
        return rows


class RemotePlaylists(Group):
    """The verbs of `control.playlists`."""

    def put(self, service: str, title: str, kind: str, body: bytes | None, who: str) -> dict[str, Any]:
        return report(
            self.ask("PUT", path_of(service, title, kind), who, content=b"" if body is None else body or b"\n")
        )

    def rows(self, count: int = 1000, after: str = "") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/playlists", params={"count": count, "after": after}).json()
        return rows

    def get(self, service: str, title: str, kind: str) -> dict[str, Any]:
        return report(self.ask("GET", path_of(service, title, kind)))

    def delete(self, service: str, title: str, kind: str, who: str) -> dict[str, Any]:
        return report(self.ask("DELETE", path_of(service, title, kind), who))


class RemoteControl:
    """The verbs of `Control`, done by the running control process. Raises what the control there raised."""

    def __init__(self, settings: Settings) -> None:
        self.path = str(settings.state / SOCKET)
        # There is no TLS on this socket, and loading the certificates of all authorities takes 20 ms.
        transport = httpx.HTTPTransport(uds=self.path, verify=False)
        self.client = httpx.Client(transport=transport, base_url="http://control", timeout=TIMEOUT)
        self.tables = RemoteTables(self.ask)
        self.fleet = RemoteFleet(self.ask)
        self.overrides = RemoteOverrides(self.ask)
        self.maintenance = RemoteMaintenance(self.ask)
        self.ejections = RemoteEjections(self.ask)
        self.tokens = RemoteTokens(self.ask)
        self.keys = RemoteKeys(self.ask)
        self.holdings = RemoteHoldings(self.ask)
        self.quality = RemoteQuality(self.ask)
        self.audit = RemoteAudit(self.ask)
        self.playlists = RemotePlaylists(self.ask)

    def __enter__(self) -> RemoteControl:
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

    def sessions(self) -> list[dict[str, Any]]:
        """As `Control.sessions`."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/sessions").json()
        return rows

    def overview(self, count: int = 20) -> dict[str, Any]:
        """Return the fleet at a glance, with so many of the worst clusters and of the last changes."""
        return report(self.ask("GET", "/v1/state", params={"count": count}))

    def alarms(self, resolved: bool = False) -> list[dict[str, Any]]:
        """Return the alarms that are raised, and with `resolved` those lately over."""
        rows: list[dict[str, Any]] = self.ask("GET", "/v1/alarms", params={"resolved": resolved}).json()
        return rows


def path_of(service: str, title: str, kind: str) -> str:
    """Return the path of a playlist."""
    return "/v1/playlists/" + "/".join(quote(part, safe="") for part in (service, title, kind))


def running_control(settings: Settings) -> RemoteControl:
    """Return the running control process. Raises SettingsError where none answers: what is live, nobody else knows."""
    remote = RemoteControl(settings)
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


def open_control(
    settings: Settings, patience_s: float = PATIENCE_S, pause: Callable[[float], None] = time.sleep
) -> Control | RemoteControl:
    """Return the running control process, or where there is none, a control in this process.

    Where somebody else holds the lock and answers to nobody, it waits so long and then raises SettingsError.
    """
    make_folder(settings.state)
    tries = max(1, round(patience_s / 0.1))
    while True:
        tries -= 1
        if (settings.state / SOCKET).exists():
            remote = RemoteControl(settings)
            if remote.answers():
                return remote
            remote.close()
        try:
            return Control(settings)
        except LockHeldError:
            if not tries:
                raise
        pause(0.1)
