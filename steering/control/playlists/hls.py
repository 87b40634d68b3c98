"""Cuts an HLS multivariant playlist (RFC 8216bis) where the pathways of a client go.

It is read twice, by `m3u8` and line by line here, because unknown attributes must be kept as written; a playlist that
the two read differently is refused. Variables that the playlist defines itself are replaced by their values. Variables
whose values come with the request of a player stay, but only in queries, where they cannot lead elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Final

import m3u8

from steering.control.playlists.references import Folder, refuse
from steering.errors import FeedError
from steering.state.playlists import BASE, PATHWAY

MAX_ENTRIES: Final = 2000  # variants and renditions
MAX_TEXT: Final = 1 << 20  # characters, once variables are replaced
VARIANT: Final = "#EXT-X-STREAM-INF"
FRAMES: Final = "#EXT-X-I-FRAME-STREAM-INF"
IMAGES: Final = "#EXT-X-IMAGE-STREAM-INF"  # thumbnails, of the widespread extension of HLS
RENDITION: Final = "#EXT-X-MEDIA"
STEERING: Final = "#EXT-X-CONTENT-STEERING"
DEFINE: Final = "#EXT-X-DEFINE"
# Tags that concern all pathways.
WHOLE: Final = {
    *("#EXTM3U", "#EXT-X-VERSION", "#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-START", DEFINE),
    *("#EXT-X-SESSION-DATA", "#EXT-X-SESSION-KEY"),
}
# Tags of media playlists (RFC 8216bis, 4.4.3 to 4.4.5) that may come before the first segment.
MEDIA: Final = {
    *("#EXTINF", "#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-DISCONTINUITY-SEQUENCE", "#EXT-X-ENDLIST"),
    *("#EXT-X-PLAYLIST-TYPE", "#EXT-X-I-FRAMES-ONLY", "#EXT-X-PART-INF", "#EXT-X-SERVER-CONTROL", "#EXT-X-BYTERANGE"),
    *("#EXT-X-DISCONTINUITY", "#EXT-X-KEY", "#EXT-X-MAP", "#EXT-X-PROGRAM-DATE-TIME", "#EXT-X-GAP", "#EXT-X-BITRATE"),
    *("#EXT-X-PART", "#EXT-X-DATERANGE", "#EXT-X-SKIP", "#EXT-X-PRELOAD-HINT", "#EXT-X-RENDITION-REPORT"),
    "#EXT-X-ALLOW-CACHE",  # of version 6 and before
}
GROUPS: Final = ("AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS")
CONTROL: Final = re.compile("[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ufeff]")  # all but a tab; some end lines
ATTRIBUTE: Final = re.compile(r'\s*+([A-Z0-9-]++)\s*+=("[^"]*+"|[^",]*+)\s*+(?:,|$)')
ATTRIBUTE_RULE: Final = (
    "attributes are NAME=value with commas between; a name has capitals, digits and hyphens, and a quoted value has no "
    "quote inside"
)
FILE_RULE: Final = "a URL names a file"  # players would take another one for the playlist itself
M3U8_ERRORS: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, m3u8.ParseError)
ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
VARIABLE: Final = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A variant, a variant of I-frames or a rendition. Values of attributes have their quotes."""

    line: int
    tag: str
    attributes: dict[str, str]
    uri: str

    @property
    def pathway(self) -> str:
        """The pathway of a variant; `.` by default."""
        return unquoted(self.attributes.get("PATHWAY-ID", '"."'))

    @property
    def group(self) -> tuple[str, str]:
        """The type and the quoted name of the group of a rendition."""
        return self.attributes.get("TYPE", ""), self.attributes.get("GROUP-ID", "")

    @property
    def quality(self) -> list[tuple[str, str]]:
        """The attributes that must be equal on all pathways."""
        own = {"PATHWAY-ID", "STABLE-VARIANT-ID", *GROUPS}
        return sorted((name, value) for name, value in self.attributes.items() if name not in own)


def cut_hls(body: bytes, folder: Folder) -> tuple[str, str, str]:
    """Return head, pathway and tail of a multivariant playlist (RFC 8216bis, 4.4.6)."""
    lines = list(expanded(decoded(body)))
    head, entries = read_hls(lines, folder)
    check_entries(entries)
    kept = first_pathway(entries)
    compare_with_m3u8(lines, entries)
    return "".join(f"{line}\n" for line in head), "".join(pathway_lines(kept, folder)), ""


