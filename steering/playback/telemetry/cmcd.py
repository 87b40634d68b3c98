"""A lenient reader of what players report: CMCD (CTA-5004, version 1; CTA-5004-A and -B, version 2).

    CMCD=bl%3D21300%2Cbr%3D3200%2Cbs%2Csid%3D%226e2f%22          query, version 1 or 2
    CMCD-Status: bs                                              headers; any key may stand in any of the four
    e=rr,mtp=(25400),rc=200,sid="6e2f",ts=17…,url="https://…"    events, version 2: a report a line
    {"e":"rr","mtp":[25400],"rc":200,"sid":"6e2f"}               the same as JSON: an object, an array, or one a line

Nothing in a report is an error: a value that cannot be read counts as missing. Only keys that are used are read. A key
means the same in text and in JSON. In version 2 some values are lists, `(3200;v 128;a)`, of which the first counts; in
JSON an item may be an object with its value and parameters, `{"value":3200,"params":{"v":true}}`. Media3 encodes the
query parameter twice.

Players report a stall twice: as the event `ps` with the state `r`, and as `bs` on their next request. In `ps` and `rr`
events `bs` does not count; in requests and in all other events it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

import msgspec

MAX_BODY: Final = 128 << 10
MAX_REPORTS: Final = 200  # of a body
MAX_LINE: Final = 4 << 10
MAX_COMMAS: Final = 100  # of a line; players send up to forty members
MAX_TOKEN: Final = 8
MAX_TEXT: Final = 128  # of ids, as CTA-5004 has them
MAX_DIGITS: Final = 15
MAX_KBPS: Final = 10**8
MAX_START_MS: Final = 600_000
MAX_AT_MS: Final = 1 << 48
HEADERS: Final = (b"cmcd-object", b"cmcd-request", b"cmcd-session", b"cmcd-status")

# A member of a dictionary (RFC 8941, 3.2): key, value. It matches at any offset and never backtracks, so the time for a
# line is linear in its length.
MEMBER: Final = re.compile(
    r"""[ \t]*+([^=,;"( ]*+)=?"""
    r"""([^,;"(]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?|\((?:[^()"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+\)?|)[^,]*+,?""",
    re.DOTALL,
)
NUMBER: Final = re.compile(r'[("\s]*+(\d{1,15}(?:\.\d{1,15})?(?:[eE]\+?\d{1,2})?)(?![^\s;")])', re.ASCII)
ITEM: Final = re.compile(r"""\A\([ \t]*+("[^"\\]*+(?:\\.[^"\\]*+)*+"|[^ \t;()"]++)""", re.DOTALL)  # the first of a list
ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
HOST: Final = re.compile(
    r"""https?://(?:[^/?#@]{0,100}@)?(\[[0-9a-f:.]{2,45}\]|[\w.-]{1,253})""", re.ASCII | re.IGNORECASE
)
PARAMETER: Final = re.compile(rb"(?:^|&)CMCD=([^&]*)")
TEXTS: Final = ("cdn", "e", "h", "sid", "sta", "url")
# A row with none of these keys is no report.
KEYS: Final = {"bl", "br", "bs", "cid", "e", "ec", "h", "msd", "mtp", "ot", "rc", "sid", "sta", "ts", "url", "v"}
FALSE: Final = (None, False, "?0", "false", "0")  # and 0
FAILED: Final = 400  # and 0, by which players mean that there was no answer


class Report(msgspec.Struct, frozen=True, gc=False):
    """One report. Missing texts are empty, missing numbers -1; rates are in kbit/s, times in milliseconds.

    `host` is that of the loaded URL, or else the reported one; `network` is the player's name of the CDN that it plays
    from; `start_ms` is the time from the request to play to the first picture.
    """

    event: str = ""
    state: str = ""
    session: str = ""
    host: str = ""
    network: str = ""
    throughput_kbps: int = -1
    bitrate_kbps: int = -1
    start_ms: int = -1
    at_ms: int = -1
    stalled: bool = False
    failed: bool = False


def read_body(body: bytes) -> tuple[list[Report], int]:
    """Return the reports of a body in order, and how many rows were no report or beyond MAX_REPORTS. Never raises."""
    rows: Sequence[Any]
    read_row: Callable[[Any], Any] = members_of
    start = body[:64].lstrip()[:1]
    if start in (b"{", b"["):
        whole, read_row = decoded(body), decoded
        if whole is None and start == b"{":
            rows = [line if len(line) <= MAX_LINE else b"" for line in body.splitlines() if line]
        else:
            rows, read_row = whole if isinstance(whole, list) else [whole], unchanged
    else:
        rows = [line for line in body.decode(errors="replace").splitlines() if line]
    reports = [report for row in rows[:MAX_REPORTS] if (report := report_of(read_row(row)))]
    return reports, len(rows) - len(reports)


def brings_cmcd(query: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request carries a report; names of headers are in lower case."""
    return PARAMETER.search(query) is not None or any(name in HEADERS for name, _ in headers)


def read_query(query: bytes) -> Report | None:
    """Return the report in a raw query string, None where there is none."""
    values = PARAMETER.findall(query)
    text = unquote_to_bytes(values[-1].replace(b"+", b" ")).decode(errors="replace") if values else ""
    if "%" in text and "=" not in text:
        text = unquote(text, errors="replace")
    return report_of(members_of(text))


def read_headers(headers: Sequence[tuple[bytes, bytes]]) -> Report | None:
    """Return the report in a request's headers, names in lower case; None where there is none."""
    text = b",".join(value for name, value in headers if name in HEADERS).decode(errors="replace")
    return report_of(members_of(text))


def members_of(text: str) -> dict[str, Any]:
    """Return the members of a line by key; of a repeated key the last counts (RFC 8941).

    Values are as they are written, but a list of texts is a list of its first item. A line beyond MAX_LINE is cut, and
    one with more than MAX_COMMAS commas has no members.
    """
    text = text[:MAX_LINE]
    members: dict[str, Any] = dict(MEMBER.findall(text)) if text.count(",") <= MAX_COMMAS else {}
    for key in TEXTS:
        if key in members and members[key][:1] == "(":
            members[key] = ITEM.findall(members[key])[:1]
    return members


def unchanged(row: Any) -> Any:
    """Return a row of an array, which is decoded already."""
    return row


def decoded(body: bytes) -> Any:
    """Return the value of a JSON text, None where it is not JSON."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


def report_of(row: Any) -> Report | None:
    """Return the report of a row, whose values are texts of a line or JSON values; None where it is no report."""
    if not isinstance(row, dict) or KEYS.isdisjoint(row):
        return None
    event, state = token_of(row.get("e")), token_of(row.get("sta"))
    status = number_of(row["rc"], 999) if "rc" in row else -1
    host = HOST.match(plain_text(row["url"]), 0, 400) if "url" in row else None
    return Report(
        event,
        state,
        text_of(row["sid"]) if "sid" in row else "",
        (host[1] if host else text_of(row["h"]) if "h" in row else "").lower(),
        text_of(row["cdn"]) if "cdn" in row else "",
        number_of(row["mtp"], MAX_KBPS) if "mtp" in row else -1,
        number_of(row["br"], MAX_KBPS) if "br" in row else -1,
        number_of(row["msd"], MAX_START_MS) if "msd" in row else -1,
        number_of(row["ts"], MAX_AT_MS) if "ts" in row else -1,
        state == "r" if event == "ps" else "bs" in row and event != "rr" and is_set(row["bs"]),
        event == "e" or status == 0 or status >= FAILED or ("ec" in row and is_set(row["ec"])),
    )


def plain(value: Any) -> Any:
    """Return the first item of a value, without its parameters; None where there is none."""
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, list):
        value = value[0] if value else None
    return value.get("value") if isinstance(value, dict) else value


def is_set(value: Any) -> bool:
    """Return whether a flag is set, or a list has items."""
    value = plain(value)
    if isinstance(value, str) and value[:1] == "(":
        value = value.strip("() ") or None
    return value not in FALSE


def plain_text(value: Any) -> str:
    """Return a text without its quotes, of a list the first; empty where there is none."""
    text = plain(value)
    if not isinstance(text, str):
        return ""
    if text[:1] != '"':
        return text
    text = text[1:-1]
    return ESCAPED.sub(r"\1", text) if "\\" in text else text


def token_of(value: Any) -> str:
    """Return a token, in quotes or not; empty where the value is no token."""
    value = value.get("value") if isinstance(value, dict) else value
    text = plain_text(value) if isinstance(value, str) else ""
    return text if len(text) <= MAX_TOKEN else ""


def text_of(value: Any) -> str:
    """Return a text, empty where there is none, or it is too long."""
    text = plain_text(value)
    return text if len(text) <= MAX_TEXT else ""


def number_of(value: Any, most: int) -> int:
    """Return a whole number, or the first of a list; -1 where there is none from 0 to `most`."""
    value = plain(value)
    if isinstance(value, str):
        digits = value.strip("()")  # as nearly all are
        if digits.isdecimal() and len(digits) <= MAX_DIGITS:
            value = int(digits)
        else:
            match = NUMBER.match(value)
            value = float(match[1]) if match else -1
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value <= most else -1
