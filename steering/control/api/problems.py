"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from steering.errors import RequestError, SteeringError, problem_document
from steering.escape import for_json


def problem_of(error: SteeringError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer to an error. Its member `error` is the class, which the remote client raises again."""
    document = problem_document(error) | {"error": type(error).__name__}
    headers = headers or {401: {"www-authenticate": "Bearer"}, 503: {"retry-after": "1"}}.get(document["status"])
    return Response(for_json(document), document["status"], headers, "application/problem+json")


async def answer_error(request: Request, error: Exception) -> Response:
    """Return the answer to an error of this project, of validation or of routing."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        parameter = ".".join(str(part) for part in first["loc"][1:]) or "body"
        error = RequestError.of_parameter(parameter, str(first.get("input", "")), str(first["msg"]), status=422)
    elif isinstance(error, HTTPException):
        refusal = RequestError(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code)
        return problem_of(refusal, error.headers)
    assert isinstance(error, SteeringError)
    return problem_of(error)
