"""Playlists are cut so that every pathway has the same ladder, and what cannot be cut is refused by line and rule."""

from __future__ import annotations

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from steering.control.playlists.prepare import MAX_PLAYLIST, prepare
from steering.errors import FeedError
from steering.playback.answers.playlist import filled

HLS = """\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
## a comment
#EXT-X-CONTENT-STEERING:SERVER-URI="https://elsewhere.example/",PATHWAY-ID="."
#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI="skd://key",KEYFORMAT="com.apple.streamingkeydelivery"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="English, please",LANGUAGE="en",DEFAULT=YES,URI="sound/en.m3u8"
#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID="cc",NAME="English",INSTREAM-ID="CC1"
#EXT-X-STREAM-INF:BANDWIDTH=250000,CODECS="avc1.42c00c,mp4a.40.2",AUDIO="aac",CLOSED-CAPTIONS="cc",X-OWN="a=b,c"
low/v.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="avc1.42c00c,mp4a.40.2",AUDIO="aac",CLOSED-CAPTIONS=NONE,STABLE-VARIANT-ID="hi"
high/v.m3u8?x=1
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=20000,URI="low/i.m3u8"
"""

MPD = """\
<?xml version="1.0"?>
<!-- made by a packager -->
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:cenc="urn:mpeg:cenc:2013" type="static" mediaPresentationDuration="PT30S">
  <ProgramInformation><Title>a &amp; b</Title></ProgramInformation>
  <BaseURL>media/</BaseURL>
  <ContentSteering>https://elsewhere.example/</ContentSteering>
  <Period><AdaptationSet mimeType="video/mp4">
    <ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011" cenc:default_KID="0"/>
    <SegmentTemplate media="$RepresentationID$-$Number%05d$.m4s" initialization="i.mp4" duration="2"/>
    <Representation id="a" bandwidth="100000"><BaseURL>a/</BaseURL></Representation>
  </AdaptationSet></Period>
</MPD>
"""
TWO = [("c001", "https://c001.example/v/t/"), ("cdn", "https://o.example/v/t/?a=1&b=")]


def cut(text: str, kind: str = "hls", url: str = "") -> str:
    """Return a playlist as two pathways get it."""
    return filled(prepare("video", "t", kind, text.encode(), url), TWO, "c001", "https://s.example/v1/x?a=1&b=2", False)


def test_every_pathway_has_the_whole_ladder_in_one_order() -> None:
    assert '#EXT-X-CONTENT-STEERING:SERVER-URI="https://s.example/v1/x?a=1&b=2",PATHWAY-ID="c001"\n' in cut(HLS)
    result = m3u8.loads(cut(HLS))
    ladders = {
        pathway: [
            (item.stream_info.bandwidth, item.uri.removeprefix(base), item.stream_info.stable_variant_id)
            for item in result.playlists
            if item.stream_info.pathway_id == pathway
        ]
        for pathway, base in TWO
    }
    assert ladders["c001"] == ladders["cdn"]
    assert [row[:2] for row in ladders["cdn"]] == [(250000, "low/v.m3u8"), (900000, "high/v.m3u8?x=1")]
    assert ladders["cdn"][1][2] == "hi"
    assert all(row[2] for row in ladders["cdn"])
    groups = {(item.type, item.group_id, item.uri) for item in result.media}
    assert groups == {
        ("AUDIO", "aac-c001", "https://c001.example/v/t/sound/en.m3u8"),
        ("AUDIO", "aac-cdn", "https://o.example/v/t/?a=1&b=sound/en.m3u8"),
        ("CLOSED-CAPTIONS", "cc-c001", None),
        ("CLOSED-CAPTIONS", "cc-cdn", None),
    }
    assert [item.uri for item in result.iframe_playlists] == [base + "low/i.m3u8" for _, base in TWO]


def test_unknown_attributes_come_out_as_they_went_in() -> None:
    result = cut(HLS)
    assert result.count('X-OWN="a=b,c"') == 2
    assert result.count("CLOSED-CAPTIONS=NONE") == 2
    assert result.count('NAME="English, please"') == 2
    assert result.count('URI="skd://key"') == 1
    assert "elsewhere" not in result
    assert "a comment" not in result


def test_without_a_steering_url_a_playlist_has_pathways_all_the_same() -> None:
    result = filled(prepare("video", "t", "hls", HLS.encode()), TWO, "c001", "", False)
    assert "CONTENT-STEERING" not in result
    assert result.count('PATHWAY-ID="cdn"') == 3


PATHWAYS = """\
#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID="A"
a.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=2,PATHWAY-ID="A"
b.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID="B"
https://other.example/a.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=2,PATHWAY-ID="B"
https://other.example/b.m3u8
"""


