"""The public shape of `service.pyx`."""

from collections.abc import Callable, Iterable

from _fastpath.holdings import Holdings

Sign = Callable[[bytes, int, int], bytes | None]

class Service:
    """One service's rules and URLs, made ready for ranking and for the renderers. Frozen.

    `regions` are the numbers of the regions whose sites may serve it, None for all; `client_regions` are the countries
    (`IN`) and parts of countries (`IN-MH`) whose clients are served, none for all. `holdings` are those of the ranking
    that it is used with; with `by_file`, appliances report files, else titles. Answers live from `ttl_s - jitter_s` to
    `ttl_s + jitter_s`. `n` is for requests without a number. `fleet` and `held` are the versions of fleet and holdings.

    With `sign`, the URL has `{token}` before or behind `{title}`. It is called once an answer with the escaped title
    and
    the client's family and upper 32 or 64 bits, and returns the text for `{token}` in all URLs; None, where there is no
    key, makes the answer the fallback alone. With `covers_service`, one token is for all titles. Without `sign`,
    `{token}` stays as it is.

    With `tag`, answers for many files have a session tag. It is called with the session, maybe empty, and the client as
    above; None, where there is no key, leaves the tag out.
    """

    id: str
    sign: Sign | None
    everywhere: bool
    n: int
    covers_service: bool
    def __init__(
        self,
        id: str,
        url: str,
        fallback: str,
        ttl_s: int,
        table: int,
        regions: Iterable[int] | None = None,
        holdings: Holdings | None = None,
        fail_open: bool = False,
        sign: Sign | None = None,
        client_regions: Iterable[str] = (),
        n: int = 3,
        covers_service: bool = False,
        fleet: int = 0,
        held: int | None = None,
        by_file: bool = False,
        tag: Sign | None = None,
        jitter_s: int = 0,
    ) -> None: ...
    def serves_region(self, region: str) -> bool:
        """Return whether clients of a region are served; the region of an unknown place is empty."""
