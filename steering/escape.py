"""How a text from outside is shown: one function a form. Nothing that it contains may act on what shows it.

Names, titles, reasons and rows come from partners, appliances, players and feeds. A control character can drive a
terminal (C0 as ESC, C1 as CSI), a bidirectional one can show a text in another order than it is, and a line end can
forge a line. *Hidden* characters are all of these, and the invisible ones: what Unicode calls other or separator
(categories C and Z), but for the space.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # what makes a spreadsheet run a cell
NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.ASCII)
REPLACEMENT: Final = "�"


def for_terminal(text: str, lines: bool = False) -> str:
    """Return a text for one cell or line of a terminal, hidden characters replaced; with `lines`, line ends stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or (lines and char == "\n") else REPLACEMENT for char in text)


def for_log(text: str) -> str:
    """Return a text for one line of a log, hidden characters written as in Python: `\\x1b`."""
    return text if text.isprintable() else replaced(text, lambda char: repr(char)[1:-1])


def for_csv(value: Any) -> Any:
    """Return a value for a cell of CSV: a text that a spreadsheet would run gets an apostrophe in front."""
    if not isinstance(value, str):
        return value
    text = for_terminal(value)
    is_formula = value.lstrip(" ").startswith(FORMULA) and not NUMBER.fullmatch(value)
    return f"'{text}" if is_formula else text


def for_label(text: str) -> str:
    """Return a text for the value of a Prometheus label (exposition format 0.0.4), hidden characters replaced."""
    return for_terminal(text, lines=True).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def for_json(value: Any) -> bytes:
    """Return a value as JSON, hidden characters and lone surrogates escaped, also as a server-sent event's data."""
    try:
        return escaped_json(msgspec.json.encode(value))
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value, separators=(",", ":")).replace("\x7f", r"\u007f").encode()


def escaped_json(document: bytes) -> bytes:
    """Return a JSON document with hidden characters escaped: they can only be inside of its strings."""
    if document.isascii() and b"\x7f" not in document:
        return document
    lines = document.decode().split("\n")
    return "\n".join(line if line.isprintable() else replaced(line, json_escape) for line in lines).encode()


def replaced(text: str, escape: Callable[[str], str]) -> str:
    """Return a text in which each hidden character is escaped."""
    return "".join(char if char.isprintable() else escape(char) for char in text)


def json_escape(char: str) -> str:
    """Return a character as JSON escapes it, above U+FFFF as a pair of surrogates (RFC 8259, 7)."""
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


class LogFormatter(logging.Formatter):
    """Writes a record as one line, and a traceback, in which only line ends are not escaped, below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """Return the line of a record."""
        return for_log(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 (logging's name)
        """Return the lines of a traceback."""
        return "\n".join(for_log(line) for line in super().formatException(ei).split("\n"))


def log_to_stderr(level: int, form: str) -> None:
    """Write the log to standard error, one line a record; nothing where a log was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])
