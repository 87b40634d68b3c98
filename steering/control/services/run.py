"""How a service does what takes long: a task in a child process, or many pieces between which other verbs run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from steering.control.routes.build import Progress
from steering.process.child import Task

T = TypeVar("T")
GiveWay = Callable[[], None]  # runs the short verbs that wait; called outside of transactions


class Run(Protocol):
    """How a task runs: here, or in a child process while other verbs run (`jobs/clockwork.py: ControlThread`)."""

    def __call__(self, name: str, task: Task[T], progress: Progress, gently: bool = True) -> T:
        """Return what the task returns, or raise its SteeringError.

        `gently` takes only what is left over of the cores: what takes seconds, and what no operator waits for.
        """


def run_here(name: str, task: Task[T], progress: Progress, gently: bool = True) -> T:  # noqa: ARG001
    """Run a task at once, in this process."""
    return task(progress)


def in_pieces(items: Sequence[T], size: int, give_way: GiveWay) -> Iterator[Sequence[T]]:
    """Yield the items, so many at a time, and give way between two pieces."""
    for first in range(0, len(items), size):
        if first:
            give_way()
        yield items[first : first + size]
