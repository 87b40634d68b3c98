"""Reports of players are read as they send them, in every form; whatever else comes in is passed over, and quickly."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.playback.telemetry.cmcd import HEADERS, MAX_BODY, MAX_REPORTS, Report, read_body, read_headers, read_query
from tests.players.tools import modules, need

URL = "https://c001-bom001.cdn.example/v/8010/seg-1.m4s"
R = Report
ROWS: list[tuple[str, str, Report | None]] = [
    ("nothing", "", None),
    ("no CMCD", "hello, world", None),
    (
        "version 1",
        'bl=21300,br=3200,bs,mtp=25400,ot=v,sid="6e2f"',
        R("", "", "6e2f", "", "", 25400, 3200, stalled=True),
    ),
    ("version 2, lists", "br=(3200),mtp=(25400),v=2", R(throughput_kbps=25400, bitrate_kbps=3200)),
    ("lists with types", "br=(3200;v 128;a),v=2", R(bitrate_kbps=3200)),
    ("a decimal", "mtp=25400.75,v=1", R(throughput_kbps=25400)),
    ("a response", f'e=rr,rc=200,ts=17,url="{URL}"', R("rr", host="c001-bom001.cdn.example", at_ms=17)),
    ("a refused one", f'e=rr,rc=503,url="{URL}"', R("rr", host="c001-bom001.cdn.example", failed=True)),
    ("none at all", "e=rr,rc=0", R("rr", failed=True)),
    ("what failed once is an error once", 'e=rr,ec=("x"),rc=500', R("rr", failed=True)),
    ("an error", 'e=e,ec=("bufferStalled"),sta=f', R("e", "f", failed=True)),
    ("a stall is told by the state", "e=ps,sta=r,bs", R("ps", "r", stalled=True)),
    ("and not again by the state after it", "e=ps,sta=p,bs", R("ps", "p")),
    ("nor by the next response", "e=rr,bs,rc=200", R("rr")),
    ("but by other events", "e=t,bs,sta=p", R("t", "p", stalled=True)),
    ("a player that says no", "bs=?0,sid=x", R(session="x")),
    ("start-up", "e=ps,sta=p,msd=812", R("ps", "p", start_ms=812)),
    ("one of hours is none", "msd=3600000", R()),
    ("host as told", 'h="C001-Bom001.CDN.example"', R(host="c001-bom001.cdn.example")),
    ("a URL counts before it", f'h="other.example",url="{URL}"', R(host="c001-bom001.cdn.example")),
    ("a URL with user and port", 'url="https://me@h.example:8443/x"', R(host="h.example")),
    ("IPv6", 'url="http://[2001:DB8::1]:80/x"', R(host="[2001:db8::1]")),
    ("no URL", 'h="a.example",url="data:,x"', R(host="a.example")),
    ("the CDN", 'cdn="c001-bom001",v=2', R(network="c001-bom001")),
    ("quotes, commas and brackets in texts", r'cid="a\",br=1,(b",nor=("x,br=2" "(y"),sid="z\\"', R(session="z\\")),
    ("keys of others", 'com.example-br=9,"x",br=1', R(bitrate_kbps=1)),
    ("spaces", " br=1 , mtp=2 ;x=3,\tv=2", R(throughput_kbps=2, bitrate_kbps=1)),
    ("a key twice: the last", "br=1,br=2", R(bitrate_kbps=2)),
    ("what is no number", "br=x,mtp=-1,msd=5a,ts=1e9,v=2", R(at_ms=10**9)),
    ("a flag that is off as a number", "bs=0,br=6000", R(bitrate_kbps=6000)),
    ("and as a word", "bs=false,br=1", R(bitrate_kbps=1)),
    ("no errors in the list", "ec=(),br=1", R(bitrate_kbps=1)),
    ("an error by number", "ec=(404),br=1", R(bitrate_kbps=1, failed=True)),
    ("a flag is no number", "br,mtp=?1,sid=x", R(session="x")),
    ("numbers in quotes", 'br="3200",mtp=("25400")', R(throughput_kbps=25400, bitrate_kbps=3200)),
    ("too large for one", "br=999999999999999999999999,mtp=100000001,v=2", R()),
    ("as much as is read", f"br=1{',x' * 100}", R(bitrate_kbps=1)),
    ("too much", f"br=1{',x' * 101}", None),
    ("a text without an end", 'br=1,sid="abc', R(session="ab", bitrate_kbps=1)),
    ("a session that is too long", f'br=1,sid="{"s" * 129}"', R(bitrate_kbps=1)),
]


@pytest.mark.parametrize(("line", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_report_is_read_from_a_line_a_query_and_headers(line: str, expected: Report | None) -> None:
    result, unread = read_body(line.encode())
    assert (result[0] if result else None) == expected
    assert len(result) + unread == bool(line)
    assert read_query(b"_HLS_pathway=x&CMCD=" + quote(line, safe="").encode() + b"&tag=y") == expected
    for name in HEADERS:
        assert read_headers([(b"host", b"br=5,v=2"), (name, line.encode())]) == expected


ENCODED_TWICE = [
    (b"CMCD=br%253D6000%252Cmtp%253D57500%252Csid%253D%25226e2f%2522", R("", "", "6e2f", "", "", 57500, 6000)),
    (b"x=1&CMCD=bs%252Csid%253D%2522a%252520b%2522&y=2", R(session="a%20b", stalled=True)),
    (b"CMCD=br%253D(3200%253Bv%2520128)%252Cv%253D2", R(bitrate_kbps=3200)),
    (b"CMCD=bs%3D0%2Cbr%3D6000", R(bitrate_kbps=6000)),
    (b"CMCD=sid%3D%22100%25%22", R(session="100%")),
    (b"CMCD=sid%3D%22a%253Db%22", R(session="a%3Db")),
    (b"CMCD=%2525", None),
]


ONE_MEANING: list[tuple[str, str, Report]] = [
    # the same members in text and in JSON
    ("bs=0,br=6000", '{"bs":0,"br":6000}', R(bitrate_kbps=6000)),
    ("bs=1,v=2", '{"bs":1,"v":2}', R(stalled=True)),
    ("bs=true", '{"bs":"true"}', R(stalled=True)),
    ("bs=(?0)", '{"bs":[false]}', R()),
    ("bs=(?1;v)", '{"bs":[{"value":true,"params":{"v":true}}]}', R(stalled=True)),
    ("bs=()", '{"bs":[]}', R()),
    ('e="rr",bs,rc=200', '{"e":"rr","bs":true,"rc":200}', R("rr")),
    ("e=ps,sta=r;x=1", '{"e":"ps","sta":{"value":"r","params":{"x":1}}}', R("ps", "r", stalled=True)),
    ('e=("rr"),br=1', '{"e":["rr"],"br":1}', R(bitrate_kbps=1)),
    ('sid=("a b";x "c")', '{"sid":["a b","c"]}', R(session="a b")),
    ("sid=(abc;x def)", '{"sid":["abc","def"]}', R(session="abc")),
    ("sid=(),br=1", '{"sid":[],"br":1}', R(bitrate_kbps=1)),
    (r'sid=("a\"\\b")', r'{"sid":["a\"\\b"]}', R(session=r'a"\b')),
    ('sid="(a b)"', '{"sid":"(a b)"}', R(session="(a b)")),
    ('cdn=("c001"),br=1', '{"cdn":["c001"],"br":1}', R(network="c001", bitrate_kbps=1)),
    (f'url=("{URL}";x)', f'{{"url":["{URL}"]}}', R(host="c001-bom001.cdn.example")),
    (f"url={URL}", f'{{"url":"{URL}"}}', R(host="c001-bom001.cdn.example")),
    ('h=("H.example")', '{"h":["H.example"]}', R(host="h.example")),
    ("br=3200.7,mtp=(25400.2;v 1)", '{"br":3200.7,"mtp":[25400.2,1]}', R(throughput_kbps=25400, bitrate_kbps=3200)),
    ("br=1e3", '{"br":"1e3"}', R(bitrate_kbps=1000)),
    ("br=(;v)", '{"br":[{"params":{"v":true}}]}', R()),
    ("rc=404,v=2", '{"rc":404,"v":2}', R(failed=True)),
    ("rc=(503)", '{"rc":[503]}', R(failed=True)),
    ('ec=("x" "y")', '{"ec":["x","y"]}', R(failed=True)),
    ("ec=0,br=1", '{"ec":0,"br":1}', R(bitrate_kbps=1)),
    ("ts=1.7e12,e=t", '{"ts":1.7e12,"e":"t"}', R("t", at_ms=1_700_000_000_000)),
]


@pytest.mark.parametrize(("line", "row", "expected"), ONE_MEANING, ids=[row[0] for row in ONE_MEANING])
def test_a_key_means_the_same_in_text_and_in_json(line: str, row: str, expected: Report) -> None:
    for body in (line, row, f"[{row}]", f"{row}\n{row}"):
        result, unread = read_body(body.encode())
        assert (result[0], unread) == (expected, 0)
    assert read_query(b"CMCD=" + quote(line, safe="").encode()) == expected
    assert read_query(b"CMCD=" + quote(quote(line, safe=""), safe="").encode()) == expected
    assert read_headers([(HEADERS[0], line.encode())]) == expected


@pytest.mark.parametrize(("query", "expected"), ENCODED_TWICE)
def test_a_query_may_be_encoded_twice(query: bytes, expected: Report | None) -> None:
    assert read_query(query) == expected


def test_headers_are_one_report() -> None:
    headers = [(b"cmcd-object", b"br=3200"), (b"cmcd-status", b"bs"), (b"cmcd-session", b'sid="x"')]
    assert read_headers(headers) == Report(session="x", bitrate_kbps=3200, stalled=True)
    assert read_headers([(b"host", b"x")]) is None


JSON_ROWS: list[tuple[str, str, list[Report], int]] = [
    ("an object", '{"e":"ps","sta":"r","br":[3200],"mtp":25400}', [R("ps", "r", "", "", "", 25400, 3200, stalled=True)], 0),
    ("an array", '[{"br":1},{"br":2}]', [R(bitrate_kbps=1), R(bitrate_kbps=2)], 0),
    ("lines", '{"br":1}\n{"br":2}\r\n\n', [R(bitrate_kbps=1), R(bitrate_kbps=2)], 0),
    ("an object over lines", '{\n"br":\n1}', [R(bitrate_kbps=1)], 0),
    ("a line that is torn", '{"br":1}\n{"br":2\n{"br":3}', [R(bitrate_kbps=1), R(bitrate_kbps=3)], 1),
    ("no objects", '[1,"br",null,[],{},{"x":1},{"br":7}]', [R(bitrate_kbps=7)], 6),
    ("values of any kind", '{"e":["rr"],"sta":{},"sid":7,"br":{},"mtp":[[1]],"ts":true,"rc":"404","url":5,"ec":[1]}',
     [R(failed=True)], 0),
    ("values with parameters", '{"e":{"value":"rr"},"br":[{"value":3200,"params":{"v":true}},128],"mtp":{"value":[{"value":25400}]},'
     '"bs":{"value":true},"sid":{"value":"6e2f","params":{}},"url":{"value":"https://h.example/x"},"rc":{"value":503}}',
     [R("rr", "", "6e2f", "h.example", "", 25400, 3200, failed=True)], 0),
    ("values with parameters and none", '{"e":{"value":{}},"br":{"params":{}},"mtp":[{}],"bs":{"value":0},"ec":{"value":[]},"sid":{"v":1}}', [R()], 0),
    ("flags and errors as in text", '[{"bs":0},{"bs":"0"},{"bs":"?0"},{"bs":"false"},{"ec":[]},{"ec":0},{"ec":["x"]},{"bs":1}]',
     [R(), R(), R(), R(), R(), R(), R(failed=True), R(stalled=True)], 0),
    ("bs as they say it", '[{"bs":true},{"bs":false},{"bs":null}]', [R(stalled=True), R(), R()], 0),
    ("numbers", '{"br":1e300,"mtp":-0.5,"ts":1.9,"rc":12345678901234567890123}', [R(at_ms=1)], 0),
    ("no JSON", "{", [], 1),
    ("a line that is too long", '{"br":1}\n{"br":2,"x":"%s"}\n{"br":3}' % ("x" * 5000), [R(bitrate_kbps=1), R(bitrate_kbps=3)], 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "expected", "unread"), [row[1:] for row in JSON_ROWS], ids=[row[0] for row in JSON_ROWS]
)
def test_json_is_read_as_well(body: str, expected: list[Report], unread: int) -> None:
    assert read_body(body.encode()) == (expected, unread)


@pytest.mark.parametrize("row", ["br=1", '{"br":1}'])
def test_of_a_body_so_many_reports_are_read_and_the_others_counted(row: str) -> None:
    result, unread = read_body(f"{row}\n".encode() * (MAX_REPORTS + 7))
    assert (len(result), unread) == (MAX_REPORTS, 7)


# ---- against what players encode with


def random_report(rnd: random.Random) -> dict[str, Any]:
    """Return a report as a player keeps it, as a rule with much in it."""
    texts = ["6e2fb550-c457-11e9", 'a "quoted", text', "back\\slash", "(brackets)", "x" * 64]
    event = rnd.choice(["ps", "rr", "t", "e", "bc"])
    every = {
        "br": [rnd.randrange(1, 90000)],
        "mtp": [rnd.randrange(1, 900) * 100],
        "bl": [rnd.randrange(0, 600) * 100],
        "tb": [6000],
        "bs": True,
        "cid": rnd.choice(texts),
        "sid": rnd.choice(texts),
        "cdn": rnd.choice(["c001-bom001", "cdn-a"]),
        "d": 4004,
        "dl": 18500,
        "msd": rnd.randrange(1, 20000),
        "nor": ["seg,2.m4s"],
        "ot": "v",
        "sf": "h",
        "st": "v",
        "su": True,
        "pr": 1.25,
        "com.example-x": 'br=1,"',
        "rc": rnd.choice([200, 206, 404, 500]),
        "ttfb": 24,
        "ec": ["fragLoadError"],
    }
    values = {name: value for name, value in every.items() if rnd.random() < 0.7}
    sta = rnd.choice("spkraefqd")
    return {**values, "e": event, "sta": sta, "ts": rnd.randrange(1, 1 << 45), "v": 2} | (
        {"url": f"https://c{rnd.randrange(1, 9)}.example:8443/v/x?a=(b)"} if event == "rr" else {}
    )


def expected_of(values: dict[str, Any]) -> Report:
    """Return what is to be read of a report, said slowly."""
    event = values.get("e", "")
    status = values.get("rc", 200) if event in ("rr", "") else 200
    return Report(
        event=event,
        state=values.get("sta", ""),
        session=values.get("sid", ""),
        host=values["url"].split("/")[2].split(":")[0] if event == "rr" else "",
        network=values.get("cdn", ""),
        throughput_kbps=values.get("mtp", [-1])[0],
        bitrate_kbps=values.get("br", [-1])[0],
        start_ms=values.get("msd", -1),
        at_ms=values.get("ts", -1),
        stalled=values.get("sta") == "r" if event == "ps" else bool(values.get("bs")) and event != "rr",
        failed=event == "e" or status >= 400 or "ec" in values,
    )


ENCODE = """
import { encodeCmcd, toCmcdHeaders, toCmcdQuery } from "@svta/cml-cmcd";
import { readFileSync, writeFileSync } from "node:fs";
const [from, to] = process.argv.slice(1);
const rows = JSON.parse(readFileSync(from)).map((row) => ({
  event: encodeCmcd(row, { version: 2, reportingMode: "event" }),
  query: toCmcdQuery(row, { version: 2 }),
  headers: toCmcdHeaders(row, { version: 2 }),
  old: encodeCmcd(row, { version: 1 }),
}));
writeFileSync(to, JSON.stringify(rows));
"""


def test_what_players_encode_is_read_as_it_was_meant(tmp_path: Any) -> None:
    node, folder = need("node"), modules()
    rnd = random.Random(7)
    values = [random_report(rnd) for _ in range(400)]
    (tmp_path / "told.json").write_text(json.dumps(values))
    command = [node, "--input-type=module", "-e", ENCODE, str(tmp_path / "told.json"), str(tmp_path / "rows.json")]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    rows = json.loads((tmp_path / "rows.json").read_text())
    for at in range(0, len(values), 100):
        body = "".join(f"{row['event']}\n" for row in rows[at : at + 100]).encode()
        assert read_body(body) == ([expected_of(each) for each in values[at : at + 100]], 0)
    for each, row in zip(values, rows, strict=True):
        requested = {name: value for name, value in each.items() if name not in ("e", "ts", "rc", "url")}
        assert read_query(row["query"].encode()) == expected_of(requested)
        headers = [(name.lower().encode(), value.encode()) for name, value in row["headers"].items()]
        assert read_headers(headers) == expected_of(requested)
        early = {name: each[name] for name in ("br", "mtp", "bs", "sid") if name in each}
        assert read_body(row["old"].encode())[0] in ([expected_of(early)], [])


# ---- whatever comes in


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_without_an_error(body: bytes) -> None:
    result, unread = read_body(body)
    assert len(result) <= MAX_REPORTS
    assert unread >= 0
    read_query(body)
    read_headers([(HEADERS[0], body)])


PIECES = [
    "br=",
    '"',
    "\\",
    "(",
    ")",
    ",",
    ";",
    "=",
    "e=rr",
    "sid",
    "{",
    "}",
    "[",
    "]",
    ":",
    "1",
    "\n",
    " ",
    '"br"',
    "\x00",
    "é",
]


@given(st.lists(st.sampled_from(PIECES), max_size=200).map("".join))
def test_nor_does_anything_that_looks_like_a_report_make_one(text: str) -> None:
    for result in read_body(text.encode())[0]:
        for name, kind in Report.__annotations__.items():
            assert type(getattr(result, name)).__name__ == kind


@given(st.lists(st.sampled_from(PIECES), max_size=200).map("".join), st.integers(1, 10**8))
def test_what_stands_before_a_line_changes_nothing_on_it(before: str, kbps: int) -> None:
    if before.lstrip()[:1] not in ("{", "["):
        assert read_body(f"{before}\nbr={kbps}".encode())[0][-1:] == [Report(bitrate_kbps=kbps)]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), max_size=64)


@given(TEXTS, st.integers(0, 10**8), st.booleans())
def test_what_is_written_is_read_in_text_and_json(session: str, kbps: int, stalled: bool) -> None:
    expected = [Report(session=session, throughput_kbps=kbps, stalled=stalled)]
    quoted = session.replace("\\", "\\\\").replace('"', '\\"')
    assert read_body(f'mtp={kbps},sid="{quoted}"{",bs" * stalled}'.encode())[0] == expected
    bare = session.lstrip('"')  # JSON's texts have no quotes around them; those that players give them are taken off
    values = msgspec.json.encode({"mtp": kbps, "sid": bare, "bs": stalled})
    assert read_body(values)[0] == [Report(session=bare, throughput_kbps=kbps, stalled=stalled)]


HOSTILE = ['"', '\\"', "(", '("', 'a="', "a=(", 'a="\\', ",", "a", "=", "[", '{"a":', " ", "\n", '",("']


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_body_of_one_thing_over_and_over_takes_a_time_that_goes_by_its_length(piece: str) -> None:
    times = MAX_BODY // len(piece)
    for lines in ("", "\n"):
        read_body((piece * (times // 16) + lines).encode() * 16)  # what looks back would take minutes
