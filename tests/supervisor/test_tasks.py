"""The tasks of child processes: what they log."""

from __future__ import annotations

import logging
import sys

from steering.supervisor.tasks import OneTracebackAMinute


def record(message: str, error: BaseException | None = None) -> logging.LogRecord:
    """Return a log record, with a traceback where there is an error."""
    info = None
    if error is not None:
        try:
            raise error
        except (KeyError, ValueError):
            info = sys.exc_info()
    return logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, message, (), info)


def test_one_traceback_of_a_kind_passes_in_a_minute() -> None:
    now = [0.0]
    passes = OneTracebackAMinute(lambda: now[0]).filter
    assert passes(record("an error", KeyError("a")))
    for second in range(1, 60):
        now[0] = float(second)
        assert not passes(record("an error", KeyError(str(second))))
        assert passes(record("no traceback"))
    assert passes(record("another kind", ValueError("a")))
    assert not passes(record("another kind", ValueError("b")))
    now[0] = 60.0
    later = record("an error", KeyError("c"))
    assert passes(later)
    assert later.getMessage() == "an error (59 more of this kind before)"
    now[0] = 200.0
    last = record("an error", KeyError("d"))
    assert passes(last)
    assert last.getMessage() == "an error"
