"""What players report of playback, read leniently: CMCD (CTA-5004, version 1; CTA-5004-A and -B, version 2).

    CMCD=bl%3D21300%2Cbr%3D3200%2Cbs%2Csid%3D%226e2f%22          query, version 1 or 2
    CMCD-Status: bs                                              headers; any key may stand in any of the four
    e=rr,mtp=(25400),rc=200,sid="6e2f",ts=17…,url="https://…"    events, version 2: a report a line
    {"e":"rr","mtp":[25400],"rc":200,"sid":"6e2f"}               the same as JSON: an object, an array, or one a line

Nothing in a report is an error: what cannot be read is as if it were not there. Only keys that something is made of
are read. In version 2 some are lists, `(3200;v 128;a)`, of which the first counts.

Players say a stall twice: as the event `ps` with the state `r`, and as `bs` on their next request. Of events, only the
first counts; of requests, and of events that are not about states or responses, `bs` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

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

# A member of a dictionary (RFC 8941, 3.2): key, value. It takes something wherever it begins and gives nothing back, so
# that a line takes a time that goes by its length.
MEMBER: Final = re.compile(
    r"""[ \t]*+([^=,;"( ]*+)=?"""
    r"""([^,;"(]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?|\((?:[^()"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+\)?|)[^,]*+,?""",
    re.DOTALL,
)
NUMBER: Final = re.compile(r"\(?\s*+(\d{1,15})", re.ASCII)
ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
HOST: Final = re.compile(
    r""""?https?://(?:[^/?#@]{0,100}@)?(\[[0-9a-f:.]{2,45}\]|[\w.-]{1,253})""", re.ASCII | re.IGNORECASE
)
PARAMETER: Final = re.compile(rb"(?:^|&)CMCD=([^&]*)")
# What has none of these is no report.
KNOWN: Final = {"bl", "br", "bs", "cid", "e", "ec", "h", "msd", "mtp", "ot", "rc", "sid", "sta", "ts", "url", "v"}
NO: Final = (None, False, "?0", "false", 0)
FAILED: Final = 400  # and 0, by which players mean that there was no answer


class Report(msgspec.Struct, frozen=True, gc=False):
    """One report. Texts that were not told are empty, numbers -1; rates are in kbit/s, times in milliseconds.

    `host` is of the URL that was loaded, or else as told; `network` is what the player calls the CDN that it plays
    from; `start_ms` is from the override to play to the first picture.
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
    """Return the reports of a body, in order, and how many rows of it were no report, or too many. Raises nothing."""
    rows: Sequence[Any]
    read: Callable[[Any], Any] = members_of
    start = body[:64].lstrip()[:1]
    if start in (b"{", b"["):
        whole, read = decoded(body), decoded
        if whole is None and start == b"{":
            rows = [line if len(line) <= MAX_LINE else b"" for line in body.splitlines() if line]
        else:
            rows, read = whole if isinstance(whole, list) else [whole], as_it_is
    else:
        rows = [line for line in body.decode(errors="replace").splitlines() if line]
    found = [report for row in rows[:MAX_REPORTS] if (report := report_of(read(row)))]
    return found, len(rows) - len(found)


def brings_cmcd(query: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request has a report with it; names of headers are in lower case."""
    return PARAMETER.search(query) is not None or any(name in HEADERS for name, _ in headers)


def read_query(query: bytes) -> Report | None:
    """Return the report in a raw query string, None where there is none."""
    found = PARAMETER.findall(query)
    text = unquote_to_bytes(found[-1].replace(b"+", b" ")).decode(errors="replace") if found else ""
    return report_of(members_of(text))


def read_headers(headers: Sequence[tuple[bytes, bytes]]) -> Report | None:
    """Return the report in a request's headers, names in lower case; None where there is none."""
    text = b",".join(value for name, value in headers if name in HEADERS).decode(errors="replace")
    return report_of(members_of(text))


def members_of(text: str) -> dict[str, str]:
    """Return the members of a line by key; the last of a key that is repeated counts, as RFC 8941 has it.

    A line that is too long is cut, and one with too much in it has none.
    """
    text = text[:MAX_LINE]
    return dict(MEMBER.findall(text)) if text.count(",") <= MAX_COMMAS else {}


def as_it_is(row: Any) -> Any:
    """Return a row that is read already."""
    return row


def decoded(body: bytes) -> Any:
    """Return the value of a JSON text, None where it is none."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


def report_of(row: Any) -> Report | None:
    """Return the report that a row makes, of texts as in a line or of JSON's values; None where it makes none."""
    if not isinstance(row, dict) or KNOWN.isdisjoint(row):
        return None
    told = row.keys()
    event, state = token_of(row.get("e")), token_of(row.get("sta"))
    status = number_of(row["rc"], 999) if "rc" in told else -1
    host = HOST.match(row["url"], 0, 400) if "url" in told and isinstance(row["url"], str) else None
    return Report(
        event,
        state,
        text_of(row["sid"]) if "sid" in told else "",
        (host[1] if host else text_of(row["h"]) if "h" in told else "").lower(),
        text_of(row["cdn"]) if "cdn" in told else "",
        number_of(row["mtp"], MAX_KBPS) if "mtp" in told else -1,
        number_of(row["br"], MAX_KBPS) if "br" in told else -1,
        number_of(row["msd"], MAX_START_MS) if "msd" in told else -1,
        number_of(row["ts"], MAX_AT_MS) if "ts" in told else -1,
        state == "r" if event == "ps" else "bs" in told and event != "rr" and row["bs"] not in NO,
        event == "e" or status == 0 or status >= FAILED or ("ec" in told and row["ec"] not in NO),
    )


def token_of(value: Any) -> str:
    """Return a token, empty where it is none."""
    return value if isinstance(value, str) and len(value) <= MAX_TOKEN else ""


def text_of(value: Any) -> str:
    """Return a text, or the first of a list of them; empty where there is none, or it is too long."""
    if isinstance(value, list):
        value = value[0] if value else ""
    if not isinstance(value, str):
        return ""
    if value[:1] == '"':
        value = value[1:-1]
        if "\\" in value:
            value = ESCAPED.sub(r"\1", value)
    return value if len(value) <= MAX_TEXT else ""


def number_of(value: Any, most: int) -> int:
    """Return a whole number, or the first of a list of them; -1 where there is none, or none from 0 to `most`."""
    if isinstance(value, str):
        plain = value.strip("()")  # as nearly all are
        if not (plain.isdecimal() and len(plain) <= MAX_DIGITS):
            found = NUMBER.match(value)
            plain = found[1] if found else "-1"
        value = int(plain)
    elif isinstance(value, list):
        return number_of(value[0], most) if value and not isinstance(value[0], list) else -1
    return int(value) if isinstance(value, int | float) and 0 <= value <= most else -1
