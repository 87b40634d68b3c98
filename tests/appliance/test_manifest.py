"""A fill manifest is taken as a whole or not at all; deltas give the plan's set; time is control's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.appliance.holdings import digest_of
from steering.appliance.manifest import ManifestError, ServerClock, Title, Window, order, read_manifest, window_at

RECIPE = "sha256-" + "a" * 64


def title(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "bytes": 1, "recipe": RECIPE} | more


def manifest(*services: dict[str, Any], **more: Any) -> bytes:
    members = {"format": 1, "appliance": "c1", "plan": 3, "expires_at": 2e9, "fill_s": 300, "remove_after_s": 14400}
    return json.dumps(members | {"services": services} | more).encode()


def full(*titles: dict[str, Any], service: str = "video", digest: str = "") -> dict[str, Any]:
    digest = digest or digest_of(row["id"] for row in titles)
    return {"service": service, "kind": "full", "titles": titles, "digest": digest}


def test_a_full_list_and_an_empty_one() -> None:
    result = read_manifest(manifest(full(title("a"), title("b")), full(service="games")), '"e"', "c1", {})
    assert set(result.targets["video"]) == {"a", "b"}
    assert result.targets["games"] == {}
    assert result.etag == '"e"'


BAD = [
    ("another's", manifest(full(), appliance="c2"), "it is for 'c2'"),
    ("another format", manifest(full(), format=2), "format 2"),
    ("a wrong digest", manifest(full(title("a"), digest="1-" + "0" * 16)), "has digest"),
    ("a title twice", manifest(full(title("a"), title("a"))), "names a title twice"),
    ("a service twice", manifest(full(), full()), "occurs twice"),
    ("no recipe", manifest(full(title("a", recipe="../../etc"))), "recipe"),
    ("a size of 2^63", manifest(full(title("a", bytes=1 << 63))), "bytes"),
    ("a service that is a path", manifest(full(service="../x")), "service"),
    ("polled too often", manifest(full(), fill_s=0), "fill_s"),
    ("no JSON", b"<html>", "malformed"),
    ("nested", b"[" * 100_000, "fill manifest"),
    (
        "a delta from another set",
        manifest({"service": "video", "kind": "delta", "base": digest_of("x"), "digest": digest_of("a")}),
        "is not held",
    ),
    ("a window from never", manifest(full(), windows=[{"from": -1, "until": 2, "gbps": 1, "bytes": 1}]), "windows"),
]


@pytest.mark.parametrize(("body", "rule"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_manifest_that_breaks_a_rule_is_refused(body: bytes, rule: str) -> None:
    with pytest.raises(ManifestError, match=rule):
        read_manifest(body, "", "c1", {"video": {}})


names = st.sets(st.text(st.sampled_from("abcdé"), min_size=1, max_size=3), max_size=12)


@given(held=names, wanted=names)
def test_a_delta_leads_from_any_holdings_to_the_plan(held: set[str], wanted: set[str]) -> None:
    base = {"video": {name: Title(name, 0, RECIPE) for name in held}}
    delta = {
        "service": "video",
        "kind": "delta",
        "base": digest_of(held),
        "digest": digest_of(wanted),
        "add": [title(name) for name in wanted - held],
        "remove": sorted(held - wanted),
    }
    assert set(read_manifest(manifest(delta), "", "c1", base).targets["video"]) == wanted
    if wanted - held:
        with pytest.raises(ManifestError, match="digest"):
            read_manifest(manifest(delta | {"add": []}), "", "c1", base)


def test_a_delta_brings_the_new_recipe_of_a_title_that_is_held() -> None:
    base = {"video": {"a": Title("a", 0, RECIPE)}}
    new = "sha256-" + "b" * 64
    digest = digest_of("a")
    delta = {"service": "video", "kind": "delta", "base": digest, "digest": digest, "add": [title("a", recipe=new)]}
    assert read_manifest(manifest(delta), "", "c1", base).targets["video"]["a"].recipe == new


def test_time_is_controls_and_goes_by_the_monotonic_clock() -> None:
    clock = ServerClock()
    assert clock.time(5.0) is None
    clock.set("no date", 5.0)
    assert clock.time(5.0) is None
    clock.set("Sun, 06 Nov 1994 08:49:37 GMT", 5.0)
    assert clock.time(7.5) == 784111777 + 2.5
    clock.set("", 9.0)
    assert clock.time(10.0) == 784111777 + 5


def test_a_window_ends_with_its_last_second() -> None:
    windows = (Window(10, 20, 1.0), Window(30, 40, 2.0))
    assert [window_at(windows, time) for time in (9.9, 10, 19.9, 20, 30)] == [
        None,
        windows[0],
        windows[0],
        None,
        windows[1],
    ]


def test_titles_are_fetched_urgent_first_then_by_priority_then_by_time() -> None:
    rows = [
        Title("a", 1, RECIPE, 2),
        Title("b", 1, RECIPE, 1, before=9.0),
        Title("c", 1, RECIPE, 1, before=5.0),
        Title("d", 1, RECIPE, 9, urgent=True),
        Title("e", 1, RECIPE, 1),
    ]
    assert [row.id for row in sorted(rows, key=order)] == ["d", "c", "b", "e", "a"]
