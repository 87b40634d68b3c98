"""What workers counted since the last look, whoever began anew in between."""

from __future__ import annotations

from pathlib import Path

from _fastpath.counters import Counters, begin
from _fastpath.ranking import content_key_of
from steering.control.jobs.health_tick import Tally
from steering.decision.snapshot import Snapshot


def test_voices_are_told_as_they_come_and_failing_ones_later_too(tmp_path: Path) -> None:
    counters = [Counters(str(tmp_path / f"worker.{number}"), 16, writable=True) for number in (1, 2)]
    for each in counters:
        each.note_report(5, 0, 1, True, False)
        each.note_attested(5, False)
    tally = Tally(tmp_path)
    assert tally.take_attested() == {}  # nobody's word now
    for each in counters:
        each.note_attested(5, False)
    assert tally.take_attested() == {5: (2, 0)}
    counters[0].note_attested(5, True)
    assert tally.take_attested() == {5: (0, 1)}
    assert tally.take_attested() == {}


def test_what_was_counted_before_is_nobodys_load(snapshot: Snapshot, tmp_path: Path) -> None:
    def count(titles: list[str], name: str = "worker.1") -> None:
        counters = Counters(str(tmp_path / name), writable=True)
        for title in titles:
            snapshot.steer("203.0.113.7", title, service="video", counters=counters)

    begin(str(tmp_path / "worker.1"), 16)
    count(["before"] * 5)
    tally = Tally(tmp_path)
    assert tally.take() == ({}, {})
    count(["t"] * 3 + ["before"])
    answers, asked = tally.take()
    assert answers.total() == 4
    assert asked == {content_key_of("video", "t"): 3, content_key_of("video", "before"): 1}
    assert tally.take() == ({}, {})

    begin(str(tmp_path / "worker.2"), 16)
    (tmp_path / "worker.3").write_bytes(b"torn")
    (tmp_path / "worker.log").write_bytes(b"")
    assert tally.take() == ({}, {})
    count(["t"], "worker.2")
    count(["u"])
    answers, asked = tally.take()
    assert (answers.total(), asked.total()) == (2, 2)

    (tmp_path / "worker.1").unlink()
    begin(str(tmp_path / "worker.1"), 16)
    count(["t"] * 9)
    assert tally.take() == ({}, {})  # it is seen for the first time
