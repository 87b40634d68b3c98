"""The wire format of reports: rows are read one by one, and a bad one says what is wrong with it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.api import report_format as wire
from steering.control.api.report_format import Fault, ReportRow, parse, report_of, unpack
from steering.control.fill.holdings_rows import Delta, Full, Unknown
from steering.control.health.rules import Health, Report
from steering.errors import RequestError
from steering.model.route import RoutesHeard

EMPTY = "0-0000000000000000"
PACKED = gzip.compress(b"{}", mtime=0)  # the time would be in the test's name
ROW = {"appliance": "c001-bom001", "boot": "b1", "seq": 17}
WHOLE = ROW | {
    "at": 1_795_445_032.5,
    "health": {
        "components": {"disk": "ok", "net": "degraded"},
        "throughput_gbps": 41,
        "headroom_gbps": 59.5,
        "connections": 1200,
        "error_rate": 0.001,
        "disk_used": 0.9,
        "ipv4": True,
        "ipv6": False,
    },
    "holdings": [
        {"service": "video", "kind": "delta", "base": EMPTY, "digest": EMPTY, "add": ["a"], "remove": ["b"]},
        {"service": "games", "kind": "full", "full": ["x"], "digest": EMPTY},
        {"service": "news", "kind": "unknown"},
    ],
    "routes": {"4": {"count": 1, "digest": "00ff"}},
    "fill": {
        "plan": 3,
        "etag": '"3-0000000000000000"',
        "state": "filling",
        "bytes_left": 7,
        "active": [{"service": "video", "id": "t1", "bytes_done": 5}],
        "failed": [{"service": "video", "id": "t2", "source": "origin", "why": "timeout"}],
    },
}


def encoded(result: Any) -> bytes:
    return json.dumps(result, ensure_ascii=False).encode()


def read(result: Any) -> ReportRow | Fault:
    """Return the row of one report."""
    row = parse(encoded(result))
    assert not isinstance(row, list)
    return row


def row_of(result: Any) -> ReportRow:
    row = read(result)
    assert isinstance(row, ReportRow), str(row)
    return row


def test_a_whole_report_is_read() -> None:
    row = row_of(WHOLE)
    assert row.holdings == [
        Delta("video", EMPTY, EMPTY, ["a"], ["b"]),
        Full("games", ["x"], EMPTY),
        Unknown("news"),
    ]
    assert report_of(row) == Report(
        "b1",
        17,
        1_795_445_032.5,
        Health("degraded", "net degraded", 41.0, 59.5, 1200, 0.001, 0.9, True, False),
        {4: RoutesHeard(1, "00ff")},
    )


def test_absent_fields_of_a_report_are_none() -> None:
    assert report_of(row_of(ROW)) == Report("b1", 17)
    assert report_of(row_of(ROW | {"health": {}})) == Report("b1", 17, None, Health())
    assert row_of(ROW | {"holdings": {"service": "video", "kind": "unknown"}}).holdings == Unknown("video")


@pytest.mark.parametrize(
    ("components", "state", "why"),
    [
        ({}, "ok", ""),
        ({"disk": "ok"}, "ok", ""),
        ({"disk": "ok", "net": "degraded"}, "degraded", "net degraded"),
        ({"disk": "failed", "net": "degraded", "fan": "failed"}, "failed", "disk, fan failed"),
    ],
)
def test_the_worst_component_wins(components: dict[str, str], state: str, why: str) -> None:
    report = report_of(row_of(ROW | {"health": {"components": components}}))
    assert report.health == Health(state, why)


def health(**fields: Any) -> dict[str, Any]:
    return ROW | {"health": fields}


def holding(**fields: Any) -> dict[str, Any]:
    return ROW | {"holdings": {"service": "video", "digest": EMPTY} | fields}


MALFORMED: list[tuple[Any, str, str, str]] = [
    ({"boot": "b", "seq": 1}, "appliance", "", "Object missing required field `appliance`"),
    (ROW | {"appliance": ""}, "appliance", '""', "Expected `str` of length >= 1"),
    (ROW | {"appliance": "c" * 64}, "appliance", '"' + "c" * 63 + "… (66 characters)", "Expected `str` of length <= 63"),
    (ROW | {"boot": "b" * 65}, "boot", '"' + "b" * 63 + "… (67 characters)", "Expected `str` of length <= 64"),
    (ROW | {"seq": "17"}, "seq", '"17"', "Expected `int`, got `str`"),
    (ROW | {"seq": -1}, "seq", "-1", "Expected `int` >= 0"),
    (ROW | {"seq": 1.5}, "seq", "1.5", "Expected `int`, got `float`"),
    (ROW | {"at": "noon"}, "at", '"noon"', "Expected `float | null`, got `str`"),
    (ROW | {"mood": "good"}, "mood", '"good"', "Object contains unknown field `mood`"),
    (ROW | {"health": "good"}, "health", '"good"', "Expected `object | null`, got `str`"),
    (health(mood="good"), "health.mood", '"good"', "Object contains unknown field `mood`"),
    (health(headroom_gbps=-0.5), "health.headroom_gbps", "-0.5", "Expected `float` >= 0.0"),
    (health(disk_used=1.01), "health.disk_used", "1.01", "Expected `float` <= 1.0"),
    (health(error_rate=True), "health.error_rate", "true", "Expected `float | null`, got `bool`"),
    (health(ipv6=1), "health.ipv6", "1", "Expected `bool`, got `int`"),
    (health(components={"disk": "bad"}), "health.components[...]", '{"disk":"bad"}', "Invalid enum value 'bad'"),
    (health(components={"": "ok"}), "health.components", '{"":"ok"}', "Expected `str` of length >= 1"),
    (health(components={str(i): "ok" for i in range(65)}), "health.components", '{"0":"ok","1":"ok","2":"ok","3":"ok","4":"ok","5":"ok","6":"ok",… (641 characters)', "Expected `object` of length <= 64"),
    (holding(kind="half"), "holdings.kind", '"half"', "Invalid value 'half'"),
    (holding(), "holdings.kind", "", "Object missing required field `kind`"),
    (holding(kind="full"), "holdings.full", "", "Object missing required field `full`"),
    (holding(kind="delta"), "holdings.base", "", "Object missing required field `base`"),
    (holding(kind="full", full=["a", 7]), "holdings.full[1]", "7", "Expected `str`, got `int`"),
    (holding(kind="full", full=[], add=[]), "holdings.add", "[]", "Object contains unknown field `add`"),
    (holding(kind="unknown"), "holdings.digest", f'"{EMPTY}"', "Object contains unknown field `digest`"),
    (ROW | {"holdings": [{"service": "video", "kind": "full", "full": [], "digest": "1-xyz"}]}, "holdings[0].digest", '"1-xyz"', "Expected `str` matching regex"),
    (ROW | {"routes": {"5": {"count": 1, "digest": "00"}}}, "routes", '{"5":{"count":1,"digest":"00"}}', "Invalid enum value '5'"),
    (ROW | {"routes": {"4": {"count": 1}}}, "routes[...].digest", "", "Object missing required field `digest`"),
    ("a report", "body", '"a report"', "Expected `object`, got `str`"),
]  # fmt: skip


@pytest.mark.parametrize(("result", "field", "value", "rule"), MALFORMED)
def test_a_malformed_report_names_field_value_and_rule(result: Any, field: str, value: str, rule: str) -> None:
    fault = read(result)
    assert isinstance(fault, Fault)
    assert (fault.field, fault.value) == (field, value)
    assert fault.rule.startswith(rule)
    assert str(fault).startswith(f"{field} = {value}: {rule}" if value else f"{field}: {rule}")


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "not JSON: Input data was truncated"),
        (b"{", "not JSON: Input data was truncated"),
        (b'{"appliance": "c1"} 7', "not JSON: JSON is malformed"),
        (b'{"appliance": "\xff", "boot": "b", "seq": 1}', "not JSON: 'utf-8' codec can't decode"),
        (b'{"appliance": "\\ud800", "boot": "b", "seq": 1}', "not JSON: JSON is malformed"),
        (b'{"appliance": "c1", "boot": "b", "seq": 1, "at": 1e999}', "not JSON: Number out of range"),
        (b'{"a":' * 100_000, "not JSON: maximum recursion depth"),
    ],
)
def test_a_body_that_is_not_json_is_a_fault(body: bytes, rule: str) -> None:
    fault = parse(body)
    assert isinstance(fault, Fault)
    assert fault.field == "body"
    assert fault.rule.startswith(rule)


def test_one_bad_row_loses_none_of_the_others() -> None:
    rows = parse(encoded([ROW, ROW | {"seq": "x"}, 7, {"appliance": "c9"}, ROW | {"seq": 18}]))
    assert isinstance(rows, list)
    assert [row.appliance for row in rows] == ["c001-bom001", "c001-bom001", "", "c9", "c001-bom001"]
    assert [isinstance(row, ReportRow) for row in rows] == [True, False, False, False, True]
    bad = encoded(ROW)[:-1] + b', "boot": "\xff"}'
    rows = parse(b" \n[" + encoded(ROW) + b"," + bad + b"]")
    assert isinstance(rows, list)
    assert [isinstance(row, Fault) for row in rows] == [False, True]
    assert parse(b"[]") == []


@pytest.mark.parametrize("body", [b"[", b"[1,", b"[" * 100_000, b'[{"a":1}x]'])
def test_an_array_that_is_none_is_refused_whole(body: bytes) -> None:
    with pytest.raises(RequestError, match="the body is not JSON") as caught:
        parse(body)
    assert caught.value.status == 400


def test_too_many_rows_and_too_many_items_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(parse(b"[" + b"1," * 9_999 + b"1]"), list)
    with pytest.raises(RequestError, match="10001 reports; at most 10000") as caught:
        parse(b"[" + b"1," * 10_000 + b"1]")
    assert caught.value.status == 413
    monkeypatch.setattr(wire, "MAX_ITEMS", 9)
    with pytest.raises(RequestError, match="more than 9 items") as caught:
        parse(b"[" + b"1," * 10 + b"1]")
    assert caught.value.status == 413


def test_bodies_are_unpacked() -> None:
    body = encoded(ROW)
    for encoding in ("gzip", "x-gzip"):
        assert unpack(gzip.compress(body), encoding) == body
    for encoding in ("", "identity"):
        assert unpack(body, encoding) == body


def test_a_body_that_grows_beyond_the_limit_is_refused_before_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_PLAIN", 10_000)
    assert len(unpack(gzip.compress(bytes(10_000)), "gzip")) == 10_000
    for size in (10_001, 50_000_000):
        with pytest.raises(RequestError, match="a body of more than 10000 bytes when decompressed") as caught:
            unpack(gzip.compress(bytes(size)), "gzip")
        assert caught.value.status == 413


@pytest.mark.parametrize("body", [b"", b"{}", PACKED[:-1], PACKED + b"x", 2 * PACKED])
def test_a_body_that_is_no_gzip_is_refused_with_the_reason(body: bytes) -> None:
    with pytest.raises(RequestError, match="the body is not gzip") as caught:
        unpack(body, "gzip")
    assert caught.value.status == 400


def test_other_encodings_are_not_taken() -> None:
    with pytest.raises(RequestError, match="parameter Content-Encoding = 'br': gzip, or none") as caught:
        unpack(b"", "br")
    assert caught.value.status == 415


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*WHOLE, "mood"]), JSON), st.booleans())
def test_whatever_is_sent_is_read_or_refused_with_the_reason(result: dict[str, Any], is_whole: bool) -> None:
    row = read((WHOLE if is_whole else ROW) | result)
    if isinstance(row, Fault):
        assert row.field.split(".")[0].split("[")[0] in (*WHOLE, "mood", "body")
    else:
        report_of(row)


def test_the_schemas_name_what_is_sent_and_answered() -> None:
    result = wire.schemas()
    assert set(result) == {
        "ReportRow",
        "HealthRow",
        "Full",
        "Delta",
        "Unknown",
        "RoutesRow",
        "FillRow",
        "FillTitle",
        "RowResult",
        "BatchResult",
    }
    assert set(result["ReportRow"]["properties"]) == set(WHOLE)
