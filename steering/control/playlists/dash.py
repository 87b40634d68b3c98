"""Cuts a DASH manifest (ISO/IEC 23009-1) where the service locations of a client go.

Everything in a manifest that can hold a URL is placed below the title, is absolute by its purpose (licenses, reports),
or is refused; so are elements and schemes that this module does not know. lxml expands no entity and opens no file.

Service locations are ours alone: `ContentSteering`, the `serviceLocation` of every `BaseURL`, and the
`serviceLocations` of reports are removed wherever they stand.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any, Final

from lxml import etree

from steering.control.playlists.references import Folder, refuse, relative
from steering.errors import FeedError
from steering.state.playlists import BASE, PATHWAY

DASH: Final = "urn:mpeg:dash:schema:mpd:2011"
BASE_URL: Final = f"{{{DASH}}}BaseURL"
SCHEMA_INSTANCE: Final = "{http://www.w3.org/2001/XMLSchema-instance"
XML: Final = "{http://www.w3.org/XML/1998/namespace"
XLINK: Final = "{http://www.w3.org/1999/xlink"
MAX_ATTRIBUTES: Final = 500
POSITION: Final = "steering-pathways"  # the processing instruction that marks where service locations go
REMOVED: Final = {"Location", "PatchLocation", "ContentSteering"}
# Attributes that hold a URL of the title, by element.
URLS: Final = {
    "SegmentTemplate": ("media", "initialization", "index", "bitstreamSwitching"),
    "SegmentURL": ("media", "index"),
    "Initialization": ("sourceURL",),
    "RepresentationIndex": ("sourceURL",),
    "BitstreamSwitching": ("sourceURL",),
    "InitializationSet": ("initialization",),
    "SupplementalProperty": ("{urn:dvb:dash:dash-extensions:2014-1}url",),  # fonts
    "EssentialProperty": ("{urn:dvb:dash:dash-extensions:2014-1}url",),
}
# Elements that are accepted, apart from those of other namespaces. An element that names another manifest is not.
DESCRIPTORS: Final = {
    *("Accessibility", "AssetIdentifier", "AudioChannelConfiguration", "ContentProtection", "EssentialProperty"),
    *("EventStream", "FramePacking", "InbandEventStream", "OutputProtection", "Rating", "Reporting", "Role", "Scope"),
    *("SupplementalProperty", "UTCTiming", "Viewpoint"),
}
ELEMENTS: Final = {
    *URLS,
    *DESCRIPTORS,
    *("AdaptationSet", "BaseURL", "CMCDParameters", "ClientDataReporting", "ContentComponent", "ContentPopularityRate"),
    *("Copyright", "EmptyAdaptationSet", "Event", "ExtendedBandwidth", "FCS", "FailoverContent", "GroupLabel"),
    *("InitializationGroup", "Label", "Latency", "LeapSecondInformation", "MPD", "Metrics", "ModelPair"),
    *("OperatingBandwidth", "OperatingQuality", "P", "PR", "Pattern", "Period", "PlaybackRate", "Preselection"),
    *("ProducerReferenceTime", "ProgramInformation", "QualityLatency", "RandomAccess", "Range", "Representation"),
    *("Resync", "S", "SegmentBase", "SegmentList", "SegmentSequenceProperties", "SegmentTimeline"),
    *("ServiceDescription", "Source", "SubRepresentation", "Subset", "Switching", "Title"),
}
# Elements that name URLs or other manifests. Players that do not look at namespaces read them in any.
LEADING: Final = {
    *(set(URLS) - DESCRIPTORS),
    *REMOVED,
    *("AlternativeMPD", "BaseURL", "ImportedMPD", "InitializationPresentation", "InsertPresentation", "MPD"),
    *("OverwritePresentation", "ReplacePresentation", "ListPresentation"),
}
MPEG: Final = "urn:mpeg:dash:"
# The schemes below `urn:mpeg:dash:` that hold no URL, in lower case, by their beginning; a value may follow. Others are
# refused.
SCHEMES: Final = (
    *("23003:3:audio_channel_configuration:", "adaptation-set-switching:", "asset-id:", "audio-receiver-mix:"),
    *("event:2012 1", "mp4protection:", "outputchannelpositionlist:", "period-connectivity:", "period-continuity:"),
    *("preselection:", "profile:", "role:", "srd:", "ssr:", "stereoid:", "utc:"),
)
# Elements inside which an absolute URL is meant for all service locations: licenses, reports of players, clocks.
ABSOLUTE_INSIDE: Final = {"ContentProtection", "Reporting"}
OURS: Final = {"servicelocation", "servicelocations", "defaultservicelocation"}
INFORMATION: Final = {"moreInformationURL"}  # for people
NAMES: Final = {"Accessibility", "AssetIdentifier", "Rating", "Role", "Viewpoint"}  # their values are names
IDENTIFIERS: Final = {"schemeIdUri", "profiles"}  # their URLs are names, which no player requests
URL_NAME: Final = re.compile(r"(?i:(url|uri|href|src|location)s?$)|initializationPrincipal|(Ur[li]|UR[LI])s?[A-Z]")
ABSOLUTE: Final = re.compile(r'(https?://[^\s"<>\\^`{|}]+\s*)+', re.IGNORECASE)
# A text that a player could resolve as a URL: it has a host, begins as a path, or names a document.
DOCUMENT: Final = re.compile(r"://|\.(mpd|m3u8|xml|json|js|html?|php|mp4|m4s)([?#\s]|$)", re.IGNORECASE)
PATH: Final = re.compile(r"\s*(/|\.\.?/)")
BYTE_RANGE: Final = re.compile(r"\$base\$[?&][\w=&?.$-]*")
# Attributes that are parts of URLs: $Bandwidth$, and $Number$ and $Time$ are counted from the others.
NUMBERS: Final = {"bandwidth", "d", "endNumber", "n", "startNumber", "t"}
NUMBER: Final = re.compile(r"\s*\d{1,20}(\.\d{1,9})?\s*", re.ASCII)
ID: Final = "$RepresentationID$"
ID_AND_DOTS: Final = re.compile(r"\$.*/\.\.(/|$)")
ABSOLUTE_RULE: Final = "a URL that is not of the title's files is absolute"

Element = Any  # lxml's


def cut_dash(body: bytes, folder: Folder) -> tuple[str, str, str, str]:
    """Return head, pathway, tail and element prefix of a manifest."""
    root = parse(body)
    manifest = Manifest(folder, ids_in_urls=any(ID in value for item in root.iter() for value in item.attrib.values()))
    manifest.walk(root, "")
    first = next((i for i, child in enumerate(root) if name_of(child) != "ProgramInformation"), len(root))
    root.insert(first, etree.ProcessingInstruction(POSITION))
    text = '<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(root, encoding="unicode")
    head, _, rest = text.partition(f"<?{POSITION}")
    prefix = f"{root.prefix}:" if root.prefix else ""
    url = BASE + escape(manifest.root_base, quote=False)
    pathway = f'<{prefix}BaseURL serviceLocation="{PATHWAY}">{url}</{prefix}BaseURL>\n'
    return head, pathway, rest.partition("?>")[2], prefix


def parse(body: bytes) -> Element:
    """Return the root of a static manifest."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    # The parser compares each attribute of an element with all others.
    if max(part.count(b"=") for part in body.split(b"<")) > MAX_ATTRIBUTES:
        raise FeedError(f"an element has at most {MAX_ATTRIBUTES} attributes")
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        message = error.msg.partition(", line ")[0].strip()
        raise FeedError(f"is no XML: line {error.lineno}: {message}") from None
    except ValueError as error:
        raise FeedError(f"is no XML: {error}") from None
    if root.getroottree().docinfo.doctype:
        raise refuse(1, root.getroottree().docinfo.doctype, "a document type is not accepted")
    if root.tag != f"{{{DASH}}}MPD":
        raise refuse(line_of(root), str(root.tag), f"the root is an MPD of {DASH}")
    if root.get("type", "static") != "static":
        raise refuse(line_of(root), f"type={root.get('type')}", "only static manifests; a live one changes too often")
    return root


