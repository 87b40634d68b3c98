"""Events reach who may see them, in order and once; nobody is lost silently, and nobody holds up the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from steering.control.health.alarms import Alarm
from steering.control.services.events import Hub, Listener, subject_of
from steering.errors import RequestError

ALL: Callable[[str], bool] = lambda _: True  # noqa: E731


def received(listener: Listener) -> list[tuple[str, str, Any]]:
    """Return what waits in a listener's queue as (id, kind, data), and take it out."""
    result = []
    while listener.waiting:
        fields = dict(line.split(": ", 1) for line in listener.waiting.popleft().decode().splitlines() if ": " in line)
        if "event" in fields:
            result.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return result


def test_a_listener_gets_what_it_may_see_with_ids_that_grow_by_one() -> None:
    hub = Hub("b")
    every, own = hub.listen("", ALL), hub.listen("partner:p", lambda subject: subject == "mine")
    for subject in ("mine", "theirs", "mine"):
        hub.publish("state", subject, {"appliance": subject})
    assert [(event_id, data["appliance"]) for event_id, _, data in received(every)] == [
        ("b-1", "mine"),
        ("b-2", "theirs"),
        ("b-3", "mine"),
    ]
    assert [event_id for event_id, _, _ in received(own)] == ["b-1", "b-3"]


def test_a_listener_that_left_gets_nothing() -> None:
    hub = Hub("b")
    listener = hub.listen("", ALL)
    received(listener)
    hub.leave(listener)
    hub.publish("state", "a", {})
    assert received(listener) == []


RESUMED = [
    ("nothing missed", "b-5", []),
    ("the last one missed", "b-4", ["b-5"]),
    ("all that is kept", "b-2", ["b-3", "b-4", "b-5"]),
    ("more than is kept", "b-1", ["missed"]),
    ("another boot", "a-4", ["missed"]),
    ("not there yet", "b-6", ["missed"]),
    ("no id of ours", "b-x", ["missed"]),
    ("no number", "b-", ["missed"]),
    ("a new one", "", []),
]


@pytest.mark.parametrize(("last_id", "expected"), [row[1:] for row in RESUMED], ids=[row[0] for row in RESUMED])
def test_a_returning_listener_gets_what_it_missed_or_learns_that_it_is_not_kept(
    last_id: str, expected: list[str]
) -> None:
    hub = Hub("b", kept=3)
    for number in range(5):
        hub.publish("state", "a", {"n": number})
    result = received(hub.listen("", ALL, last_id))
    assert [event_id or kind for event_id, kind, _ in result] == expected


def test_a_new_hub_knows_that_nothing_was_missed_since_its_first_event() -> None:
    hub = Hub("b")
    assert hub.missed("b-0") == []
    hub.publish("state", "a", {})
    assert [event.number for event in hub.missed("b-0") or []] == [1]


def test_a_listener_that_does_not_keep_up_is_dropped_with_a_last_event_and_the_others_are_not() -> None:
    hub = Hub("b", queue=3)
    slow, quick = hub.listen("", ALL), hub.listen("", ALL)
    got = received(quick)
    for number in range(20):
        hub.publish("state", "a", {"n": number})
        got += received(quick)
    assert len(got) == 20
    result = received(slow)
    assert [kind for _, kind, _ in result] == ["state"] * (len(result) - 1) + ["dropped"]
    assert len(result) <= 1 + 3 + 2
    assert slow.ended
    # It comes back with the last id it had, and has missed nothing.
    again = received(hub.listen("", ALL, result[-2][0]))
    assert [data["n"] for _, _, data in result[:-1] + again] == list(range(20))


def test_what_was_missed_may_be_more_than_a_queue() -> None:
    hub = Hub("b", queue=2)
    for number in range(10):
        hub.publish("state", "a", {"n": number})
    listener = hub.listen("", ALL, "b-0")
    hub.publish("state", "a", {"n": 10})
    assert [data["n"] for _, _, data in received(listener)] == list(range(11))


def test_listeners_are_bounded_in_all_and_for_each_owner() -> None:
    hub = Hub(most=4, of_one=2)
    first = hub.listen("partner:p", ALL)
    hub.listen("partner:p", ALL)
    with pytest.raises(RequestError, match="too many") as caught:
        hub.listen("partner:p", ALL)
    assert caught.value.status == 503
    hub.listen("", ALL)
    hub.listen("", ALL)
    with pytest.raises(RequestError):
        hub.listen("", ALL)
    hub.leave(first)
    hub.listen("partner:p", ALL)


def test_the_stream_has_what_comes_signs_of_life_between_and_an_end() -> None:
    async def read() -> list[bytes]:
        hub = Hub("b")
        listener = hub.listen("", ALL)
        chunks = listener.chunks(heartbeat_s=0.01)
        result = [await anext(chunks) for _ in range(3)]
        hub.publish("alarm", "fleet", {"text": "ä\nb"})
        result.append(await anext(chunks))
        result.append(await anext(chunks))
        listener.end("bye", {})
        return result + [chunk async for chunk in chunks]

    assert asyncio.run(read()) == [
        b"retry: 2000\n\n",
        b":\nid: b-0\n\n",
        b":\nid: b-0\n\n",
        'id: b-1\nevent: alarm\ndata: {"text":"ä\\nb"}\n\n'.encode(),
        b":\nid: b-1\n\n",
        b"event: bye\ndata: {}\n\n",
    ]


def test_recent_events_come_newest_first_without_changes_of_load() -> None:
    hub = Hub()
    for before, after in (
        ("serving", "stale"),
        ("serving", "overloaded"),
        ("overloaded", "serving"),
        ("overloaded", "unhealthy"),
    ):
        hub.publish("state", "a", {"before": before, "after": after})
    hub.publish("alarm", "a", {"text": "x"})
    assert [data["after"] for data in hub.recent(9)] == ["unhealthy", "stale"]
    assert [data["after"] for data in hub.recent(1)] == ["unhealthy"]


@pytest.mark.parametrize(
    ("kind", "subject", "expected"),
    [
        ("cluster_down", "bom001-a", "clusters/bom001-a"),
        ("players", "bom001-a", "clusters/bom001-a"),
        ("suppressed", "cluster bom001-a", "clusters/bom001-a"),
        ("suppressed", "partner as64500", "partners/as64500"),
        ("suppressed", "fleet", ""),
        ("cluster_down", "fleet", "clusters/fleet"),
        ("source", "rpki", ""),
    ],
)
def test_an_alarm_is_about_a_cluster_or_a_partner_or_for_operators_alone(
    kind: str, subject: str, expected: str
) -> None:
    assert subject_of(Alarm(1.0, kind, subject, "")) == expected
