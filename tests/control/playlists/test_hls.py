"""HLS: variables, data of the whole session, image streams, and what `m3u8` cannot read."""

from __future__ import annotations

import time

import pytest

from steering.control.playlists.prepare import MAX_PLAYLIST, prepare
from steering.errors import FeedError
from steering.playback.answers.playlist import filled

URL = "http://o.example/o/t1/master.m3u8"
VARIANT = "#EXT-X-STREAM-INF:BANDWIDTH=900000\nv.m3u8\n"


def cut(text: str, url: str = URL) -> list[str]:
    """Return the lines of a playlist as a client with two pathways gets it, without the ids that are added."""
    made = prepare("video", "t1", "hls", f"#EXTM3U\n{text}".encode(), url)
    text = filled(made, [("c001", "http://a/t/"), ("cdn", "http://b/t/")], "c001", "", False)
    return [line.partition(",STABLE-VARIANT-ID")[0] for line in text.splitlines()[1:]]


PLACED = [
    # lines, the lines of the first pathway
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\n/o/t1/v.m3u8", ["http://a/t/v.m3u8"]),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\n../t1/v.m3u8?x=../1", ["http://a/t/v.m3u8?x=../1"]),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\n//O.example/o/t1/v.m3u8", ["http://a/t/v.m3u8"]),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\nHTTP://o.example:80/o/t1/a/../v.m3u8", ["http://a/t/v.m3u8"]),
    # the data of a session
    (f'#EXT-X-SESSION-DATA:DATA-ID="com.apple.hls.chapters",URI="chapters.json"\n{VARIANT}',
     ['#EXT-X-SESSION-DATA:DATA-ID="com.apple.hls.chapters",URI="http://a/t/chapters.json"']),
    (f'#EXT-X-SESSION-DATA:DATA-ID="x",URI="/o/t1/x.json"\n{VARIANT}', ['#EXT-X-SESSION-DATA:DATA-ID="x",URI="http://a/t/x.json"']),
    (f'#EXT-X-SESSION-DATA:DATA-ID="x",URI="https://x.example/x.json"\n{VARIANT}',
     ['#EXT-X-SESSION-DATA:DATA-ID="x",URI="https://x.example/x.json"']),
    (f'#EXT-X-SESSION-DATA:DATA-ID="x",VALUE="/y"\n{VARIANT}', ['#EXT-X-SESSION-DATA:DATA-ID="x",VALUE="/y"']),
    (f'#EXT-X-SESSION-KEY:METHOD=AES-128,URI="k.bin"\n{VARIANT}', ['#EXT-X-SESSION-KEY:METHOD=AES-128,URI="http://a/t/k.bin"']),
    # variables
    ('#EXT-X-DEFINE:QUERYPARAM="token"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8?a=1&token={$token}',
     ['#EXT-X-DEFINE:QUERYPARAM="token"', "http://a/t/v.m3u8?a=1&token={$token}"]),
    ('#EXT-X-DEFINE:NAME="dir",VALUE="low"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$dir}/v.m3u8', ["http://a/t/low/v.m3u8"]),
    ('#EXT-X-DEFINE:NAME="o",VALUE="http://o.example/o"\n#EXT-X-DEFINE:NAME="t",VALUE="{$o}/t1"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$t}/v.m3u8',
     ["http://a/t/v.m3u8"]),
    ('#EXT-X-DEFINE:NAME="g",VALUE="aac"\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{$g}",NAME="x"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="aac"\nv',
     ['#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac-c001",NAME="x"', '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="aac-c001"']),
    ('#EXT-X-DEFINE:QUERYPARAM="g"\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a{$g}",NAME="x"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a{$g}"\nv',
     ['#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a{$g}-c001",NAME="x"', '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a{$g}-c001"']),
    # image streams
    (f'{VARIANT}#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1,RESOLUTION=5x10,CODECS="jpeg",URI="../t1/i.m3u8"\n',
     ['#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1,RESOLUTION=5x10,CODECS="jpeg",URI="http://a/t/i.m3u8"']),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), PLACED, ids=[row[0][:60] for row in PLACED])