def decoded(body: bytes) -> str:
    """Return a playlist's text. Raises FeedError."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise FeedError(f"is not UTF-8, at byte {error.start}") from None
    for number, line in enumerate(text.split("\n"), 1):
        if wrong := CONTROL.search(line.rstrip("\r")):
            raise refuse(number, repr(wrong[0]), "has no control characters, and no byte order mark")
    return text


def expanded(text: str) -> Iterator[str]:
    """Yield the lines with the variables that the playlist defines replaced (4.4.2.3). Raises FeedError."""
    values: dict[str, str] = {}
    size = 0
    for number, written in enumerate(map(str.strip, text.split("\n")), 1):

        def value_of(match: re.Match[str], number: int = number) -> str:
            if match[1] not in values:
                raise refuse(number, match[0], "a variable is defined before it is used")
            return values[match[1]]

        is_comment = written.startswith("#") and not written.startswith("#EXT")
        line = written if is_comment else VARIABLE.sub(value_of, written)
        size += len(line)
        if size > MAX_TEXT:
            raise refuse(number, f"{size} characters", f"at most {MAX_TEXT}, once variables are replaced")
        if line.startswith(f"{DEFINE}:"):
            attributes = attributes_of(line.partition(":")[2], number)
            if "IMPORT" in attributes:
                raise refuse(number, "IMPORT", "a multivariant playlist imports no variable")
            kinds = attributes.keys() & {"NAME", "QUERYPARAM"}
            if len(kinds) != 1 or ("NAME" in kinds) != ("VALUE" in attributes):
                raise refuse(number, line, "a variable has a NAME and a VALUE, or a QUERYPARAM")
            name = unquoted(attributes[kinds.pop()])
            if name in values or not VARIABLE.fullmatch(f"{{${name}}}"):
                raise refuse(number, name, "a variable has a name of letters, digits, - and _, and is defined once")
            values[name] = unquoted(attributes.get("VALUE", "")) if "NAME" in attributes else f"{{${name}}}"
        yield line


def read_hls(lines: Sequence[str], folder: Folder) -> tuple[list[str], list[Entry]]:
    """Return the lines that concern all pathways, and the variants and renditions."""
    head, entries = list[str](), list[Entry]()
    variant: tuple[int, dict[str, str]] | None = None  # its URI is the next line
    for number, line in enumerate(lines, 1):
        tag, _, rest = line.partition(":")
        if number == 1 and line != "#EXTM3U":
            raise refuse(number, line, "the first line is #EXTM3U")
        if not line or (line.startswith("#") and not line.startswith("#EXT")):
            continue  # a comment
        if not line.startswith("#"):
            if variant is None:
                raise refuse(number, line, "a URI follows an #EXT-X-STREAM-INF")
            entries.append(Entry(variant[0], VARIANT, variant[1], line))
            variant = None
        elif variant:
            raise refuse(number, line, f"the URI of the variant of line {variant[0]} comes next")
        elif tag == VARIANT:
            variant = number, attributes_of(rest, number)
        elif tag in (FRAMES, IMAGES, RENDITION):
            attributes = attributes_of(rest, number)
            entries.append(Entry(number, tag, attributes, unquoted(attributes.get("URI", ""))))
        elif tag in WHOLE:
            head.append(head_line(tag, rest, number, folder) if tag.startswith("#EXT-X-SESSION") else line)
        elif tag in MEDIA:
            raise refuse(number, line, "is of a media playlist; register the multivariant one")
        elif tag != STEERING:  # replaced by ours
            raise refuse(number, line, "an unknown tag may not be valid on every pathway")
        if len(entries) > MAX_ENTRIES:
            raise refuse(number, tag, f"a playlist has at most {MAX_ENTRIES} variants and renditions")
    if variant:
        raise refuse(variant[0], VARIANT, "has no URI")
    return head, entries


def head_line(tag: str, rest: str, number: int, folder: Folder) -> str:
    """Return a line for all pathways. Its URI is absolute, or a file of the title: of the pathway that comes first."""
    attributes = attributes_of(rest, number)
    if "URI" in attributes:
        uri = unquoted(attributes["URI"])
        try:
            attributes["URI"] = f'"{BASE}{place(uri, number, folder)}"'
        except FeedError:
            if not ABSOLUTE.match(uri):
                raise
    return f"{tag}:{joined(attributes)}"


def place(uri: str, number: int, folder: Folder) -> str:
    """Return a URI as a path below the title. Variables of the player's request stand in its query alone."""
    path, mark, query = uri.partition("?")
    name_free = VARIABLE.sub("", query)
    placed = folder.place(path + mark + name_free, number)
    if not placed.partition("?")[0]:
        raise refuse(number, uri or "an empty URL", FILE_RULE)
    return placed if name_free == query else placed.partition("?")[0] + mark + query.partition("#")[0]


def joined(attributes: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in attributes.items())


def attributes_of(text: str, number: int) -> dict[str, str]:
    """Return the attributes of a tag (RFC 8216, 4.2)."""
    attributes: dict[str, str] = {}
    start = 0
    while start < len(text):
        match = ATTRIBUTE.match(text, start)
        if not match:
            raise refuse(number, text[start:], ATTRIBUTE_RULE)
        name, value = match.groups()
        if name in attributes:
            raise refuse(number, name, "is given twice")
        attributes[name] = value.strip()
        start = match.end()
    return attributes


