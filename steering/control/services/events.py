"""State changes and alarms as a stream: one hub, a ring of the last events, and a bounded queue for each listener.

    publish ──> ring (the last `kept` events) ──> the queue of each listener that may see the event

The id of an event is `<boot>-<number>`: numbers grow by one, and another boot is another control process, whose numbers
began again. A reader that returns with the last id it received gets the events that it missed; if the ring has lost
them, an event `missed` comes first. The stream of a reader that is too slow ends with an event `dropped`, and the
reader returns with its last id. All of this is for the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from steering.control.health.alarms import Alarm
from steering.control.health.registry import Registry, StateChange
from steering.errors import RequestError
from steering.escape import for_json

KEPT: Final = 4096  # events, about 1 MB: a site of 1,000 appliances that fails and recovers twice
QUEUE: Final = 1024  # events that may wait for a listener
LISTENERS: Final = 200  # of control's 1,000 connections
LISTENERS_OF_ONE: Final = 10  # of one partner, or one appliance
HEARTBEAT_S: Final = 15.0  # proxies close a connection that is silent for a minute
RETRY_MS: Final = 2000
BUSY: Final = {"serving", "overloaded", "ramping"}  # states that alternate in a cluster under load
CONNECTION: Final = "connection"  # the key of a `Connection` in the state of a request


@dataclasses.dataclass(slots=True)
class Event:
    """A change of state or an alarm: `kind` is `state` or `alarm`, `data` the body.

    `subject` is the object it is about, as `appliances/c001-bom001`; empty when only operators may see it.
    """

    number: int
    kind: str
    subject: str
    data: dict[str, Any]
    encoded: bytes = b""  # for all listeners, once one of them may see it


@dataclasses.dataclass(eq=False, repr=False)
class Hub:
    """Keeps the last events, and passes each to the listeners."""

    boot: str = dataclasses.field(default_factory=lambda: f"{time.time_ns() // 1_000_000:x}")
    kept: int = KEPT
    queue: int = QUEUE
    most: int = LISTENERS
    of_one: int = LISTENERS_OF_ONE

    def __post_init__(self) -> None:
        self.ring: deque[Event] = deque(maxlen=self.kept)
        self.number = 0
        self.listeners: set[Listener] = set()

    def publish(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Pass an event to each listener that may see its subject."""
        self.number += 1
        event = Event(self.number, kind, subject, data)
        self.ring.append(event)
        for listener in self.listeners:
            listener.take(event)

    def recent(self, count: int) -> list[dict[str, Any]]:
        """Return the last changes of state, newest first, without those that load alone causes."""
        events = list(self.ring)  # other threads may call this
        news = (event.data for event in reversed(events) if event.kind == "state" and is_news(event.data))
        return list(itertools.islice(news, count))

    def alarms(self, may_see: Callable[[str], bool]) -> list[dict[str, Any]]:
        """Return the alarms of the ring that a caller may see, newest first."""
        return [event.data for event in reversed(self.ring) if event.kind == "alarm" and may_see(event.subject)]

    def listen(self, owner: str, may_see: Callable[[str], bool], last_id: str = "") -> Listener:
        """Return a new listener for the events whose subject it may see; `leave` ends it.

        `owner` is the partner or appliance, empty for operators. Raises RequestError 503 when it has too many
        listeners, or all callers together have.
        """
        owners = Counter(listener.owner for listener in self.listeners)
        if len(self.listeners) >= self.most or (owner and owners[owner] >= self.of_one):
            raise RequestError("too many listeners", hint="end one, or come back later", status=503)
        listener = Listener(self, owner, may_see, self.queue)
        listener.resume(self.missed(last_id), last_id)
        self.listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Pass no more events to a listener."""
        self.listeners.discard(listener)

    def id_of(self, number: int) -> str:
        """Return the id of an event."""
        return f"{self.boot}-{number}"

    def missed(self, last_id: str) -> list[Event] | None:
        """Return the events after an id, none for an empty id; None when the ring has lost them."""
        if not last_id:
            return []
        boot, _, number = last_id.rpartition("-")
        if boot != self.boot or not (number.isascii() and number.isdigit()) or int(number) > self.number:
            return None
        after = int(number)
        first = self.ring[0].number if self.ring else self.number + 1
        return [event for event in self.ring if event.number > after] if after >= first - 1 else None


@dataclasses.dataclass(eq=False, repr=False)
class Listener:
    """One reader of the hub, with a bounded queue."""

    hub: Hub
    owner: str
    may_see: Callable[[str], bool]
    most: int

    def __post_init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.awake = asyncio.Event()
        self.ended = False

    def resume(self, missed: list[Event] | None, last_id: str) -> None:
        """Queue the events that the reader missed, all of them."""
        self.waiting.append(f"retry: {RETRY_MS}\n\n".encode())
        if missed is None:
            self.waiting.append(
                message("missed", {"after": last_id[:64], "why": "no longer kept; GET /v1/appliances has all states"})
            )
        self.waiting.extend(self.encode(event) for event in missed or [] if self.may_see(event.subject))
        self.waiting.append(self.position())
        self.most += len(self.waiting)
        self.awake.set()

    def take(self, event: Event) -> None:
        """Queue an event that the reader may see; when the queue is full, end the stream."""
        if self.ended or not self.may_see(event.subject):
            return
        if len(self.waiting) >= self.most:
            self.end("dropped", {"why": f"over {self.most} events behind; come back with the last id"})
        else:
            self.waiting.append(self.encode(event))
            self.awake.set()

    def encode(self, event: Event) -> bytes:
        """Return the bytes of an event."""
        event.encoded = event.encoded or message(event.kind, event.data, self.hub.id_of(event.number))
        return event.encoded

    def position(self) -> bytes:
        """Return the id of the newest event, without data: the reader keeps it and shows nothing."""
        return f":\nid: {self.hub.id_of(self.hub.number)}\n\n".encode()

    def end(self, kind: str, data: dict[str, Any]) -> None:
        """End the stream with a last event, after the queued ones."""
        if not self.ended:
            self.ended = True
            self.waiting.append(message(kind, data))
            self.awake.set()

    async def chunks(self, heartbeat_s: float = HEARTBEAT_S) -> AsyncGenerator[bytes, None]:
        """Yield the bytes to send as they come, and a heartbeat while none come."""
        while True:
            try:
                async with asyncio.timeout(heartbeat_s):
                    await self.awake.wait()
            except TimeoutError:
                if not self.waiting:  # an event that came just now is sent before its id
                    yield self.position()
                continue
            while self.waiting:
                yield self.waiting.popleft()
            if self.ended:
                return
            self.awake.clear()


def message(kind: str, data: dict[str, Any], event_id: str = "") -> bytes:
    """Return a server-sent event (WHATWG HTML, 9.2); JSON has no line end in it, which would end the data."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {kind}\ndata: ".encode() + for_json(data) + b"\n\n"


