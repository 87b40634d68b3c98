"""The feed of plays: how often each title was played in each area on each day.

    day,area,title,plays,bytes
    2026-01-05,DE,80100172,3120,10920000000

`bytes`, what was delivered, may be left out. A feed belongs to one service. Rows with the same day, area and title
add up. An area with areas below it has what those do not count: its plays and theirs add up.

A day may have millions of rows, so they are read in groups, column by column; only where a group of
lines has a wrong one are its lines read one at a time.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from steering.control.feed_files import MAX_LINE, MAX_ROWS, MAX_TEXT, lines_of, read_text, sha256_of
from steering.control.fill.feed_rows import (
    MOST_BYTES,
    Refused,
    area_of,
    columns_of,
    csv_fields,
    day_of,
    is_json_lines,
    json_fields,
    number_of,
    title_of,
)
from steering.errors import FeedError

COLUMNS: Final = ("day", "area", "title", "plays", "bytes")
REQUIRED: Final = COLUMNS[:4]
GROUP: Final = 1 << 18  # bytes at a time, and rows of Parquet: some milliseconds
MOST_DIGITS: Final = 40  # of a number that is read in a group
MOST_DAYS: Final = 1000
MOST_AREAS: Final = 10_000
MOST_TITLES: Final = 1_000_000
MOST_PLAYS: Final = 1e12  # of a row

Number = int | float


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line of JSON as most feeds have it; others are read as texts."""

    day: str
    area: str
    title: str
    plays: Number
    bytes: Number = 0


DECODER: Final = msgspec.json.Decoder(Line)
Row = Sequence[str] | tuple[str, str, str, Number, Number]


class Numbers(dict[str, int]):
    """The number of each text of a column, in the order of their first rows; a new one is checked. ValueError."""

    def __init__(self, name: str, most: int, check: Callable[[str], object]) -> None:
        super().__init__()
        self.name, self.most, self.check = name, most, check

    def __missing__(self, text: str) -> int:
        self.check(text)
        if len(self) >= self.most:
            raise ValueError(f"a feed has at most {self.most} {self.name}")
        return self.setdefault(text, len(self))


@dataclasses.dataclass(frozen=True)
class Plays:
    """The rows of a feed as columns: `day`, `area` and `title` are indexes into `days`, `areas` and `titles`.

    `days` are ordinals as of `datetime.date`. A day, area or title of refused rows alone has an index, and no row.
    `bytes` is empty where the feed has no such column.
    """

    name: str
    sha256: str
    service: str
    days: list[int]
    areas: list[str]
    titles: list[str]
    day: array[int]
    area: array[int]
    title: array[int]
    plays: array[float]
    bytes: array[float]
    refused: Refused

    def __len__(self) -> int:
        return len(self.plays)

    def describe(self) -> dict[str, Any]:
        """Return what a report says of the feed."""
        about = {"feed": self.name, "sha256": self.sha256, "service": self.service, "accepted": len(self)}
        return {**about, "days": len(self.days), "areas": len(self.areas), "titles": len(self.titles)} | (
            self.refused.describe()
        )


