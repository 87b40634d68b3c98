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

    AFTER_PUBLISH = "waits"  # in the control thread, after every long verb before it: it changes what a publish reads
    DURING_PUBLISH = "runs"  # in the control thread, also while a long verb there waits or gives way; it is short
    ASIDE = "runs, in a thread of its own"  # it reads objects that never change, or the database
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


def verb(
    name: str, request: str, runs: Runs, summary: str, takes: str = "", roles: tuple[str, ...] = OPS, **others: Any
) -> Verb:
    """Return a verb; `request` is its method and path, `takes` its arguments, `argument=key` where the key differs."""
    method, path = request.split()
    pairs = (word.partition("=") for word in takes.split())
    return Verb(name, method, path, roles, runs, summary, {word: key or word for word, _, key in pairs}, **others)


def fleet_verbs(kind: str) -> Iterator[Verb]:
    """Yield the verbs of one kind of fleet object."""
    one = SINGULAR[kind]
    readers = {"services": OPS, "appliances": EVERY_ROLE}.get(kind, OWNERS)
    yield verb(f"{kind}.list", f"GET /v1/{kind}", Runs.ASIDE, f"The {kind}, ordered by id", roles=readers)
    yield verb(f"{kind}.get", f"GET /v1/{kind}/{{name}}", Runs.LOOP, f"One {one}, with its ETag", roles=readers)
    yield verb(f"{kind}.put", f"PUT /v1/{kind}/{{name}}", Runs.AFTER_PUBLISH, f"Make or replace one {one}")
    yield verb(f"{kind}.delete", f"DELETE /v1/{kind}/{{name}}", Runs.AFTER_PUBLISH, f"Delete one {one}", status=204)


AFTER, DURING, ASIDE, LOOP = Runs.AFTER_PUBLISH, Runs.DURING_PUBLISH, Runs.ASIDE, Runs.LOOP
PLAYLIST: Final = "/v1/playlists/{service}/{title:path}/{kind}"

