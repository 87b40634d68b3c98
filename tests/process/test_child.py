"""Work in a process of its own: what comes back, what ends it, and what it leaves alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from steering.errors import RequestError, SettingsError
from steering.process import child as apart
from tests.support.processes import is_running, until


def ignore(step: str) -> None:
    pass


def test_the_result_comes_back_and_the_steps_are_told() -> None:
    told: list[str] = []

    def task(progress: Callable[[str], None]) -> tuple[int, int]:
        progress("read")
        progress("build")
        return os.getpid(), os.sched_getscheduler(0)

    pid, policy = apart.run_gently("build", task, told.append)
    assert told == ["read", "build"]
    assert pid != os.getpid()
    assert policy == os.SCHED_IDLE
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert apart.run("build", task, ignore)[1] == os.SCHED_OTHER


def test_an_error_comes_back_whole() -> None:
    def task(_: Callable[[str], None]) -> NoReturn:
        raise RequestError.of_parameter("n", "0", "a number from 1 to 8", status=422)

    with pytest.raises(RequestError) as caught:
        apart.run("build", task, ignore)
    assert (caught.value.status, caught.value.parameter, caught.value.rule) == (422, "n", "a number from 1 to 8")


def raise_one(_: Callable[[str], None]) -> NoReturn:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("task", "status"), [(lambda _: os.kill(os.getpid(), signal.SIGKILL), -9), (raise_one, 1)], ids=["killed", "a bug"]
)
def test_a_process_that_is_lost_is_an_error_that_names_the_task(
    task: Callable[[Callable[[str], None]], None], status: int
) -> None:
    with pytest.raises(SettingsError, match=f"^build the table: its process ended with status {status}$") as caught:
        apart.run("build the table", task, ignore)
    assert ("memory" in caught.value.hint) == (status == -9)


def test_what_is_raised_meanwhile_ends_it() -> None:
    pids: list[int] = []

    def end_it() -> None:
        if pids:
            raise SettingsError("told to end")

    def task(progress: Callable[[str], None]) -> None:
        progress(str(os.getpid()))
        time.sleep(60)

    with pytest.raises(SettingsError, match="told to end"):
        apart.run("prepare", task, lambda step: pids.append(int(step)), meanwhile=end_it)
    assert not is_running(pids[0])


def test_a_task_that_gets_no_core_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PATIENCE_S", 0.3)
    core = min(os.sched_getaffinity(0))
    pids = tmp_path / "pids"

    def task(_: Callable[[str], None]) -> int:
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if os.sched_getscheduler(0) == os.SCHED_IDLE:
            os.sched_setaffinity(0, {core})
            while True:
                pass
        return os.sched_getscheduler(0)

    busy = os.fork()
    if not busy:
        os.sched_setaffinity(0, {core})
        while True:
            pass
    try:
        assert apart.run_gently("build", task, ignore) == os.SCHED_OTHER
    finally:
        os.kill(busy, signal.SIGKILL)
        os.waitpid(busy, 0)
    first, second = map(int, pids.read_text().split())
    assert first != second
    assert not is_running(first)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    parent = os.fork()
    if not parent:

        def task(_: Callable[[str], None]) -> None:
            (tmp_path / "new").write_text(str(os.getpid()))
            (tmp_path / "new").rename(path)
            time.sleep(60)

        try:
            apart.run("build", task, ignore)
        finally:
            os._exit(1)
    until(path.exists)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    until(lambda: not is_running(int(path.read_text())))


def test_other_threads_of_the_parent_do_not_matter() -> None:
    held = threading.Lock()
    done = threading.Event()

    def hold() -> None:
        with held:
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert apart.run("build", lambda _: threading.active_count(), ignore) == 2  # itself, and who watches the parent
    finally:
        done.set()
        thread.join()
