"""Files that other projects test their parsers with, read by ours: accepted, or refused for a reason that is listed.

Run by `make corpus`. A reader may refuse a file with a FeedError that `refusals.py` lists with its reason; every other
refusal, and every other exception, is a fault. What was accepted is judged too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import m3u8
import pytest
from lxml import etree

import geo_data
from steering.control.playlists.prepare import prepare
from steering.control.routes.feeds import mmdb, regions
from steering.control.routes.feeds.geofeed import read_geofeed
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.playback.answers.playlist import filled
from tests.corpus.packages import PACKAGES, NotFetchedError, Package
from tests.corpus.refusals import REFUSALS

NO_FLEET = Fleet((), (), (), (), ())
PATHWAYS = [("near", "https://near.example/v/t/"), ("cdn", "https://cdn.example/v/t/")]
STEERING = "https://steering.example/v1/x"
HOST = re.compile(r"https?://[^/\s\"'<>]+/")
HOSTS = ("https://near.example/", "https://cdn.example/")


def read_playlist(path: str, body: bytes) -> None:
    """Prepare a playlist as if it had been fetched from the root of one of the hosts that it names, and judge it."""
    kind = "hls" if path.endswith(".m3u8") else "dash"
    origins = ["https://origin.example/", *dict.fromkeys(HOST.findall(body.decode("utf-8", "replace")))]
    refusals = []
    for origin in origins:
        try:
            playlist = prepare("video", "t", kind, body, f"{origin}{Path(path).name}")
        except FeedError as error:
            refusals.append(error)
            continue
        judge(kind, filled(playlist, PATHWAYS, "near", STEERING, False))
        return
    raise refusals[0]


def judge(kind: str, text: str) -> None:
    """Check that another parser finds every pathway in a playlist, and no other host for its files."""
    if kind == "dash":
        namespace = "{urn:mpeg:dash:schema:mpd:2011}"
        bases = etree.fromstring(text.encode()).findall(f"{namespace}BaseURL")
        assert [base.get("serviceLocation") for base in bases[:2]] == ["near", "cdn"]
        assert all(base.text.startswith(HOSTS) for base in bases)
        return
    playlist = m3u8.loads(text)
    assert {item.stream_info.pathway_id for item in playlist.playlists} == {"near", "cdn"}
    uris = [item.uri for item in [*playlist.playlists, *playlist.iframe_playlists, *playlist.media] if item.uri]
    assert all(uri.startswith(HOSTS) for uri in uris)


def read_mmdb(path: Path) -> None:
    """Read a database of countries or cities, or else of ASNs."""
    try:
        assert regions.read_regions(path).regions[1:]
    except FeedError as error:
        if "names no country" not in error.message:
            raise
        mmdb.read(str(path), NO_FLEET)


def read_csv(path: Path) -> list[FeedError]:
    """Read a geofeed; return its refusals, one an error."""
    places = {
        (place.country, place.city.casefold()): (place.latitude, place.longitude) for place in geo_data.read_places()
    }
    feed = read_geofeed(path, geo_data.read_region_codes(), places)
    assert feed.accepted or feed.refused
    return [FeedError(f"row {refusal.row}: {refusal.value}: {refusal.rule}") for refusal in feed.refusals]


def refusals_of(path: str, body: bytes, folder: Path) -> Iterable[FeedError]:
    """Return the refusals of a file and of its rows."""
    if path.endswith((".m3u8", ".mpd")):
        try:
            read_playlist(path, body)
        except FeedError as error:
            return [error]
        return []
    file = folder / Path(path).name
    file.write_bytes(body)
    try:
        if path.endswith(".csv"):
            return read_csv(file)
        read_mmdb(file)
    except FeedError as error:
        return [error]
    return []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_file_is_read_or_refused_for_a_listed_reason(package: Package, tmp_path: Path) -> None:
    try:
        files = list(package.files())
    except NotFetchedError as error:
        pytest.skip(str(error))
    assert files, f"{package.name} {package.version} carries no test data any more"
    listed = [row for row in REFUSALS if row.package == package.name]
    used, unexplained = set(), []
    for path, body in files:
        for error in refusals_of(path, body, tmp_path):
            right = next(
                (row for row in listed if row.message in error.message and any(fnmatch(path, p) for p in row.files)),
                None,
            )
            used.add(right)
            if right is None:
                unexplained.append(f"{path}: {error.message}")
    assert not unexplained, "\n".join(["", *unexplained])
    assert [row for row in listed if row not in used] == [], "these refusals no longer occur"
