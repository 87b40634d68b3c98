"""Every URL of a DASH manifest is placed below the title, or the manifest is refused; service locations are ours."""

from __future__ import annotations

import itertools
import re
import time
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from steering.control.playlists import dash
from steering.control.playlists.prepare import MAX_PLAYLIST, prepare
from steering.errors import FeedError
from steering.state.playlists import BASE, PATHWAY

NAMES = {"d": "urn:mpeg:dash:schema:mpd:2011"}
SEGMENTS = '<SegmentTemplate media="$Number$.m4s" initialization="i.mp4" duration="4"/>'
SET = f'<AdaptationSet mimeType="video/mp4">{SEGMENTS}<Representation id="1" bandwidth="389802"/></AdaptationSet>'
URL = "http://o.example/o/t1/manifest.mpd"


def manifest(inside: str = "", period: str = SET, root: str = "") -> str:
    """Return an MPD with elements before its period, and in it."""
    return (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'xmlns:dashif="https://dashif.org/CPS" xmlns:dvb="urn:dvb:dash:dash-extensions:2014-1" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:scte35="urn:scte:scte35:2013:xml" type="static" '
        f'mediaPresentationDuration="PT8S" profiles="urn:mpeg:dash:profile:isoff-live:2011,http://dashif.org/x" {root}>'
        f'\n{inside}\n<Period id="0">{period}</Period></MPD>'
    )


def cut(text: str, url: str = URL) -> etree._Element:
    """Return a manifest as one pathway gets it, its base as http://a/t/."""
    made = prepare("video", "t1", "dash", text.encode(), url)
    pathway = made.pathway.replace(PATHWAY, "c001").replace(BASE, "http://a/t/")
    return etree.fromstring((made.head + pathway + made.tail).encode())


BASES = [
    # the BaseURL of the MPD, of a Period and of a Representation; what playback and the manifest then have
    ("http://o.example/o/t1/", None, None, ["http://a/t/"]),
    ("HTTP://O.example:80/o/t1/media/", None, None, ["http://a/t/media/"]),
    ("/o/t1/media/", "video/", "a/", ["http://a/t/media/", "video/", "a/"]),
    ("media/", "../audio/", "/o/t1/x/", ["http://a/t/media/", "../audio/", "../x/"]),
    ("media/", "//o.example/o/t1/media/", "video.mp4", ["http://a/t/media/", "./", "video.mp4"]),
    (None, None, "http://o.example/o/t1/low.mp4?x=1&amp;y", ["http://a/t/", "low.mp4?x=1&y"]),
]


@pytest.mark.parametrize(("root", "period", "representation", "texts"), BASES)
def test_base_urls_are_resolved_one_in_the_other(
    root: str | None, period: str | None, representation: str | None, texts: list[str]
) -> None:
    def base(text: str | None) -> str:
        return "" if text is None else f"<BaseURL>{text}</BaseURL>"

    inner = (
        f'{base(period)}<AdaptationSet><Representation id="1">{base(representation)}</Representation></AdaptationSet>'
    )
    result = cut(manifest(base(root), inner)).iterfind(".//d:BaseURL", NAMES)
    assert [item.text for item in result] == texts


PLACED = [
    # an element, and its URL as it is written below the title
    ('<SegmentTemplate media="/o/t1/a/$Number$.m4s"/>', "media", "a/$Number$.m4s"),
    ('<SegmentTemplate media="a/../b/$RepresentationID$-$Number%05d$.m4s"/>', "media", "b/$RepresentationID$-$Number%05d$.m4s"),
    ('<SegmentTemplate initialization="HTTP://o.example/o/t1/i.mp4"/>', "initialization", "i.mp4"),
    ('<SegmentList><Initialization sourceURL="../t1/i.mp4"/></SegmentList>', "sourceURL", "i.mp4"),
    ('<SegmentList><SegmentURL media="//o.example/o/t1/s.m4s"/></SegmentList>', "media", "s.m4s"),
    ('<SegmentBase><RepresentationIndex sourceURL="./x.sidx"/></SegmentBase>', "sourceURL", "x.sidx"),
    ('<SupplementalProperty schemeIdUri="urn:dvb:dash:fontdownload:2016" value="1" dvb:url="./f.woff"/>',
     "{urn:dvb:dash:dash-extensions:2014-1}url", "f.woff"),
]  # fmt: skip


