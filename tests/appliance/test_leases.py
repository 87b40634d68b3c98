"""Leases name sources; a source that failed is off for the title, for wrong bytes at the second time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steering.appliance.leases import OFF_S, Lease, Source, SourceRecord, Why, read_sources
from steering.appliance.manifest import Title
from steering.errors import FeedError

RECIPE = "sha256-" + "a" * 64
PEER = {"host": "c9.example:8443", "tier": "peer", "appliance": "c9"}


def answer(**lease: Any) -> bytes:
    row = {"lease": "1", "sources": [PEER, {"tier": "origin"}], "gbps": 0.6, "token": "md5=x&expires=1"} | lease
    url = "https://{host}/fill/{service}/{recipe}/{path}?{token}"
    return json.dumps(
        {"ttl": 300, "url": url, "origin_url": "https://o.example/{title}/{path}", "leases": {"t": row}}
    ).encode()


def test_addresses_of_sources_are_made_from_templates() -> None:
    result = read_sources(answer())
    lease = Lease(result.leases["t"], result, 10.0)
    title = Title("a/../{token} é", 1, RECIPE)
    urls = [lease.url_of(source, "video", title, "a b/{host}?#%.ts") for source in lease.row.sources]
    assert urls == [
        f"https://c9.example:8443/fill/video/{RECIPE}/a%20b/%7Bhost%7D%3F%23%25.ts?md5=x&expires=1",
        "https://o.example/a%2F..%2F%7Btoken%7D%20%C3%A9/a%20b/%7Bhost%7D%3F%23%25.ts",
    ]
    assert lease.ends_at == 310.0


@pytest.mark.parametrize(
    "lease",
    [
        {"sources": [PEER | {"host": "a/b"}]},
        {"sources": [PEER | {"host": "user@a"}]},
        {"sources": [PEER | {"host": "a\nb"}]},
        {"sources": [PEER | {"tier": "other"}]},
        {"gbps": -1},
        {"token": "a b"},
    ],
)
def test_an_answer_that_breaks_a_rule_is_refused(lease: dict[str, Any]) -> None:
    with pytest.raises(FeedError):
        read_sources(answer(**lease))


@pytest.mark.parametrize(
    ("why", "off_s"),
    [("not_found", OFF_S), ("range_ignored", OFF_S), ("too_long", OFF_S), ("timeout", 30.0), ("refused", 30.0)],
)
def test_a_source_is_off_for_a_title(why: Why, off_s: float) -> None:
    record, source = SourceRecord(30.0), Source("peer", "h", "c9")
    assert record.failed("video", "t", source, why, 100.0)
    assert record.usable("video", "t", [source], 100.0 + off_s - 1) == []
    assert record.usable("video", "t", [source], 100.0 + off_s) == [source]
    assert record.usable("video", "other", [source], 100.0) == [source]
    record.forget("video", "t")
    assert record.usable("video", "t", [source], 100.0) == [source]


def test_wrong_bytes_count_the_second_time() -> None:
    record, source = SourceRecord(30.0), Source("peer", "h", "c9")
    assert not record.failed("video", "t", source, "wrong_bytes", 0.0)
    assert record.usable("video", "t", [source], 0.0) == [source]
    assert record.failed("video", "t", source, "wrong_bytes", 0.0)
    assert record.usable("video", "t", [source], 0.0) == []
