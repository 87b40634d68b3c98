"""The format of reports: the body of `POST /v1/reports`, and its answer, row by row.

One report is an object, several are an array; either may be compressed with gzip. The array is split first and its rows
are read one by one, so that a bad row affects no other: it becomes a `Fault` with the field, its value and the rule.
This module knows no appliances; `report_endpoint.py` checks who may report what.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from steering.control.fill.holdings_rows import HoldingsRow, Name
from steering.control.health.rules import STATES, Health, Report
from steering.errors import RequestError
from steering.model.route import RoutesHeard

MAX_BODY: Final = 16 << 20  # as sent: a full list of a million files, compressed
MAX_PLAIN: Final = 64 << 20
MAX_ROWS: Final = 10_000
MAX_ITEMS: Final = 2_000_000  # parsed items take up to fifty times the size of the body

Text = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0, lt=1 << 62)]
Amount = Annotated[float, Meta(ge=0, le=1_000_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
State = Literal["ok", "degraded", "failed"]
HealthSource = Literal["assumed", "reported"]
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,128}$")]


class HealthRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Health of an appliance. Its state is that of the worst component; `disk_used` and `error_rate` are shares."""

    components: Annotated[dict[Text, State], Meta(max_length=64)] = {}
    throughput_gbps: Amount | None = None
    headroom_gbps: Amount | None = None
    connections: Count | None = None
    error_rate: Share | None = None
    disk_used: Share | None = None
    ipv4: bool = True
    ipv6: bool = True


class RoutesRow(Struct, frozen=True, forbid_unknown_fields=True):
    """How many prefixes of a family an appliance hears, and their digest."""

    count: Count
    digest: Hex


class FillTitle(Struct, frozen=True, forbid_unknown_fields=True):
    """A title of a fill report: `source` is the id of an appliance, `origin` or `control`."""

    service: Name
    id: Annotated[str, Meta(min_length=1, max_length=256)]
    bytes_done: Count = 0
    source: Annotated[str, Meta(max_length=63)] = ""
    why: Annotated[str, Meta(max_length=64)] = ""


FillTitles = Annotated[list[FillTitle], Meta(max_length=1000)]


class FillRow(Struct, frozen=True, forbid_unknown_fields=True):
    """How far an appliance is with its fill manifest; what is active, done and failed since the last report."""

    plan: Count = 0
    etag: Annotated[str, Meta(max_length=128)] = ""
    state: Text = "idle"
    bytes_left: Count = 0
    window_bytes: Count = 0
    active: FillTitles = []
    done: FillTitles = []
    failed: FillTitles = []
    no_room: FillTitles = []


class ReportRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One report. `boot` changes when the reporter restarts, `seq` grows within it; `at` is the reporter's clock."""

    appliance: Name
    boot: Text
    seq: Count
    at: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    health: HealthRow | None = None
    holdings: HoldingsRow | Annotated[list[HoldingsRow], Meta(max_length=32)] | None = None
    routes: dict[Literal["4", "6"], RoutesRow] | None = None
    fill: FillRow | None = None


class RowResult(Struct, frozen=True, omit_defaults=True):
    """The result of a report. `resync` names the services whose full list must be sent next."""

    appliance: str
    result: Literal["accepted", "repeated", "late", "refused"]
    error: str = ""
    resync: Sequence[str] = ()
    health_source: HealthSource | None = None


class BatchResult(Struct, frozen=True):
    """The results of several reports, in their order."""

    results: list[RowResult]


class Fault(Struct, frozen=True):
    """The rule that a row breaks, with the field and its value."""

    field: str
    value: str
    rule: str
    appliance: str = ""

    def __str__(self) -> str:
        return f"{self.field} = {self.value}: {self.rule}" if self.value else f"{self.field}: {self.rule}"


REFERENCE: Final = "#/components/schemas/{name}"  # in an OpenAPI document
REPORT: Final = msgspec.json.Decoder(ReportRow)
ROWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
ANYTHING: Final = msgspec.json.Decoder()
ENCODER: Final = msgspec.json.Encoder()
PATH_END: Final = re.compile(r" - at (?:`key` in )?`\$(.*)`$")
FIELD_NAME: Final = re.compile(r"(?:unknown|required) field `(.*)`$")
STEP: Final = re.compile(r"\[\.\.\.\]|\.([^.\[]+)|\[([0-9]+)\]")