class PlaysReader:
    """The columns of a feed while it is read. A row has day, area, title, plays and perhaps bytes."""

    def __init__(self, name: str, has_bytes: bool) -> None:
        self.refused = Refused(name)
        self.has_bytes = has_bytes
        self.days = Numbers("days", MOST_DAYS, day_of)
        self.areas = Numbers("areas", MOST_AREAS, area_of)
        self.titles = Numbers("titles", MOST_TITLES, title_of)
        self.day, self.area, self.title = array("H"), array("H"), array("I")
        self.plays, self.bytes = array("d"), array("d")

    def take_columns(self, columns: Sequence[Sequence[Any]]) -> None:
        """Add rows given as columns; all or none of them. ValueError: one of them is wrong."""
        plays = numbers_of(columns[3], MOST_PLAYS)
        delivered = numbers_of(columns[4], MOST_BYTES) if self.has_bytes else array("d")
        day = array("H", map(self.days.__getitem__, columns[0]))
        area = array("H", map(self.areas.__getitem__, columns[1]))
        title = array("I", map(self.titles.__getitem__, columns[2]))
        self.day += day
        self.area += area
        self.title += title
        self.plays += plays
        self.bytes += delivered

    def take_row(self, row: Row) -> None:
        """Add one row. ValueError names the rule."""
        texts = [str(value) for value in row]
        numbers = [number_of(texts[3], "plays", MOST_PLAYS)]
        if self.has_bytes:
            numbers.append(number_of(texts[4] or "0", "bytes"))
        self.take_columns([[text] for text in texts[:3]] + [[number] for number in numbers])

    def take_lines(self, first: int, lines: Sequence[bytes], split: Callable[[bytes], Row]) -> None:
        """Add the rows of lines one at a time; wrong ones are refused."""
        for number, line in enumerate(lines, first):
            if line.strip():
                try:
                    self.take_row(split(line))
                except ValueError as error:
                    self.refused.add(number, line[:80].decode("utf-8", "replace"), str(error))

    def result(self, sha256: str, service: str) -> Plays:
        """Return the feed. FeedError: no row of it can be used."""
        if not self.plays:
            raise self.refused.no_row_left()
        return Plays(
            name=self.refused.feed,
            sha256=sha256,
            service=service,
            days=[day_of(day) for day in self.days],
            areas=list(self.areas),
            titles=list(self.titles),
            day=self.day,
            area=self.area,
            title=self.title,
            plays=self.plays,
            bytes=self.bytes,
            refused=self.refused,
        )


def numbers_of(column: Sequence[Any], most: float) -> array[float]:
    """Return a column of numbers. ValueError: one of them is not from 0 to `most`, or not written as one."""
    if isinstance(column[0], str):
        joined = "".join(column)
        if "_" in joined or not joined.isascii() or max(map(len, column)) > MOST_DIGITS:
            raise ValueError("read one at a time")
    numbers = array("d", map(float, column))
    # A comparison with NaN is false, and so NaN may hide in min and max; the sum has it.
    if not (min(numbers) >= 0 and max(numbers) <= most and sum(numbers) >= 0):
        raise ValueError("read one at a time")
    return numbers


def read_plays(path: Path, service: str) -> Plays:
    """Return a feed of plays for a service. Wrong rows are refused.

    FeedError: the file is unreadable, too large, cut off, or has no row that can be used.
    """
    if path.suffix == ".parquet":
        return read_parquet(path, service)
    text, digest = read_text(path)
    if is_json_lines(path):
        reader = PlaysReader(path.name, b'"bytes"' in text)
        take_groups(reader, text, 0, 1, split_json, lambda group: json_columns(group, reader.has_bytes))
    else:
        start = text.index(b"\n") + 1
        names = columns_of(path.name, next(lines_of(text[:start])), COLUMNS, REQUIRED)
        reader = PlaysReader(path.name, "bytes" in names)
        order = [names.index(name) for name in COLUMNS if name in names]

        def split(line: bytes) -> Row:
            fields = csv_fields(line, len(names))
            return [fields[index] for index in order]

        take_groups(reader, text, start, 2, split, lambda group: csv_columns(group, order))
    return reader.result(digest, service)


def take_groups(
    reader: PlaysReader,
    text: bytes,
    start: int,
    row: int,
    split: Callable[[bytes], Row],
    columns_of_group: Callable[[bytes], Sequence[Sequence[Any]]],
) -> None:
    """Add all lines from an offset on, in groups where all of a group's are right."""
    while start < len(text):
        end = text.find(b"\n", start + GROUP) + 1 or len(text)
        group = text[start:end].removesuffix(b"\n")
        try:
            reader.take_columns(columns_of_group(group))
        except ValueError:
            reader.take_lines(row, group.split(b"\n"), split)
        row += group.count(b"\n") + 1
        start = end


