"""Fetches feeds by HTTP into the state folder: only if they changed, within limits of size and time.

The copy of a URL is stored beside its validators (ETag, Last-Modified). A failed fetch changes neither and raises
FeedError.
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
TOTAL_S: Final = 900.0
REDIRECTS: Final = 3
CHUNK: Final = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """The local copy of a URL, and whether this fetch changed it."""

    path: Path
    changed: bool


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def path_of(url: str) -> str:
    """Return the path of a URL, by which the feed's format is known; empty if the URL cannot be parsed."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def fetch(url: str, state: Path, most_bytes: int, rule: str = "setting fetch_mb") -> Fetched:
    """Return the copy of a URL in the state folder, updated; `rule` names the size limit. Raises FeedError."""
    folder = state / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    base = re.sub(r"[^A-Za-z0-9._-]", "_", path_of(url).rpartition("/")[2])[-60:] or "feed"
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{base}"
    about = path.with_name(path.name + ".about")
    try:
        stored = read_validators(about) if path.exists() else {}
        with httpx.Client(timeout=TIMEOUT) as client, following(client, url, stored) as answer:
            if answer.status_code == 304 and stored:
                return Fetched(path, changed=False)
            if answer.status_code != 200:
                raise FeedError(f"{url}: answered {answer.status_code} {answer.reason_phrase}")
            part = path.with_name(path.name + ".new")
            try:
                digest = save(answer, part, url, most_bytes, rule)
                changed = digest != stored.get("sha256")
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            validators = {name: answer.headers[name] for name in ("etag", "last-modified") if name in answer.headers}
            write_atomically(about, [json.dumps({"url": url, "sha256": digest, **validators}).encode()])
            return Fetched(path, changed)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FeedError(f"{url}: {error or type(error).__name__}", hint="the serving table stays") from error
    except OSError as error:
        raise FeedError(f"{error.filename or path}: {error.strerror}") from error


@contextlib.contextmanager
def following(client: httpx.Client, url: str, stored: dict[str, str]) -> Iterator[httpx.Response]:
    """Yield the response to a conditional GET, after a few redirects to the same host and not from TLS to plain."""
    headers = {"accept-encoding": "identity", "user-agent": "steering"}
    if "etag" in stored:
        headers["if-none-match"] = stored["etag"]
    if "last-modified" in stored:
        headers["if-modified-since"] = stored["last-modified"]
    location = httpx.URL(url)
    for _ in range(REDIRECTS + 1):
        with client.stream("GET", location, headers=headers) as answer:
            if not answer.has_redirect_location:
                yield answer
                return
            target = location.join(answer.headers["location"])
        if target.host != location.host or (location.scheme, target.scheme) == ("https", "http"):
            raise FeedError(f"{url}: redirects to {target.copy_with(query=None)}", hint="name that URL if it is meant")
        location = target
    raise FeedError(f"{url}: redirects more than {REDIRECTS} times")


def save(answer: httpx.Response, part: Path, url: str, most_bytes: int, rule: str) -> str:
    """Save a body, limited in size and time; return its SHA-256."""
    digest, size, until = hashlib.sha256(), 0, time.monotonic() + TOTAL_S
    with part.open("wb") as file:
        for chunk in answer.iter_raw(CHUNK):
            size += len(chunk)
            if size > most_bytes:
                raise FeedError(f"{url}: over {most_bytes >> 20} MiB ({rule})")
            if time.monotonic() > until:
                raise FeedError(f"{url}: took over {TOTAL_S:.0f} s")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def read_validators(about: Path) -> dict[str, str]:
    """Return the validators of a copy; empty if the file is missing or has another form."""
    try:
        stored = json.loads(about.read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in stored.items() if isinstance(value, str)} if isinstance(stored, dict) else {}
