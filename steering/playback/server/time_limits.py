"""How long a connection may wait for its client, by state; once a second, connections beyond their limit are ended.

A head takes one packet; a player's connection is idle between plays; a client that stops reading is gone. A head or a
body that comes drop by drop has the same limit as one that does not come: the time counts from its first byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from _fastpath.fast_path import FastPath
from steering.playback.server.states import Event, State
from steering.uvicorn_adapter import FallbackPath, Position

# Seconds.
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
# The same by the position in a request on the fallback path, counted from its first byte.
FALLBACK_LIMITS: Final = {Position.HEAD: (HEAD_S, True), Position.BODY: (BODY_S, False)}


class Limited(Protocol):
    """A connection whose client may take too long."""

    fast_path: FastPath  # which has the clock
    state: State
    since: int  # the second in which it entered its state
    active_at: int  # the second in which bytes came last
    transport: asyncio.Transport
    fallback: FallbackPath | None

    def move(self, event: Event) -> None:
        """Change the state."""

    def close(self) -> None:
        """Close in order."""


def end_if_late(connection: Limited, count: Callable[[str], None]) -> None:
    """End a connection whose client takes too long; one that is cut off is counted."""
    if connection.transport.is_closing() and connection.state is not State.CLOSING:
        connection.move(Event.CLOSE)  # uvicorn has closed it
    state, fallback = connection.state, connection.fallback
    since = connection.since
    if state is State.FALLBACK:
        assert fallback
        if fallback.unparsed or fallback.position is Position.BETWEEN:
            return  # it is the service's turn
        since = fallback.began_at
        limit_s, is_cut_off = FALLBACK_LIMITS[fallback.position]
    elif state in LIMITS:
        limit_s, is_cut_off = LIMITS[state]
    else:
        since = connection.active_at
        limit_s, is_cut_off = IDLE_S, False
    if connection.fast_path.second - since > limit_s:
        if is_cut_off:
            count("cut_off")
            connection.transport.abort()
        else:
            connection.close()