def is_news(change: dict[str, Any]) -> bool:
    """Return whether a change has another cause than load."""
    return not {change["before"], change["after"]} <= BUSY


def follow(registry: Registry, hub: Hub) -> None:
    """Publish every change of state and every alarm from now on, in the thread of the health tick."""

    def take_change(change: StateChange) -> None:
        hub.publish("state", f"appliances/{change.appliance}", dataclasses.asdict(change))

    def take_alarm(alarm: Alarm) -> None:
        hub.publish("alarm", subject_of(alarm), dataclasses.asdict(alarm))

    registry.listen(take_change)
    registry.on_alarm(take_alarm)


def subject_of(alarm: Alarm) -> str:
    """Return the object that an alarm is about: a cluster or a partner.

    It is empty, for operators only, where the alarm is of the whole fleet or of a source.
    """
    if alarm.kind == "source" or (alarm.kind, alarm.subject) == ("suppressed", "fleet"):
        return ""
    limit, _, name = alarm.subject.rpartition(" ")
    return f"{limit or 'cluster'}s/{name}"


class Connection:
    """A connection as requests see it. An endless answer is called when control ends, and may abort the connection.

    `role` is that of the last caller with a good token.
    """

    role = ""

    def __init__(self, abort: Callable[[], None]) -> None:
        self.abort = abort
        self.on_shutdown: list[Callable[[], None]] = []

    def shut_down(self) -> None:
        """Call every answer that asked for it."""
        for call in self.on_shutdown:
            call()