def csv_columns(group: bytes, order: Sequence[int]) -> list[Sequence[str]]:
    """Return the columns of lines without quotes. ValueError: one of them is another kind of line."""
    if b'"' in group or b"\r" in group:
        raise ValueError("read one at a time")
    # Each line end becomes a field of its own. Where those stand at equal distances, all lines have as many fields.
    fields = group.decode().replace("\n", ",\n,").split(",")
    width = len(order) + 1
    lines = group.count(b"\n")
    if len(fields) != width * (lines + 1) - 1 or fields[len(order) :: width].count("\n") != lines:
        raise ValueError("read one at a time")
    return [fields[index::width] for index in order]


def json_columns(group: bytes, has_bytes: bool) -> list[Sequence[Any]]:
    """Return the columns of lines of JSON. ValueError: one of them is another kind of line."""
    lines = group.split(b"\n")
    if max(map(len, lines)) > MAX_LINE:
        raise ValueError("read one at a time")
    rows = [DECODER.decode(line) for line in lines]
    columns: list[Sequence[Any]] = [[row.day for row in rows], [row.area for row in rows], [row.title for row in rows]]
    columns.append([row.plays for row in rows])
    return [*columns, [row.bytes for row in rows]] if has_bytes else columns


def split_json(line: bytes) -> Row:
    """Return the row of a line of JSON. ValueError names the rule."""
    fields = json_fields(line)
    if unknown := fields.keys() - set(COLUMNS):
        raise ValueError(f"the columns are {', '.join(COLUMNS)}; not {min(unknown)[:40]!r}")
    if missing := [name for name in REQUIRED if not fields.get(name)]:
        raise ValueError(f"a row has {', '.join(REQUIRED)}; {missing[0]} is missing")
    return [fields.get(name, "") for name in COLUMNS]


def read_parquet(path: Path, service: str) -> Plays:
    """Return a feed of plays in Parquet; needs pyarrow."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise FeedError(f"{path.name}: Parquet needs pyarrow", hint="pip install 'steering[fill]'") from None
    try:
        digest = sha256_of(path)
        with parquet.ParquetFile(path) as file:
            about = file.metadata
            size = sum(about.row_group(index).total_byte_size for index in range(about.num_row_groups))
            if about.num_rows > MAX_ROWS or size > MAX_TEXT:
                rule = f"at most {MAX_ROWS} and {MAX_TEXT >> 20} MiB"
                raise FeedError(f"{path.name}: {about.num_rows} rows, {size >> 20} MiB; {rule}")
            names = [name for name in COLUMNS if name in file.schema_arrow.names]
            if missing := set(REQUIRED) - set(names):
                raise FeedError(f"{path.name}: has no column {min(missing)}")
            reader = PlaysReader(path.name, "bytes" in names)
            first = 1
            for batch in file.iter_batches(GROUP, columns=names):
                take_batch(reader, first, [batch.column(name).to_pylist() for name in names])
                first += batch.num_rows
    except (arrow.ArrowException, OSError) as error:
        raise FeedError(f"{path.name}: cannot be read as Parquet: {error}"[:500]) from error
    return reader.result(digest, service)


def take_batch(reader: PlaysReader, first: int, columns: list[list[Any]]) -> None:
    """Add the rows of a batch of Parquet, whose days are dates or texts."""
    columns[:3] = [["" if value is None else str(value) for value in column] for column in columns[:3]]
    try:
        reader.take_columns(columns)
    except (ValueError, TypeError):
        for number, row in enumerate(zip(*columns, strict=True), first):
            try:
                reader.take_row(["" if value is None else str(value) for value in row])
            except ValueError as error:
                reader.refused.add(number, ",".join(map(str, row)), str(error))
