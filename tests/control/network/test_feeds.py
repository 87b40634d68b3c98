"""Each feed reads the same as another format of the same routes, and refuses with row, value and rule."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.network.feeds import Feed, FeedSource, Kind, kind_of, read_feed
from steering.errors import FeedError
from steering.model import Fleet


def read(path: Path, fleet: Fleet, kind: Kind | None = None) -> Feed:
    return read_feed(FeedSource(kind or kind_of(path), str(path)), fleet)


def routes_of(feed: Feed) -> list[tuple[Any, ...]]:
    """Return a feed's rows as plain values, without the name of the file they stand in."""
    found = []
    for family in (4, 6):
        columns = feed.columns[family]
        for place in range(len(columns)):
            kind = columns.value[place]
            members = [
                (item.cluster, item.route_class, item.via, item.hops, item.origin, item.med, item.communities)
                for item in feed.sets[feed.set_of[kind]]
            ]
            where = (family, columns.high[place], columns.low[place], columns.length[place])
            found.append((*where, sorted(members), feed.origin_of[kind]))
    return sorted(found)


# ---- JSON Lines

ROUTES = st.fixed_dictionaries(
    {
        "prefix": st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "2001:db8::/48", "10.0.0.1/8", "x"]),
        "cluster": st.sampled_from(["bom001-a", "del001-a", "lhr001-a", "nowhere"]),
    },
    optional={
        "as_path": st.lists(st.integers(0, 2**32), max_size=4),
        "origin": st.sampled_from(["igp", "egp", "incomplete", "", "bgp"]),
        "med": st.integers(0, 2**32),
        "class": st.sampled_from(["embedded", "transit", ""]),
        "communities": st.lists(st.sampled_from(["64500:1", "64500:0"]), max_size=2),
    },
)


@given(routes=st.lists(ROUTES, max_size=12))
def test_json_lines_say_what_csv_says(
    routes: list[dict[str, Any]], fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("feeds")
    good = {"prefix": "192.0.2.0/24", "cluster": "bom001-a"}
    columns = ["prefix", "cluster", "as_path", "origin", "med", "class", "communities"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns)
    table.writeheader()
    for route in (good, *routes):
        table.writerow({name: " ".join(map(str, v)) if isinstance(v, list) else v for name, v in route.items()})
    (folder / "routes.csv").write_text(text.getvalue())
    (folder / "routes.jsonl").write_text("".join(json.dumps(route) + "\n" for route in (good, *routes)))
    one, other = read(folder / "routes.csv", fleet), read(folder / "routes.jsonl", fleet)
    assert routes_of(one) == routes_of(other)
    assert one.refused_by == other.refused_by
    assert [(item.row - 1, item.rule) for item in one.refusals] == [(item.row, item.rule) for item in other.refusals]


GOOD = '{"prefix": "192.0.2.0/24", "cluster": "bom001-a"}\n'
BAD_LINES = [
    ("[]", "a line is a JSON object"),
    ("{", "a line is a JSON object; Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    (
        "[" * 9000,
        "a line is a JSON object; maximum recursion depth exceeded while decoding a JSON array from a unicode string",
    ),
    ('{"cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": 7, "cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": "10.0.0.0/8 7", "cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": "10.0.0.0/8\\n10.0.0.0/9", "cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": "# 10.0.0.0/8", "cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": "", "cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": "10.0.0.0/8"}', "a cluster is one of the fleet; there is no ''"),
    (
        '{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "colour": 1}',
        "a field is one of prefix, cluster, as_path, origin, med, class, communities; not 'colour'",
    ),
    ('{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "med": true}', "med is text or a number; not True"),
    ('{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "med": 1.5}', "med is text or a number; not 1.5"),
    (
        '{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "as_path": [[1]]}',
        "as_path is text or a number or a list of them; not [1]",
    ),
    (
        '{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "as_path": [' + "1," * 255 + "1]}",
        "an as_path has at most 255 ASNs; this has 256",
    ),
    ('{"prefix": "10.0.0.0/8", "cluster": "' + "x" * 20_000 + '"}', "a line has at most 16384 bytes; this has 20039"),
]


@pytest.mark.parametrize(("line", "rule"), BAD_LINES, ids=[rule[:40] for _, rule in BAD_LINES])
def test_a_bad_line_is_refused_and_the_others_are_taken(tmp_path: Path, fleet: Fleet, line: str, rule: str) -> None:
    path = tmp_path / "routes.jsonl"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}")
    feed = read(path, fleet)
    assert (feed.accepted, feed.refused) == (2, 1)
    assert [(item.row, item.rule) for item in feed.refusals] == [(3, rule)]
    assert feed.refused_by == {rule.partition(";")[0]: 1}


# ---- packing


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_packed_feed_is_read_whole_or_not_at_all(tmp_path: Path, fleet: Fleet, ending: str, pack: Any) -> None:
    path = tmp_path / f"routes.jsonl.{ending}"
    packed = pack("".join(f'{{"prefix": "10.{i}.0.0/16", "cluster": "bom001-a"}}\n' for i in range(200)).encode())
    path.write_bytes(packed)
    assert read(path, fleet).accepted == 200
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(FeedError, match=r"^routes\.jsonl\..*: (cut off or )?damaged: "):
        read(path, fleet)
    path.write_bytes(packed[:20] + b"garbage" + packed[27:])
    with pytest.raises(FeedError, match=r"^routes\.jsonl\..*: (cut off or )?damaged: "):
        read(path, fleet)


NAMES = [
    ("routes.csv", "csv"), ("a.csv.gz", "csv"), ("r.jsonl", "jsonl"), ("r.ndjson.xz", "jsonl"), ("table.txt", "asn"),
    ("nothing", "asn"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), NAMES)
def test_a_files_name_tells_its_format(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind
