"""What is on record of appliances: overrides (drained, a weight, a health source) and their last health states."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from steering.control.records.rows import Repository, upsert


@dataclasses.dataclass(frozen=True, slots=True)
class Override:
    """What an operator set for an appliance.

    `enabled` is False where it is drained; `weight` replaces that of its capacity. `health_source` is `assumed` (at its
    capacity, whatever it reports), `reported` (by its reports alone), or empty: the setting `health_source` decides.
    """

    enabled: bool = True
    weight: int | None = None
    health_source: str = ""


class OverrideRepository(Repository):
    """The table `overrides`."""

    def all(self) -> dict[str, Override]:
        """Return every override by appliance id, also of appliances that are not in the fleet now."""
        return {name: override for name, override, *_ in self.of(None)}

    def of(self, names: Sequence[str] | None) -> Iterator[tuple[str, Override, float, str]]:
        """Yield the overrides of these appliances, or of all: id, override, when and by whom it was changed last."""
        chosen = "" if names is None else f"WHERE appliance IN ({', '.join('?' * len(names))})"
        for row in self.connection.execute(f"SELECT * FROM overrides {chosen}", names or ()):  # noqa: S608
            override = Override(bool(row["enabled"]), row["weight"], row["health_source"])
            yield row["appliance"], override, row["changed_at"], row["who"]

    def set(self, overrides: Mapping[str, Override], who: str, now: float) -> None:
        """Record overrides."""
        upsert(
            self.connection,
            "overrides",
            ("appliance",),
            (
                {"appliance": name, **dataclasses.asdict(override), "changed_at": now, "who": who}
                for name, override in overrides.items()
            ),
        )


class StateRepository(Repository):
    """The table `states`: the last known health state of each appliance, as JSON, for the next start of control."""

    def all(self) -> dict[str, str]:
        """Return the state of each appliance, as JSON."""
        rows = self.connection.execute("SELECT appliance, state FROM states")
        return {row["appliance"]: row["state"] for row in rows}

    def set(self, states: Mapping[str, str]) -> None:
        """Record the states of appliances."""
        rows = ({"appliance": name, "state": state} for name, state in states.items())
        upsert(self.connection, "states", ("appliance",), rows)