VERBS: Final = (
    verb("tables.check", "POST /v1/tables/check", AFTER,
         "Show what publishing these sources would serve, refuse and move; changes nothing", "sources progress"),
    verb("tables.publish", "POST /v1/tables/publish", AFTER,
         "Read the sources, build and check their table, and serve it", "sources who why progress force canary"),
    verb("tables.reload", "POST /v1/reload", AFTER,
         "Read the sources of the last publish again and publish them", "who progress"),
    verb("tables.list", "GET /v1/tables", ASIDE, "Every published table, newest first"),
    verb("tables.get", "GET /v1/tables/{version}", ASIDE,
         "One published table: its sources, its counts, when, by whom and why", "version"),
    verb("tables.diff", "GET /v1/tables/{before}/diff/{after}", AFTER,
         "What changes from one kept table to another", "before after examples"),
    verb("tables.rollback", "POST /v1/tables/{version}/rollback", AFTER,
         "Serve a kept table again, and pin it", "version who why"),
    verb("tables.promote", "POST /v1/canary/promote", AFTER, "Serve the canary's table to all clients", "who why"),
    verb("tables.withdraw", "POST /v1/canary/withdraw", AFTER,
         "Serve the table from before the canary to all clients, and pin it", "who why"),
    verb("tables.pin", "POST /v1/pin", DURING, "Pin the serving table: no reload replaces it", "who why"),
    verb("tables.unpin", "DELETE /v1/pin", DURING, "Remove the pin: reloads publish again", "who"),
    verb("tables.routes", "GET /v1/routes", ASIDE,
         "The routes of a prefix, the routes that cover it, and how many lie inside it", "prefix"),
    verb("tables.route_report", "GET /v1/reports/routes", AFTER,
         "What can be improved in the announced routes, by partner", "partner", roles=OWNERS),
    verb("sessions", "GET /v1/sessions", LOOP, "The live BGP sessions, and how many routes each announces"),
    verb("explain", "GET /v1/explain", ASIDE, "Why a client is sent to its appliances"),
    verb("what_if", "GET /v1/what-if", ASIDE,
         "The same with another table, with appliances or sites switched off, or with added routes"),
    verb("fleet.current", "GET /v1/fleet", ASIDE, "The fleet on record, as a fleet document"),
    verb("fleet.replace", "POST /v1/fleet", AFTER,
         "Replace the fleet by a fleet document, and serve it", "fleet who", most_bytes=MAX_DOCUMENT),
    *(item for kind in SINGULAR for item in fleet_verbs(kind)),
    verb("overrides.list", "GET /v1/overrides", ASIDE,
         "The appliances that an operator drained, weighted, or gave a health source", roles=OWNERS),
    verb("overrides.change", "POST /v1/overrides", DURING,
         "Drain or enable appliances, set their weight or health source, from the next request on",
         "ids=appliances who enabled weight health_source", roles=OWNERS, most_bytes=LARGE),
    verb("maintenance.list", "GET /v1/windows", ASIDE,
         "The maintenance windows that are open or planned; with `ended`, all windows", "ended", roles=OWNERS),
    verb("maintenance.add", "POST /v1/windows", DURING,
         "Plan a maintenance window, which begins and ends by itself",
         "kind subject begins_at ends_at who why", roles=OWNERS, status=201),
    verb("maintenance.cancel", "DELETE /v1/windows/{number}", DURING,
         "Cancel a planned window, or end an open one early", "number who why", roles=OWNERS),
    verb("ejections.list", "GET /v1/ejections", ASIDE,
         "The appliances whose ejection is suppressed: they seem down, and serve because a limit is reached"),
    verb("ejections.release", "POST /v1/ejections/release", DURING,
         "Eject them after all: an operator confirms that they are down", "who why"),
    verb("overview", "GET /v1/state", ASIDE,
         "The fleet at a glance: totals, the worst clusters, the last changes, alarms", "count"),
    verb("alarms", "GET /v1/alarms", LOOP,
         "The raised alarms; with `resolved`, also the alarms that ended lately", "resolved", roles=OWNERS),
    verb("events", "GET /v1/events", LOOP, "State changes and alarms as server-sent events", roles=EVERY_ROLE),
    verb("reports", "POST /v1/reports", LOOP,
         "Reports of appliances: health, headroom, holdings and the routes they receive",
         roles=("appliance", "ops"), most_bytes=16 << 20),
    verb("holdings.missing", "GET /v1/missing", ASIDE,
         "Titles that clusters were asked for and do not hold, most asked first", "partner count", roles=OWNERS),
    verb("quality.list", "GET /v1/quality", ASIDE,
         "How playback goes by the reports of players, worst first", "by partner count", roles=OWNERS),
    verb("tokens.list", "GET /v1/tokens", ASIDE, "Every token that was made, without its secret"),
    verb("tokens.make", "POST /v1/tokens", DURING,
         "Make a token; only this answer contains its text", "role name who days", status=201),
    verb("tokens.revoke", "DELETE /v1/tokens/{number}", DURING,
         "Revoke a token, from the next request on", "number who"),
    verb("keys.list", "GET /v1/keys", ASIDE, "Every key that URLs are signed with, its services, without its secret"),
    verb("keys.make", "POST /v1/keys", DURING,
         "Make a key; only this answer contains its secret", "name=id who secret", status=201),
    verb("keys.retire", "DELETE /v1/keys/{name}", DURING, "Delete a key that no service names", "name who"),
    verb("playlists.rows", "GET /v1/playlists", ASIDE, "The registered playlists, without their texts", "count after"),
    verb("playlists.get", f"GET {PLAYLIST}", ASIDE, "One registered playlist, with its text", "service title kind"),
    verb("playlists.put", f"PUT {PLAYLIST}", AFTER,
         "Register a playlist; without a body, follow the one at the service's origin",
         "service title kind body who", most_bytes=LARGE),
    verb("playlists.delete", f"DELETE {PLAYLIST}", AFTER, "Delete a playlist", "service title kind who"),
    verb("catalogue.rows", "GET /v1/catalogue/{service}", ASIDE, "The titles of a service's catalogue",
         "service count after"),
    verb("catalogue.put", "PUT /v1/catalogue/{service}", AFTER,
         "Put titles into the catalogue, as CSV or JSON Lines; others stay", "service body who",
         most_bytes=MAX_DOCUMENT),
    verb("catalogue.recipe", "GET /v1/catalogue/{service}/{recipe}", ASIDE,
         "A recipe: the files of a title, with sizes and hashes", "service recipe", roles=("ops", "appliance")),
    verb("catalogue.put_recipe", "PUT /v1/catalogue/{service}/{recipe}", AFTER,
         "Record a recipe by the name of its bytes", "service recipe body who", most_bytes=MAX_DOCUMENT),
    verb("catalogue.remove", "DELETE /v1/catalogue/{service}/titles/{title:path}", AFTER,
         "Take a title out of the catalogue; the next plan lets appliances remove it", "service title who"),
    verb("fill.count_plays", "POST /v1/fill/plays/{service}", AFTER,
         "Count plays by day, area and title, as CSV or JSON Lines; days that were counted are left out",
         "service body who progress", most_bytes=MAX_DOCUMENT),
    verb("fill.use_launches", "POST /v1/fill/launches/{service}", AFTER,
         "Use what is expected of launches to come", "service body who progress", most_bytes=MAX_DOCUMENT),
    verb("fill.plan", "POST /v1/fill/plans", AFTER,
         "Plan what appliances should hold, and let the plan be in force", "who why force progress", status=201),
    verb("fill.list", "GET /v1/fill/plans", ASIDE, "Every plan that was in force, newest first"),
    verb("fill.rollback", "POST /v1/fill/plans/{version}/rollback", AFTER,
         "Let a kept plan be in force again, and pin it", "version who why"),
    verb("fill.pin", "POST /v1/fill/pin", DURING, "Pin the plan in force: no other one replaces it", "who why"),
    verb("fill.unpin", "DELETE /v1/fill/pin", DURING, "Remove the pin of the plan", "who"),
    verb("fill.status", "GET /v1/fill/status", ASIDE,
         "The plan in force with its proof, and what is left to fill by cluster, most first", "count"),
    verb("fill.explain", "GET /v1/fill/explain", ASIDE,
         "Why a cluster should hold a title or not", "service title cluster"),
    verb("fill.manifest", "GET /v1/fill/manifest", ASIDE,
         "The fill manifest of an appliance: what it should hold, and when it may fill", "appliance",
         roles=("appliance", "ops")),
    verb("fill.sources", "POST /v1/fill/sources", ASIDE,
         "Sources, with leases, for titles that an appliance lacks", roles=("appliance",), most_bytes=LARGE),
    verb("audit.list", "GET /v1/audit", ASIDE, "Who changed what, newest first", "count below"),
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
