"""One function for each form of answer but the steering answer itself, which comes ready from the snapshot."""

from __future__ import annotations

import json
from http import HTTPStatus

from steering.errors import RequestError, problem_document


def redirect(body: bytes) -> tuple[str, list[str]]:
    """Return the Location of a 302, and the Link values that name the other targets in order.

    They are duplicates of the first, ranked by `pri`, as RFC 6249 has it.
    """
    first, *others = (target["url"] for target in json.loads(body)["targets"])
    return first, [f'<{url}>; rel="duplicate"; pri={place}' for place, url in enumerate(others, 2)]


def refused_in(region: str, service: str, elsewhere: str) -> RequestError:
    """Return the error for a client in a region that a service is not for (RFC 7725); `region` is empty if unknown."""
    place = region or "a region that is not known"
    return RequestError(
        f"service {service} is not for clients in {place}",
        hint=f"see {elsewhere}" if elsewhere else "",
        status=HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS,
        parameter="region",
        value=region,
        rule="a region that the service is for",
    )


def problem(error: RequestError) -> bytes:
    """Return an error as the body of a problem document (RFC 9457)."""
    return json.dumps(problem_document(error), separators=(",", ":")).encode()
