"""Answer the requests of a decision log again: with the versions it names, or with another table.

Each candidate gets the word that the record has for it, so what was healthy then is healthy in the replay. With the
versions of the record the picks must be the same, to the slot: any difference is a fault of ours, or of the disk.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from _fastpath.ranking import StatusWords
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError, SnapshotError
from steering.playback.telemetry.decision_log import NAME, Decision
from steering.state.current import Current, read_current
from steering.state.status import write_status


@dataclasses.dataclass
class Replay:
    """What a replay came to. `differences` are the first hundred; `missing` counts records by the file that is gone."""

    answers: int = 0
    different: int = 0
    first_moved: int = 0
    differences: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    missing: dict[str, int] = dataclasses.field(default_factory=dict)


def replay(state: Path, decisions: Iterable[Decision], table: int | None = None) -> Replay:
    """Answer again what was recorded, from the files that the state folder still has; `table` instead of its own."""
    found = Replay()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        past: dict[tuple[int, int, int], tuple[Snapshot, StatusWords] | str] = {}
        for decision in decisions:
            versions = decision.table if table is None else table, decision.fleet, decision.holdings
            if versions not in past:
                past[versions] = open_past(state, *versions, scratch=folder, believed=table is not None)
            opened = past[versions]
            if isinstance(opened, str):
                found.missing[opened] = found.missing.get(opened, 0) + 1
                continue
            answer_again(decision, *opened, found)
    return found


def open_past(
    state: Path, table: int, fleet: int, holdings: int, *, scratch: Path, believed: bool
) -> tuple[Snapshot, StatusWords] | str:
    """Return a snapshot of these versions, and the words it reads; or what is wrong with its files.

    The words of appliances that a record does not have are those of now where `believed`, else 0: nobody looked.
    """
    try:
        current = read_current(state)
        now = StatusWords(str(state / current.status))
        words = [now.word(slot) if believed else 0 for slot in range(now.slots)]
        name = write_status(scratch, sum(1 for _ in scratch.iterdir()) + 1, words)
        held = f"holdings.{holdings}" if holdings else ""
        past = Current(0, f"table.{table}", f"routes.{table}", f"fleet.{fleet}", str(scratch / name), 0.0, held)
        return Snapshot(state, past), StatusWords(str(scratch / name), writable=True)
    except SnapshotError as error:
        return error.message


def answer_again(decision: Decision, snapshot: Snapshot, weights: StatusWords, found: Replay) -> None:
    """Answer one request with the recorded words, and note what is different."""
    before = [(slot, weights.word(slot)) for slot, _ in decision.candidates if slot < weights.slots]
    for slot, word in decision.candidates:
        if slot < weights.slots:
            weights.set_word(slot, word)
    try:
        picks = snapshot.picks(
            decision.address, decision.keys, service=decision.service, n=decision.n, family=decision.family
        )
    except RequestError as error:
        found.missing[error.message] = found.missing.get(error.message, 0) + 1
        return
    finally:
        for slot, word in before:
            weights.set_word(slot, word)
    found.answers += 1
    if picks == list(decision.picks):
        return
    found.different += 1
    found.first_moved += picks[:1] != list(decision.picks[:1])
    if len(found.differences) < 100:
        names = snapshot.appliances_by_slot
        found.differences.append(
            {
                "at": decision.at,
                "scope": decision.scope,
                "service": decision.service,
                "key": f"{decision.key:016x}",
                "recorded": [names.get(slot, (f"#{slot}", ""))[0] for slot, _ in decision.picks],
                "replayed": [names.get(slot, (f"#{slot}", ""))[0] for slot, _ in picks],
            }
        )


def log_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of a decision log: those named, and of folders all, by worker and number."""
    for path in paths:
        if path.is_dir():
            named = ((NAME.fullmatch(item.name), item) for item in path.iterdir())
            yield from (item for *_, item in sorted((int(m[1]), int(m[2]), item) for m, item in named if m))
        else:
            yield path
