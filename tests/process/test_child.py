"""Work in a process of its own: what comes back, what ends it, and what it leaves alone."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from steering.errors import RequestError, SettingsError
from steering.process import child
from tests.support.processes import is_running, until

Progress = Callable[[str], None]


@pytest.fixture(params=[child.SERVER, child.FORK], ids=["server", "fork"])
def context(request: pytest.FixtureRequest) -> Any:
    return request.param


def ignore(step: str) -> None:
    pass


def take_two_steps(progress: Progress) -> tuple[int, int]:
    progress("read")
    progress("build")
    return os.getpid(), os.sched_getscheduler(0)


def test_the_result_and_the_names_of_the_steps_come_back(context: Any) -> None:
    steps: list[str] = []
    pid, policy = child.run_gently("build", take_two_steps, steps.append, context=context)
    assert steps == ["read", "build"]
    assert pid != os.getpid()
    assert policy == os.SCHED_IDLE
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert child.run("build", take_two_steps, ignore, context=context)[1] == os.SCHED_OTHER


def read_session(_: Progress) -> tuple[int, str]:
    return os.getsid(0), Path("/proc/self/autogroup").read_text()


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="a kernel without autogroups")
@pytest.mark.parametrize(("run", "nice"), [(child.run_gently, 19), (child.run, 0)], ids=["gently", "at the parent's"])
def test_a_child_takes_its_share_of_the_cores_from_a_session_of_its_own(
    run: Callable[..., tuple[int, str]], nice: int, context: Any
) -> None:
    session, autogroup = run("build", read_session, ignore, context=context)
    assert session != os.getsid(0)
    assert autogroup.endswith(f" nice {nice or os.nice(0)}\n")


def refuse(_: Progress) -> NoReturn:
    raise RequestError.of_parameter("n", "0", "a number from 1 to 8", status=422)


def test_an_error_comes_back_whole(context: Any) -> None:
    with pytest.raises(RequestError) as caught:
        child.run("build", refuse, ignore, context=context)
    assert (caught.value.status, caught.value.parameter, caught.value.rule) == (422, "n", "a number from 1 to 8")


def fail(_: Progress) -> NoReturn:
    raise ZeroDivisionError("no shares" + "!" * 10_000)


def leave(_: Progress) -> NoReturn:
    os._exit(3)


def be_killed(_: Progress) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


LOST = [
    (be_killed, "its process ended with status -9", "memory"),
    (leave, "its process ended with status 3", ""),
    (fail, f"ZeroDivisionError: no shares{'!' * 400}", "traceback"),
]


@pytest.mark.parametrize(("task", "reason", "hint"), LOST, ids=["killed", "ended", "a bug"])
def test_a_process_that_is_lost_is_an_error_that_names_the_task(
    task: Callable[[Progress], None], reason: str, hint: str, context: Any
) -> None:
    with pytest.raises(SettingsError, match=f"^build the table: {reason}") as caught:
        child.run("build the table", task, ignore, context=context)
    assert hint in caught.value.hint
    assert len(caught.value.message) <= 500


def sleep(progress: Progress) -> None:
    progress(str(os.getpid()))
    time.sleep(60)


def test_an_error_of_meanwhile_ends_the_child(context: Any) -> None:
    pids: list[int] = []

    def end_it() -> None:
        if pids:
            raise SettingsError("asked to end")

    with pytest.raises(SettingsError, match="asked to end"):
        child.run("prepare", sleep, lambda step: pids.append(int(step)), meanwhile=end_it, context=context)
    until(lambda: not is_running(pids[0]))


def hold_the_core(path: Path, core: int, _: Progress) -> int:
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if os.sched_getscheduler(0) == os.SCHED_IDLE:
        os.sched_setaffinity(0, {core})
        while True:
            pass
    return os.sched_getscheduler(0)


def test_a_task_that_gets_no_core_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: Any) -> None:
    monkeypatch.setattr(child, "PATIENCE_S", 2.0)  # with the import of this module, while other tests run
    core = min(os.sched_getaffinity(0))
    pids = tmp_path / "pids"
    busy = os.fork()
    if not busy:
        os.sched_setaffinity(0, {core})
        while True:
            pass
    try:
        task = functools.partial(hold_the_core, pids, core)
        assert child.run_gently("build", task, ignore, context=context) == os.SCHED_OTHER
    finally:
        os.kill(busy, signal.SIGKILL)
        os.waitpid(busy, 0)
    *starved, last = map(int, pids.read_text().split())  # under load the first may not come as far as its task
    assert last not in starved
    until(lambda: not any(map(is_running, starved)))


def sleep_in_a_step(progress: Progress) -> None:
    progress("read")
    progress("read pipe.csv")
    time.sleep(60)


def count_in_a_step(progress: Progress) -> None:
    progress("read loop.mmdb")
    while True:
        pass


def open_a_pipe(path: Path, progress: Progress) -> None:
    progress("read pipe.csv")
    path.read_bytes()


@pytest.mark.parametrize("run", [child.run, child.run_gently], ids=["run", "gently"])
@pytest.mark.parametrize("how", ["sleeps", "counts", "opens a pipe"])
def test_a_step_without_end_is_ended(
    how: str, run: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "STEP_S", 1.0)
    os.mkfifo(tmp_path / "pipe.csv")
    tasks = {
        "sleeps": sleep_in_a_step,
        "counts": count_in_a_step,
        "opens a pipe": functools.partial(open_a_pipe, tmp_path / "pipe.csv"),
    }
    with pytest.raises(SettingsError, match=r"^publish: the step 'read (pipe.csv|loop.mmdb)' took over 1 s, and was"):
        run("publish", tasks[how], ignore, context=child.FORK)


def test_a_child_that_does_not_begin_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STEP_S", 0.0)
    with pytest.raises(SettingsError, match=r"^publish: the step 'publish' took over 0 s"):
        child.run("publish", sleep_in_a_step, ignore, context=child.SERVER)


def take_many_steps(progress: Progress) -> str:
    for number in range(8):
        progress(f"fetch {number}")
        time.sleep(0.3)
    return "done"


def test_each_step_has_its_own_time(monkeypatch: pytest.MonkeyPatch, context: Any) -> None:
    monkeypatch.setattr(child, "STEP_S", 2.0)
    assert child.run("publish", take_many_steps, ignore, context=context) == "done"


def write_pid(path: Path, _: Progress) -> None:
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    time.sleep(60)


@pytest.mark.parametrize("context", ["SERVER", "FORK"])
def test_a_child_ends_with_its_parent(tmp_path: Path, context: str) -> None:
    path = tmp_path / "pid"
    program = (
        "import functools, pathlib, sys\n"
        "from steering.process import child\n"
        "from tests.process.test_child import ignore, write_pid\n"
        "task = functools.partial(write_pid, pathlib.Path(sys.argv[1]))\n"
        f"child.run('build', task, ignore, context=child.{context})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=Path(__file__).parents[2]) as parent:
        until(path.exists)
        parent.kill()
    until(lambda: not is_running(int(path.read_text())))


def use_a_core(_: Progress) -> None:
    while time.process_time() < 0.2:
        pass


def test_what_a_child_computes_is_what_its_parent_used(context: Any) -> None:
    before = child.core_s()
    child.run("work", use_a_core, ignore, context=context)
    assert 0.15 <= child.core_s() - before < 2


def count_threads(_: Progress) -> int:
    return threading.active_count()


def test_a_child_of_the_server_has_none_of_the_threads_and_locks_of_its_parent() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not child.is_single_threaded()
        assert child.run("build", count_threads, ignore) == 2  # itself, and the one that watches the parent
    finally:
        done.set()
        thread.join()


def test_the_server_has_imported_what_tasks_need(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(
        "import sys\ndef probe(_): return 'steering.control.routes.build' in sys.modules\n"
    )
    program = (
        "from steering.process import child\n"
        "from probe import probe\n"
        "child.start_server(['steering.control.routes.build'])\n"
        "print(child.run('build', probe, print))\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"}
    found = subprocess.run([sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, check=True)
    assert found.stdout == b"True\n"
