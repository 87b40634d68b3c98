"""The control process while `steering.db` is lost or damaged: it answers every request with 503 and the reason.

It does not hold the lock of the state folder, so `steering restore` can run beside it. It ends when the file changes,
after RETRY_S and at SIGHUP; the supervisor then starts control again. Playback needs none of this.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, Final

from steering.control.api.problems import problem_of
from steering.control.records.database import NAME, RecordsError
from steering.errors import SettingsError

RETRY_S: Final = 60.0
POLL_S: Final = 0.5


class WithoutRecords:
    """The ASGI application that answers with a RecordsError."""

    def __init__(self, state: Path, error: RecordsError) -> None:
        self.path = state / NAME
        self.seen = self.look()
        as_remote_clients_know_it = SettingsError(error.message, error.hint)
        self.answer = problem_of(as_remote_clients_know_it, {"retry-after": f"{RETRY_S:.0f}"})

    def look(self) -> tuple[int, int, int] | None:
        """Return a value that changes with the database, None where there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or run from start-up to shutdown."""
        if scope["type"] == "lifespan":
            await receive()
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, end)
            watching = asyncio.create_task(self.end_when_mended())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            watching.cancel()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await self.answer(scope, receive, send)

    async def end_when_mended(self) -> None:
        """End this process once the database is another file, or has waited long enough to be tried again."""
        waited_s = 0.0
        while self.look() == self.seen and waited_s < RETRY_S:
            await asyncio.sleep(POLL_S)
            waited_s += POLL_S
        end()


def end() -> None:
    """Ask this process to end in order."""
    os.kill(os.getpid(), signal.SIGTERM)
