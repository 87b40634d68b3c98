"""Answer the requests of a decision log again: with the versions it names, or with another table.

Each candidate gets the word of the record, so an appliance that was healthy then is healthy in the replay. With the
record's versions the picks must be the same, to the slot: a difference is a fault of this project, or of the disk.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from _fastpath.status_words import StatusWords
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError, SnapshotError
from steering.state.current import Current, read_current
from steering.state.decision_log import Decision
from steering.state.status import write_status


@dataclasses.dataclass
class Replay:
    """The result of a replay. `differences` are the first hundred; `missing` counts records by what they lack."""

    answers: int = 0
    different: int = 0
    first_moved: int = 0
    differences: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    missing: dict[str, int] = dataclasses.field(default_factory=dict)


def replay(state: Path, decisions: Iterable[Decision], table: int | None = None) -> Replay:
    """Return the result of answering decisions again from the files that the state folder keeps; `table` is another."""
    result = Replay()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        opened: dict[tuple[int, int, int], tuple[Snapshot, StatusWords] | str] = {}
        for decision in decisions:
            versions = decision.table if table is None else table, decision.fleet, decision.holdings
            if versions not in opened:
                opened[versions] = open_past(state, *versions, scratch=folder, keep_words=table is not None)
            past = opened[versions]
            if isinstance(past, str):
                result.missing[past] = result.missing.get(past, 0) + 1
                continue
            answer_again(decision, *past, result)
    return result


def open_past(
    state: Path, table: int, fleet: int, holdings: int, *, scratch: Path, keep_words: bool
) -> tuple[Snapshot, StatusWords] | str:
    """Return a snapshot of these versions and the words it reads, or what is wrong with its files.

    Appliances that are no candidates of a record have today's words with `keep_words`, else 0: they were not judged.
    """
    try:
        current = read_current(state)
        now = StatusWords(str(state / current.status))
        words = [now.word(slot) if keep_words else 0 for slot in range(now.slots)]
        name = write_status(scratch, sum(1 for _ in scratch.iterdir()) + 1, words)
        held = f"holdings.{holdings}" if holdings else ""
        past = Current(0, f"table.{table}", f"routes.{table}", f"fleet.{fleet}", str(scratch / name), 0.0, held)
        return Snapshot.of(state, past), StatusWords(str(scratch / name), writable=True)
    except SnapshotError as error:
        return error.message


def answer_again(decision: Decision, snapshot: Snapshot, status: StatusWords, result: Replay) -> None:
    """Answer one request with the recorded words, and note a difference."""
    before = [(slot, status.word(slot)) for slot, _ in decision.candidates if slot < status.slots]
    for slot, word in decision.candidates:
        if slot < status.slots:
            status.set_word(slot, word)
    try:
        picks = snapshot.picks_of_keys(
            decision.address, decision.keys, service=decision.service, n=decision.n, family=decision.family
        )
    except RequestError as error:
        result.missing[error.message] = result.missing.get(error.message, 0) + 1
        return
    finally:
        for slot, word in before:
            status.set_word(slot, word)
    result.answers += 1
    if picks == list(decision.picks):
        return
    result.different += 1
    result.first_moved += picks[:1] != list(decision.picks[:1])
    if len(result.differences) < 100:
        names = snapshot.names.appliances_by_slot
        result.differences.append(
            {
                "at": decision.at,
                "scope": decision.scope,
                "service": decision.service,
                "key": f"{decision.key:016x}",
                "recorded": [names.get(slot, (f"#{slot}", ""))[0] for slot, _ in decision.picks],
                "replayed": [names.get(slot, (f"#{slot}", ""))[0] for slot, _ in picks],
            }
        )
