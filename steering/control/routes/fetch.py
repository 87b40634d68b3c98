"""Fetches feeds by HTTP into the state folder: only if they changed, within limits of size and time.

The copy of a URL is stored beside its validators (ETag, Last-Modified). A failed fetch changes neither and raises
FeedError. The time limit is of the whole fetch, however slowly it drips: FIRST_S for names, redirects and heads, and
for the body as long as LEAST_RATE takes, at most TOTAL_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

import httpx

from steering.errors import FeedError
from steering.state.sections import write_atomically

FOLDER: Final = "fetched"
TIMEOUT: Final = httpx.Timeout(10.0, read=30.0)
FIRST_S: Final = 30.0
LEAST_RATE: Final = 64 << 10  # bytes a second
TOTAL_S: Final = 900.0
ALIVE_S: Final = 10.0
REDIRECTS: Final = 3
VALIDATORS: Final = ("etag", "last-modified")
MOST_VALIDATOR: Final = 1000  # characters


T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """The local copy of a URL, and whether this fetch changed it."""

    path: Path
    changed: bool


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def is_below(source: str, allowed: Sequence[str]) -> bool:
    """Return whether a feed is in one of these folders, links followed, or its URL begins with one of these URLs."""
    if not is_url(source):
        try:
            path = Path(source).resolve()
        except (OSError, RuntimeError, ValueError):  # such as a link to itself, or a zero byte
            return False
        return any(path.is_relative_to(Path(folder).resolve()) for folder in allowed if not is_url(folder))
    steps = set(re.split(r"[/\\]", unquote(path_of(source))))
    return not steps & {".", ".."} and any(source.startswith(url) for url in allowed if is_url(url))


def path_of(url: str) -> str:
    """Return the path of a URL, by which the feed's format is known; empty if the URL cannot be parsed."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def fetch(url: str, state: Path, most_bytes: int, alive: Callable[[], None] = lambda: None) -> Fetched:
    """Return the copy of a URL in the state folder, updated. Raises FeedError. `alive` is called while data arrive."""
    return run_apart(update_copy(url, state, most_bytes, alive=alive))


def run_apart(fetching: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns, which runs in a thread with an event loop of its own."""
    with ThreadPoolExecutor(1, "fetch") as thread:
        return thread.submit(asyncio.run, fetching).result()


async def update_copy(
    url: str,
    state: Path,
    most_bytes: int,
    rule: str = "setting fetch_mb",
    alive: Callable[[], None] = lambda: None,
) -> Fetched:
    """Return the copy of a URL, as `fetch` does; `rule` names the limit of its size."""
    folder = state / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    base = re.sub(r"[^A-Za-z0-9._-]", "_", path_of(url).rpartition("/")[2])[-60:] or "feed"
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{base}"
    about = path.with_name(path.name + ".about")
    began = time.monotonic()
    try:
        stored = read_validators(about) if path.exists() else {}
        async with (
            asyncio.timeout(FIRST_S) as limit,
            httpx.AsyncClient(timeout=TIMEOUT, verify=await asyncio.to_thread(authorities)) as client,
            following(client, url, stored) as answer,
        ):
            if answer.status_code == 304 and stored:
                return Fetched(path, changed=False)
            if answer.status_code != 200:
                raise FeedError(f"{url}: answered {answer.status_code} {answer.reason_phrase}")
            part = path.with_name(path.name + ".new")
            try:
                too_large = FeedError(f"{url}: over {most_bytes >> 20} MiB ({rule})")
                digest = await save(answer, part, most_bytes=most_bytes, too_large=too_large, limit=limit, alive=alive)
                validators = {name: value for name in VALIDATORS if is_sendable(value := answer.headers.get(name, ""))}
                kept = json.dumps({"url": url, "sha256": digest, **validators}).encode()
                await asyncio.to_thread(replace_copy, part, path, about, kept)
            finally:
                part.unlink(missing_ok=True)
            return Fetched(path, digest != stored.get("sha256"))
    except TimeoutError:
        raise FeedError(f"{url}: took over {time.monotonic() - began:.1f} s", hint="the serving table stays") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
        raise FeedError(f"{url}: {error or type(error).__name__}", hint="the serving table stays") from error
    except OSError as error:
        raise FeedError(f"{error.filename or path}: {error.strerror}") from error


@contextlib.asynccontextmanager
async def following(client: httpx.AsyncClient, url: str, stored: dict[str, str]) -> AsyncIterator[httpx.Response]:
    """Yield the response to a conditional GET, after a few redirects to the same host and not from TLS to plain."""
    headers = {"accept-encoding": "identity", "user-agent": "steering"}
    if "etag" in stored:
        headers["if-none-match"] = stored["etag"]
    if "last-modified" in stored:
        headers["if-modified-since"] = stored["last-modified"]
    location = httpx.URL(url)
    for _ in range(REDIRECTS + 1):
        async with client.stream("GET", location, headers=headers) as answer:
            if not answer.has_redirect_location:
                yield answer
                return
            target = location.join(answer.headers["location"])
        if target.host != location.host or (location.scheme, target.scheme) == ("https", "http"):
            raise FeedError(f"{url}: redirects to {target.copy_with(query=None)}", hint="name that URL if it is meant")
        location = target
    raise FeedError(f"{url}: redirects more than {REDIRECTS} times")


@cache
def authorities() -> ssl.SSLContext:
    """Return the context with the certificates of all authorities, which take 20 ms to load."""
    return httpx.create_ssl_context()


def is_sendable(validator: str) -> bool:
    """Return whether a validator that a server sent can be sent back: printable ASCII of a reasonable length."""
    return validator.isascii() and validator.isprintable() and 0 < len(validator) <= MOST_VALIDATOR


async def save(
    answer: httpx.Response,
    part: Path,
    *,
    most_bytes: int,
    too_large: FeedError,
    limit: asyncio.Timeout,
    alive: Callable[[], None],
) -> str:
    """Save a body, and return its SHA-256. What has arrived moves the limit of time on."""
    digest, size, first = hashlib.sha256(), 0, limit.when() or 0.0
    said_at = time.monotonic()
    with part.open("wb") as file:
        async for chunk in answer.aiter_raw():
            size += len(chunk)
            if size > most_bytes:
                raise too_large
            limit.reschedule(first + min(size / LEAST_RATE, TOTAL_S))
            if time.monotonic() - said_at > ALIVE_S:
                said_at = time.monotonic()
                alive()
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def replace_copy(part: Path, path: Path, about: Path, kept: bytes) -> None:
    """Put what was fetched in the place of the copy, durably, and its validators beside it."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    write_atomically(about, [kept])


def read_validators(about: Path) -> dict[str, str]:
    """Return the validators of a copy; empty if the file is missing or has another form."""
    try:
        stored = json.loads(about.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    rows = stored.items() if isinstance(stored, dict) else ()
    return {key: value for key, value in rows if isinstance(value, str) and is_sendable(value)}
