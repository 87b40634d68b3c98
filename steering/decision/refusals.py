"""Which parameter of a request is wrong, and by which rule: after the reader or ranking has refused the request."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from _fastpath.lpm import PrefixTable
from _fastpath.playback_json import MAX_FILES
from _fastpath.ranking import MAX_PICKS, MAX_SESSION, MAX_TITLE
from _fastpath.request import FILES_RULE, IP_RULE, N_RULE, SESSION_RULE, TITLE_RULE, Refusal
from steering.errors import RequestError


def error_of(refusal: Refusal) -> RequestError:
    """Return the error that words a refusal of the compiled reader."""
    return RequestError.of_parameter(refusal.parameter, refusal.value, refusal.rule, refusal.status)


def refusal_of(
    prefixes: PrefixTable,
    services: Collection[str],
    address: str | bytes,
    title: str,
    service: str,
    session: str,
    n: int,
    files: Sequence[str] | None = None,
) -> RequestError:
    """Return the error that names the wrong parameter of a request; `files` are those of a playback."""
    if service not in services:
        return RequestError.of_parameter("service", service, "there is no such service", status=404)
    if len(session) > MAX_SESSION:
        return RequestError.of_parameter("session", session, SESSION_RULE)
    if not 0 <= n <= MAX_PICKS:
        return RequestError.of_parameter("n", str(n), N_RULE)
    try:
        prefixes.lookup(address)
    except ValueError:
        return RequestError.of_parameter("ip", str(address), IP_RULE)
    if files is None or is_wrong_name(title):
        return RequestError.of_parameter("title", title, TITLE_RULE)
    value, seen = f"{len(files)} files", set[str]()
    for file in files if 1 <= len(files) <= MAX_FILES else ():
        if not file or is_wrong_name(file) or file in seen:
            value = file
            break
        seen.add(file)
    return RequestError.of_parameter("files", value, FILES_RULE)


def is_wrong_name(name: str) -> bool:
    """Return whether a name cannot be a title's or a file's."""
    return name in (".", "..") or len(name.encode(errors="surrogatepass")) > MAX_TITLE
