"""The refusals that are right: files (patterns), a part of the message, and why. Each must still occur."""

from __future__ import annotations

import dataclasses
from typing import Final


@dataclasses.dataclass(frozen=True)
class Right:
    """A right refusal."""

    package: str
    files: tuple[str, ...]
    message: str
    why: str


HLS: Final = "test/fixtures/integration/"
MEDIA: Final = "a media playlist is read by the player from the appliance; only the multivariant one is cut"
LIVE: Final = "pathways are put into an MPD once, and a dynamic one changes with every segment"
OUT: Final = "files outside the title's folder cannot be given other hosts"
SPEC: Final = "RFC 8216 requires it, and players differ in what they make of it"
NEITHER: Final = "a database without countries and ASNs brings neither regions nor routes"
DAMAGED: Final = "made to be damaged"
BROKEN: Final = ("*Broken*.mmdb", "*broken-pointers*.mmdb", "*budget*.mmdb", "*-over.mmdb", "*-dos*.mmdb")

REFUSALS: Final = (
    Right("m3u8-parser", (f"{HLS}*",), "is of a media playlist", MEDIA),
    Right("m3u8-parser", (f"{HLS}multipleTargetDurations.m3u8",), "a URI follows an #EXT-X-STREAM-INF", MEDIA),
    Right(
        "m3u8-parser",
        tuple(f"{HLS}{name}.m3u8" for name in ("empty", "master", "start", "streamInfInvalid", "manifestNoExtM3u")),
        "the first line is #EXTM3U",
        SPEC,
    ),
    Right("m3u8-parser", (f"{HLS}headerOnly.m3u8",), "has no variant", "it names nothing to play"),
    Right(
        "mpd-parser",
        tuple(f"test/manifests/{name}.mpd" for name in ("maat_vtt_segmentTemplate", "vtt_codecs")),
        "a URL leads to a file below the folder",
        OUT,
    ),
    Right("mpd-parser", ("test/manifests/multiperiod-*.mpd",), "only static manifests", LIVE),
    Right("streamlink", ("tests/resources/hls/*.m3u8",), "is of a media playlist", MEDIA),
    Right("streamlink", ("tests/resources/hls/test_master.m3u8",), "no #EXT-X-MEDIA has this group", SPEC),
    Right("streamlink", ("tests/resources/hls/test_multivariant_bandwidth.m3u8",), "a variant has a BANDWIDTH", SPEC),
    Right("streamlink", ("tests/resources/dash/*.mpd",), "only static manifests", LIVE),
    Right(
        "streamlink",
        ("tests/resources/dash/test_baseurl_nested.mpd",),
        "a URL leads to a file below the folder",
        OUT,
    ),
    Right(
        "streamlink",
        ("tests/resources/dash/test_no_segment_list_or_template.mpd",),
        "an element has one BaseURL",
        "of two BaseURLs below the MPD a player may choose either; pathways take their place only at the top",
    ),
    Right("maxminddb", ("tests/data/*.mmdb",), "names no ASN", NEITHER),
    Right("maxminddb", ("tests/data/bad-data/*.mmdb", "*-limit*.mmdb", "*Invalid*"), "is no MMDB", DAMAGED),
    Right("maxminddb", ("tests/data/bad-data/*.mmdb", *BROKEN), "its record cannot be read", DAMAGED),
    Right("maxminddb", ("*/MaxMind-DB-test-broken-search-tree-24.mmdb",), "the search tree is a tree", DAMAGED),
    Right("geoip2", ("tests/data/test-data/*.mmdb",), "names no ASN", NEITHER),
    Right("geoip2", ("*Invalid-Node-Count.mmdb",), "is no MMDB", DAMAGED),
    Right("geoip2", BROKEN, "its record cannot be read", DAMAGED),
    Right("geoip2", ("*/MaxMind-DB-test-broken-search-tree-24.mmdb",), "the search tree is a tree", DAMAGED),
    Right("geofeed-tools", ("tests/fixtures/invalid_geofeed.csv",), "has no row of a geofeed", DAMAGED),
    Right("geofeed-tools", ("tests/fixtures/*",), "host bits are set", "the line may mean the address or its network"),
    Right("geofeed-tools", ("tests/fixtures/*",), "a prefix is given once", "RFC 8805 calls it an error, to be logged"),
    Right("geofeed-tools", ("tests/fixtures/*",), "no IPv4 or IPv6 address", "165.254.252.023: is it octal?"),
)
