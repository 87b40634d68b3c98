"""Which parameter of a request is wrong, and by which rule: asked after ranking has refused the request."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from _fastpath.lpm import PrefixTable
from _fastpath.playback_json import MAX_FILES
from _fastpath.ranking import MAX_PICKS, MAX_SESSION, MAX_TITLE
from steering.errors import RequestError


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
        return RequestError.of_parameter("session", session, f"at most {MAX_SESSION} characters")
    if not 0 <= n <= MAX_PICKS:
        return RequestError.of_parameter("n", str(n), f"a number from 1 to {MAX_PICKS}")
    try:
        prefixes.lookup(address)
    except ValueError:
        return RequestError.of_parameter("ip", str(address), "an IPv4 or IPv6 address without a zone id")
    if files is not None and not is_wrong_name(title):
        return refusal_of_files(files)
    return RequestError.of_parameter("title", title, f"1 to {MAX_TITLE} bytes of UTF-8, and not . or ..")


def is_wrong_name(name: str) -> bool:
    """Return whether a name cannot be a title's or a file's."""
    return name in (".", "..") or len(name.encode()) > MAX_TITLE


def refusal_of_files(files: Sequence[str]) -> RequestError:
    """Return the error that names what is wrong with the files of a playback."""
    if not 1 <= len(files) <= MAX_FILES:
        return RequestError.of_parameter("files", f"{len(files)} files", f"1 to {MAX_FILES} files")
    seen: set[str] = set()
    for file in files:
        if not file or is_wrong_name(file):
            rule = f"each has 1 to {MAX_TITLE} bytes of UTF-8, and is not . or .."
            return RequestError.of_parameter("files", file, rule)
        if file in seen:
            return RequestError.of_parameter("files", file, "no file is named twice")
        seen.add(file)
    raise AssertionError("unreachable: ranking refused the files")
