"""The rules that every steering manifest of ours obeys, read from the drafts and from what players do with one.

Written from the rules, not from the code: it knows JSON and nothing of how a body is made. The strict part is what
Media3's parser wants; the rest is what the others get wrong when it is missing.
"""

from __future__ import annotations

import json
import string
from collections.abc import Collection
from typing import Any

ID = frozenset(string.ascii_letters + string.digits + "._-")
UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")


def broken_rules(status: int, headers: dict[str, str], body: bytes, declared: Collection[str] = ()) -> list[str]:
    """Return the rules that an answer breaks; `declared` are the pathways that the player's playlist has."""
    broken = []

    def rule(text: str, holds: bool) -> None:
        if not holds:
            broken.append(text)

    rule("200, never 404, 410 or 429", status == 200)
    rule("the registered media type", headers.get("content-type") == "application/vnd.apple.steering-list")
    rule("not to be stored", headers.get("cache-control") == "no-store")
    rule("readable by any page", headers.get("access-control-allow-origin") == "*")
    rule("no redirect", "location" not in headers)
    try:
        result: Any = json.loads(body, object_pairs_hook=no_key_twice)
    except ValueError as error:
        return [*broken, f"a complete JSON body: {error}"]
    if not isinstance(result, dict):
        return [*broken, "an object"]
    version, ttl = result.get("VERSION"), result.get("TTL")
    rule("VERSION is the number 1", type(version) is int and version == 1)
    rule("TTL is an integer of at least 1", type(ttl) is int and ttl >= 1)
    rule("no RELOAD-URI", "RELOAD-URI" not in result)
    rule("no pre-standard keys", set(result) <= {"VERSION", "TTL", "PATHWAY-PRIORITY", "PATHWAY-CLONES"})
    ids = result.get("PATHWAY-PRIORITY")
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        return [*broken, "PATHWAY-PRIORITY is a list of strings"]
    rule("PATHWAY-PRIORITY is not empty", len(ids) > 0)
    rule("no pathway twice", len(set(ids)) == len(ids))
    rule("ids of the allowed characters", all(name and ID.issuperset(name) for name in ids))
    clones = result.get("PATHWAY-CLONES", "none")
    known = set(declared)
    if clones != "none":
        rule("PATHWAY-CLONES is left out rather than empty", isinstance(clones, list) and len(clones) > 0)
        for clone in clones:
            uri = clone.get("URI-REPLACEMENT", {})
            host = uri.get("HOST", "")
            rule("a clone's base is declared", not declared or clone.get("BASE-ID") in known)
            rule("a clone has a new id", clone.get("ID") not in known and bool(clone.get("ID")))
            rule("HOST is a name without a port", bool(host) and UNRESERVED.issuperset(host))
            rule(
                "PARAMS of unreserved characters", all(UNRESERVED.issuperset(v) for v in uri.get("PARAMS", {}).values())
            )
            known.add(clone.get("ID"))
    if declared:
        rule("not only unknown pathways", bool(known & set(ids)))
        rule("at least two where there are two", len(known & set(ids)) >= min(2, len(declared)))
    return broken


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)
