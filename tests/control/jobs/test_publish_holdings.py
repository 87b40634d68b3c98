"""What appliances hold reaches the workers by a publish of its own: whole or not at all, whatever ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from steering.control.fill.holdings import Taken
from steering.control.fill.holdings_rows import Delta, Full, digest_of
from steering.control.jobs.publish_holdings import PublishHoldings
from steering.control.services import hand_over as handover
from steering.control.services import holdings as writing
from steering.control.services.control import Control
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError
from steering.model.fleet import Fleet
from steering.process.child import FORK
from steering.settings import Settings
from steering.state import sections as statefile
from steering.state.current import read_current
from tests.control.fill.test_holdings import sets_in
from tests.support.control_fixtures import WriteFeed

OURS = "c001-bom001"


def say(control: Control, *names: str, name: str = OURS) -> None:
    """Report a full list."""
    assert control.holdings.intake.take(name, [Full("video", list(names), digest_of(names))]) == Taken()


def agrees(control: Control, *names: str) -> bool:
    return control.holdings.intake.is_unchanged(OURS, [Delta("video", digest_of(names), digest_of(names))])


def served(control: Control) -> Any:
    """Return what the file that `current` names says."""
    name = read_current(control.settings.state).holdings
    return sets_in(control.settings.state / name, control.fleet.current()) if name else None


def files(control: Control) -> list[str]:
    return sorted(path.name for path in control.settings.state.glob("*holdings*"))


def test_what_changed_is_published_and_served(serving: Control) -> None:
    assert serving.holdings.publish() is None
    before = serving.hand_over.serving()
    say(serving, "a", "b")
    report = serving.holdings.publish()
    assert report
    assert (report["holdings"], report["titles"], report["changed"]) == ("holdings.1", 2, 1)
    assert before
    assert report["serving"]["generation"] > before["generation"]
    assert served(serving) == {(OURS, "video"): {"a", "b"}}
    assert Snapshot.map(serving.settings.state).current.holdings == "holdings.1"
    assert serving.holdings.publish() is None


def test_before_anything_is_published_nothing_is_and_nothing_is_lost(
    control: Control, fleet: Fleet, write_feed: WriteFeed
) -> None:
    control.fleet.replace(fleet, "test")
    say(control, "a")
    assert control.holdings.publish() is None
    control.tables.publish([write_feed("203.0.113.0/24,bom001-a,64500,0\n")], "test")
    assert control.holdings.publish()
    assert served(control) == {(OURS, "video"): {"a"}}


def test_tables_and_fleets_are_published_with_the_holdings_that_serve(
    serving: Control, fleet: Fleet, write_feed: WriteFeed
) -> None:
    say(serving, "a")
    serving.holdings.publish()
    serving.tables.publish([write_feed("203.0.113.0/24,del001-a,64500,0\n")], "test")
    assert read_current(serving.settings.state).holdings == "holdings.1"
    serving.fleet.delete("appliances", "c002-lhr001", "test", "*")
    assert read_current(serving.settings.state).holdings == "holdings.1"
    serving.tables.rollback(1, "test")
    assert read_current(serving.settings.state).holdings == "holdings.1"


def test_the_file_that_serves_and_the_one_before_are_kept(serving: Control) -> None:
    for count in range(1, 5):
        say(serving, *map(str, range(count)))
        serving.holdings.publish()
    assert files(serving) == ["holdings.3", "holdings.4"]


def test_a_publish_that_fails_says_where_and_leaves_all_as_it_was(
    serving: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(serving, "a")
    serving.holdings.publish()
    say(serving, "b")
    for module, name in ((statefile, "write_atomically"), (handover, "write_current")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, no_room)
            with pytest.raises(SettingsError, match=r"^(write the holdings|advance current): No space left"):
                serving.holdings.publish()
        assert files(serving) == ["holdings.1"]
        assert served(serving) == {(OURS, "video"): {"a"}}
        assert agrees(serving, "b")
    serving.holdings.publish()
    assert served(serving) == {(OURS, "video"): {"b"}}


def no_room(*_: Any) -> NoReturn:
    raise OSError(28, "No space left on device")


def test_a_restart_begins_with_what_serves(serving: Control, settings: Settings) -> None:
    say(serving, "a")
    serving.holdings.publish()
    say(serving, "a", "b")
    serving.close()
    with Control(settings) as again:
        assert again.holdings.publish() is None
        assert agrees(again, "a")
        lost = Delta("video", digest_of("ab"), digest_of("abc"), ["c"])
        assert again.holdings.intake.take(OURS, [lost]) == Taken(("video",))
        say(again, "a", "b", "c")
        again.holdings.publish()
        assert served(again) == {(OURS, "video"): {"a", "b", "c"}}


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"STEERING" * 40)])
def test_where_the_file_is_unusable_the_service_goes_on_without_and_asks_again(
    serving: Control, settings: Settings, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    say(serving, "a")
    serving.holdings.publish()
    serving.close()
    damage(settings.state / "holdings.1")
    with Control(settings) as again:
        assert "holdings.1" in caplog.text
        assert served(again) is None
        assert not agrees(again, "a")
        say(again, "a")
        again.holdings.publish()
        assert served(again) == {(OURS, "video"): {"a"}}


def killed_before(module: Any, name: str) -> Callable[[], None]:
    """Return what lets this process be killed when it comes to a step."""

    def kill(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return lambda: setattr(module, name, kill)


def killed_after(module: Any, name: str) -> Callable[[], None]:
    """Return what lets this process be killed when it has done a step."""

    def kill(*given: Any) -> None:
        step(*given)
        os.kill(os.getpid(), signal.SIGKILL)

    step = getattr(module, name)
    return lambda: setattr(module, name, kill)


KILLS = [
    ("before it is written", killed_before(writing, "write_changes"), "a"),
    ("while it is written", killed_before(statefile.os, "fsync"), "a"),
    ("when it is written", killed_after(writing, "write_changes"), "a"),
    ("before it serves", killed_before(handover, "write_current"), "a"),
    ("when it serves", killed_after(handover, "write_current"), "b"),
    ("before the old one is removed", killed_before(handover, "remove_unneeded"), "b"),
]


@pytest.mark.parametrize(("arm", "serves"), [kill[1:] for kill in KILLS], ids=[kill[0] for kill in KILLS])
def test_a_kill_at_any_step_loses_nothing_that_was_served(
    serving: Control, settings: Settings, arm: Callable[[], None], serves: str
) -> None:
    say(serving, "x", name="c002-lhr001")
    say(serving, "a")
    serving.holdings.publish()
    serving.close()

    def publish() -> None:
        with Control(settings) as control:
            say(control, "b")
            arm()
            control.holdings.publish()

    process = FORK.Process(target=publish)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with Control(settings) as again:
        assert served(again) == {(OURS, "video"): {serves}, ("c002-lhr001", "video"): {"x"}}
        assert Snapshot.map(again.settings.state).current.holdings
        assert agrees(again, serves)
        assert agrees(again, "b") == (serves == "b")  # else it is asked for again
        say(again, "b")
        again.holdings.publish()
        assert served(again) == {(OURS, "video"): {"b"}, ("c002-lhr001", "video"): {"x"}}
        assert [name for name in files(again) if name.startswith(".")] == []


def test_the_job_publishes_at_most_so_often_and_at_once_when_it_presses(
    serving: Control, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    serving.settings = serving.settings.model_copy(update={"holdings_s": 3600.0})

    async def call(verb: Callable[[], Any]) -> Any:
        return verb()

    job = PublishHoldings(serving, call)

    async def look() -> None:
        for _ in range(20):
            await job.run()

    say(serving, "a")
    asyncio.run(look())
    assert read_current(serving.settings.state).holdings == "holdings.1"
    say(serving, "b")
    asyncio.run(look())
    assert read_current(serving.settings.state).holdings == "holdings.1"
    with monkeypatch.context() as patch:
        patch.setattr("steering.control.fill.holdings.MOST_PENDING", 0)
        asyncio.run(look())
    assert read_current(serving.settings.state).holdings == "holdings.2"
    assert "holdings: holdings.2 serves" in caplog.text
    say(serving, "c")
    job.next_at = 0
    monkeypatch.setattr(statefile, "write_atomically", no_room)
    asyncio.run(look())
    assert "holdings: not published: write the holdings: No space left" in caplog.text
    assert caplog.text.count("not published") == 1
