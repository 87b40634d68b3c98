"""Every feed and playlist has bounds on bytes, rows, depth and memory: hostile files are refused, and cost no more than that.

Each file is read in a process of its own, whose peak memory and computing time are measured.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from steering.control.feed_files import MAX_XZ_MEMORY, read_bytes
from steering.errors import FeedError
from steering.model.fleet import Fleet

MIB = 1 << 20
CHILD = """
import resource, sys, time
from pathlib import Path
import msgspec
from steering.control.playlists.prepare import prepare
from steering.control.routes.feeds import FeedSource, read_feed
from steering.control.routes.rpki import read_payloads
from steering.control.routes.traffic import read_traffic
from steering.control.routes.feeds.regions import read_regions
from steering.errors import FeedError
from steering.model.fleet import Fleet
kind, path, fleet = sys.argv[1], Path(sys.argv[2]), msgspec.json.decode(Path(sys.argv[3]).read_bytes(), type=Fleet)
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    if kind == "rpki":
        result = read_payloads(path).accepted
    elif kind == "geofeed":
        result = len(read_regions(None, [path]).geofeeds)
    elif kind in ("hls", "dash"):
        result = f"{len(prepare('video', 't', kind, path.read_bytes()).pathway)} bytes for each pathway"
    elif kind == "traffic":
        result = len(read_traffic(path).amounts)
    else:
        feed = read_feed(FeedSource(kind, str(path)), fleet)
        result = f"{feed.accepted} accepted, {feed.refused} refused, {len(feed.refusals)} listed"
