"""The renderer of errors: problem documents (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from steering.errors import RequestError

MEDIA_TYPE: Final = "application/problem+json"


def region_error(region: str, service: str, refused_url: str) -> RequestError:
    """Return the error for a client in a region that a service does not serve (RFC 7725), empty if unknown."""
    place = region or "a region that is not known"
    return RequestError(
        f"service {service} is not for clients in {place}",
        hint=f"see {refused_url}" if refused_url else "",
        status=HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS,
        parameter="region",
        value=region,
        rule="a region that the service is for",
    )
