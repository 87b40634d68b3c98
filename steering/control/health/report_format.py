"""The wire format of reports: what comes to `POST /v1/reports`, and what is answered, row by row.

One report is an object, several are an array; either may be packed with gzip. Rows are found first and read one by one,
so a bad one loses none of the others: it becomes a `Fault`, which names the row, the field, its value and the rule.
Nothing here knows of appliances: who may report what, and what follows, is for `reports.py`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from steering.control.health.rules import STATES, Health, Report
from steering.errors import RequestError
from steering.model.route import RoutesHeard

MAX_BODY: Final = 16 << 20  # as it is sent: a full list of a million files, packed
MAX_PLAIN: Final = 64 << 20
MAX_ROWS: Final = 10_000
MAX_ITEMS: Final = 2_000_000  # what a body could make of many commas takes fifty times its size

Name = Annotated[str, Meta(min_length=1, max_length=63)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0, lt=1 << 62)]
Amount = Annotated[float, Meta(ge=0, le=1_000_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
State = Literal["ok", "degraded", "failed"]
Digest = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,8})-[0-9a-f]{16}$")]
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,128}$")]


class HealthRow(Struct, frozen=True, forbid_unknown_fields=True):
    """How an appliance is. The worst component is its own state; `disk_used` and `error_rate` are shares."""

    components: Annotated[dict[Word, State], Meta(max_length=64)] = {}
    throughput_gbps: Amount | None = None
    headroom_gbps: Amount | None = None
    connections: Count | None = None
    error_rate: Share | None = None
    disk_used: Share | None = None
    ipv4: bool = True
    ipv6: bool = True


class Full(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="full"):
    """All that an appliance holds of a service."""

    service: Name
    full: list[str]
    digest: Digest


class Delta(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="delta"):
    """What an appliance holds more and less of a service than when the digest was `base`; `digest` is the one after.

    An id in both lists is held. With neither it asks whether both sides mean the same.
    """

    service: Name
    base: Digest
    digest: Digest
    add: list[str] = []
    remove: list[str] = []


class Unknown(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="unknown"):
    """An appliance does not say what it holds of a service: it is filled by demand."""

    service: Name


HoldingsRow = Full | Delta | Unknown


class RoutesRow(Struct, frozen=True, forbid_unknown_fields=True):
    """How many prefixes of a family an appliance hears, and their digest."""

    count: Count
    digest: Hex


class ReportRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One report. `boot` changes when the reporter starts anew, `seq` grows within it; `at` is its own clock."""

    appliance: Name
    boot: Word
    seq: Count
    at: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    health: HealthRow | None = None
    holdings: HoldingsRow | Annotated[list[HoldingsRow], Meta(max_length=32)] | None = None
    routes: dict[Literal["4", "6"], RoutesRow] | None = None


class RowResult(Struct, frozen=True, omit_defaults=True):
    """What became of a report. `resync` names the services whose full list is to be sent next."""

    appliance: str
    result: Literal["accepted", "repeated", "late", "refused"]
    error: str = ""
    resync: Sequence[str] = ()
    believed: bool | None = None


class BatchResult(Struct, frozen=True):
    """What became of several reports, in their order."""

    results: list[RowResult]


class Fault(Struct, frozen=True):
    """What is wrong with a row."""

    field: str
    value: str
    rule: str
    appliance: str = ""

    def __str__(self) -> str:
        return f"{self.field} = {self.value}: {self.rule}" if self.value else f"{self.field}: {self.rule}"


ONE: Final = msgspec.json.Decoder(ReportRow)
ROWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
ANYTHING: Final = msgspec.json.Decoder()
ENCODER: Final = msgspec.json.Encoder()
WHERE: Final = re.compile(r" - at (?:`key` in )?`\$(.*)`$")
NAMED: Final = re.compile(r"(?:unknown|required) field `(.*)`$")
STEP: Final = re.compile(r"\[\.\.\.\]|\.([^.\[]+)|\[([0-9]+)\]")


