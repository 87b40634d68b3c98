"""The clockwork keeps its jobs going, whatever happens to one of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from steering.control.jobs import clockwork as loop


async def run_here(verb: Any) -> Any:
    return verb()


def test_a_job_that_fails_is_begun_again_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "PAUSE_S", 0.001)
    begun = []

    async def fail(writer: Any, run: Any) -> None:
        begun.append(await run(lambda: writer))
        if len(begun) < 3:
            raise ValueError("a fault of ours")

    async def go_on(_: Any, __: Any) -> None:
        while len(begun) < 3:
            await asyncio.sleep(0.001)

    asyncio.run(loop.work([fail, go_on], "the writer", run_here))  # type: ignore[arg-type]
    assert begun == ["the writer"] * 3
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["a fault of ours"] * 2
