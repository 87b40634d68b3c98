"""The public shape of `targets.pyx`."""

from _fastpath.counters import Counters
from _fastpath.ranking import Picker, Trace
from _fastpath.service import Service

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
    """Return the URLs of an answer's targets, best first, the fallback last where there are fewer than n; and count it.

    Raises ValueError for a wrong address, title or n.
    """
