"""The table of child processes: when a process starts again, and the messages between it and the supervisor."""

from __future__ import annotations

import multiprocessing
import os
import threading

import pytest

from steering.supervisor.children import MOST_PAUSE_S, PROVEN_S, READY, RELOADED, START_LOOKS, Child, Pipes


def test_pauses_double_up_to_a_limit_and_begin_again_after_a_long_life() -> None:
    child = Child("worker 1", lambda: None)
    pauses = []
    for now in range(8):
        child.started_at = now
        pauses.append(child.schedule_restart(now))
        assert child.due_at == now + pauses[-1]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, MOST_PAUSE_S, MOST_PAUSE_S]
    child.started_at = 10.0
    assert child.schedule_restart(10.0 + PROVEN_S) == 0.1


Looks = list[tuple[int, bool]]  # the beat, and whether the child is stuck

LOOKS: list[tuple[str, int, Looks]] = [
    ("it runs", 0, [(beat % 256, False) for beat in range(600)]),
    ("it stops", 0, [(7, False), *[(7, False)] * 9, (7, True)]),
    ("it stops twice for a while", 0, [(7, False), *[(7, False)] * 9, (8, False), *[(8, False)] * 9, (8, True)]),
    ("it begins slowly", -START_LOOKS, [*[(0, False)] * 59, (0, True)]),
    ("it has begun", -START_LOOKS, [(0, False), (1, False), *[(1, False)] * 9, (1, True)]),
]


@pytest.mark.parametrize(("name", "missed", "looks"), LOOKS, ids=[row[0] for row in LOOKS])
def test_a_child_whose_loop_does_not_run_is_stuck(name: str, missed: int, looks: Looks) -> None:
    child = Child("worker 1", lambda: None)
    child.process, child.missed = multiprocessing.current_process(), missed
    assert [child.is_stuck(beat) for beat, _ in looks] == [stuck for _, stuck in looks]


def test_a_child_that_is_not_there_is_not_stuck() -> None:
    child = Child("worker 1", lambda: None)
    assert not any(child.is_stuck(0) for _ in range(100))


def test_a_process_with_threads_forks_no_child() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(AssertionError, match="another thread"):
            Child("worker 1", lambda: None).start()
    finally:
        done.set()
        thread.join()


def test_messages_are_read_in_order_and_too_many_are_dropped() -> None:
    pipes = Pipes()
    try:
        assert pipes.read() == b""
        pipes.send(READY)
        pipes.send(RELOADED)
        assert pipes.read() == READY + RELOADED
        for _ in range(70_000):
            pipes.send(READY)
        assert pipes.read() == READY * 4096
    finally:
        pipes.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(pipes.life, 1)