def name_of(element: Element) -> str:
    """Return the name of an element, with its namespace in braces (empty for none) unless it is of DASH."""
    tag = str(element.tag)
    return tag.removeprefix(f"{{{DASH}}}") if tag.startswith("{") else f"{{}}{tag}"


def line_of(element: Element) -> int:
    return element.sourceline or 0


class Manifest:
    """A manifest while its URLs are placed. `root_base` is the path below the title that the MPD's `BaseURL` has."""

    def __init__(self, folder: Folder, *, ids_in_urls: bool) -> None:
        self.folder = folder
        self.ids_in_urls = ids_in_urls
        self.root_base = ""
        self.inner_bases: dict[Element, bool] = {}

    def walk(self, element: Element, base: str) -> None:
        """Place, remove or refuse the URLs of an element and of all inside it; `base` is the path they begin at."""
        name, line = name_of(element), line_of(element)
        for child in [child for child in element if name_of(child) in REMOVED]:
            element.remove(child)
        if name.startswith("{"):
            check_foreign(element)
        elif name not in ELEMENTS:
            raise refuse(line, name, "an unknown element, which may lead to another manifest")
        elif name in DESCRIPTORS:
            check_descriptor(element)
        check_attributes(element)
        bases = element.findall(BASE_URL)
        if len(bases) > 1:
            rule = "an element has one BaseURL; pathways take the place of the others"
            raise refuse(line_of(bases[1]), str(bases[1].text), rule)
        inner = self.place_base(element, bases[0], base) if bases else base
        for attribute in URLS.get(name, ()):
            if attribute in element.attrib:
                self.place_attribute(element, attribute, base)
        identifier = element.get("id", "")
        if name == "Representation" and self.ids_in_urls and identifier != (self.folder.place(identifier, line) or "?"):
            raise refuse(line, f"id={identifier}", "an id that is a part of URLs is a relative path")
        for child in element:
            if name_of(child) != "BaseURL":
                self.walk(child, inner)

    def place_base(self, parent: Element, element: Element, base: str) -> str:
        """Place a `BaseURL` and return its path below the title. The one of the MPD is removed: pathways have it."""
        line, byte_range = line_of(element), element.get("byteRange")
        if byte_range is not None and not BYTE_RANGE.fullmatch(byte_range):
            raise refuse(line, f"byteRange={byte_range}", "a byteRange is $base$ and a query")
        check_attributes(element)
        if len(element):
            raise refuse(line, "BaseURL", "a BaseURL has no elements inside")
        path = self.folder.place((element.text or "").strip(), line, base)
        if name_of(parent) != "MPD":
            element.text = relative(path, base)
            return path
        if byte_range is not None:
            raise refuse(line, f"byteRange={byte_range}", "the BaseURL of an MPD has no byteRange")
        self.root_base = path
        parent.remove(element)
        return path

    def place_attribute(self, element: Element, attribute: str, base: str) -> None:
        """Place the URL of an attribute."""
        line, value = line_of(element), element.get(attribute)
        if ID_AND_DOTS.search(value.partition("?")[0]):
            raise refuse(line, f"{attribute}={value}", "a URL has no .. behind an identifier")
        path = self.folder.place(value, line, base)
        if path == base:
            raise refuse(line, f"{attribute}={value}", "a URL names a file")
        placed = relative(path, base)
        if self.has_inner_bases(element) and (placed != value or ".." in value.split("/")):
            rule = "a URL beside elements with a BaseURL of their own is a plain relative path"
            raise refuse(line, f"{attribute}={value}", rule)
        element.set(attribute, placed)

    def has_inner_bases(self, element: Element) -> bool:
        """Return whether a URL of an element is inherited by elements that have a BaseURL of their own."""
        owner = element.getparent()
        while name_of(owner) in ("SegmentBase", "SegmentList", "SegmentTemplate"):
            owner = owner.getparent()
        if owner not in self.inner_bases:
            self.inner_bases[owner] = any(item.getparent() is not owner for item in owner.iter(BASE_URL))
        return self.inner_bases[owner]


