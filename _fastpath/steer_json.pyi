"""The public shape of `steer_json.pyx`."""

from _fastpath.counters import Counters
from _fastpath.ranking import Picker, Trace
from _fastpath.service import Service

def answer_steer(
    picker: Picker,
    address: str | bytes,
    title: str,
    service: Service,
    n: int,
    family: int,
    session: str = "",
    trace: Trace | None = None,
    counters: Counters | None = None,
) -> bytes:
    """Return the steer answer as compact JSON, and count it; `trace` is filled. `family` 0 is the address's own.

    Raises ValueError for a wrong address, title or n.
    """

def target_urls(
    picker: Picker,
    address: str | bytes,
    title: str,
    service: Service,
    n: int,
    family: int,
    session: str = "",
    trace: Trace | None = None,
    counters: Counters | None = None,
) -> list[str]:
    """Return the URLs of the same targets, best first."""
