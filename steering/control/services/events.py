"""State changes and alarms as a stream: one hub, a bounded ring of what happened, a bounded queue for each listener.

    publish ──> ring (the last `kept`, for who comes back) ──> each listener's queue, where it may see the event

An event's id is `<boot>-<number>`: numbers grow by one, and another boot is another control process, whose numbers
began anew. Who comes back with the last id it had gets what it missed; where that is not kept any more, an event
`missed` says so first. A listener that does not keep up loses nothing silently: its stream ends with an event
`dropped`, and it comes back with its last id. Everything here is for the loop's own thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from steering.control.health.alarms import Alarm
from steering.control.health.registry import Registry, StateChange
from steering.errors import RequestError

KEPT: Final = 4096  # events, about 1 MB: all of a site of 1,000 appliances going and coming twice
QUEUE: Final = 1024  # events that a listener may be behind
LISTENERS: Final = 200  # of the control door's 1,000 connections
LISTENERS_OF_ONE: Final = 10  # of one partner, or one appliance
HEARTBEAT_S: Final = 15.0  # proxies close what is silent for a minute
RETRY_MS: Final = 2000
BUSY: Final = {"serving", "overloaded", "ramping"}  # states that take turns in a cluster under load
WIRE: Final = "wire"  # the connection's `Wire` in the state of a request


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: `kind` is `state` or `alarm`, `data` what is told.

    `subject` is whom it is about, as `appliances/c001-bom001`, empty where it is nobody's but the operators'.
    """

    number: int
    kind: str
    subject: str
    data: dict[str, Any]


