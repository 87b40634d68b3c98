"""The job that tells alarms to a webhook: one JSON object a POST, in order, resolved ones too.

Raising an alarm never waits: it is queued, in a bounded queue whose oldest is given up, and counted, when it is full.
A POST that is not taken is tried again after a pause that doubles, with jitter; what is refused outright (4xx) is
logged and left. The URL is a secret: logs say its host and no more, and errors are named by their class.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import logging
import random
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import httpx

from steering.control.health.alarms import Alarm
from steering.control.jobs.clockwork import Run
from steering.control.services.control import Control
from steering.settings import Settings

QUEUE: Final = 1000
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
AGAIN: Final = {408, 425, 429}  # beside 5xx: try again

logger = logging.getLogger("steering.alarms")


class Webhook:
    """The job that tells alarms to the setting `alarm_url`."""

    def __init__(self, settings: Settings, pause: Callable[[float], Any] = asyncio.sleep) -> None:
        assert settings.alarm_url
        self.url = httpx.URL(settings.alarm_url.get_secret_value())
        self.timeout_s = settings.alarm_timeout_s
        self.keep_s = settings.alarm_keep_s
        self.pause = pause
        self.host = socket.gethostname()
        self.boot = f"{time.time_ns() // 1_000_000:x}"
        self.number = 0
        self.given_up = 0
        self.waiting: deque[tuple[float, dict[str, Any]]] = deque()  # until when it is worth telling, and what
        self.awake = asyncio.Event()

    def tell(self, alarm: Alarm) -> None:
        """Queue an alarm, to be told in turn."""
        self.number += 1
        state = "resolved" if alarm.resolved else "raised"
        if len(self.waiting) >= QUEUE:
            self.waiting.popleft()
            self.given_up += 1
        body = {
            "id": f"{self.boot}-{self.number}",  # the same in each try: who gets it twice can tell
            "source": "steering",
            "host": self.host,
            "state": state,
            "kind": alarm.kind,
            "subject": alarm.subject,
            "at": alarm.at,
            "text": f"steering on {self.host}: {state}: {alarm.text}",
        }
        self.waiting.append((time.monotonic() + self.keep_s, body))
        self.awake.set()

    async def __call__(self, _: Control, __: Run) -> None:
        """Tell what is queued, until cancelled."""
        async with httpx.AsyncHTTPTransport() as transport:
            while True:
                while self.waiting:
                    until, body = self.waiting.popleft()
                    await self.deliver(transport, {**body, "given_up": self.given_up}, until)
                self.awake.clear()
                await self.awake.wait()

    async def deliver(self, transport: httpx.AsyncBaseTransport, body: dict[str, Any], until: float) -> None:
        """Tell one alarm, however often it takes, as long as it is worth telling."""
        pause = FIRST_PAUSE_S
        while True:
            why, again, after = await self.post(transport, body)
            if not why:
                return
            wait = max(after, pause * random.uniform(0.5, 1.0))  # noqa: S311
            if not again or time.monotonic() + wait > until:
                self.given_up += 1
                logger.error("alarm not told to %s: %s: %s", self.url.host, why, body["text"])
                return
            logger.warning("alarm not told to %s: %s; again in %.0f s", self.url.host, why, wait)
            await self.pause(wait)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def post(self, transport: httpx.AsyncBaseTransport, body: dict[str, Any]) -> tuple[str, bool, float]:
        """Return what went wrong, empty for nothing; whether to try again; and the pause that was asked for.

        Not through a client, which logs URLs.
        """
        headers = {"user-agent": "steering", "idempotency-key": body["id"]}
        if self.url.userinfo:
            headers["authorization"] = f"Basic {base64.b64encode(self.url.userinfo).decode()}"
        timeout = httpx.Timeout(self.timeout_s).as_dict()
        request = httpx.Request("POST", self.url, headers=headers, json=body, extensions={"timeout": timeout})
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await transport.handle_async_request(request)
                await answer.aclose()
        except TimeoutError:
            return f"no answer within {self.timeout_s:g} s", True, 0.0
        except (httpx.HTTPError, OSError) as error:
            return type(error).__name__, True, 0.0
        if answer.is_success:
            return "", False, 0.0
        again = answer.status_code in AGAIN or answer.status_code >= 500
        return f"answered {answer.status_code}", again, seconds_of(answer.headers.get("retry-after", ""))


def seconds_of(retry_after: str) -> float:
    """Return the pause that a Retry-After asks for (RFC 9110, 10.2.3), at most the longest; 0 where it says none."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), LONGEST_PAUSE_S)
    try:
        at = email.utils.parsedate_to_datetime(retry_after).timestamp()
    except ValueError:
        return 0.0
    return min(max(at - time.time(), 0.0), LONGEST_PAUSE_S)
