"""The states of a connection, and the events that lead from one to another.

                  PREFACE ──preface read──┐          ┌──────over limit──> OVER_LIMIT
                     ^                    v          │
    (new) ──────> BUFFERED <───────────────── BUFFERED ──buffer empty──> FAST
                     │ ^                         ^ ^                       │
                     │ └─answered── FALLBACK <───┼─┼──────handed over──────┤
                     │                           │ └──body ended── BODY <──┘
                     └──paused──> STUCK ──resumed┘                   any ──closed──> CLOSING ──lost──> CLOSED

A new connection is BUFFERED: the fast path answers its requests, and the answers go through the transport, which may
hold bytes that the client has not taken yet. Whenever the transport holds none, the connection is FAST: the compiled
code alone answers, and sends straight to the socket. A request that the fast path leaves goes to the fallback path
(uvicorn and FastAPI), and with it all that the client sends until the fallback path has answered everything. So answers
leave in the order of their requests, and two writers never share the socket.

A connection in CLOSING has been closed by us and still sends its last answer. STUCK, BODY, FALLBACK and PREFACE wait
for the client, and each has a limit in seconds, LIMITS. An event that the table does not name is a bug.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class State(enum.Enum):
    """What the connection does with the bytes that it receives."""

    PREFACE = "waits for the end of the PROXY protocol header"
    FAST = "the fast path answers, straight to the socket"
    BUFFERED = "the fast path answers, through the transport"
    BODY = "waits for the rest of a playback request's body"
    FALLBACK = "the fallback path parses and answers"
    STUCK = "the client does not read its answers; nothing is read from it"
    OVER_LIMIT = "one connection too many: its first request gets the cheapest answer"
    CLOSING = "nothing is read any more, the last answer is being sent"
    CLOSED = "the transport is gone"


class Event(enum.Enum):
    """Why the connection changes its state."""

    PREFACE_EXPECTED = enum.auto()  # the address is trusted, and the setting `proxy_protocol` is on
    PREFACE_READ = enum.auto()
    LIMIT_EXCEEDED = enum.auto()
    BUFFER_EMPTY = enum.auto()  # the transport has sent everything
    SENT_IN_PART = enum.auto()  # the socket took only a part of an answer
    BODY_INCOMPLETE = enum.auto()
    BODY_ENDED = enum.auto()  # it is whole, or nothing more of it will come
    HANDED_OVER = enum.auto()
    ANSWERED = enum.auto()  # the fallback path is between two requests
    PAUSED = enum.auto()  # the transport holds more than its limit
    RESUMED = enum.auto()
    CLOSE = enum.auto()  # we close, now or once the last answer is sent
    LOST = enum.auto()  # the event loop reports the end of the connection


ENDS: Final = {Event.CLOSE: State.CLOSING, Event.LOST: State.CLOSED}
# uvloop may pause a protocol some time after the write that filled the buffer: so a BODY may become STUCK.
TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.BUFFERED: {
        Event.PREFACE_EXPECTED: State.PREFACE,
        Event.LIMIT_EXCEEDED: State.OVER_LIMIT,
        Event.BUFFER_EMPTY: State.FAST,
        Event.BODY_INCOMPLETE: State.BODY,
        Event.HANDED_OVER: State.FALLBACK,
        Event.PAUSED: State.STUCK,
        **ENDS,
    },
    State.FAST: {
        Event.SENT_IN_PART: State.BUFFERED,
        Event.BODY_INCOMPLETE: State.BODY,
        Event.HANDED_OVER: State.FALLBACK,
        **ENDS,
    },
    State.PREFACE: {Event.PREFACE_READ: State.BUFFERED, **ENDS},
    State.BODY: {Event.BODY_ENDED: State.BUFFERED, Event.PAUSED: State.STUCK, **ENDS},
    State.FALLBACK: {Event.ANSWERED: State.BUFFERED, Event.PAUSED: State.STUCK, **ENDS},
    State.STUCK: {Event.RESUMED: State.BUFFERED, **ENDS},
    State.OVER_LIMIT: ENDS,
    State.CLOSING: {Event.LOST: State.CLOSED},
    State.CLOSED: {},
}

# How long a connection may wait for its client, in seconds. A head takes one packet; a player's connection is idle
# between plays; a client that stops reading is gone. A head or a body that comes drop by drop has the same limit as one
# that does not come: the time counts from its first byte.
HEAD_S: Final = 10
IDLE_S: Final = 75
BODY_S: Final = 30
READ_S: Final = 30
# By state, counted from its beginning: the limit, and whether the connection is cut off or closed in order.
LIMITS: Final = {
    State.PREFACE: (HEAD_S, True),
    State.BODY: (BODY_S, False),
    State.STUCK: (READ_S, True),
    State.CLOSING: (READ_S, True),
}