class Hub:
    """Takes events and hands them to whoever listens."""

    def __init__(
        self,
        boot: str = "",
        kept: int = KEPT,
        queue: int = QUEUE,
        most: int = LISTENERS,
        of_one: int = LISTENERS_OF_ONE,
    ) -> None:
        self.boot = boot or f"{time.time_ns() // 1_000_000:x}"
        self.ring: deque[Event] = deque(maxlen=kept)
        self.queue = queue
        self.most = most
        self.of_one = of_one
        self.number = 0
        self.listeners: set[Listener] = set()

    def publish(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Tell everybody who may know of the subject."""
        self.number += 1
        event = Event(self.number, kind, subject, data)
        self.ring.append(event)
        for listener in self.listeners:
            listener.take(event)

    def recent(self, count: int) -> list[dict[str, Any]]:
        """Return the last changes of states, newest first, but for those that load brings all the time."""
        news = (event.data for event in reversed(self.ring) if event.kind == "state" and is_news(event.data))
        return list(itertools.islice(news, count))

    def listen(self, owner: str, sees: Callable[[str], bool], last_id: str = "") -> Listener:
        """Return a new listener for the events whose subject it `sees`; give it back with `leave`.

        `owner` is whose it is, empty for ops, who are bounded together with all others alone. Raises RequestError 503
        where there are too many.
        """
        owners = Counter(listener.owner for listener in self.listeners)
        if len(self.listeners) >= self.most or (owner and owners[owner] >= self.of_one):
            raise RequestError("too many listen already", hint="end one, or come back later", status=503)
        listener = Listener(self, owner, sees, self.queue)
        listener.resume(self.missed(last_id), last_id)
        self.listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Tell a listener nothing any more."""
        self.listeners.discard(listener)

    def id_of(self, number: int) -> str:
        """Return an event's id for those who listen."""
        return f"{self.boot}-{number}"

    def missed(self, last_id: str) -> list[Event] | None:
        """Return what happened after an id, nothing for an empty one; None where that is not known any more."""
        if not last_id:
            return []
        boot, _, number = last_id.rpartition("-")
        if boot != self.boot or not (number.isascii() and number.isdigit()) or int(number) > self.number:
            return None
        after = int(number)
        first = self.ring[0].number if self.ring else self.number + 1
        return [event for event in self.ring if event.number > after] if after >= first - 1 else None


class Listener:
    """One reader of the hub. It is woken by events and by its end; its queue is bounded."""

    def __init__(self, hub: Hub, owner: str, sees: Callable[[str], bool], most: int) -> None:
        self.hub = hub
        self.owner = owner
        self.sees = sees
        self.most = most
        self.waiting: deque[bytes] = deque()
        self.awake = asyncio.Event()
        self.ended = False

    def resume(self, missed: list[Event] | None, last_id: str) -> None:
        """Begin, with what was missed; all of it, however long."""
        self.waiting.append(f"retry: {RETRY_MS}\n\n".encode())
        if missed is None:
            self.waiting.append(
                message(
                    "missed", {"after": last_id[:64], "why": "not kept any more; GET /v1/appliances has all states"}
                )
            )
        self.waiting.extend(self.told(event) for event in missed or [] if self.sees(event.subject))
        self.waiting.append(self.place())
        self.most += len(self.waiting)
        self.awake.set()

    def take(self, event: Event) -> None:
        """Queue an event, if it may be seen; one too many ends the stream."""
        if self.ended or not self.sees(event.subject):
            return
        if len(self.waiting) >= self.most:
            self.end("dropped", {"why": f"over {self.most} events behind; come back with the last id"})
        else:
            self.waiting.append(self.told(event))
            self.awake.set()

    def told(self, event: Event) -> bytes:
        """Return an event as it is sent."""
        return message(event.kind, event.data, self.hub.id_of(event.number))

    def place(self) -> bytes:
        """Return what tells that all up to now was told: an id without data, which a reader keeps and does not show."""
        return f":\nid: {self.hub.id_of(self.hub.number)}\n\n".encode()

    def end(self, kind: str, data: dict[str, Any]) -> None:
        """End the stream, after what is queued, with a last event."""
        if not self.ended:
            self.ended = True
            self.waiting.append(message(kind, data))
            self.awake.set()

    async def chunks(self, heartbeat_s: float = HEARTBEAT_S) -> AsyncGenerator[bytes, None]:
        """Yield what is to be sent, as it comes; while nothing comes, a sign of life now and then."""
        while True:
            try:
                async with asyncio.timeout(heartbeat_s):
                    await self.awake.wait()
            except TimeoutError:
                if not self.waiting:  # else one came at this very moment, and its id is not told before it
                    yield self.place()
                continue
            while self.waiting:
                yield self.waiting.popleft()
            if self.ended:
                return
            self.awake.clear()


def message(kind: str, data: dict[str, Any], event_id: str = "") -> bytes:
    """Return a server-sent event (WHATWG HTML, 9.2); JSON has no line end in it, which would end the data."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def is_news(change: dict[str, Any]) -> bool:
    """Tell whether a change is more than load going up and down."""
    return not {change["before"], change["after"]} <= BUSY


def follow(registry: Registry, hub: Hub) -> None:
    """Publish every change of a state, and every alarm, from now on; all in the thread that ticks."""

    def take_change(change: StateChange) -> None:
        hub.publish("state", f"appliances/{change.appliance}", dataclasses.asdict(change))

    def take_alarm(alarm: Alarm) -> None:
        hub.publish("alarm", subject_of(alarm), dataclasses.asdict(alarm))

    registry.listen(take_change)
    registry.on_alarm(take_alarm)


def subject_of(alarm: Alarm) -> str:
    """Return whom an alarm is about: its cluster, or the operators alone where it is about the whole fleet."""
    return "" if (alarm.kind, alarm.subject) == ("suppressed", "fleet") else f"clusters/{alarm.subject}"


class Wire:
    """A connection, as an answer without end sees it: told when the process ends, and cut where nobody reads."""

    def __init__(self, abort: Callable[[], None]) -> None:
        self.abort = abort
        self.leaving: list[Callable[[], None]] = []

    def leave(self) -> None:
        """Tell who asked to be told that the process is ending."""
        for tell in self.leaving:
            tell()
