"""The rows of fill's feeds (CSV with a first line that names the columns, or JSON Lines), and their refusals.

Both formats give the same rows: a text for each column, empty where it is missing. JSON values are texts, numbers, or
lists of texts, which become texts with spaces between.
"""

from __future__ import annotations

import csv
import datetime
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from steering.control.feed_files import CSV_RULE, MAX_LINE, MAX_LISTED, lines_of, read_text, rule_of
from steering.errors import FeedError
from steering.model.route import Refusal

MAX_TITLE: Final = 256  # bytes of UTF-8
MOST_BYTES: Final = 1 << 53  # exact in JSON and in a double
JSON_SUFFIXES: Final = {".jsonl", ".ndjson"}
OBJECT_RULE: Final = "a line is a JSON object of texts, numbers and lists of texts"
AREA: Final = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
AREA_RULE: Final = "an area is * or 1 to 63 letters, digits and ._-, the first a letter or a digit"
TITLE_RULE: Final = f"a title is 1 to {MAX_TITLE} bytes of printable UTF-8 without spaces around it, not . or .."
DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DAY_RULE: Final = "a day is written YYYY-MM-DD"
TIME_RULE: Final = "a time is a day (YYYY-MM-DD, in UTC) or a date and time with its offset (2026-01-05T21:00:00Z)"

Value = str | int | float | list[str]
DECODER: Final = msgspec.json.Decoder(dict[str, Value | None])


class Refused:
    """The refusals of a feed: all are counted by rule, the first 1,000 are listed with their rows."""

    def __init__(self, feed: str) -> None:
        self.feed = feed
        self.listed: list[Refusal] = []
        self.by_rule: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.by_rule.total()

    def add(self, row: int, value: str, rule: str) -> None:
        self.by_rule[rule_of(rule)] += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(Refusal(self.feed, row, value[:80], rule))

    def describe(self) -> dict[str, Any]:
        return {"refused": len(self), "refused_by": dict(self.by_rule.most_common())}

    def no_row_left(self) -> FeedError:
        """Return the error of a feed without an accepted row."""
        first = self.listed[0] if self.listed else None
        rows = f"; the first of {len(self)} refused rows is row {first.row}: {rule_of(first.rule)}" if first else ""
        return FeedError(f"{self.feed}: holds no row that can be used{rows}")


def is_json_lines(path: Path) -> bool:
    return not JSON_SUFFIXES.isdisjoint(path.suffixes)


def columns_of(name: str, line: bytes, columns: Sequence[str], required: Sequence[str]) -> list[str]:
    """Return the columns that the first line of a CSV feed names. Raises FeedError."""
    names = [part.strip() for part in line[:MAX_LINE].decode("utf-8", "replace").split(",")]
    if set(names) - set(columns) or set(required) - set(names) or len(set(names)) != len(names):
        optional = [column for column in columns if column not in required]
        rest = f", and takes {', '.join(optional)}" if optional else ""
        raise FeedError(
            f"{name} row 1: does not name the columns", hint=f"the first line has {', '.join(required)}{rest}"
        )
    return names


def read_rows(
    path: Path, columns: Sequence[str], required: Sequence[str], refused: Refused
) -> tuple[Iterator[tuple[int, dict[str, str]]], str]:
    """Return the rows of a feed with their numbers, and the SHA-256 of its file. FeedError: it cannot be read."""
    text, digest = read_text(path)
    lines = lines_of(text)
    names = [] if is_json_lines(path) else columns_of(path.name, next(lines), columns, required)
    return rows_of(lines, names, columns, required, refused), digest


def rows_of(
    lines: Iterator[bytes], names: Sequence[str], columns: Sequence[str], required: Sequence[str], refused: Refused
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of CSV lines with named columns, or of JSON lines without; wrong ones are refused."""
    for number, line in enumerate(lines, 2 if names else 1):
        if not line.strip():
            continue
        try:
            values = dict(zip(names, csv_fields(line, len(names)), strict=True)) if names else json_fields(line)
            if unknown := values.keys() - set(columns):
                raise ValueError(f"the columns are {', '.join(columns)}; not {min(unknown)[:40]!r}")
            if missing := [name for name in required if not values.get(name)]:
                raise ValueError(f"a row has {', '.join(required)}; {missing[0]} is missing")
        except ValueError as error:
            refused.add(number, line[:80].decode("utf-8", "replace"), str(error))
        else:
            yield number, {name: values.get(name, "") for name in columns}


def csv_fields(line: bytes, count: int) -> list[str]:
    """Return the fields of a line. ValueError names the rule."""
    if len(line) > MAX_LINE:
        raise ValueError(f"a line has at most {MAX_LINE} bytes; this has {len(line)}")
    try:
        text = line.removesuffix(b"\r").decode()
        fields = next(csv.reader([text], strict=True), []) if '"' in text or "\r" in text else text.split(",")
    except UnicodeDecodeError:
        raise ValueError("a line is UTF-8") from None
    except csv.Error:
        raise ValueError(CSV_RULE) from None
    if len(fields) != count:
        raise ValueError(f"a row has as many fields as the first line names; {len(fields)}, not {count}")
    return [field.strip() for field in fields]


def json_fields(line: bytes) -> dict[str, str]:
    """Return the fields of a line. ValueError names the rule."""
    if len(line) > MAX_LINE:
        raise ValueError(f"a line has at most {MAX_LINE} bytes; this has {len(line)}")
    try:
        values = DECODER.decode(line)
    except (ValueError, RecursionError):
        raise ValueError(OBJECT_RULE) from None
    return {name: json_text(value) for name, value in values.items()}


def json_text(value: Value | None) -> str:
    if value is None:
        return ""
    return " ".join(value) if isinstance(value, list) else str(value).strip()


# ---- the values that several feeds have; ValueError names the rule


def title_of(text: str) -> str:
    """Return a title's id."""
    if not (0 < len(text.encode(errors="surrogatepass")) <= MAX_TITLE and text.isprintable()) or (
        text in (".", "..") or text != text.strip()
    ):
        raise ValueError(TITLE_RULE)
    return text


def area_of(text: str) -> str:
    """Return an area's id."""
    if not AREA.fullmatch(text):
        raise ValueError(f"{AREA_RULE}; not {text[:40]!r}")
    return text


def day_of(text: str) -> int:
    """Return a day as its proleptic Gregorian ordinal, as `datetime.date.toordinal`."""
    try:
        if not DAY.fullmatch(text):
            raise ValueError
        return datetime.date.fromisoformat(text).toordinal()
    except ValueError:
        raise ValueError(f"{DAY_RULE}; not {text[:40]!r}") from None


def time_of(text: str) -> float:
    """Return a time in Unix seconds."""
    try:
        if DAY.fullmatch(text):
            text = f"{text}T00:00:00Z"
        time = datetime.datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError
        return time.timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{TIME_RULE}; not {text[:40]!r}") from None


def number_of(text: str, name: str, most: float = float(MOST_BYTES)) -> float:
    """Return a finite number from 0 to `most`."""
    try:
        number = float(text) if text.isascii() and "_" not in text else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:  # NaN is in no range
        raise ValueError(f"{name} is a number from 0 to {most:.0f}; not {text[:40]!r}")
    return number


def whole_of(text: str, name: str) -> int:
    """Return a whole number from 0 to 2^53 - 1."""
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) < MOST_BYTES):
        raise ValueError(f"{name} is a whole number from 0 to {MOST_BYTES - 1}; not {text[:40]!r}")
    return int(text)