def unpack(body: bytes, encoding: str) -> bytes:
    """Return a body without its Content-Encoding. Raises RequestError 413 for what would grow beyond MAX_PLAIN."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise RequestError.of_parameter("Content-Encoding", encoding, "gzip, or none", status=415)
    member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = member.decompress(body, MAX_PLAIN + 1)
    except zlib.error as error:
        raise RequestError(f"the body is no gzip: {error}") from None
    if len(plain) > MAX_PLAIN:
        raise RequestError(f"a body of more than {MAX_PLAIN} bytes when unpacked", status=413)
    if not member.eof or member.unused_data:
        raise RequestError("the body is no gzip: one member (RFC 1952), whole, and nothing behind it")
    return plain


def parse(plain: bytes) -> ReportRow | Fault | list[ReportRow | Fault]:
    """Return the report of a body, or the reports where it is an array. Raises RequestError for what has no rows."""
    if plain.count(b",") > MAX_ITEMS:
        raise RequestError(f"a body of more than {MAX_ITEMS} items", status=413)
    if plain.lstrip(b" \t\r\n")[:1] != b"[":
        return read_row(plain)
    try:
        rows = ROWS.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is no JSON: {error}") from None
    if len(rows) > MAX_ROWS:
        raise RequestError(f"{len(rows)} reports; at most {MAX_ROWS}", status=413)
    return [read_row(row) for row in rows]


def read_row(raw: bytes | msgspec.Raw) -> ReportRow | Fault:
    """Return one report, or what is wrong with it."""
    try:
        return ONE.decode(raw)
    except msgspec.ValidationError as error:
        return fault_of(str(error), raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Fault("body", "", f"no JSON: {error}")


def fault_of(message: str, raw: bytes | msgspec.Raw) -> Fault:
    """Return which field of a row broke which rule, from msgspec's message, which ends with a path."""
    try:
        found = ANYTHING.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Fault("body", "", f"no JSON: {error}")
    name = found.get("appliance", "") if isinstance(found, dict) else ""
    at = WHERE.search(message)
    rule = message[: at.start()] if at else message
    path = at[1] if at else ""
    for member, place in STEP.findall(path):
        if member and isinstance(found, dict):
            found = found.get(member)
        elif place and isinstance(found, list) and int(place) < len(found):
            found = found[int(place)]
    if named := NAMED.search(rule):
        path, found = f"{path}.{named[1]}", found.get(named[1]) if isinstance(found, dict) else None
    value = "" if found is None else ENCODER.encode(found).decode()
    shown = value if len(value) <= 64 else f"{value[:64]}… ({len(value)} characters)"
    return Fault(path.removeprefix(".")[:200] or "body", shown, rule, name[:63] if isinstance(name, str) else "")


def report_of(row: ReportRow) -> Report:
    """Return what health is judged by."""
    heard: dict[int, RoutesHeard] | None = None
    if row.routes is not None:
        heard = {int(family): RoutesHeard(said.count, said.digest) for family, said in row.routes.items()}
    return Report(row.boot, row.seq, row.at, health_of(row.health) if row.health else None, heard)


def health_of(said: HealthRow) -> Health:
    """Return the health that a row says: the worst of its components wins, and those that are as bad are named."""
    state = max(said.components.values(), key=STATES.index, default=STATES[0])
    names = [name for name, found in said.components.items() if found == state] if state != STATES[0] else []
    return Health(
        state,
        f"{', '.join(names)} {state}" if names else "",
        said.throughput_gbps,
        said.headroom_gbps,
        said.connections,
        said.error_rate,
        said.disk_used,
        said.ipv4,
        said.ipv6,
    )


def schemas() -> dict[str, Any]:
    """Return the JSON schemas of what is sent and answered, for OpenAPI's components."""
    kinds = (ReportRow, RowResult, BatchResult)
    _, found = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return found
