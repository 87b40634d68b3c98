"""Alarms reach a webhook in order, again and again until they are taken, and its secrets reach no log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from steering.control.health.registry import Alarm
from steering.control.jobs import send_alarms as alarms
from steering.control.jobs.send_alarms import SendAlarms, seconds_of
from steering.errors import SettingsError
from steering.settings import Settings, read_settings

pytestmark = pytest.mark.anyio
SECRET = "T0PSECRET"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Receiver:
    """A webhook: answers in turn with what it is told to, the last one again and again; keeps what it got."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []
        self.bodies: list[dict[str, Any]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            self.bodies.append(json.loads(await reader.readexactly(length)))
            self.heads.append(head)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer == "silence":
                await reader.read()
            elif answer != "hang up":
                writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()


@contextlib.asynccontextmanager
async def receiving(*answers: str) -> AsyncIterator[Receiver]:
    receiver = Receiver(answers)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


def settings(port: int, path: str = f"/hook/{SECRET}?key={SECRET}", user: str = "", **more: float) -> Settings:
    return Settings(alarm_url=f"http://{user}127.0.0.1:{port}{path}", **({"alarm_timeout_s": 0.3} | more))  # type: ignore[arg-type]


def job_of(settings: Settings, pause: Callable[[float], Any] = asyncio.sleep) -> SendAlarms:
    """Return the job beside a registry that raises no alarm by itself."""
    control = SimpleNamespace(settings=settings, registry=SimpleNamespace(on_alarm=lambda _: None))
    job = SendAlarms(control, None)  # type: ignore[arg-type]
    job.pause = pause
    return job


@contextlib.asynccontextmanager
async def sending(job: SendAlarms) -> AsyncIterator[SendAlarms]:
    running = asyncio.create_task(job.run())
    try:
        yield job
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def alarm(number: int, resolved: bool = False) -> Alarm:
    return Alarm(float(number), "cluster_down", f"cluster{number}", f"cluster{number} is down", resolved)


def no_pause() -> tuple[list[float], Callable[[float], Any]]:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    return pauses, pause


async def test_alarms_are_posted_in_order_and_resolved_ones_too() -> None:
    async with receiving("200 OK") as receiver, sending(job_of(settings(receiver.port))) as job:
        for number in range(3):
            job.queue(alarm(number))
        job.queue(alarm(0, resolved=True))
        await until(lambda: len(receiver.bodies) == 4)
    assert [(body["subject"], body["state"]) for body in receiver.bodies] == [
        ("cluster0", "raised"),
        ("cluster1", "raised"),
        ("cluster2", "raised"),
        ("cluster0", "resolved"),
    ]
    body = receiver.bodies[1]
    assert body.keys() == {"id", "source", "host", "state", "kind", "subject", "at", "text", "given_up"}
    assert (body["source"], body["kind"], body["at"], body["given_up"]) == ("steering", "cluster_down", 1.0, 0)
    assert body["text"].endswith(": raised: cluster1 is down")
    assert receiver.heads[0].startswith(f"POST /hook/{SECRET}?key={SECRET} HTTP/1.1\r\n".encode())
    assert b"content-type: application/json" in receiver.heads[0].lower()


FAILURES = ["500 No", "503 No", "429 Slow", "408 Late", "silence", "hang up"]


async def test_a_failed_post_is_repeated_with_its_id_after_pauses_that_double() -> None:
    pauses, pause = no_pause()
    async with receiving(*FAILURES, "204 OK") as receiver, sending(job_of(settings(receiver.port), pause)) as job:
        job.queue(alarm(1))
        job.queue(alarm(2))
        await until(lambda: len(receiver.bodies) == len(FAILURES) + 2)
    assert len({body["id"] for body in receiver.bodies}) == 2
    assert [body["subject"] for body in receiver.bodies] == ["cluster1"] * (len(FAILURES) + 1) + ["cluster2"]
    assert len(pauses) == len(FAILURES)
    for place, seconds in enumerate(pauses):
        assert 2**place / 2 <= seconds <= min(2**place, alarms.LONGEST_PAUSE_S)


async def test_nobody_there_is_tried_again_and_given_up_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    pauses, pause = no_pause()
    async with receiving("200 OK") as receiver:
        pass
    async with sending(job_of(settings(receiver.port, alarm_keep_s=5.0), pause)) as job:
        job.queue(alarm(1))
        await until(lambda: job.dropped == 1)
    assert 1 <= len(pauses) <= 5
    assert "cluster1 is down" in caplog.records[-1].message  # what could not be told is in the log at least
    assert caplog.records[-1].levelname == "ERROR"


async def test_a_post_that_is_refused_is_not_repeated_and_the_next_one_is_sent() -> None:
    answers = ("404 No", "302 Elsewhere", "200 OK")
    async with receiving(*answers) as receiver, sending(job_of(settings(receiver.port))) as job:
        for number in range(3):
            job.queue(alarm(number))
        await until(lambda: len(receiver.bodies) == 3)
    assert [body["given_up"] for body in receiver.bodies] == [0, 1, 2]


async def test_a_pause_that_is_asked_for_is_kept() -> None:
    pauses, pause = no_pause()
    answers = ("429 Slow\r\nRetry-After: 17", "200 OK")
    async with receiving(*answers) as receiver, sending(job_of(settings(receiver.port), pause)) as job:
        job.queue(alarm(1))
        await until(lambda: len(receiver.bodies) == 2)
    assert pauses == [17.0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("5", 5), ("5000", 60), ("-5", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("²", 0)],
)
def test_a_retry_after_is_seconds_or_a_date_and_never_long(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


async def test_the_queue_is_bounded_and_dropping_the_oldest_is_logged() -> None:
    async with receiving("200 OK") as receiver:
        job = job_of(settings(receiver.port))
        for number in range(alarms.QUEUE + 7):  # nobody tells them yet: raising one does not wait for that
            job.queue(alarm(number))
        assert len(job.waiting) == alarms.QUEUE
        async with sending(job):
            await until(lambda: bool(receiver.bodies))
        assert (receiver.bodies[0]["subject"], receiver.bodies[0]["given_up"]) == ("cluster7", 7)


async def test_the_secrets_of_the_url_are_in_no_log_and_no_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    _, pause = no_pause()
    async with receiving("500 No", "hang up", "silence", "403 No", "200 OK") as receiver:
        job = job_of(settings(receiver.port, user=f"ops:{SECRET}@"), pause)
        job.queue(alarm(1))
        job.queue(alarm(2))
        async with sending(job):
            await until(lambda: len(receiver.bodies) == 5)
    assert b"Basic b3BzOlQwUFNFQ1JFVA==" in receiver.heads[0]
    assert caplog.records
    assert SECRET not in caplog.text
    assert SECRET not in repr(settings(1))
    assert SECRET not in str(settings(1).model_dump(mode="json"))
    for name, value in (("STEERING_ALARM_URL", f"ftp://{SECRET}/"), ("STEERING_LOW_HEADROOM", "0.9")):
        monkeypatch.setenv("STEERING_ALARM_URL", f"http://a.example/{SECRET}")
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError) as caught:
            read_settings()
        assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "a.example", "http://", "https:///x", "http://a:99999/", "http://["]
)
def test_what_nothing_can_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"alarm_url = \(not shown\).*http"):
        read_settings(alarm_url=url)


def test_an_empty_one_is_none() -> None:
    assert read_settings(alarm_url="").alarm_url is None
