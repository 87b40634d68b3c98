"""The clockwork keeps its jobs running, whatever happens to one of them, and runs short verbs during a long one."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from steering.control.jobs import clockwork
from steering.control.jobs.clockwork import ControlThread, Job, going_on, run_jobs
from steering.control.routes.build import quiet
from steering.errors import FeedError
from steering.settings import Settings


async def call_here(verb: Any) -> Any:
    return verb()


class Failing(Job):
    """Fails in its first two rounds."""

    name = "failing"
    rounds = 0

    async def run(self) -> None:
        self.rounds = await self.call(lambda: self.rounds + 1)
        if self.rounds < 3:
            raise ValueError("a fault of ours")


class Ticking(Job):
    """Counts its rounds, and is late in one of them."""

    name = "ticking"
    period_s = 0.02

    def __init__(self, control: Any, call: Any) -> None:
        super().__init__(control, call)
        self.rounds = 0

    async def run(self) -> None:
        self.rounds += 1
        await asyncio.sleep(0.1 if self.rounds == 1 else 0)


def refuse_of(reason: str, _: Any) -> None:
    raise FeedError(reason)


def make(job: type[Job]) -> Any:
    return job(SimpleNamespace(settings=Settings()), call_here)  # type: ignore[arg-type]


def test_a_job_that_fails_is_begun_again_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clockwork, "FIRST_PAUSE_S", 0.001)
    failing, ticking = make(Failing), make(Ticking)

    async def until_done() -> None:
        jobs = asyncio.create_task(run_jobs([failing, ticking]))
        while failing.rounds < 3 or ticking.rounds < 3:
            await asyncio.sleep(0.001)
        jobs.cancel()

    asyncio.run(until_done())
    assert failing.rounds == 3, "a job without a period that returns is over"
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["a fault of ours"] * 2
    assert "job failing failed; again in" in caplog.text


def test_an_error_of_one_item_is_logged_and_the_others_are_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clockwork, "said_at", {})
    done = []
    for item in range(10):
        with going_on(f"item {item % 3}"):
            if item % 3 == 0:
                raise UnicodeEncodeError("ascii", "é", 0, 1, "not in range")
            done.append(item)
    assert done == [1, 2, 4, 5, 7, 8]
    assert [record.getMessage() for record in caplog.records] == [
        "item 0: 'ascii' codec can't encode character '\\xe9' in position 0: not in range"
    ], "once a minute"
    with pytest.raises(asyncio.CancelledError), going_on("item"):
        raise asyncio.CancelledError
    for item in range(5000):
        with going_on(f"item {item}"):
            raise ValueError
    assert len(clockwork.said_at) <= clockwork.MOST_SAID


def test_a_late_round_is_not_made_up_for() -> None:
    ticking = make(Ticking)

    async def for_a_while() -> None:
        jobs = asyncio.create_task(run_jobs([ticking]))
        await asyncio.sleep(0.11)
        jobs.cancel()

    asyncio.run(for_a_while())
    assert ticking.rounds <= 3


def test_short_verbs_run_while_a_long_one_waits_for_its_child() -> None:
    thread = ControlThread()
    begun, order = threading.Event(), []

    def publish() -> str:
        begun.set()
        while not order:
            thread.run_short_verbs()  # as `run_gently` does, a few times a second
        order.append("publish")
        return threading.current_thread().name

    def fail() -> None:
        raise ValueError("refused")

    async def call_both() -> None:
        long = asyncio.ensure_future(thread.run(publish))
        await asyncio.to_thread(begun.wait)
        after = asyncio.ensure_future(thread.run(lambda: order.append("reload")))
        name = await thread.run_during_publish(lambda: order.append("drain") or threading.current_thread().name)
        assert name == await long, "both run in the one thread"
        await after
        with pytest.raises(ValueError, match="refused"):
            await thread.run_during_publish(fail)

    asyncio.run(call_both())
    thread.shutdown()
    assert order == ["drain", "publish", "reload"]


def test_a_short_verb_waits_for_no_long_verb_that_has_not_begun() -> None:
    thread = ControlThread()
    begun, released, order = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        released.wait()

    async def call_all() -> None:
        long = [asyncio.ensure_future(thread.run(first))]
        await asyncio.to_thread(begun.wait)
        long += [asyncio.ensure_future(thread.run(lambda n=number: order.append(n))) for number in range(20)]
        await asyncio.sleep(0)  # they wait in the thread's queue
        short = asyncio.ensure_future(thread.run_during_publish(lambda: order.append("drain")))
        await asyncio.sleep(0)
        released.set()
        await asyncio.gather(short, *long)

    asyncio.run(call_all())
    thread.shutdown()
    assert order == ["drain", *range(20)]


def test_a_failed_task_and_a_short_verb_that_fails_are_each_their_callers() -> None:
    thread = ControlThread()

    def fail() -> None:
        raise ValueError("a fault")

    async def call_both() -> None:
        long = asyncio.ensure_future(thread.run(lambda: thread.run_task("try", partial(refuse_of, "refused"), quiet)))
        with pytest.raises(ValueError, match="a fault"):
            await thread.run_during_publish(fail)
        with pytest.raises(FeedError, match="refused"):
            await long

    asyncio.run(call_both())
    thread.shutdown()