@pytest.mark.parametrize(("element", "attribute", "url"), PLACED)
def test_urls_of_segments_are_placed(element: str, attribute: str, url: str) -> None:
    root = cut(manifest(period=f'<AdaptationSet>{element}<Representation id="v1"/></AdaptationSet>'))
    assert [item.get(attribute) for item in root.iter() if item.get(attribute)] == [url]


def test_an_initialization_set_is_placed() -> None:
    root = cut(manifest('<InitializationSet id="1" initialization="/o/t1/i.mp4"/>'))
    assert root.find("d:InitializationSet", NAMES).get("initialization") == "i.mp4"


ELSEWHERE = "a URL leads to a file below the folder of the playlist"
ABSOLUTE = "a URL that is not of the title's files is absolute"
MANIFEST = "an unknown element, which may lead to another manifest"
SCHEME = "an unknown scheme of MPEG, which may lead to another manifest"
FOREIGN = "an element of DASH is in its namespace"
DOTS = "a URL has no .. behind an identifier"
NUMBER = "a number, which may be a part of URLs"
PLAIN = "a URL beside elements with a BaseURL of their own is a plain relative path"


def stream(scheme: str, event: str = '<Event presentationTime="0"/>', value: str = "1") -> str:
    return f'<EventStream schemeIdUri="{scheme}" value="{value}">{event}</EventStream>'


def protected(inside: str) -> str:
    return f'<ContentProtection schemeIdUri="urn:uuid:1">{inside}</ContentProtection>'


