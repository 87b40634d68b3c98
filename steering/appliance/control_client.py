"""Requests to control, with the appliance's token. An answer is read up to a limit, then cut off."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from steering.appliance import manifest, recipe
from steering.appliance.manifest import ServerClock
from steering.appliance.settings import ApplianceSettings
from steering.errors import SteeringError

MAX_ANSWER: Final = 16 << 20
TIMEOUT_S: Final = 30.0
NO_ANSWER_S: Final = 5.0  # to the next try where control did not answer at all
PAUSE_S: Final = 30.0  # where control names no Retry-After
MAX_PAUSE_S: Final = 3600.0
NOT_MODIFIED: Final = 304


class ControlError(SteeringError):
    """Control did not answer, or refused. `status` is 0 without an answer; it may be asked again after `pause_s`."""

    def __init__(self, message: str, *, status: int = 0, pause_s: float = PAUSE_S) -> None:
        super().__init__(message)
        self.status = status
        self.pause_s = pause_s


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: httpx.Headers
    body: bytes


class ControlClient:
    """Control's endpoints for appliances; `clock` is set by each answer.

    Raises ControlError for every other answer, and for none.
    """

    def __init__(
        self, settings: ApplianceSettings, token: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = ServerClock()
        self.monotonic = monotonic
        self.http = httpx.AsyncClient(
            base_url=settings.control.rstrip("/"),
            headers={"Authorization": f"Bearer {token}", "User-Agent": "steering-appliance"},
            timeout=TIMEOUT_S,
            verify=verification(settings),
            trust_env=False,
        )

    async def close(self) -> None:
        await self.http.aclose()

    async def manifest(self, etag: str, have: Mapping[str, str]) -> Answer:
        """Return the fill manifest: 200, or 304 if `etag` is still in force."""
        headers = {"If-None-Match": etag} if etag else {}
        query = [("have", f"{service}:{digest}") for service, digest in have.items()]
        return await self.ask("GET", "/v1/fill/manifest", manifest.MAX_DOCUMENT, headers=headers, params=query)

    async def recipe(self, service: str, name: str) -> bytes:
        path = f"/v1/catalogue/{quote(service, safe='')}/{quote(name, safe='')}"
        return (await self.ask("GET", path, recipe.MAX_DOCUMENT)).body

    async def sources(self, service: str, titles: Sequence[str], most: int) -> bytes:
        wanted = {"service": service, "titles": list(titles), "most": most}
        return (await self.ask("POST", "/v1/fill/sources", MAX_ANSWER, json=wanted)).body

    async def report(self, document: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self.ask("POST", "/v1/reports", MAX_ANSWER, json=document)
        try:
            return msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ControlError(f"control's answer to a report: {error}") from None

    async def ask(self, method: str, path: str, most: int, **request: Any) -> Answer:
        """Return control's answer of 200 or 304."""
        try:
            async with self.http.stream(method, path, **request) as answer:
                body = bytearray()
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > most:
                        raise ControlError(f"control: {path} has more than {most} bytes", pause_s=MAX_PAUSE_S)
        except httpx.HTTPError as error:
            raise ControlError(
                f"control: {method} {path}: {error or type(error).__name__}", pause_s=NO_ANSWER_S
            ) from None
        self.clock.set(answer.headers.get("Date", ""), self.monotonic())
        if answer.status_code in (httpx.codes.OK, NOT_MODIFIED):
            return Answer(answer.status_code, answer.headers, bytes(body))
        raise ControlError(
            f"control: {method} {path}: {answer.status_code} {bytes(body[:300]).decode('utf-8', 'replace')}",
            status=answer.status_code,
            pause_s=pause_of(answer.headers.get("Retry-After", "")),
        )


def verification(settings: ApplianceSettings) -> ssl.SSLContext:
    """Return how certificates of control and of sources are checked."""
    return ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)


def pause_of(retry_after: str) -> float:
    """Return the seconds of a Retry-After header; our own pause for another text."""
    return min(float(retry_after), MAX_PAUSE_S) if retry_after.isascii() and retry_after.isdecimal() else PAUSE_S
