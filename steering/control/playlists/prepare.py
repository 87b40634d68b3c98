"""Playlists as people and packagers make them, checked and cut so that playback only joins texts.

    #EXT-X-STREAM-INF:BANDWIDTH=250000,AUDIO="aac"        one set of these for each pathway of a client,
    low/v.m3u8                                            under https://<appliance>/…/<title>/low/v.m3u8

What is registered names a title's files by URLs below the title: relative, or under the URL that the playlist itself
was fetched from. A playlist that cannot be given other hosts is refused, with the line and the rule. HLS is read twice,
by `m3u8` and line by line here, because unknown attributes must be kept as they are; where the two
readings differ it is refused. DASH is read by lxml, which expands no entity and opens no file. Catalogues of streams
are JSON (`steering/streams.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
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
HERE: Final = (
    "steering-pathways"  # the processing instruction that marks where pathways go, while a DASH manifest is cut
)
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
GROUPS: Final = {"AUDIO": "AUDIO", "VIDEO": "VIDEO", "SUBTITLES": "SUBTITLES", "CLOSED-CAPTIONS": "CLOSED-CAPTIONS"}

Attributes = list[tuple[str, str]]  # values with their quotes
Element = Any  # lxml's


def prepare(service: str, title: str, kind: str, body: bytes, url: str = "") -> Playlist:
    """Return a playlist ready to be published; `url` is where it was fetched. Raises FeedError naming line and rule."""
    name = f"{kind} playlist of {service}/{title}"
    if len(body) > MAX_PLAYLIST:
        raise FeedError(f"{name}: {len(body)} bytes; at most {MAX_PLAYLIST}")
    base = url.rpartition("/")[0] + "/" if url else ""
    try:
        cut = {"hls": cut_hls, "dash": cut_dash, "streams": cut_streams}[kind](body, base)
    except FeedError as error:
        raise FeedError(f"{name}: {error.message}", error.hint) from None
    return Playlist(service, title, kind, *cut)


def refuse(line: int, what: str, rule: str) -> FeedError:
    """Return the error for one line."""
    shown = what if len(what) <= 80 else what[:79] + "…"
    return FeedError(f"line {line}: {shown}: {rule}")


def below(uri: str, base: str, line: int) -> str:
    """Return a URI as it is written below the title. Raises FeedError for one that leads elsewhere."""
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
    """Return a catalogue of streams as it is published."""
    try:
        return msgspec.json.encode(read_catalogue(body)).decode(), "", ""
    except ValueError as error:
        raise FeedError(str(error)) from None


# ---- HLS


def cut_hls(body: bytes, base: str) -> tuple[str, str, str]:
    """Return head, pathway and tail of a multivariant playlist (RFC 8216bis, 4.4.6)."""
    text = decoded(body)
    reading = HlsReading(base)
    for number, line in enumerate(text.split("\n"), 1):
        reading.read(number, line.strip())
    reading.finish()
    try:
        judged = m3u8.loads(text)
    except (ValueError, LookupError, TypeError) as error:
        raise FeedError(f"is no HLS playlist: {error}") from error
    found = (len(judged.playlists), len(judged.iframe_playlists), len(judged.media))
    mine = tuple(sum(tag == kind for _, tag, *_ in reading.entries) for kind in (VARIANT, FRAMES, RENDITION))
    uris = [uri for _, tag, _, uri in reading.entries if tag == VARIANT]
    if found != mine or [item.uri for item in judged.playlists] != uris:
        raise FeedError(
            f"is read in two ways: {found[0]} variants, {found[1]} of I-frames and {found[2]} renditions, or "
            f"{mine[0]}, {mine[1]} and {mine[2]}",
            hint="attributes are NAME=value with commas between; a quoted value has no quote and no line end inside",
        )
    return "".join(f"{line}\n" for line in reading.head), "".join(reading.pathway()), ""


class HlsReading:
    """One multivariant playlist being read: what is for all, and its variants and renditions."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.head: list[str] = []
        self.entries: list[tuple[int, str, Attributes, str]] = []  # line, tag, attributes, URI
        self.waiting: tuple[int, Attributes] | None = None  # a variant whose URI comes next

    def read(self, number: int, line: str) -> None:
        """Take one line."""
        if number == 1 and line != "#EXTM3U":
            raise refuse(number, line, "the first line is #EXTM3U")
        if not line.startswith("#"):
            if line:
                self.read_uri(number, line)
            return
        tag, colon, rest = line.partition(":")
        if not tag.startswith("#EXT"):
            return  # a comment
        if self.waiting:
            raise refuse(number, line, f"the URI of the variant of line {self.waiting[0]} comes next")
        if tag in (VARIANT, FRAMES, RENDITION):
            attributes = list(attributes_of(rest, number))
            if tag == VARIANT:
                self.waiting = number, attributes
            else:
                uri = unquoted(dict(attributes).get("URI", ""))
                self.entries.append((number, tag, attributes, uri))
        elif tag in WHOLE:
            if tag in ("#EXT-X-SESSION-DATA", "#EXT-X-SESSION-KEY"):
                uri = unquoted(dict(attributes_of(rest, number)).get("URI", ""))
                if uri and not urlsplit(uri).scheme:
                    raise refuse(number, uri, "a URI for all pathways is absolute")
            self.head.append(f"{tag}{colon}{rest}")
        elif tag == "#EXTINF":
            raise refuse(number, line, "is of a media playlist; register the multivariant one")
        elif tag != STEERING:  # ours takes its place
            raise refuse(number, line, "a tag that is not known, so not known to be the same on every pathway")

    def read_uri(self, number: int, line: str) -> None:
        """Take the URI of a variant."""
        if self.waiting is None:
            raise refuse(number, line, "a URI follows an #EXT-X-STREAM-INF")
        self.entries.append((self.waiting[0], VARIANT, self.waiting[1], line))
        self.waiting = None

    def finish(self) -> None:
        """Check what can only be seen in the whole."""
        if self.waiting:
            raise refuse(self.waiting[0], VARIANT, "has no URI")
        variants = [entry for entry in self.entries if entry[1] == VARIANT]
        if not 0 < len(variants) <= MAX_VARIANTS:
            raise FeedError(f"has {len(variants)} variants; from 1 to {MAX_VARIANTS}")
        groups = {
            (dict(found).get("TYPE"), dict(found).get("GROUP-ID"))
            for _, tag, found, _ in self.entries
            if tag == RENDITION
        }
        for number, tag, found, _ in self.entries:
            values = dict(found)
            if tag == RENDITION:
                if values.get("TYPE") not in GROUPS or not values.get("GROUP-ID", "").startswith('"'):
                    raise refuse(number, tag, "a rendition has a TYPE and a quoted GROUP-ID")
                continue
            if not values.get("BANDWIDTH", "").isdecimal():
                raise refuse(number, tag, "a variant has a BANDWIDTH")
            for name, kind in GROUPS.items():
                group = values.get(name, "")
                if group.startswith('"') and (kind, group) not in groups:
                    raise refuse(number, f"{name}={group}", "no #EXT-X-MEDIA has this group")
        self.check_ladders(variants)

    def check_ladders(self, variants: Sequence[tuple[int, str, Attributes, str]]) -> None:
        """Keep one of several pathways, where all have the same ladder in the same order."""
        ladders: dict[str, list[tuple[int, Attributes]]] = {}
        for number, _, found, _ in variants:
            ladders.setdefault(pathway_of(found), []).append((number, rung_of(found)))
        first, *others = ladders.values()
        for other in others:
            for position, (number, rung) in enumerate(other):
                if position >= len(first) or rung != first[position][1]:
                    raise refuse(
                        number,
                        VARIANT,
                        "every pathway has the same qualities in the same order; this is not line "
                        f"{first[min(position, len(first) - 1)][0]}'s",
                    )
            if len(other) < len(first):
                raise refuse(first[len(other)][0], VARIANT, "every pathway has the same qualities in the same order")
        kept = next(iter(ladders))
        mine = [entry for entry in self.entries if entry[1] == RENDITION or pathway_of(entry[2]) == kept]
        used = {(name, value) for _, tag, found, _ in mine if tag != RENDITION for name, value in found}
        self.kept = [
            entry
            for entry in mine
            if entry[1] != RENDITION or (dict(entry[2]).get("TYPE"), dict(entry[2]).get("GROUP-ID")) in used
        ]

    def pathway(self) -> Iterator[str]:
        """Yield the lines that are repeated for each pathway, renditions first."""
        for number, tag, found, uri in sorted(self.kept, key=lambda entry: (entry[1] != RENDITION, entry[0])):
            known = "STABLE-RENDITION-ID" if tag == RENDITION else "STABLE-VARIANT-ID"
            changed = {name: own_group(value) for name, value in found if name in (*GROUPS, "GROUP-ID")}
            placed = BASE + below(uri, self.base, number) if uri else ""
            if placed and tag != VARIANT:
                changed["URI"] = f'"{placed}"'
            line = [(name, changed.get(name, value)) for name, value in found if name != "PATHWAY-ID"]
            if placed and known not in dict(found):
                line.append((known, f'"{hashlib.sha256(uri.encode()).hexdigest()[:12]}"'))
            if tag != RENDITION:
                line.append(("PATHWAY-ID", f'"{PATHWAY}"'))
            yield f"{tag}:{','.join(f'{name}={value}' for name, value in line)}\n"
            if tag == VARIANT:
                yield f"{placed}\n"