KEY = '<dvb:x keyUriTemplate="k/$x$"/>'
PSSH = '<pssh xmlns="urn:mpeg:cenc:2013">AAAA//8=</pssh><pro xmlns="urn:microsoft:playready">/AMA</pro>'
REFUSED = [
    # name, elements of the MPD, elements of the Period, rule
    ("an initialization set", '<InitializationSet id="1" initialization="https://x.example/i.mp4"/>', "", ELSEWHERE),
    ("an initialization presentation", "<InitializationPresentation>pre/pre.mpd</InitializationPresentation>", "", MANIFEST),
    ("an imported MPD", "", '<ImportedMPD uri="https://ads.example/ad.mpd"/>', MANIFEST),
    ("an imported MPD as text", "", "<ImportedMPD>ad.mpd</ImportedMPD>", MANIFEST),
    ("an alternative MPD", "", '<AlternativeMPD uri="ad.mpd"/>', MANIFEST),
    ("a fallback", '<EssentialProperty schemeIdUri="urn:mpeg:dash:fallback:2016" value="other/fallback.mpd"/>', "", SCHEME),
    ("a chain", '<SupplementalProperty schemeIdUri="urn:mpeg:dash:mpd-chaining:2016" value="next.mpd"/>', "", SCHEME),
    ("an own scheme with a manifest", '<SupplementalProperty schemeIdUri="urn:x:next" value="next.mpd?x"/>', "", "a value that may be a URL"),
    ("an own scheme with a host", '<EssentialProperty schemeIdUri="urn:x" value="https://x.example"/>', "", "a value that may be a URL"),
    ("an own scheme with a path", '<EssentialProperty schemeIdUri="urn:x" value="../y"/>', "", "a value that may be a URL"),
    ("an insertion", "", stream("urn:mpeg:dash:event:alternativeMPD:insert:2025"), SCHEME),
    ("a replacement", "", stream("urn:mpeg:dash:event:alternativeMPD:replace:2025"), SCHEME),
    ("a callback", "", stream("urn:mpeg:dash:event:callback:2015", "<Event>beacon?x=1</Event>"), SCHEME),
    ("a callback in segments", "", '<AdaptationSet><InbandEventStream schemeIdUri="urn:mpeg:dash:event:callback:2015"/></AdaptationSet>', SCHEME),
    ("an event that brings a manifest", "", stream("urn:mpeg:dash:event:2012", value="3"), SCHEME),
    ("an event with a URL", "", stream("urn:x:ads", '<Event messageData="https://ads.example/x"/>'), "an event that may hold a URL"),
    ("an event with a document", "", stream("urn:x:ads", "<Event> ad.mpd </Event>"), "an event that may hold a URL"),
    ("a URL parameter", '<SupplementalProperty schemeIdUri="urn:mpeg:dash:urlparam:2014"/>', "", SCHEME),
    ("a relative license", "", f"<AdaptationSet>{protected('<dashif:Laurl>license?x</dashif:Laurl>')}</AdaptationSet>", ABSOLUTE),
    ("a license of any host", "", f"<AdaptationSet>{protected('<dashif:Laurl>//x.example/l</dashif:Laurl>')}</AdaptationSet>", ABSOLUTE),
    ("a license as an attribute", "", f'<AdaptationSet>{protected("<dashif:x licenseUrl=&quot;/l&quot;/>").replace("&quot;", chr(34))}</AdaptationSet>', ABSOLUTE),
    ("a license outside protection", "", "<AdaptationSet><dashif:Laurl>https://x.example/l</dashif:Laurl></AdaptationSet>", ABSOLUTE),
    ("a relative report", '<Metrics metrics="x"><Reporting schemeIdUri="urn:dvb:dash:reporting:2014" dvb:reportingUrl="r"/></Metrics>', "", ABSOLUTE),
    ("a relative clock", '<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="/time"/>', "", ABSOLUTE),
    ("more information", '<ProgramInformation moreInformationURL="info.html"/>', "", ABSOLUTE),
    ("an element of nobody", "<Teleport/>", "", MANIFEST),
    ("a foreign element with a URL", "", '<dvb:x href="y"/>', ABSOLUTE),
    ("a foreign text with a URL", "", "<dvb:x>https://x.example/</dvb:x>", ABSOLUTE),
    ("an attribute with a URL", "", '<AdaptationSet lang="//x.example/"/>', "an attribute that is not known to hold a URL"),
    ("an xlink", "", '<AdaptationSet xlink:href="p.xml"/>', "parts of other documents are not accepted"),
    ("two bases in a period", "", "<BaseURL>a/</BaseURL><BaseURL>b/</BaseURL>", "an element has one BaseURL"),
    ("bases that leave together", "<BaseURL>a/</BaseURL>", "<BaseURL>../../x/</BaseURL>", ELSEWHERE),
    ("a byte range of another host", "", '<BaseURL byteRange="https://x.example/?$first$">a</BaseURL>', "a byteRange is $base$"),
    ("a base with elements", "", "<BaseURL>a<Title/></BaseURL>", "a BaseURL has no elements inside"),
    ("an id that leads elsewhere", "", '<AdaptationSet><SegmentTemplate media="$RepresentationID$.m4s"/><Representation id="../x"/></AdaptationSet>', ELSEWHERE),
    ("an id of a path", "", '<AdaptationSet><SegmentTemplate media="$RepresentationID$.m4s"/><Representation id="/o/t1/a"/></AdaptationSet>', "an id that is a part of URLs"),
    ("no id", "", '<AdaptationSet><SegmentTemplate media="$RepresentationID$.m4s"/><Representation/></AdaptationSet>', "an id that is a part of URLs"),
    ("dots behind an id", "", '<AdaptationSet><SegmentTemplate media="$RepresentationID$/../x"/><Representation id="a/b"/></AdaptationSet>', DOTS),
    ("dots behind a number", "", '<AdaptationSet><SegmentTemplate media="a/$Number$/x/.."/><Representation id="a"/></AdaptationSet>', DOTS),
    ("an id by its reference", "", '<AdaptationSet><SegmentTemplate media="&#36;RepresentationID$.m4s"/><Representation id="../x"/></AdaptationSet>', ELSEWHERE),
    ("half an escape before an id", "", '<AdaptationSet><SegmentTemplate media="%2$RepresentationID$%2$RepresentationID$/x"/><Representation id="e"/></AdaptationSet>', ELSEWHERE),
    ("half an escape in an id", "", '<AdaptationSet><SegmentTemplate media="$RepresentationID$e/x"/><Representation id="%2"/></AdaptationSet>', ELSEWHERE),
    ("a bandwidth that is a path", "", '<AdaptationSet><SegmentTemplate media="$Bandwidth$/x"/><Representation id="1" bandwidth="../../x"/></AdaptationSet>', NUMBER),
    ("a bandwidth of dots", "", '<AdaptationSet><SegmentTemplate media="$Bandwidth$/x"/><Representation id="1" bandwidth=".."/></AdaptationSet>', NUMBER),
    ("a number that is a path", "", '<AdaptationSet><SegmentTemplate media="$Number$" startNumber="../x/"/><Representation id="1"/></AdaptationSet>', NUMBER),
    ("a time that is a host", "", '<AdaptationSet><SegmentTemplate media="$Time$"><SegmentTimeline><S t="/x.example/" d="1"/></SegmentTimeline></SegmentTemplate></AdaptationSet>', NUMBER),
    ("a base in pieces", "", "<BaseURL>../<!-- x -->../x/</BaseURL>", ELSEWHERE),
    ("a base in a section", "", "<BaseURL><![CDATA[//x.example/]]></BaseURL>", ELSEWHERE),
    ("a base of another namespace", "", '<BaseURL xmlns="urn:x">a/</BaseURL>', FOREIGN),
    ("steering of another namespace", '<ContentSteering xmlns="urn:x">steer</ContentSteering>', "", FOREIGN),
    ("an imported MPD of another namespace", "", '<ImportedMPD xmlns="urn:mpeg:DASH:schema:MPD:2011">ad.mpd</ImportedMPD>', FOREIGN),
    ("an imported MPD with a prefix", "", "<dvb:ImportedMPD>ad.mpd</dvb:ImportedMPD>", FOREIGN),
    ("an initialization of another namespace", '<InitializationPresentation xmlns="">pre.mpd</InitializationPresentation>', "", FOREIGN),
    ("a base of no namespace", "", '<BaseURL xmlns="">https://x.example/</BaseURL>', FOREIGN),
    ("a template of another namespace", "", '<AdaptationSet><SegmentTemplate xmlns="urn:x" media="../x"/></AdaptationSet>', FOREIGN),
    ("an insertion of another namespace", "", stream("urn:x", '<Event><dvb:InsertPresentation uri="pre"/></Event>'), FOREIGN),
    ("a location of another namespace", '<Location xmlns="urn:x">x</Location>', "", FOREIGN),
    ("a callback in capitals", "", stream("URN:MPEG:DASH:event:CALLBACK:2015"), SCHEME),
    ("a callback with a blank", "", stream(" urn:mpeg:dash:event:callback:2015"), SCHEME),
    ("an insertion by another name", "", stream("urn:x", '<Event insertUrlTemplate="pre"/>'), ABSOLUTE),
    ("a principal", "", '<AdaptationSet initializationPrincipal="../other.mpd#x"/>', ABSOLUTE),
    ("a key of a template", "", f"<AdaptationSet>{protected(KEY)}</AdaptationSet>", ABSOLUTE),
    ("a base of the document", "", '<AdaptationSet xml:base="../x/"/>', "parts of other documents are not accepted"),
    ("a period of another document", "", '<AdaptationSet xlink:href="urn:mpeg:dash:resolve-to-zero:2013" xlink:actuate="onLoad"/>', "parts of other documents are not accepted"),
    ("an include", "", '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="x.xml"/>', ABSOLUTE),
    ("a base that is a script", "", "<BaseURL>javascript:x/</BaseURL>", ELSEWHERE),
    ("a base with a user", "", "<BaseURL>http://me@o.example/o/t1/</BaseURL>", ELSEWHERE),
    ("a base of the folder above", "", "<BaseURL>../t1x/</BaseURL>", ELSEWHERE),
    ("a URL that is inherited", "", '<AdaptationSet><SegmentTemplate media="/o/t1/s.m4s"/><Representation id="1"><BaseURL>a/</BaseURL></Representation></AdaptationSet>', PLAIN),
    ("dots that are inherited", "<BaseURL>a/</BaseURL>", '<AdaptationSet><SegmentList><SegmentURL media="../s.m4s"/></SegmentList><Representation id="1"><BaseURL>../</BaseURL></Representation></AdaptationSet>', PLAIN),
    ("a file without a name", "", '<AdaptationSet><SegmentTemplate media=""/></AdaptationSet>', "a URL names a file"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inside", "period", "rule"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_manifest_that_leads_elsewhere_is_refused(name: str, inside: str, period: str, rule: str) -> None:
    with pytest.raises(FeedError) as caught:
        cut(manifest(inside, period + SET))
    assert re.match("dash playlist of video/t1: line [23]: .", caught.value.message)
    assert rule in caught.value.message


ACCEPTED = [
    stream("urn:scte:scte35:2014:xml+bin", "<Event><scte35:Signal><scte35:Binary>/DAvAAAA</scte35:Binary></scte35:Signal></Event>"),
    '<AdaptationSet><InbandEventStream schemeIdUri="urn:mpeg:dash:event:2012" value="1"/></AdaptationSet>',
    f"<AdaptationSet>{protected('<dashif:Laurl>https://license.example/x?y=1</dashif:Laurl>')}</AdaptationSet>",
    '<AdaptationSet><Role schemeIdUri="urn:mpeg:dash:role:2011" value="main"/><Label>a/b.mpd</Label></AdaptationSet>',
    '<AdaptationSet><EssentialProperty schemeIdUri="http://dashif.org/guidelines/trickmode" value="1"/></AdaptationSet>',
    '<AdaptationSet><SupplementalProperty schemeIdUri="urn:mpeg:dash:adaptation-set-switching:2016" value="2,3"/></AdaptationSet>',
    '<AdaptationSet><SegmentTemplate media="s/$Number$.m4s"/><Representation id="1"><BaseURL>a/</BaseURL></Representation></AdaptationSet>',
    '<BaseURL byteRange="$base$?range=$first$-$last$">a/</BaseURL>',
    f"<AdaptationSet>{protected(PSSH)}</AdaptationSet>",
    stream("urn:scte:scte35:2014:xml+bin", '<Event><Signal xmlns="http://www.scte.org/schemas/35/2016"><Binary>/DAv</Binary></Signal></Event>'),
    '<AdaptationSet><AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:outputChannelPositionList:2012" value="0 1"/></AdaptationSet>',
    '<AdaptationSet><SegmentTemplate media="$RepresentationID$/$Number%05d$.m4s?x=%2F"/><Representation id="video/avc1" bandwidth="389802.5"/></AdaptationSet>',
    '<AdaptationSet><SegmentTemplate media="$Time$"><SegmentTimeline><S t="0" d="4" r="-1"/></SegmentTimeline></SegmentTemplate></AdaptationSet>',
    '<AdaptationSet><Label xmlns="urn:x">ad.mpd</Label></AdaptationSet>',
    '<AdaptationSet security="x" curious="y"/>',
]  # fmt: skip


@pytest.mark.parametrize("period", ACCEPTED)
def test_what_leads_nowhere_else_stays_as_it_is(period: str) -> None:
    before, after = (
        etree.tostring(item.find("d:Period", NAMES))
        for item in (etree.fromstring(manifest(period=period + SET)), cut(manifest(period=period + SET)))
    )
    assert before == after


LOCATIONS = """
<BaseURL serviceLocation="alpha">media/</BaseURL>
<ServiceDescription id="0">
 <ContentSteering defaultServiceLocation="alpha">https://old.example/dcsm</ContentSteering>
 <ClientDataReporting serviceLocations="alpha beta"><CMCDParameters version="1"/></ClientDataReporting>
</ServiceDescription>
<Location>https://old.example/x.mpd</Location>"""


def test_no_service_location_is_left_but_ours() -> None:
    period = f'<BaseURL serviceLocation="alpha" byteRange="$base$?r=$first$-$last$">p/</BaseURL>{SET}'
    root = cut(manifest(LOCATIONS, period, root='xsi:schemaLocation="urn:mpeg:dash:schema:mpd:2011 DASH-MPD.xsd"'))
    text = etree.tostring(root).decode()
    assert "alpha" not in text
    assert "beta" not in text
    assert "old.example" not in text
    assert [item.get("serviceLocation") for item in root.iterfind(".//d:BaseURL", NAMES)] == ["c001", None]
    assert root.find("d:ServiceDescription/d:ClientDataReporting", NAMES) is not None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig", "iso-8859-1"])
def test_the_encoding_of_a_manifest_hides_nothing(encoding: str) -> None:
    def encoded(identifier: str) -> bytes:
        segments = f'<SegmentTemplate media="$RepresentationID$.m4s"/><Representation id="{identifier}"/>'
        text = manifest(period=f"<AdaptationSet>{segments}</AdaptationSet>")
        return f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>{text}'.encode(encoding)

    assert prepare("video", "t1", "dash", encoded("v1"), URL).tail
    with pytest.raises(FeedError, match=ELSEWHERE):
        prepare("video", "t1", "dash", encoded("../x"), URL)


ATTRIBUTES = [
    *(
        "href",
        "url",
        "uri",
        "media",
        "index",
        "sourceURL",
        "initialization",
        "bitstreamSwitching",
        "value",
        "id",
        "lang",
    ),
    *("serviceLocation", "initializationPrincipal", "dvb:url", "dvb:x", "xlink:href", "xlink:show", "xml:base"),
    *(
        "messageData",
        "licenseUrl",
        "authUrlTemplate",
        "byteRange",
        "range",
        "bandwidth",
        "startNumber",
        "t",
        "d",
        "contentType",
    ),
]
TARGETS = [
    *(
        "https://evil.example/x.mpd",
        "//evil.example/x",
        "HTTP://evil.example",
        "http:evil.example",
        "/evil.example/x.m4s",
    ),
    *(
        "../evil.example/x",
        "../../evil.example.mpd",
        "a/../../evil.example",
        "%2e%2e/evil.example",
        "..%2Fevil.example/x",
    ),
    *(
        "..\\evil.example",
        "javascript:evil.example",
        "http://o.example@evil.example/o/t1/",
        "http://o.example:81/evil.example",
    ),
    *(
        "$Number$/../../evil.example",
        "https://o.example/o/t1/evil.example",
        "?x=//evil.example",
        "#//evil.example",
        "evil.example",
    ),
]
NAMESPACES = ["", "dvb:", "dashif:", "scte35:"]


@settings(max_examples=800, deadline=None)
@given(
    st.sampled_from(sorted(dash.ELEMENTS | dash.LEADING | {"Teleport", "Laurl"})),
    st.sampled_from(NAMESPACES),
    st.lists(
        st.tuples(st.sampled_from(ATTRIBUTES), st.sampled_from(TARGETS)), max_size=2, unique_by=lambda pair: pair[0]
    ),
    st.sampled_from(["", *TARGETS]),
    st.integers(0, 3),
)
def test_what_is_left_of_a_manifest_leads_nowhere_else(
    name: str, namespace: str, attributes: list[tuple[str, str]], text: str, depth: int
) -> None:
    """An element with targets anywhere in a manifest: what is left of them is below the title, or no URL for a player."""
    written = " ".join(f'{key}="{value}"' for key, value in attributes)
    element = f"<{namespace}{name} {written}>{text}</{namespace}{name}>"
    places = [
        lambda: manifest(element),
        lambda: manifest(period=element + SET),
        lambda: manifest(period=f"<AdaptationSet>{element}{SEGMENTS}<Representation id='1'/></AdaptationSet>"),
        lambda: manifest(
            period=f"<AdaptationSet>{SEGMENTS}<Representation id='1'>{element}</Representation></AdaptationSet>"
        ),
    ]
    try:
        root = cut(places[depth]())
    except FeedError:
        return
    for item in root.iter():
        local = etree.QName(item).localname
        if local in dash.LEADING:
            assert etree.QName(item).namespace == NAMES["d"]
        urls = [item.get(key) for key in dash.URLS.get(local, ())] + [item.text if local == "BaseURL" else None]
        for url in filter(None, urls):
            assert below(url), (local, url)
        is_license = any(etree.QName(part).localname in dash.ABSOLUTE_INSIDE for part in (item, *item.iterancestors()))
        for key, value in () if is_license else item.attrib.items():
            if key not in (*dash.IDENTIFIERS, *dash.URLS.get(local, ()), "value"):
                assert "://" not in value, (local, key, value)
                assert not value.startswith("//"), (local, key, value)


def below(url: str) -> bool:
    """Return whether a URL of a cut manifest leads below http://a/t/, resolved as browsers do."""
    path = url.removeprefix("http://a/t/").partition("?")[0].partition("#")[0]
    steps = unquote(path).replace("\\", "/").split("/")
    heights = itertools.accumulate(-1 if step == ".." else 0 if step in ("", ".") else 1 for step in steps)
    return ":" not in steps[0] and not path.startswith("/") and all(height >= 0 for height in heights)


def test_a_large_manifest_is_cut_in_short_time() -> None:
    segments = "".join(f'<SegmentURL media="s{i}.m4s"/>' for i in range(30_000))
    text = manifest(period=f"<AdaptationSet><SegmentList>{segments}</SegmentList></AdaptationSet>" + SET)
    assert len(text) < MAX_PLAYLIST
    began = time.process_time()
    cut(text)
    assert time.process_time() - began < 10


def test_a_deep_manifest_is_refused_or_cut() -> None:
    for depth in (200, 100_000):
        with pytest.raises(FeedError):
            cut(manifest("<dvb:x>" * depth + "</dvb:x>" * depth + "<Teleport/>"))