except FeedError as error:
    result = f"refused: {error.message}"
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, int(time.process_time() - began), result)
"""


def read_apart(kind: str, path: Path, fleet: Fleet) -> tuple[int, int, str]:
    """Return the MiB and seconds that a process takes to read a file, and its result."""
    document = path.with_name("fleet.json")
    document.write_bytes(msgspec.json.encode(fleet))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind, str(path), str(document)],
        capture_output=True, text=True, timeout=250, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    mib, seconds, result = done.stdout.split(" ", 2)
    return int(mib), int(seconds), result.strip()


def packed(pack: str, pieces: int, piece: bytes, tail: bytes = b"") -> bytes:
    """Return many equal pieces of 1 MiB and a tail, as streams one after the other."""
    compress = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}[pack]
    return compress(piece * 10) * (pieces // 10) + compress(tail)


ROUTE = b'{"prefix": "10.0.0.0/8", "cluster": "bom001-a"}\n'
HEADER = b"prefix,cluster,as_path\n"
FILES: list[tuple[str, str, Callable[[], bytes], int, str]] = [
    # kind, file, content, MiB that reading it may take, the result
    ("jsonl", "lines.jsonl.gz", lambda: packed("gz", 300, b"\n" * MIB, ROUTE), 800, "refused: lines.jsonl.gz: 314572801 lines; at most 12000000"),
    ("csv", "lines.csv.xz", lambda: packed("xz", 300, b"\n" * MIB), 700, "refused: lines.csv.xz: is empty"),
    ("geofeed", "lines.csv.bz2", lambda: packed("bz2", 100, b"#\n" * (MIB // 2)), 300, "refused: lines.csv.bz2: 52428800 lines"),
    ("jsonl", "blank.jsonl.gz", lambda: packed("gz", 10, b"\n" * MIB, ROUTE), 250, "1 accepted, 0 refused"),
    ("csv", "bomb.csv.gz", lambda: packed("gz", 560, b"\0" * MIB), 1200, "refused: bomb.csv.gz: over 512 MiB once unpacked"),
    ("csv", "bomb.csv.xz", lambda: packed("xz", 530, b"\0" * MIB), 1200, "refused: bomb.csv.xz: over 512 MiB once unpacked"),
    ("csv", "line.csv", lambda: HEADER + b"10.0.0.0/8,bom001-a" + b"," * (50 * MIB) + b"\n11.0.0.0/8,bom001-a,1\n", 450, "1 accepted, 1 refused"),
    ("csv", "head.csv", lambda: b"prefix" + b",x" * (25 * MIB) + b"\n", 250, "refused: head.csv row 1"),
    ("csv", "quotes.csv", lambda: HEADER + b"10.0.0.0/8,\"" + b"," * (50 * MIB) + b"\n11.0.0.0/8,bom001-a,1\n", 450, "1 accepted, 1 refused"),
    ("csv", "rows.csv", lambda: HEADER + b"x,bom001-a,1\n" * 3_000_000, 300, "refused: rows.csv: holds no route for this fleet"),
    ("jsonl", "rows.jsonl", lambda: b"[]\n" * 1_000_000 + ROUTE, 200, "1 accepted, 1000000 refused, 1000 listed"),
    ("jsonl", "line.jsonl", lambda: b"[" * (50 * MIB) + b"\n" + ROUTE, 450, "1 accepted, 1 refused"),
    ("jsonl", "deep.jsonl", lambda: b'{"x":' * 2000 + b"\n" + ROUTE, 60, "1 accepted, 1 refused"),
    ("geofeed", "line.csv", lambda: b"10.0.0.0/8,IN" + b'#"' * (25 * MIB) + b"\n", 450, "refused: line.csv: has no row of a geofeed"),
    ("asn", "line.txt", lambda: b"10.0.0.0/8 " + b"1" * (50 * MIB) + b"\n11.0.0.0/8 64500\n", 450, "1 accepted, 1 refused"),
    ("traffic", "line.txt", lambda: b"10.0.0.0/8 " + b"1" * (50 * MIB) + b"x\n", 450, "refused: line.txt: '1111"),
    ("zones", "deep.json", lambda: b"[" * 1_900_000, 100, "refused: deep.json: not JSON"),
    ("zones", "wide.json", lambda: b'{"coverageZones": [' + b"{}," * 20_000_000 + b"{}]}", 300, "refused: wide.json: 20000003 objects"),
    ("zones", "keys.json", lambda: b'{"coverageZones": {' + b",".join(b'"%d":{}' % i for i in range(600_000)) + b"}}", 900, "refused: keys.json: holds no route"),
    ("zones", "texts.json", lambda: b'{"coverageZones": {"bom001-a": {"network": [' + b'"",' * 1_000_000 + b'"10.0.0.0/8"]}}}', 400, "1 accepted, 1000000 refused, 1000 listed"),
    ("rpki", "deep.json", lambda: b'{"roas":' + b"[" * 1_900_000, 100, "refused: deep.json: not JSON"),
    ("rpki", "wide.json", lambda: b'{"roas": [' + b"0," * 7_900_000 + b"0]}", 1200, "refused: wide.json: holds no payload"),
    ("hls", "variants.m3u8", lambda: b"#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=1\nv\n" * 100_000, 60, "refused: hls playlist of video/t: 3200008 bytes; at most 1048576"),
    ("hls", "short.m3u8", lambda: b"#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=1\nv\n" * 30_000, 80, "refused: hls playlist of video/t: line"),
    ("hls", "many.m3u8", lambda: b"#EXTM3U\n" + b"".join(b"#EXT-X-STREAM-INF:BANDWIDTH=%d\n%d\n" % (i, i) for i in range(1, 2001)), 80, "refused: hls playlist of video/t: needs"),
    ("hls", "line.m3u8", lambda: b"#EXTM3U\n#EXT-X-STREAM-INF:A=" + b" " * 1_000_000, 80, "refused: hls playlist of video/t: line 2"),
    ("dash", "deep.mpd", lambda: b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'>" + b"<a>" * 300_000, 80, "refused: dash playlist of video/t: is no XML"),
    ("dash", "wide.mpd", lambda: b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'>" + b"<S/>" * 250_000 + b"</MPD>", 300, "41 bytes for each pathway"),
    ("dash", "names.mpd", lambda: b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011' " + b" ".join(b"a%d=''" % i for i in range(80_000)) + b"/>", 200, "refused: dash playlist of video/t: an element has at most 500 attributes"),
    ("rpki", "large.json.gz", lambda: packed("gz", 160, b" " * MIB), 500, "refused: large.json.gz: over 128 MiB once unpacked"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "content", "most", "result"), FILES, ids=[f"{row[0]} {row[1]}" for row in FILES]
)
def test_hostile_files_are_read_within_their_bounds(
    tmp_path: Path, fleet: Fleet, kind: str, name: str, content: Callable[[], bytes], most: int, result: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content())
    mib, seconds, actual = read_apart(kind, path, fleet)
    assert actual.startswith(result)
    assert mib <= most
    assert seconds <= 60


def test_a_decompressor_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "routes.csv.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2 * MAX_XZ_MEMORY}]
    encoder = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=filters)
    path.write_bytes(encoder.compress(b"x") + encoder.flush())
    with pytest.raises(FeedError, match=r"routes\.csv\.xz: cut off or damaged: Memory usage limit"):
        read_bytes(path)


def test_streams_one_after_the_other_are_one_file(tmp_path: Path) -> None:
    for suffix, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(pack(b"one") + pack(b"two" * 1_000_000) + pack(b""))
        assert read_bytes(path)[0] == b"one" + b"two" * 1_000_000
        path.write_bytes(pack(b"one") + pack(b"two" * 1_000_000)[:-1])
        with pytest.raises(FeedError, match="cut off or damaged"):
            read_bytes(path)


def test_a_pipe_is_no_feed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "routes.csv")
    with pytest.raises(FeedError, match="is no file"):
        read_bytes(tmp_path / "routes.csv")
