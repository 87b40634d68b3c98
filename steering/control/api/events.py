"""The endpoint of events: an answer that ends when the reader leaves, its token is revoked, or control ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated, Final

from fastapi import Header
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from steering.control.api.access import event_filter
from steering.control.api.endpoints import Api, Asking, answers
from steering.control.services.events import CONNECTION, Connection, Hub, Listener

SEND_S: Final = 30.0  # how long a reader may take to accept one more event


class EventStream(Response):
    """The events of a listener, as server-sent events. A reader that stops reading is disconnected."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, listener: Listener, may_go_on: Callable[[], bool]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.hub = hub
        self.listener = listener
        self.may_go_on = may_go_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the reader leaves, its token is no longer good, or the process ends."""
        connection: Connection | None = scope.get("state", {}).get(CONNECTION)
        if connection:
            connection.on_shutdown.append(lambda: self.listener.end("bye", {"why": "control ends; come back"}))
        watching = asyncio.create_task(self.end_on_disconnect(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with contextlib.aclosing(self.listener.chunks()) as chunks:
                async for chunk in chunks:
                    if not self.may_go_on():
                        break
                    async with asyncio.timeout(SEND_S):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            if connection:
                connection.abort()
        finally:
            watching.cancel()
            self.hub.leave(self.listener)

    async def end_on_disconnect(self, receive: Receive) -> None:
        """Wait until the reader disconnects, and end its events."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.listener.end("bye", {})


@answers("events")
def stream_events(api: Api, caller: Asking, last_event_id: Annotated[str, Header(max_length=100)] = "") -> EventStream:
    def may_go_on() -> bool:
        return not caller.token or api.control.tokens.is_good(caller.token)

    owner = "" if caller.role == "ops" else f"{caller.role}:{caller.subject}"
    listener = api.hub.listen(owner, event_filter(caller, api.control), last_event_id)
    return EventStream(api.hub, listener, may_go_on)
