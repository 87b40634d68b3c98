"""The one list of what control can be asked over HTTP: the API, the remote client and the docs' table follow from it.

    VERBS ──> api/*.py      each endpoint gets the verb's path, roles and thread
          ──> remote.py     `control.tables.pin(who, why)` becomes POST /v1/pin
          ──> docs/api.md   `python -m steering.control.verbs` prints its table

The name of a verb that the command line calls is a service of `Control` and a method of it: `tables.pin` is
`control.tables.pin`. `takes` has the method's arguments in order, each with its key in the request.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, Final

from steering.control.records.documents import MAX_DOCUMENT
from steering.control.records.fleet_objects import SINGULAR

OPS: Final = ("ops",)
OWNERS: Final = ("ops", "partner")
EVERY_ROLE: Final = ("ops", "partner", "appliance")
SMALL: Final = 1 << 16  # bytes of a body
LARGE: Final = 1 << 20  # 19,000 ids of appliances, a playlist


class Runs(enum.Enum):
    """Where a verb runs, and so whether it may run during a publish."""

    AFTER_PUBLISH = "waits"  # in the control thread, after every verb before it: it changes what a publish reads
    DURING_PUBLISH = "runs"  # in the control thread, also while a publish there waits for its child process
    ASIDE = "runs, in a thread of its own"  # it reads objects that never change
    LOOP = "runs, in the event loop"  # it reads what only the event loop changes, or takes microseconds


@dataclasses.dataclass(frozen=True, slots=True)
class Verb:
    """One request that control takes; `takes` maps arguments to the keys of the request, `fixed` is always sent.

    A body has at most `most_bytes`.
    """

    name: str
    method: str
    path: str
    roles: tuple[str, ...]
    runs: Runs
    summary: str
    takes: Mapping[str, str]
    status: int = 200
    most_bytes: int = SMALL
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def verb(name: str, request: str, roles: tuple[str, ...], runs: Runs, takes: str, summary: str, **others: Any) -> Verb:
    """Return a verb; `request` is its method and path, `takes` its arguments, `argument=key` where the key differs."""
    method, path = request.split()
    pairs = (word.partition("=") for word in takes.split())
    return Verb(name, method, path, roles, runs, summary, {word: key or word for word, _, key in pairs}, **others)


def fleet_verbs(kind: str) -> Iterator[Verb]:
    """Yield the verbs of one kind of fleet object."""
    one = SINGULAR[kind]
    readers = {"services": OPS, "appliances": EVERY_ROLE}.get(kind, OWNERS)
    yield verb(f"{kind}.list", f"GET /v1/{kind}", readers, Runs.ASIDE, "", f"The {kind}, ordered by id")
    yield verb(f"{kind}.get", f"GET /v1/{kind}/{{name}}", readers, Runs.LOOP, "", f"One {one}, with its ETag")
    yield verb(f"{kind}.put", f"PUT /v1/{kind}/{{name}}", OPS, Runs.AFTER_PUBLISH, "", f"Make or replace one {one}")
    yield verb(
        f"{kind}.delete", f"DELETE /v1/{kind}/{{name}}", OPS, Runs.AFTER_PUBLISH, "", f"Delete one {one}", status=204
    )


AFTER, DURING, ASIDE, LOOP = Runs.AFTER_PUBLISH, Runs.DURING_PUBLISH, Runs.ASIDE, Runs.LOOP
PLAYLIST: Final = "/v1/playlists/{service}/{title:path}/{kind}"

VERBS: Final = (
    verb("tables.check", "POST /v1/tables/check", OPS, AFTER, "sources progress",
         "Show what publishing these sources would serve, refuse and move; changes nothing"),
    verb("tables.publish", "POST /v1/tables/publish", OPS, AFTER, "sources who why progress force canary",
         "Read the sources, build and check their table, and serve it"),
    verb("tables.reload", "POST /v1/reload", OPS, AFTER, "who progress",
         "Read the sources of the last publish again and publish them"),
    verb("tables.list", "GET /v1/tables", OPS, DURING, "",
         "Every published table, newest first"),
    verb("tables.get", "GET /v1/tables/{version}", OPS, DURING, "version",
         "One published table: its sources, its counts, when, by whom and why"),
    verb("tables.diff", "GET /v1/tables/{before}/diff/{after}", OPS, AFTER, "before after examples",
         "What changes from one kept table to another"),
    verb("tables.rollback", "POST /v1/tables/{version}/rollback", OPS, AFTER, "version who why",
         "Serve a kept table again, and pin it"),
    verb("tables.promote", "POST /v1/canary/promote", OPS, AFTER, "who why",
         "Serve the canary's table to all clients"),
    verb("tables.withdraw", "POST /v1/canary/withdraw", OPS, AFTER, "who why",
         "Serve the table from before the canary to all clients, and pin it"),
    verb("tables.pin", "POST /v1/pin", OPS, DURING, "who why",
         "Pin the serving table: no reload replaces it"),
    verb("tables.unpin", "DELETE /v1/pin", OPS, DURING, "who",
         "Remove the pin: reloads publish again"),
    verb("tables.routes", "GET /v1/routes", OPS, ASIDE, "prefix",
         "The routes of a prefix, the routes that cover it, and how many lie inside it"),
    verb("tables.route_report", "GET /v1/reports/routes", OWNERS, AFTER, "partner",
         "What can be improved in the announced routes, by partner"),
    verb("sessions", "GET /v1/sessions", OPS, LOOP, "",
         "The live BGP sessions, and how many routes each announces"),
    verb("explain", "GET /v1/explain", OPS, ASIDE, "",
         "Why a client is sent to its appliances"),
    verb("what_if", "GET /v1/what-if", OPS, ASIDE, "",
         "The same with another table, with appliances or sites switched off, or with added routes"),
    verb("fleet.current", "GET /v1/fleet", OPS, ASIDE, "",
         "The fleet on record, as a fleet document"),
    verb("fleet.replace", "POST /v1/fleet", OPS, AFTER, "fleet who",
         "Replace the fleet by a fleet document, and serve it", most_bytes=MAX_DOCUMENT),
    *(item for kind in SINGULAR for item in fleet_verbs(kind)),
    verb("overrides.list", "GET /v1/overrides", OWNERS, ASIDE, "",
         "The appliances that an operator drained, weighted, or gave a health source"),
    verb("overrides.change", "POST /v1/overrides", OWNERS, DURING, "ids=appliances who enabled weight health_source",
         "Drain or enable appliances, set their weight or health source, from the next request on", most_bytes=LARGE),
    verb("maintenance.list", "GET /v1/windows", OWNERS, DURING, "ended",
         "The maintenance windows that are open or planned; with `ended`, all windows"),
    verb("maintenance.add", "POST /v1/windows", OWNERS, DURING, "kind subject begins_at ends_at who why",
         "Plan a maintenance window, which begins and ends by itself", status=201),
    verb("maintenance.cancel", "DELETE /v1/windows/{number}", OWNERS, DURING, "number who why",
         "Cancel a planned window, or end an open one early"),
    verb("ejections.list", "GET /v1/ejections", OPS, ASIDE, "",
         "The appliances whose ejection is suppressed: they seem down, and serve because a limit is reached"),
    verb("ejections.release", "POST /v1/ejections/release", OPS, DURING, "who why",
         "Eject them after all: an operator confirms that they are down"),
    verb("overview", "GET /v1/state", OPS, ASIDE, "count",
         "The fleet at a glance: totals, the worst clusters, the last changes, alarms"),
    verb("alarms", "GET /v1/alarms", OWNERS, LOOP, "resolved",
         "The raised alarms; with `resolved`, also the alarms that ended lately"),
    verb("events", "GET /v1/events", EVERY_ROLE, LOOP, "",
         "State changes and alarms as server-sent events"),
    verb("reports", "POST /v1/reports", ("appliance", "ops"), LOOP, "",
         "Reports of appliances: health, headroom, holdings and the routes they receive", most_bytes=16 << 20),
    verb("holdings.missing", "GET /v1/missing", OWNERS, ASIDE, "partner count",
         "Titles that clusters were asked for and do not hold, most asked first"),
    verb("quality.list", "GET /v1/quality", OWNERS, ASIDE, "by partner count",
         "How playback goes by the reports of players, worst first"),
    verb("tokens.list", "GET /v1/tokens", OPS, ASIDE, "",
         "Every token that was made, without its secret"),
    verb("tokens.make", "POST /v1/tokens", OPS, DURING, "role name who days",
         "Make a token; only this answer contains its text", status=201),
    verb("tokens.revoke", "DELETE /v1/tokens/{number}", OPS, DURING, "number who",
         "Revoke a token, from the next request on"),
    verb("keys.list", "GET /v1/keys", OPS, DURING, "",
         "Every key that URLs are signed with, its services, without its secret"),
    verb("keys.make", "POST /v1/keys", OPS, DURING, "name=id who secret",
         "Make a key; only this answer contains its secret", status=201),
    verb("keys.retire", "DELETE /v1/keys/{name}", OPS, DURING, "name who",
         "Delete a key that no service names"),
    verb("playlists.rows", "GET /v1/playlists", OPS, ASIDE, "count after",
         "The registered playlists, without their texts"),
    verb("playlists.get", f"GET {PLAYLIST}", OPS, AFTER, "service title kind",
         "One registered playlist, with its text"),
    verb("playlists.put", f"PUT {PLAYLIST}", OPS, AFTER, "service title kind body who",
         "Register a playlist; without a body, follow the one at the service's origin", most_bytes=LARGE),
    verb("playlists.delete", f"DELETE {PLAYLIST}", OPS, AFTER, "service title kind who",
         "Delete a playlist"),
    verb("audit.list", "GET /v1/audit", OPS, ASIDE, "count below",
         "Who changed what, newest first"),
)  # fmt: skip

BY_NAME: Final = {item.name: item for item in VERBS}


def part_of(whole: str, name: str, takes: Mapping[str, str], **fixed: Any) -> tuple[str, Verb]:
    """Return the verb of a method that sends a part of another verb's request, by its name."""
    return name, dataclasses.replace(BY_NAME[whole], name=name, takes=takes, fixed=fixed)


IDS: Final = {"ids": "appliances"}
# What the remote client can call.
CALLABLE: Final = BY_NAME | dict(
    (
        part_of("overrides.change", "overrides.drain", {**IDS, "who": "who"}, enabled=False),
        part_of("overrides.change", "overrides.enable", {**IDS, "who": "who"}, enabled=True),
        part_of("overrides.change", "overrides.weight", {**IDS, "value": "weight", "who": "who"}),
        part_of(
            "overrides.change", "overrides.set_health_source", {**IDS, "health_source": "health_source", "who": "who"}
        ),
    )
)


def markdown() -> str:
    """Return the docs' table of verbs."""
    lines = ["| request | for | during a publish | what it does |", "|---|---|---|---|"]
    for item in VERBS:
        path = item.path.replace(":path", "")
        during = item.runs.value.partition(",")[0]
        lines.append(f"| `{item.method} {path}` | {', '.join(item.roles)} | {during} | {item.summary} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
