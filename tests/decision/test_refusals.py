"""The refusals of ranking name the wrong parameter and its rule."""

from __future__ import annotations

from typing import Any

import pytest

from steering.decision.snapshot import Snapshot
from steering.errors import RequestError

ISP = "203.0.113.9"

ERROR_ROWS = [
    ("service", {"service": "nosuch"}, 404, "there is no such service"),
    ("n", {"n": -1}, 400, "a number from 1 to 8"),
    ("n", {"n": 99}, 400, "a number from 1 to 8"),
    ("title", {"title": ""}, 400, "1 to 256 bytes"),
    ("title", {"title": "x" * 10_000}, 400, "1 to 256 bytes"),
    ("title", {"title": ".."}, 400, "not . or .."),
    ("session", {"session": "s" * 257}, 400, "at most 256"),
    ("ip", {"address": "1.2.3"}, 400, "an IPv4 or IPv6 address"),
]


@pytest.mark.parametrize(("parameter", "change", "status", "rule"), ERROR_ROWS)
def test_a_wrong_parameter_is_named(
    snapshot: Snapshot, parameter: str, change: dict[str, Any], status: int, rule: str
) -> None:
    request: dict[str, Any] = {"address": ISP, "title": "t", "service": "video", **change}
    with pytest.raises(RequestError, match=parameter) as caught:
        snapshot.steer(request.pop("address"), request.pop("title"), **request)
    assert (caught.value.parameter, caught.value.status) == (parameter, status)
    assert rule in caught.value.rule
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("parameter", "change"),
    [("service", {"service": "nosuch"}), ("n", {"n": 9}), ("ip", {"address": "x"}), ("files", {"files": []}),
     ("files", {"files": ["a", "a"]}), ("files", {"files": ["x" * 257]}), ("session", {"session": "s" * 257})],
)  # fmt: skip
def test_a_wrong_parameter_of_a_playback_is_named(snapshot: Snapshot, parameter: str, change: dict[str, Any]) -> None:
    request: dict[str, Any] = {"address": ISP, "files": ["a"], "service": "video", **change}
    with pytest.raises(RequestError) as caught:
        snapshot.playback(request.pop("address"), request.pop("files"), **request)
    assert caught.value.parameter == parameter