def decoded(body: bytes) -> str:
    """Return a playlist's text. Raises FeedError."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise FeedError(f"is not UTF-8, at byte {error.start}") from None
    for number, line in enumerate(text.split("\n"), 1):
        found = [letter for letter in line.rstrip("\r") if (letter < " " and letter != "\t") or letter in "\x7f\ufeff"]
        if found:
            raise refuse(number, repr(found[0]), "has no control characters, and no byte order mark")
    return text


def attributes_of(text: str, number: int) -> Iterator[tuple[str, str]]:
    """Yield the attributes of a tag, values as they are written (RFC 8216, 4.2)."""
    at, names = 0, set()
    while at < len(text):
        equals = text.find("=", at)
        name = text[at:equals].strip() if equals >= 0 else ""
        if not name or not all(
            letter.isascii() and (letter.isupper() or letter.isdigit() or letter == "-") for letter in name
        ):
            raise refuse(number, text[at:], "an attribute is NAME=value, the name of capitals, digits and hyphens")
        if name in names:
            raise refuse(number, name, "is given twice")
        names.add(name)
        start = equals + 1
        if text[start : start + 1] == '"':
            end = text.find('"', start + 1) + 1
            if not end:
                raise refuse(number, text[start:], "a quoted value ends with a quote")
        else:
            end = text.find(",", start)
            end = len(text) if end < 0 else end
        if end < len(text) and text[end] != ",":
            raise refuse(number, text[start:], "a comma stands between two attributes")
        yield name, text[start:end].strip()
        at = end + 1


def unquoted(value: str) -> str:
    """Return a value without its quotes."""
    return value[1:-1] if value.startswith('"') else value


def own_group(value: str) -> str:
    """Return the name of a group as this pathway's own; NONE is nobody's."""
    return f'"{value[1:-1]}-{PATHWAY}"' if value.startswith('"') else value


def pathway_of(found: Attributes) -> str:
    """Return the pathway of a variant; `.` where it has none."""
    return unquoted(dict(found).get("PATHWAY-ID", '"."'))


def rung_of(found: Attributes) -> Attributes:
    """Return what makes a variant a rung of its ladder: all but the names that are its pathway's own."""
    own = {"PATHWAY-ID", "STABLE-VARIANT-ID", *GROUPS}
    return sorted((name, value) for name, value in found if name not in own)


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
        raise refuse(1, root.getroottree().docinfo.doctype, "a document type is not taken")
    if root.tag != f"{{{DASH}}}MPD":
        raise refuse(line_of(root), str(root.tag), f"the root is an MPD of {DASH}")
    if root.get("type", "static") != "static":
        raise refuse(line_of(root), f"type={root.get('type')}", "only static manifests; a live one changes too often")
    inside = ""
    for element in list(root):
        if element.tag == f"{{{DASH}}}BaseURL":
            if inside:
                raise refuse(line_of(element), str(element.text), "one BaseURL; the others are what pathways are for")
            inside = below((element.text or "").strip(), base, line_of(element))
        if name_of(element) in ("BaseURL", "Location", "PatchLocation", "ContentSteering"):
            root.remove(element)
    for element in root.iter():
        check_element(element, base)
    first = next((at for at, child in enumerate(root) if name_of(child) != "ProgramInformation"), len(root))
    root.insert(first, etree.ProcessingInstruction(HERE))
    text = '<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(root, encoding="unicode")
    head, _, rest = text.partition(f"<?{HERE}")
    tail = rest.partition("?>")[2]
    prefix = f"{root.prefix}:" if root.prefix else ""
    tag = f"{prefix}BaseURL"
    return head, f'<{tag} serviceLocation="{PATHWAY}">{BASE}{escaped(inside)}</{tag}>\n', tail, prefix


def check_element(element: Element, base: str) -> None:
    """Refuse an element that leads away from the title."""
    name, line = name_of(element), line_of(element)
    for attribute in (XML_BASE, XLINK):
        if attribute in element.attrib:
            raise refuse(line, f"{name} {attribute}", "parts from elsewhere are not taken")
    if name == "ContentSteering":
        raise refuse(line, name, "is this service's to say")
    if name == "BaseURL":
        element.text = below((element.text or "").strip(), base, line)
    for attribute in URLS.get(name, ()):
        if attribute in element.attrib:
            element.set(attribute, below(str(element.attrib[attribute]), base, line))


def name_of(element: Element) -> str:
    """Return an element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def line_of(element: Element) -> int:
    """Return where an element begins."""
    return element.sourceline or 0


def escaped(text: str) -> str:
    """Return a text as it stands between two tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