def test_uris_are_resolved_and_placed(text: str, lines: list[str]) -> None:
    assert [line for line in lines if line not in cut(text)] == []
    assert [
        line.replace("http://a/", "http://b/").replace("c001", "cdn")
        for line in cut(text)
        if "http://a/" in line and "SESSION" not in line
    ] == [line for line in cut(text) if "http://b/" in line]


ELSEWHERE = "a URL leads to a file below the folder of the playlist"
FILE = "a URL names a file"
REFUSED = [
    # lines behind the first, line and rule
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\n../t2/v.m3u8", f"line 2: ../t2/v.m3u8: {ELSEWHERE}"),
    (f'#EXT-X-SESSION-DATA:DATA-ID="x",URI="../x.json"\n{VARIANT}', f"line 2: ../x.json: {ELSEWHERE}"),
    (f'#EXT-X-SESSION-DATA:DATA-ID="x",URI="//x.example/"\n{VARIANT}', f"line 2: //x.example/: {ELSEWHERE}"),
    (f'{VARIANT}#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1,URI="https://x.example/i"', f"line 4: https://x.example/i: {ELSEWHERE}"),
    ('#EXT-X-DEFINE:QUERYPARAM="d"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$d}/v.m3u8', f"line 3: {{$d}}/v.m3u8: {ELSEWHERE}"),
    ('#EXT-X-DEFINE:QUERYPARAM="d"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$d}', f"line 3: {{$d}}: {ELSEWHERE}"),
    ('#EXT-X-DEFINE:NAME="d",VALUE="//x.example"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$d}/v', f"line 3: //x.example/v: {ELSEWHERE}"),
    ('#EXT-X-DEFINE:NAME="d",VALUE="."\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$d}{$d}/v', f"line 3: ../v: {ELSEWHERE}"),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\nv?{$x}", "line 3: {$x}: a variable is defined before it is used"),
    ('#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="{$x}"\nv', "line 2: {$x}: a variable is defined before it is used"),
    (f'#EXT-X-DEFINE:IMPORT="d"\n{VARIANT}', "line 2: IMPORT: a multivariant playlist imports no variable"),
    (f'#EXT-X-DEFINE:NAME="a b",VALUE="1"\n{VARIANT}', "line 2: a b: a variable has a name"),
    (f'#EXT-X-DEFINE:NAME="a",VALUE="1"\n#EXT-X-DEFINE:QUERYPARAM="a"\n{VARIANT}', "line 3: a: a variable has a name"),
    (f'#EXT-X-DEFINE:NAME="a"\n{VARIANT}', 'line 2: #EXT-X-DEFINE:NAME="a": a variable has a NAME and a VALUE'),
    (f'#EXT-X-DEFINE:NAME="a",VALUE="1",QUERYPARAM="b"\n{VARIANT}', "a variable has a NAME and a VALUE, or a QUERYPARAM"),
    (f'#EXT-X-DEFINE:VALUE="1"\n{VARIANT}', 'line 2: #EXT-X-DEFINE:VALUE="1": a variable has a NAME and a VALUE'),
    (f'#EXT-X-DEFINE:QUERYPARAM="a",VALUE="1"\n{VARIANT}', "a variable has a NAME and a VALUE, or a QUERYPARAM"),
    ('#EXT-X-DEFINE:QUERYPARAM="d"\n#EXT-X-STREAM-INF:BANDWIDTH={$d}\nv', "line 3: #EXT-X-STREAM-INF: a variant has a BANDWIDTH"),
    ('#EXT-X-DEFINE:NAME="d",VALUE="1,AUDIO="\n#EXT-X-STREAM-INF:BANDWIDTH={$d}"x"\nv', 'line 3: AUDIO="x": no #EXT-X-MEDIA has this group'),
    ('#EXT-X-DEFINE:QUERYPARAM="d"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv?x=%2{$d}', f"line 3: v?x=%2: {ELSEWHERE}"),
    ('#EXT-X-DEFINE:QUERYPARAM="k"\n#EXT-X-SESSION-KEY:METHOD=AES-128,URI="{$k}"\n' + VARIANT, f"line 3: {{$k}}: {ELSEWHERE}"),
    # URLs of no file
    ('#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",URI=""\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nv', f"line 2: an empty URL: {FILE}"),
    (f'{VARIANT}#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1', f"line 4: an empty URL: {FILE}"),
    (f'{VARIANT}#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=""', f"line 4: an empty URL: {FILE}"),
    (f'{VARIANT}#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1', f"line 4: an empty URL: {FILE}"),
    (f'#EXT-X-SESSION-DATA:DATA-ID="x",URI=""\n{VARIANT}', f"line 2: an empty URL: {FILE}"),
    (f'#EXT-X-SESSION-KEY:METHOD=AES-128,URI=""\n{VARIANT}', f"line 2: an empty URL: {FILE}"),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\n?x=1", f"line 2: ?x=1: {FILE}"),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\n.", f"line 2: .: {FILE}"),
    # other URLs
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\n100%.m3u8", f"line 2: 100%.m3u8: {ELSEWHERE}"),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\n%2e%2e/v", f"line 2: %2e%2e/v: {ELSEWHERE}"),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\n/o/t1\\..\\v", f"line 2: /o/t1\\..\\v: {ELSEWHERE}"),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\ndata:application/x,v", f"line 2: data:application/x,v: {ELSEWHERE}"),
    (f'#EXT-X-DATERANGE:ID="x",X-ASSET-URI="ad.m3u8"\n{VARIANT}', "is of a media playlist"),
    # other line ends, other digits
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\nv\x85x.m3u8", r"line 3: '\x85': has no control characters"),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1\u2028v.m3u8", r"line 2: '\u2028': has no control characters"),
    (f'#EXT-X-SESSION-DATA:DATA-ID="x",VALUE="a\u2029b"\n{VARIANT}', r"line 2: '\u2029': has no control characters"),
    ("#EXT-X-STREAM-INF:BANDWIDTH=\u0661\nv", "line 2: #EXT-X-STREAM-INF: a variant has a BANDWIDTH"),
    # what the library cannot read
    (f"#EXT-X-START:TIME-OFFSET=soon\n{VARIANT}", "line 2: #EXT-X-START:TIME-OFFSET=soon: a value is not of the type"),
    (f"#EXT-X-VERSION:new\n{VARIANT}", "line 2: #EXT-X-VERSION:new: a value is not of the type"),
    ("#EXT-X-STREAM-INF:BANDWIDTH=1,FRAME-RATE=fast\nv", "line 2: #EXT-X-STREAM-INF:BANDWIDTH=1,FRAME-RATE=fast: a value"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rule"), REFUSED, ids=[row[0][:60] for row in REFUSED])
def test_other_playlists_are_refused_with_line_and_rule(text: str, rule: str) -> None:
    with pytest.raises(FeedError) as caught:
        cut(text)
    assert rule in caught.value.message
    assert caught.value.message.startswith("hls playlist of video/t1: line ")


LARGE = [
    ("many variants", "#EXT-X-STREAM-INF:BANDWIDTH=1\nv\n" * 25_000),
    ("many renditions", '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x"\n' * 20_000 + VARIANT),
    ("long variants", "".join(f"#EXT-X-STREAM-INF:BANDWIDTH={i + 1}\n{'v' * 400}{i}\n" for i in range(1900))),
    ("a long line of blanks", "#EXT-X-STREAM-INF:BANDWIDTH=1" + " " * 900_000 + "x,A=1\nv\n"),
    ("a long line of quotes", "#EXT-X-STREAM-INF:BANDWIDTH=1,A=" + '"' * 900_000 + "\nv\n"),
    ("a long name", "#EXT-X-STREAM-INF:" + "A" * 900_000 + "\nv\n"),
    ("variables of variables", "".join(f'#EXT-X-DEFINE:NAME="v{i}",VALUE="{{$v{i - 1}}}{{$v{i - 1}}}"\n' if i else '#EXT-X-DEFINE:NAME="v0",VALUE="0123456789"\n' for i in range(60)) + VARIANT),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), LARGE, ids=[row[0] for row in LARGE])
def test_large_playlists_are_refused_in_short_time(name: str, text: str) -> None:
    assert len(text) < MAX_PLAYLIST
    began = time.process_time()
    with pytest.raises(FeedError):
        cut(text)
    assert time.process_time() - began < 5


def test_the_answer_is_not_much_larger_than_the_playlist() -> None:
    text = "".join(f"#EXT-X-STREAM-INF:BANDWIDTH={i + 1}\nv{i}.m3u8\n" for i in range(900))
    assert len("\n".join(cut(text))) < 2 * 96 << 10