def unquoted(value: str) -> str:
    return value[1:-1] if value.startswith('"') else value


def check_entries(entries: Sequence[Entry]) -> None:
    """Check that there are variants, with a bandwidth and a URL, and that each group they name exists."""
    if not any(entry.tag == VARIANT for entry in entries):
        raise FeedError("has no variant: an #EXT-X-STREAM-INF and its URI")
    groups = {entry.group for entry in entries if entry.tag == RENDITION}
    for entry in entries:
        if not entry.uri and (entry.tag != RENDITION or "URI" in entry.attributes):
            raise refuse(entry.line, "an empty URL", FILE_RULE)
        if entry.tag == RENDITION:
            if entry.group[0] not in GROUPS or not entry.group[1].startswith('"'):
                raise refuse(entry.line, entry.tag, "a rendition has a TYPE and a quoted GROUP-ID")
            continue
        bandwidth = entry.attributes.get("BANDWIDTH", "")
        if not (bandwidth.isascii() and bandwidth.isdecimal()):
            raise refuse(entry.line, entry.tag, "a variant has a BANDWIDTH")
        for name in GROUPS:
            group = entry.attributes.get(name, "")
            if group.startswith('"') and (name, group) not in groups:
                raise refuse(entry.line, f"{name}={group}", "no #EXT-X-MEDIA has this group")


def first_pathway(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries of the first pathway. All pathways must have the same qualities in the same order."""
    pathways: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.tag == VARIANT:
            pathways.setdefault(entry.pathway, []).append(entry)
    rule = "every pathway has the same qualities in the same order"
    kept, *others = pathways
    for other in others:
        for mine, its in itertools.zip_longest(pathways[kept], pathways[other]):
            if its is None:
                raise refuse(mine.line, VARIANT, f"{rule}; pathway {other} has fewer")
            if mine is None or mine.quality != its.quality:
                raise refuse(its.line, VARIANT, f"{rule}; this differs from line {mine.line if mine else 'none'}")
    chosen = [entry for entry in entries if entry.tag == RENDITION or entry.pathway == kept]
    used = {item for entry in chosen if entry.tag != RENDITION for item in entry.attributes.items()}
    return [entry for entry in chosen if entry.tag != RENDITION or entry.group in used]


def compare_with_m3u8(lines: Sequence[str], entries: Sequence[Entry]) -> None:
    """Raise FeedError if `m3u8` cannot read a line, or reads other variants and renditions from the lines."""
    try:
        other = m3u8.loads("\n".join(lines))
    except M3U8_ERRORS:
        number = next((i for i, line in enumerate(lines, 1) if not is_readable(line)), 1)
        raise refuse(number, lines[number - 1], "a value is not of the type that RFC 8216bis says") from None
    counts = [len(other.playlists), len(other.iframe_playlists), len(other.image_playlists), len(other.media)]
    own = [sum(entry.tag == tag for entry in entries) for tag in (VARIANT, FRAMES, IMAGES, RENDITION)]
    uris = [entry.uri for entry in entries if entry.tag == VARIANT]
    if counts != own or [item.uri for item in other.playlists] != uris:
        raise FeedError(
            f"can be read in two ways: {counts} or {own} variants, of I-frames, of images, and renditions",
            hint=ATTRIBUTE_RULE,
        )


def is_readable(line: str) -> bool:
    """Return whether `m3u8` reads a line of a playlist."""
    try:
        m3u8.loads(f"#EXTM3U\n{line}\nuri")
    except M3U8_ERRORS:
        return False
    return True


def pathway_lines(entries: Sequence[Entry], folder: Folder) -> Iterator[str]:
    """Yield the lines that are repeated for each pathway, renditions first."""
    for entry in sorted(entries, key=lambda entry: entry.tag != RENDITION):
        stable_id = "STABLE-RENDITION-ID" if entry.tag == RENDITION else "STABLE-VARIANT-ID"
        attributes = {name: value for name, value in entry.attributes.items() if name != "PATHWAY-ID"}
        for name in attributes.keys() & {*GROUPS, "GROUP-ID"}:
            if attributes[name].startswith('"'):  # not NONE
                attributes[name] = f'"{unquoted(attributes[name])}-{PATHWAY}"'
        placed = BASE + place(entry.uri, entry.line, folder) if entry.uri else ""
        if placed and entry.tag != VARIANT:
            attributes["URI"] = f'"{placed}"'
        if placed:
            attributes.setdefault(stable_id, f'"{hashlib.sha256(entry.uri.encode()).hexdigest()[:12]}"')
        if entry.tag != RENDITION:
            attributes["PATHWAY-ID"] = f'"{PATHWAY}"'
        yield f"{entry.tag}:{joined(attributes)}\n"
        if entry.tag == VARIANT:
            yield f"{placed}\n"
