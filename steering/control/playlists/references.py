"""URL references of a playlist: resolved as in RFC 3986, section 5, and placed below the folder of the title.

Playback puts the files of a title under other hosts, so a reference is accepted only if it leads below the folder that
the playlist was fetched from. It is resolved first and tested then: `/o/t1/v.m3u8`, `../t1/v.m3u8` and
`HTTP://origin/o/t1/v.m3u8` can be the same file. `urllib.parse.urljoin` is not used: it drops empty segments, and keeps
the dots of references that have a host.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from steering.errors import FeedError

# The folder of a playlist that was not fetched. It is below a path, so `/v.m3u8` does not lead into it.
NO_FOLDER: Final = "http://title.invalid/folder/"
# Characters that no URL has. Browsers drop some of them, and read `\` as `/`.
FORBIDDEN: Final = re.compile(r'[\0-\x20"<>\\^`{|}\x7f-\x9f]')
HALF_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")  # which a text behind it may complete
ENCODED_DOT: Final = re.compile("%2e", re.IGNORECASE)
PORTS: Final = {"http": ":80", "https": ":443"}
RULE: Final = "a URL leads to a file below the folder of the playlist"


def refuse(line: int, value: str, rule: str) -> FeedError:
    return FeedError(f"line {line}: {value if len(value) <= 80 else value[:79] + '…'}: {rule}")


def resolve(reference: str, base: str) -> SplitResult:
    """Return the URL of a reference, without its fragment. ValueError: it is no URL."""
    if FORBIDDEN.search(reference) or HALF_ESCAPE.search(reference):
        raise ValueError("it has characters that no URL has")
    url, own = urlsplit(reference), urlsplit(base)
    scheme, host, path, query = url.scheme or own.scheme, url.netloc, url.path, url.query
    if not url.scheme and not host:
        host = own.netloc
        if not path:
            path, query = own.path, query or own.query
        elif not path.startswith("/"):
            path = own.path[: own.path.rfind("/") + 1] + path
    path = ENCODED_DOT.sub(".", path)  # a dot is the same when it is encoded (6.2.2.2)
    host = host.lower().removesuffix(PORTS.get(scheme, ":"))
    return SplitResult(scheme, host, without_dots(path or "/") if host else path, query, "")


def without_dots(path: str) -> str:
    """Return an absolute path without its segments `.` and `..` (RFC 3986, 5.2.4)."""
    segments = path.removeprefix("/").split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join([*kept, ""] if segments[-1] in (".", "..") else kept)


class Folder:
    """The folder of a title: references are placed below it."""

    def __init__(self, url: str) -> None:
        """Take the URL that the playlist was fetched from, empty if it was not."""
        own = resolve(url or NO_FOLDER, "")
        self.origin = own.scheme, own.netloc
        self.path = own.path[: own.path.rfind("/") + 1]
        self.url = own._replace(path=self.path, query="").geturl()

    def place(self, reference: str, line: int, base: str = "") -> str:
        """Return a reference as path and query below the folder. FeedError: it leads elsewhere, or is no URL.

        `base` is the path below the folder that the reference is relative to.
        """
        try:
            url = resolve(reference, self.url + base)
        except ValueError:
            raise refuse(line, reference, RULE) from None
        decoded = unquote(url.path).replace("\\", "/").split("/")  # as a server may understand ..%2f
        if (url.scheme, url.netloc) != self.origin or not url.path.startswith(self.path) or {".", ".."} & {*decoded}:
            raise refuse(line, reference or "an empty URL", RULE)
        return url.path[len(self.path) :] + (f"?{url.query}" if url.query else "")


def relative(path: str, base: str) -> str:
    """Return the reference that leads from one path below a folder to another."""
    folder = base.partition("?")[0]
    folder = folder[: folder.rfind("/") + 1]
    rest = path[len(folder) :] if path.startswith(folder) else "../" * folder.count("/") + path
    return f"./{rest}" if not rest or rest[0] in "/?" or ":" in rest.partition("/")[0] else rest