def check_attributes(element: Element) -> None:
    """Remove the service locations of an element, and refuse attributes that lead elsewhere."""
    name, line = name_of(element), line_of(element)
    for key, value in element.attrib.items():
        namespace, _, local = str(key).rpartition("}")
        shown = f"{local}={value}"
        if local.lower() in OURS or namespace == SCHEMA_INSTANCE:
            del element.attrib[key]
        elif namespace == XLINK or (namespace == XML and local == "base"):
            raise refuse(line, f"{name} {shown}", "parts of other documents are not accepted")
        elif key in IDENTIFIERS or key in URLS.get(name, ()):
            continue
        elif key in NUMBERS and name in ELEMENTS and not NUMBER.fullmatch(value):
            raise refuse(line, shown, "a number, which may be a part of URLs")
        elif URL_NAME.search(local):
            if not (ABSOLUTE.fullmatch(value) and (key in INFORMATION or may_be_absolute(element))):
                raise refuse(line, shown, ABSOLUTE_RULE)
        elif ("://" in value or value.startswith("//")) and not (key == "value" and name in DESCRIPTORS):
            raise refuse(line, shown, "an attribute that is not known to hold a URL")


def check_descriptor(element: Element) -> None:
    """Refuse a descriptor or an event stream whose scheme or value leads elsewhere."""
    name, line = name_of(element), line_of(element)
    scheme, value = element.get("schemeIdUri", "").strip().lower(), element.get("value", "")
    if scheme.startswith(MPEG) and not f"{scheme.removeprefix(MPEG)} {value}".startswith(SCHEMES):
        raise refuse(line, f"{name} {scheme}", "an unknown scheme of MPEG, which may lead to another manifest")
    if name == "UTCTiming" and "http" in scheme:
        if not ABSOLUTE.fullmatch(value):
            raise refuse(line, value, ABSOLUTE_RULE)
    elif name not in NAMES and (DOCUMENT.search(value) or PATH.match(value)):
        raise refuse(line, f"{name} value={value}", "a value that may be a URL")
    for inner in element.iter() if name == "EventStream" else ():
        texts = [inner.text or "", *(text for key, text in inner.attrib.items() if key not in IDENTIFIERS)]
        if wrong := next(filter(DOCUMENT.search, texts), None):
            raise refuse(line_of(inner), wrong.strip(), "an event that may hold a URL")


def check_foreign(element: Element) -> None:
    """Refuse an element of another namespace that holds a URL, other than the absolute one of a license or a report."""
    if etree.QName(element).localname in LEADING:
        raise refuse(line_of(element), name_of(element), "an element of DASH is in its namespace")
    text = (element.text or "").strip()
    is_url = "://" in text or URL_NAME.search(str(element.tag))
    if text and is_url and not (may_be_absolute(element) and ABSOLUTE.fullmatch(text)):
        raise refuse(line_of(element), text, ABSOLUTE_RULE)


def may_be_absolute(element: Element) -> bool:
    """Return whether an absolute URL in an element is meant for all service locations."""
    return any(name_of(item) in ABSOLUTE_INSIDE for item in (element, *element.iterancestors()))
