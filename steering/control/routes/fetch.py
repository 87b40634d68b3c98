"""Feeds by HTTP: fetched into the state folder, again only where they changed, within limits of size and time.

The copy of a URL stands beside its validators (ETag, Last-Modified). A fetch that fails in any way leaves both as they
were and raises FeedError.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from steering.errors import FeedError
from steering.state.sections import write_atomically

FOLDER: Final = "fetched"
TIMEOUT: Final = httpx.Timeout(10.0, read=30.0)
WHOLE_S: Final = 900.0
REDIRECTS: Final = 3
CHUNK: Final = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """A copy of what a URL has, and whether this fetch brought another."""

    path: Path
    changed: bool


def is_url(text: str) -> bool:
    """Tell whether a source is fetched by HTTP."""
    return text.startswith(("http://", "https://"))


def path_of(url: str) -> str:
    """Return the path of a URL, which tells the kind of feed; empty where it is none that can be read."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def fetch(url: str, state: Path, most_bytes: int, rule: str = "setting fetch_mb") -> Fetched:
    """Return the copy of a URL in the state folder, brought up to date; `rule` is who limits it. Raises FeedError."""
    folder = state / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    base = re.sub(r"[^A-Za-z0-9._-]", "_", path_of(url).rpartition("/")[2])[-60:] or "feed"
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{base}"
    about = path.with_name(path.name + ".about")
    try:
        known = read_validators(about) if path.exists() else {}
        with httpx.Client(timeout=TIMEOUT) as client, following(client, url, known) as answer:
            if answer.status_code == 304 and known:
                return Fetched(path, changed=False)
            if answer.status_code != 200:
                raise FeedError(f"{url}: answered {answer.status_code} {answer.reason_phrase}")
            part = path.with_name(path.name + ".new")
            try:
                digest = save(answer, part, url, most_bytes, rule)
                changed = digest != known.get("sha256")
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            found = {name: answer.headers[name] for name in ("etag", "last-modified") if name in answer.headers}
            write_atomically(about, [json.dumps({"url": url, "sha256": digest, **found}).encode()])
            return Fetched(path, changed)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FeedError(f"{url}: {error or type(error).__name__}", hint="what is serving serves on") from error
    except OSError as error:
        raise FeedError(f"{error.filename or path}: {error.strerror}") from error


@contextlib.contextmanager
def following(client: httpx.Client, url: str, known: dict[str, str]) -> Iterator[httpx.Response]:
    """Give the answer to a conditional GET, behind a few redirects that stay with the host and do not leave TLS."""
    headers = {"accept-encoding": "identity", "user-agent": "steering"}
    if "etag" in known:
        headers["if-none-match"] = known["etag"]
    if "last-modified" in known:
        headers["if-modified-since"] = known["last-modified"]
    at = httpx.URL(url)
    for _ in range(REDIRECTS + 1):
        with client.stream("GET", at, headers=headers) as answer:
            if not answer.has_redirect_location:
                yield answer
                return
            target = at.join(answer.headers["location"])
        if target.host != at.host or (at.scheme, target.scheme) == ("https", "http"):
            raise FeedError(f"{url}: redirects to {target.copy_with(query=None)}", hint="name that URL if it is meant")
        at = target
    raise FeedError(f"{url}: redirects more than {REDIRECTS} times")


def save(answer: httpx.Response, part: Path, url: str, most_bytes: int, rule: str) -> str:
    """Save a body, bounded in size and time; return its SHA-256."""
    digest, size, until = hashlib.sha256(), 0, time.monotonic() + WHOLE_S
    with part.open("wb") as file:
        for chunk in answer.iter_raw(CHUNK):
            size += len(chunk)
            if size > most_bytes:
                raise FeedError(f"{url}: over {most_bytes >> 20} MiB ({rule})")
            if time.monotonic() > until:
                raise FeedError(f"{url}: took over {WHOLE_S:.0f} s")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def read_validators(about: Path) -> dict[str, str]:
    """Return what is known of a copy; nothing where the file is not there or not ours."""
    try:
        found = json.loads(about.read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