def test_of_pathways_with_one_ladder_the_first_is_kept() -> None:
    result = m3u8.loads(cut(PATHWAYS))
    assert [item.uri for item in result.playlists] == [base + name for _, base in TWO for name in ("a.m3u8", "b.m3u8")]


def test_what_was_fetched_may_name_its_own_place() -> None:
    text = HLS.replace("low/v", "https://origin.example/v/t/low/v")
    assert "https://c001.example/v/t/low/v.m3u8" in cut(text, url="https://origin.example/v/t/master.m3u8")


REFUSED = [
    # name, text, what is said
    ("no playlist", "hello\n", "line 1: hello: the first line is #EXTM3U"),
    ("another host", HLS.replace("low/v", "https://x.example/low/v"), "line 9: https://x.example/low/v.m3u8: a URL leads to a file below"),
    ("the root", HLS.replace("low/v", "/low/v"), "line 9: /low/v.m3u8: a URL leads to a file below"),
    ("out of the title", HLS.replace("low/v", "low/%2e./../v"), "line 9"),
    ("a variable", HLS.replace("low/v", "{$host}/v"), "line 10: {$host}: a variable is defined before"),
    ("a rendition elsewhere", HLS.replace("sound/en", "//x.example/en"), "line 7: //x.example/en.m3u8"),
    ("a session key elsewhere", HLS.replace("skd://key", "//x.example/key"), "line 6: //x.example/key: a URL leads to"),
    ("a media playlist", "#EXTM3U\n#EXTINF:2,\nseg.m4s\n", "line 2: #EXTINF:2,: is of a media playlist"),
    ("a media playlist with a head", "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n", "line 3: #EXT-X-TARGETDURATION:4: is of a media playlist"),
    ("a media playlist of an event", "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:EVENT\n", "line 2: #EXT-X-PLAYLIST-TYPE:EVENT: is of a media playlist"),
    ("a media playlist that is encrypted", "#EXTM3U\n#EXT-X-KEY:METHOD=NONE\n", "line 2: #EXT-X-KEY:METHOD=NONE: is of a media playlist"),
    ("a tag nobody knows", HLS.replace("## a comment", "#EXT-X-OTHER-STREAM-INF:URI=\"x\""), "line 4: #EXT-X-OTHER"),
    ("a group nobody has", HLS.replace('AUDIO="aac"', 'AUDIO="ac3"', 1), 'line 9: AUDIO="ac3": no #EXT-X-MEDIA has this'),
    ("no bandwidth", HLS.replace("BANDWIDTH=250000", "BANDWIDTH=fast"), "line 9: #EXT-X-STREAM-INF: a variant has a BANDWIDTH"),
    ("no URI", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", "line 2: #EXT-X-STREAM-INF: has no URI"),
    ("a tag before it", HLS.replace("low/v.m3u8", "#EXT-X-VERSION:7"), "line 10: #EXT-X-VERSION:7: the URI of the variant"),
    ("a URI from nowhere", HLS + "x.m3u8\n", "line 14: x.m3u8: a URI follows"),
    ("no variant", "#EXTM3U\n", "has no variant"),
    ("a quote without an end", HLS.replace('CODECS="avc1.42c00c,mp4a.40.2",AUDIO', 'CODECS="avc1,AUDIO', 1), "line 9"),
    ("an attribute twice", HLS.replace("BANDWIDTH=250000", "BANDWIDTH=250000,BANDWIDTH=1"), "line 9: BANDWIDTH: is given twice"),
    ("control characters", HLS.replace("low/v", "low\x01/v"), "line 10: '\\x01'"),
    ("a byte order mark", "\ufeff" + HLS, "line 1"),
    ("another ladder", PATHWAYS.replace("BANDWIDTH=2,PATHWAY-ID=\"B\"", "BANDWIDTH=3,PATHWAY-ID=\"B\""),
     "line 8: #EXT-X-STREAM-INF: every pathway has the same qualities in the same order"),
    ("a quality less", PATHWAYS.rsplit("#", 1)[0], "line 4: #EXT-X-STREAM-INF: every pathway has the same qualities"),
    ("a quality more", PATHWAYS + "#EXT-X-STREAM-INF:BANDWIDTH=3,PATHWAY-ID=\"B\"\nc.m3u8\n", "line 10"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "rule"), REFUSED, ids=[row[0] for row in REFUSED])
def test_hls_that_cannot_be_cut_is_refused_by_line_and_rule(name: str, text: str, rule: str) -> None:
    with pytest.raises(FeedError) as caught:
        prepare("video", "t", "hls", text.encode())
    assert caught.value.message.startswith("hls playlist of video/t: ")
    assert rule in caught.value.message


def test_size_and_encoding_are_limited() -> None:
    with pytest.raises(FeedError, match="at most 1048576"):
        prepare("video", "t", "hls", b"#EXTM3U\n" + b"#" * MAX_PLAYLIST)
    with pytest.raises(FeedError, match="is not UTF-8, at byte 8"):
        prepare("video", "t", "hls", b"#EXTM3U\n\xff")


NAMES = {"d": "urn:mpeg:dash:schema:mpd:2011"}


@pytest.mark.parametrize("prefixed", [False, True])
def test_a_dash_manifest_gets_its_service_locations(prefixed: bool) -> None:
    text = MPD
    if prefixed:
        text = text.replace("xmlns=", "xmlns:m=").replace("</", "</m:").replace("<", "<m:").replace("<m:/m:", "</m:")
        text = text.replace("<m:?", "<?").replace("<m:!", "<!")
    root = etree.fromstring(cut(text, "dash").encode())
    assert [(item.get("serviceLocation"), item.text) for item in root.findall("d:BaseURL", NAMES)] == [
        ("c001", "https://c001.example/v/t/media/"),
        ("cdn", "https://o.example/v/t/?a=1&b=media/"),
    ]
    (steering,) = root.findall("d:ContentSteering", NAMES)
    assert steering.text == "https://s.example/v1/x?a=1&b=2"
    assert dict(steering.attrib) == {"defaultServiceLocation": "c001", "queryBeforeStart": "false"}
    order = [item.tag.rpartition("}")[2] for item in root]
    assert order == ["ProgramInformation", "BaseURL", "BaseURL", "ContentSteering", "Period"] or order[0] == "BaseURL"
    assert root.find(".//d:SegmentTemplate", NAMES).get("media") == "$RepresentationID$-$Number%05d$.m4s"
    assert root.find(".//d:Representation/d:BaseURL", NAMES).text == "a/"
    assert root.find(".//d:Title", NAMES).text == "a & b"
    assert root.find(".//d:ContentProtection", NAMES).get("{urn:mpeg:cenc:2013}default_KID") == "0"


BOMB = '<!DOCTYPE MPD [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
FILE = '<!DOCTYPE MPD [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
REFUSED_MPD = [
    ("no XML", "hello", "is no XML: line 1: "),
    (
        "a byte that XML has not",
        MPD.replace("media/", "me\0dia/"),
        "is no XML: line 5: Invalid character: Char 0x0 out of",
    ),
    ("cut off", MPD[: MPD.index("</Period>")], "is no XML: line "),
    ("a document type", MPD.replace("<!-- made by a packager -->", BOMB), "a document type is not accepted"),
    (
        "an entity from a file",
        MPD.replace("<!-- made by a packager -->", FILE).replace("a &amp; b", "&a;"),
        "document type",
    ),
    ("another root", MPD.replace("urn:mpeg:dash:schema:mpd:2011", "urn:x"), "line 3: {urn:x}MPD: the root is an MPD"),
    ("live", MPD.replace('"static"', '"dynamic"'), "line 3: type=dynamic: only static manifests"),
    (
        "several bases",
        MPD.replace("<BaseURL>media/</BaseURL>", "<BaseURL>a/</BaseURL><BaseURL>b/</BaseURL>"),
        "line 5: b/: an element has one BaseURL",
    ),
    (
        "a base elsewhere",
        MPD.replace(">a/<", ">https://x.example/a/<"),
        "line 10: https://x.example/a/: a URL leads to a file below",
    ),
    ("segments elsewhere", MPD.replace('media="', 'media="//x.example/'), "line 9: //x.example/"),
    ("an index elsewhere", MPD.replace('initialization="', 'initialization="/'), "line 9: /i.mp4"),
    (
        "remote parts",
        MPD.replace("<Period>", '<Period xmlns:x="http://www.w3.org/1999/xlink" x:href="p.xml">'),
        "line 7: Period",
    ),
    ("xml:base", MPD.replace("<Period>", '<Period xml:base="https://x.example/">'), "line 7: Period"),
]


@pytest.mark.parametrize(("name", "text", "rule"), REFUSED_MPD, ids=[row[0] for row in REFUSED_MPD])
def test_dash_that_cannot_be_cut_is_refused_by_line_and_rule(name: str, text: str, rule: str) -> None:
    with pytest.raises(FeedError) as caught:
        prepare("video", "t", "dash", text.encode())
    assert rule in caught.value.message


PARTS = st.sampled_from(
    [*HLS.splitlines(), *MPD.splitlines(), "#EXT-X-STREAM-INF:", "=", '"', ",", "#EXT", "x.m3u8", "\0", "<MPD>"]
)


@given(st.lists(st.one_of(PARTS, st.text(max_size=20)), max_size=12), st.sampled_from(["hls", "dash"]))
def test_whatever_comes_is_cut_or_refused(parts: list[str], kind: str) -> None:
    for start in ("", "#EXTM3U\n"):
        try:
            result = prepare("video", "t", kind, (start + "\n".join(parts)).encode(errors="replace"))
        except FeedError:
            continue
        assert result.head
