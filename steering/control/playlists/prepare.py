"""Checks registered playlists and cuts them where the pathways of a client go, so that playback only joins texts.

    #EXT-X-STREAM-INF:BANDWIDTH=250000,AUDIO="aac"        repeated for each pathway of a client,
    low/v.m3u8                                            as https://<appliance>/…/<title>/low/v.m3u8

A playlist names a title's files by URLs below the title: relative, or under the URL that it was fetched from. A
playlist that cannot be given other hosts is refused, with the line and the rule. HLS is read twice, by `m3u8` and line
by line here, because unknown attributes must be kept as written; a playlist that the two read differently is refused.
lxml reads DASH; it expands no entity and opens no file. Catalogues of streams are JSON (`steering/model/streams.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import m3u8
import msgspec
from lxml import etree

from steering.errors import FeedError
from steering.model.streams import read_catalogue
from steering.state.playlists import BASE, PATHWAY, Playlist

MAX_PLAYLIST: Final = 1 << 20  # bytes: thousands of variants or representations
MAX_VARIANTS: Final = 1000
DASH: Final = "urn:mpeg:dash:schema:mpd:2011"
XML_BASE: Final = "{http://www.w3.org/XML/1998/namespace}base"
XLINK: Final = "{http://www.w3.org/1999/xlink}href"
POSITION: Final = "steering-pathways"  # the processing instruction that marks where pathways go
# Attributes that hold a URL, by element.
URLS: Final = {
    "SegmentTemplate": ("media", "initialization", "index", "bitstreamSwitching"),
    "SegmentURL": ("media", "index"),
    "Initialization": ("sourceURL",),
    "RepresentationIndex": ("sourceURL",),
    "BitstreamSwitching": ("sourceURL",),
}

VARIANT: Final = "#EXT-X-STREAM-INF"
FRAMES: Final = "#EXT-X-I-FRAME-STREAM-INF"
RENDITION: Final = "#EXT-X-MEDIA"
STEERING: Final = "#EXT-X-CONTENT-STEERING"
# Tags that concern the whole playlist; a URI in one of them has to be absolute.
WHOLE: Final = {
    "#EXTM3U",
    "#EXT-X-VERSION",
    "#EXT-X-INDEPENDENT-SEGMENTS",
    "#EXT-X-START",
    "#EXT-X-DEFINE",
    "#EXT-X-SESSION-DATA",
    "#EXT-X-SESSION-KEY",
}
GROUPS: Final = ("AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS")
CONTROL: Final = re.compile("[\0-\x08\x0a-\x1f\x7f\ufeff]")  # all but a tab
ATTRIBUTE: Final = re.compile(r'\s*([A-Z0-9-]+)\s*=("[^"]*"|[^",]*)\s*(?:,|$)')
ATTRIBUTE_RULE: Final = (
    "attributes are NAME=value with commas between; a name has capitals, digits and hyphens, and a quoted value has no "
    "quote inside"
)

Element = Any  # lxml's


def prepare(service: str, title: str, kind: str, body: bytes, url: str = "") -> Playlist:
    """Return a playlist ready to be published, given the URL that it was fetched from. FeedError: line and rule."""
    name = f"{kind} playlist of {service}/{title}"
    if len(body) > MAX_PLAYLIST:
        raise FeedError(f"{name}: {len(body)} bytes; at most {MAX_PLAYLIST}")
    base = url.rpartition("/")[0] + "/" if url else ""
    try:
        cut = {"hls": cut_hls, "dash": cut_dash, "streams": cut_streams}[kind](body, base)
    except FeedError as error:
        raise FeedError(f"{name}: {error.message}", error.hint) from None
    return Playlist(service, title, kind, *cut)


def refuse(line: int, value: str, rule: str) -> FeedError:
    return FeedError(f"line {line}: {value if len(value) <= 80 else value[:79] + '…'}: {rule}")


def below(uri: str, base: str, line: int) -> str:
    """Return a URI relative to the title. Raises FeedError for a URI that leads elsewhere."""
    if base and uri.startswith(base):
        uri = uri[len(base) :]
    try:
        parts = urlsplit(uri)
        elsewhere = bool(parts.scheme or parts.netloc or uri.startswith("/"))
    except ValueError:
        elsewhere = True
    segments = unquote(uri.partition("?")[0]).replace("\\", "/").split("/")
    if not uri or elsewhere or ".." in segments or "{$" in uri or any(letter in uri for letter in ' "<>\\^`{|}\t'):
        raise refuse(line, uri or "an empty URI", "a URI is relative, and stays below the title's playlist")
    return uri


def cut_streams(body: bytes, _: str) -> tuple[str, str, str]:
    try:
        return msgspec.json.encode(read_catalogue(body)).decode(), "", ""
    except ValueError as error:
        raise FeedError(str(error)) from None


# ---- HLS


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


def cut_hls(body: bytes, base: str) -> tuple[str, str, str]:
    """Return head, pathway and tail of a multivariant playlist (RFC 8216bis, 4.4.6)."""
    text = decoded(body)
    head, entries = read_hls(text)
    check_entries(entries)
    kept = first_pathway(entries)
    compare_with_m3u8(text, entries)
    return "".join(f"{line}\n" for line in head), "".join(pathway_lines(kept, base)), ""


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


def read_hls(text: str) -> tuple[list[str], list[Entry]]:
    """Return the lines that concern all pathways, and the variants and renditions."""
    head, entries = list[str](), list[Entry]()
    variant: tuple[int, dict[str, str]] | None = None  # its URI is the next line
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
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
        elif tag in (FRAMES, RENDITION):
            attributes = attributes_of(rest, number)
            entries.append(Entry(number, tag, attributes, unquoted(attributes.get("URI", ""))))
        elif tag in WHOLE:
            if tag in ("#EXT-X-SESSION-DATA", "#EXT-X-SESSION-KEY"):
                uri = unquoted(attributes_of(rest, number).get("URI", ""))
                if uri and not urlsplit(uri).scheme:
                    raise refuse(number, uri, "a URI for all pathways is absolute")
            head.append(line)
        elif tag == "#EXTINF":
            raise refuse(number, line, "is of a media playlist; register the multivariant one")
        elif tag != STEERING:  # replaced by ours
            raise refuse(number, line, "an unknown tag may not be valid on every pathway")
    if variant:
        raise refuse(variant[0], VARIANT, "has no URI")
    return head, entries


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
    """Check that there are variants, with a bandwidth, and that each group they name exists."""
    count = sum(entry.tag == VARIANT for entry in entries)
    if not 0 < count <= MAX_VARIANTS:
        raise FeedError(f"has {count} variants; from 1 to {MAX_VARIANTS}")
    groups = {entry.group for entry in entries if entry.tag == RENDITION}
    for entry in entries:
        if entry.tag == RENDITION:
            if entry.group[0] not in GROUPS or not entry.group[1].startswith('"'):
                raise refuse(entry.line, entry.tag, "a rendition has a TYPE and a quoted GROUP-ID")
            continue
        if not entry.attributes.get("BANDWIDTH", "").isdecimal():
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


def compare_with_m3u8(text: str, entries: Sequence[Entry]) -> None:
    """Raise FeedError if `m3u8` reads other variants and renditions from the text."""
    try:
        other = m3u8.loads(text)
    except (ValueError, LookupError, TypeError) as error:
        raise FeedError(f"is no HLS playlist: {error}") from error
    counts = [len(other.playlists), len(other.iframe_playlists), len(other.media)]
    own = [sum(entry.tag == tag for entry in entries) for tag in (VARIANT, FRAMES, RENDITION)]
    uris = [entry.uri for entry in entries if entry.tag == VARIANT]
    if counts != own or [item.uri for item in other.playlists] != uris:
        raise FeedError(
            f"can be read in two ways: {counts} or {own} variants, variants of I-frames, and renditions",
            hint=ATTRIBUTE_RULE,
        )


def pathway_lines(entries: Sequence[Entry], base: str) -> Iterator[str]:
    """Yield the lines that are repeated for each pathway, renditions first."""
    for entry in sorted(entries, key=lambda entry: entry.tag != RENDITION):
        stable_id = "STABLE-RENDITION-ID" if entry.tag == RENDITION else "STABLE-VARIANT-ID"
        attributes = {name: value for name, value in entry.attributes.items() if name != "PATHWAY-ID"}
        for name in attributes.keys() & {*GROUPS, "GROUP-ID"}:
            if attributes[name].startswith('"'):  # not NONE
                attributes[name] = f'"{unquoted(attributes[name])}-{PATHWAY}"'
        placed = BASE + below(entry.uri, base, entry.line) if entry.uri else ""
        if placed and entry.tag != VARIANT:
            attributes["URI"] = f'"{placed}"'
        if placed:
            attributes.setdefault(stable_id, f'"{hashlib.sha256(entry.uri.encode()).hexdigest()[:12]}"')
        if entry.tag != RENDITION:
            attributes["PATHWAY-ID"] = f'"{PATHWAY}"'
        yield f"{entry.tag}:{','.join(f'{name}={value}' for name, value in attributes.items())}\n"
        if entry.tag == VARIANT:
            yield f"{placed}\n"


# ---- DASH


def cut_dash(body: bytes, base: str) -> tuple[str, str, str, str]:
    """Return head, pathway, tail and element prefix of a manifest (ISO/IEC 23009-1)."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise FeedError(f"is no XML: {error}") from None
    if root.getroottree().docinfo.doctype:
        raise refuse(1, root.getroottree().docinfo.doctype, "a document type is not accepted")
    if root.tag != f"{{{DASH}}}MPD":
        raise refuse(line_of(root), str(root.tag), f"the root is an MPD of {DASH}")
    if root.get("type", "static") != "static":
        raise refuse(line_of(root), f"type={root.get('type')}", "only static manifests; a live one changes too often")
    inside = ""
    for element in list(root):
        if element.tag == f"{{{DASH}}}BaseURL":
            if inside:
                raise refuse(line_of(element), str(element.text), "one BaseURL; pathways take the place of others")
            inside = below((element.text or "").strip(), base, line_of(element))
        if name_of(element) in ("BaseURL", "Location", "PatchLocation", "ContentSteering"):
            root.remove(element)
    for element in root.iter():
        check_element(element, base)
    first = next((i for i, child in enumerate(root) if name_of(child) != "ProgramInformation"), len(root))
    root.insert(first, etree.ProcessingInstruction(POSITION))
    text = '<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(root, encoding="unicode")
    head, _, rest = text.partition(f"<?{POSITION}")
    tail = rest.partition("?>")[2]
    prefix = f"{root.prefix}:" if root.prefix else ""
    tag = f"{prefix}BaseURL"
    return head, f'<{tag} serviceLocation="{PATHWAY}">{BASE}{escape(inside, quote=False)}</{tag}>\n', tail, prefix


def check_element(element: Element, base: str) -> None:
    """Refuse an element that leads away from the title."""
    name, line = name_of(element), line_of(element)
    for attribute in (XML_BASE, XLINK):
        if attribute in element.attrib:
            raise refuse(line, f"{name} {attribute}", "parts from other documents are not accepted")
    if name == "ContentSteering":
        raise refuse(line, name, "only this service declares steering")
    if name == "BaseURL":
        element.text = below((element.text or "").strip(), base, line)
    for attribute in URLS.get(name, ()):
        if attribute in element.attrib:
            element.set(attribute, below(str(element.attrib[attribute]), base, line))


def name_of(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def line_of(element: Element) -> int:
    return element.sourceline or 0
