"""The renderer of redirects: a 302 to the first target, with the others in Link headers."""

from __future__ import annotations

from collections.abc import Sequence


def redirect(urls: Sequence[str]) -> tuple[str, list[str]]:
    """Return the Location for these targets, best first, and the Link values that name the others in order.

    The others are duplicates of the first, ranked by `pri` (RFC 6249).
    """
    first, *others = urls
    return first, [f'<{url}>; rel="duplicate"; pri={number}' for number, url in enumerate(others, 2)]
