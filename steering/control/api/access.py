"""What a caller may know of: operators everything, a partner its own objects, an appliance itself.

For an object of another partner the answer is the same as for one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steering.control.health.windows import covers_only
from steering.control.records import fleet_objects
from steering.control.records.auth import Caller
from steering.control.services.control import Control
from steering.errors import RequestError
from steering.model.fleet import Fleet


def own_partner(caller: Caller, partner: str) -> str:
    """Return the partner whose rows to show, empty for all. Raises RequestError 404 for another partner's."""
    if caller.role == "partner":
        if partner not in ("", caller.subject):
            raise fleet_objects.missing("partners", partner)
        return caller.subject
    return partner


def visible_ids(caller: Caller, fleet: Fleet, kind: str) -> set[str] | None:
    """Return the ids of a kind that the caller may know of; None where it may know of all."""
    if caller.role == "ops":
        return None
    if caller.role == "partner":
        return fleet_objects.ids_of_partner(fleet, kind, caller.subject)
    return {caller.subject} if kind == "appliances" else set()


def find_visible(caller: Caller, fleet: Fleet, kind: str, name: str) -> dict[str, Any]:
    """Return one object that the caller may know of. Raises RequestError 404."""
    own = visible_ids(caller, fleet, kind)
    if own is not None and name not in own:
        raise fleet_objects.missing(kind, name)
    return fleet_objects.find_row(fleet, kind, name)


def event_filter(caller: Caller, control: Control) -> Callable[[str], bool]:
    """Return the function that says whether the caller may see an event's subject, by the fleet on record then."""
    if caller.role == "ops":
        return lambda _: True

    def may_see(subject: str) -> bool:
        kind, _, name = subject.partition("/")
        if caller.role == "appliance":
            return (kind, name) == ("appliances", caller.subject)
        return control.on_record.partner_of(kind, name) == caller.subject

    return may_see


def require_own_subject(caller: Caller, fleet: Fleet, kind: str, subject: str, missing: RequestError) -> None:
    """Raise `missing` unless the caller may know of a window's subject, and 403 unless it is the caller's alone."""
    own = visible_ids(caller, fleet, f"{kind}s")
    if own is None:
        return
    if subject not in own:
        raise missing
    if not covers_only(kind, subject, fleet, fleet_objects.ids_of_partner(fleet, "clusters", caller.subject)):
        raise RequestError(f"{kind} {subject}: is not yours alone", hint="name your clusters there", status=403)
