"""What a client would be answered with another table, with appliances or sites switched off, or with proposed routes.

The same code answers as for a real client, from files made for the question in a scratch folder: status words with some
appliances disabled, and a table of the routes that cover this one client. No worker serves these files.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from _fastpath.request import Refusal, read_steer_query
from _fastpath.status_words import DISABLED
from steering.decision.explain import explain
from steering.decision.refusals import error_of
from steering.decision.snapshot import Snapshot, reading
from steering.errors import RequestError
from steering.model.prefix import UNWRAPPED, parse_address, parse_prefix
from steering.state.current import read_current
from steering.state.status import write_status
from steering.state.table import BuiltTable, write_table

# Given a snapshot and an address, returns a table of the routes that cover the address and of proposed ones.
BuildProposed = Callable[[Snapshot, str], BuiltTable]


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A client's request, as `explain` takes it."""

    address: str
    title: str
    service: str
    session: str = ""
    n: int = 0
    family: int = 0
    failed: tuple[str, ...] = ()

    def answered_by(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the answer of a snapshot with its reasons."""
        return explain(snapshot, **dataclasses.asdict(self))


def first_address(text: str) -> str:
    """Return an address, or the first address of a prefix that is answered as itself.

    Raises RequestError for any other text.
    """
    if "/" in text:
        network = parse_prefix(text)
        first = network.network_address
        for around in UNWRAPPED:  # a wider prefix may begin with addresses that stand for IPv4
            if first in around:
                first = around.broadcast_address + 1
        return str(first)
    try:
        return str(ipaddress.ip_address(parse_address(text)))
    except ValueError:
        raise RequestError.of_parameter("ip", text, "an IPv4 or IPv6 address without a zone id, or a prefix") from None


def failed_appliances(text: str | None) -> tuple[str, ...]:
    """Return the ids and hosts of a list as `/v1/steer` reads `failed`; None is none. Raises RequestError."""
    if text is None:
        return ()
    query = urlencode({"title": "any", "failed": text}, errors="surrogateescape")
    try:
        return read_steer_query(query.encode(), "").failed
    except Refusal as refusal:
        raise error_of(refusal) from None


def what_if(
    state: Path,
    question: Question,
    *,
    table: int | None = None,
    off: Sequence[str] = (),
    proposed: BuildProposed | None = None,
) -> dict[str, Any]:
    """Return the answer `now`, the answer `then`, and whether its targets are `changed`.

    `table` is another version; `off` are ids of appliances or sites; `proposed` builds the table with proposed routes.
    Raises RequestError and SnapshotError.
    """
    current = read_current(state)
    served = Snapshot.of(state, current)
    now = question.answered_by(served)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        other = current
        if table is not None:
            if not (state / f"table.{table}").exists():
                raise RequestError(f"table {table}: its files are not kept", hint="steering table list", status=404)
            other = dataclasses.replace(other, table=f"table.{table}", routes=f"routes.{table}")
        if off:
            other = dataclasses.replace(other, status=str(folder / switched_off(served, off, folder)))
        if proposed is not None:
            of_version = Snapshot.of(state, other, served)
            with reading(of_version):
                names = write_table(folder, 1, proposed(of_version, question.address))
            # A snapshot joins file names to the state folder; absolute names stay as they are.
            other = dataclasses.replace(other, table=str(folder / names[0]), routes=str(folder / names[1]))
        then = question.answered_by(Snapshot.of(state, other, served))
        if proposed is not None:  # the table is of this client alone
            then["explain"] |= {"scope": None, "zone": None}
    return {"now": now, "then": then, "changed": now["targets"] != then["targets"]}


def switched_off(snapshot: Snapshot, names: Sequence[str], folder: Path) -> str:
    """Write a status file with appliances, or all those of a site, disabled; return its name."""
    status = snapshot.status
    words = [status.word(slot) for slot in range(status.slots)]
    for name in names:
        slots = [slot for slot, both in snapshot.names.appliances_by_slot.items() if name in both]
        if not slots:
            raise RequestError.of_parameter("off", name, "the id of an appliance or a site of the fleet", status=404)
        for slot in slots:
            words[slot] |= DISABLED
    return write_status(folder, 1, words, status.hot())
