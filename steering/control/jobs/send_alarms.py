"""The job that sends alarms to a webhook: one JSON object a POST, in order, resolved alarms too.

Raising an alarm never waits: it is queued. When the queue is full, the oldest alarm is dropped and counted. A failed
POST is tried again after a pause (`Backoff`, with jitter); a 4xx answer is logged and not tried again. The URL is a
secret: logs contain its host only, and the class of an error instead of its text.
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
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx

from steering.control.health.alarms import Alarm
from steering.control.jobs.clockwork import Call, Job, going_on
from steering.control.services.control import Control
from steering.escape import for_json
from steering.process.backoff import Backoff

QUEUE: Final = 1000
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
RETRIED: Final = {408, 425, 429}  # and 5xx

logger = logging.getLogger("steering.alarms")


class SendAlarms(Job):
    """The job; it sends to the setting `alarm_url`."""

    name = "send alarms"

    def __init__(self, control: Control, call: Call) -> None:
        super().__init__(control, call)
        settings = self.settings
        assert settings.alarm_url
        self.url = httpx.URL(settings.alarm_url.get_secret_value())
        self.timeout_s = settings.alarm_timeout_s
        self.keep_s = settings.alarm_keep_s
        self.host = socket.gethostname()
        self.boot = f"{time.time_ns() // 1_000_000:x}"
        self.number = 0
        self.dropped = 0
        self.pause: Callable[[float], Awaitable[None]] = asyncio.sleep
        self.waiting: deque[tuple[float, dict[str, Any]]] = deque()  # (time to give up, body)
        self.awake = asyncio.Event()
        control.registry.on_alarm(self.queue)

    def queue(self, alarm: Alarm) -> None:
        self.number += 1
        state = "resolved" if alarm.resolved else "raised"
        if len(self.waiting) >= QUEUE:
            self.waiting.popleft()
            self.dropped += 1
        body = {
            "id": f"{self.boot}-{self.number}",  # the same in each attempt: the receiver can tell a repeated alarm
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

    async def run(self) -> None:
        async with httpx.AsyncHTTPTransport() as transport:
            while True:
                while self.waiting:
                    until, body = self.waiting.popleft()
                    with going_on(f"alarm not sent to {self.url.host}"):
                        await self.deliver(transport, {**body, "given_up": self.dropped}, until)
                self.awake.clear()
                await self.awake.wait()

    async def deliver(self, transport: httpx.AsyncBaseTransport, body: dict[str, Any], until: float) -> None:
        """Send one alarm, and again after failures until the setting `alarm_keep_s` is over."""
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while True:
            why, retry, asked_s = await self.post(transport, body)
            if not why:
                return
            wait = max(asked_s, backoff.next_s() * random.uniform(0.5, 1.0))  # noqa: S311
            if not retry or time.monotonic() + wait > until:
                self.dropped += 1
                logger.error("alarm not sent to %s: %s: %s", self.url.host, why, body["text"])
                return
            logger.warning("alarm not sent to %s: %s; again in %.0f s", self.url.host, why, wait)
            await self.pause(wait)

    async def post(self, transport: httpx.AsyncBaseTransport, body: dict[str, Any]) -> tuple[str, bool, float]:
        """Return the failure, empty for none; whether to try again; and the pause that the receiver asks for.

        It uses a transport: a client would log the URL.
        """
        headers = {"user-agent": "steering", "content-type": "application/json", "idempotency-key": body["id"]}
        if self.url.userinfo:
            headers["authorization"] = f"Basic {base64.b64encode(self.url.userinfo).decode()}"
        timeout = httpx.Timeout(self.timeout_s).as_dict()
        content = for_json(body)
        request = httpx.Request("POST", self.url, headers=headers, content=content, extensions={"timeout": timeout})
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
        retry = answer.status_code in RETRIED or answer.status_code >= 500
        return f"answered {answer.status_code}", retry, seconds_of(answer.headers.get("retry-after", ""))


def seconds_of(retry_after: str) -> float:
    """Return the pause that a Retry-After asks for (RFC 9110, 10.2.3), at most the longest; 0 for none."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), LONGEST_PAUSE_S)
    try:
        retry_at = email.utils.parsedate_to_datetime(retry_after).timestamp()
    except ValueError:
        return 0.0
    return min(max(retry_at - time.time(), 0.0), LONGEST_PAUSE_S)