def unpack(body: bytes, encoding: str) -> bytes:
    """Return the decompressed body. Raises RequestError, 413 if it would grow beyond MAX_PLAIN."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise RequestError.of_parameter("Content-Encoding", encoding, "gzip, or none", status=415)
    member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = member.decompress(body, MAX_PLAIN + 1)
    except zlib.error as error:
        raise RequestError(f"the body is not gzip: {error}") from None
    if len(plain) > MAX_PLAIN:
        raise RequestError(f"a body of more than {MAX_PLAIN} bytes when decompressed", status=413)
    if not member.eof or member.unused_data:
        raise RequestError("the body is not gzip: it must be one whole member (RFC 1952) with nothing behind it")
    return plain


def parse(plain: bytes) -> ReportRow | Fault | list[ReportRow | Fault]:
    """Return the report in a body, or the reports of an array. Raises RequestError for a body without rows."""
    if plain.count(b",") > MAX_ITEMS:
        raise RequestError(f"a body of more than {MAX_ITEMS} items", status=413)
    if plain.lstrip(b" \t\r\n")[:1] != b"[":
        return read_row(plain)
    try:
        rows = ROWS.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if len(rows) > MAX_ROWS:
        raise RequestError(f"{len(rows)} reports; at most {MAX_ROWS}", status=413)
    return [read_row(row) for row in rows]


def read_row(raw: bytes | msgspec.Raw) -> ReportRow | Fault:
    """Return one report, or its fault."""
    try:
        return REPORT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return fault_of(error, raw)


def fault_of(error: Exception, raw: bytes | msgspec.Raw) -> Fault:
    """Return the fault of an object by msgspec's error, whose message ends with the path of the field."""
    message = str(error)
    try:
        value = ANYTHING.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Fault("body", "", f"not JSON: {error}")
    name = value.get("appliance", "") if isinstance(value, dict) else ""
    path_end = PATH_END.search(message)
    rule = message[: path_end.start()] if path_end else message
    path = path_end[1] if path_end else ""
    for member, index in STEP.findall(path):
        if member and isinstance(value, dict):
            value = value.get(member)
        elif index and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
    if field := FIELD_NAME.search(rule):
        path, value = f"{path}.{field[1]}", value.get(field[1]) if isinstance(value, dict) else None
    text = "" if value is None else ENCODER.encode(value).decode()
    shown = text if len(text) <= 64 else f"{text[:64]}… ({len(text)} characters)"
    return Fault(path.removeprefix(".")[:200] or "body", shown, rule, name[:63] if isinstance(name, str) else "")


def report_of(row: ReportRow) -> Report:
    """Return a row's report as the rules of health use it."""
    routes: dict[int, RoutesHeard] | None = None
    if row.routes is not None:
        routes = {int(family): RoutesHeard(heard.count, heard.digest) for family, heard in row.routes.items()}
    return Report(row.boot, row.seq, row.at, health_of(row.health) if row.health else None, routes)


def health_of(row: HealthRow) -> Health:
    """Return the health in a row: the state of the worst component, and the names of the components in that state."""
    worst = max(row.components.values(), key=STATES.index, default=STATES[0])
    names = [name for name, state in row.components.items() if state == worst] if worst != STATES[0] else []
    return Health(
        state=worst,
        why=f"{', '.join(names)} {worst}" if names else "",
        throughput_gbps=row.throughput_gbps,
        headroom_gbps=row.headroom_gbps,
        connections=row.connections,
        error_rate=row.error_rate,
        disk_used=row.disk_used,
        ipv4=row.ipv4,
        ipv6=row.ipv6,
    )


def schemas(others: Sequence[type[Struct]] = ()) -> dict[str, Any]:
    """Return the JSON schemas of reports, their answers and other types, for OpenAPI's components."""
    types = (ReportRow, RowResult, BatchResult, *others)
    _, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    return components
