"""The error tree, sorted by who must act. A message names the subject, the value and the rule."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any


class SteeringError(Exception):
    """The class above every error of this project; never raised itself."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(SteeringError):
    """The operator must act: a setting, a flag or the state of the machine. Exit status 2."""


class FeedError(SteeringError):
    """A feed, a fleet document or a request to publish must be mended. Exit status 1."""


class RequestError(SteeringError):
    """The caller must act; it is answered as a problem document (RFC 9457) with `status`.

    Where a parameter is wrong, `parameter`, `value` and `rule` are members of that document.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        status: int = 400,
        parameter: str = "",
        value: str = "",
        rule: str = "",
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.parameter = parameter
        self.value = value
        self.rule = rule

    @classmethod
    def of_parameter(cls, parameter: str, value: str, rule: str, status: int = 400) -> RequestError:
        """Return the error for one request parameter; a long value is shown by its first 64 characters."""
        shown = value if len(value) <= 64 else f"{value[:64]}… ({len(value)} characters)"
        return cls(
            f"parameter {parameter} = {shown!r}: {rule}",
            status=status,
            parameter=parameter,
            value=shown,
            rule=rule,
        )


class SnapshotError(SteeringError):
    """A state file is unusable; it is logged, and the last good one serves on."""


def syntax_fault(error: Exception) -> str:
    """Return what is wrong with a JSON or TOML text, and where, by the error of its reader, in our words."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8, at byte {error.start}"
    text = str(error)
    return "a number has too many digits" if "integer string conversion" in text else text


def status_of(error: SteeringError) -> int:
    if isinstance(error, RequestError):
        return error.status
    if isinstance(error, FeedError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    if isinstance(error, (SnapshotError, SettingsError)):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem_document(error: SteeringError) -> dict[str, Any]:
    """Return an error as the members of a problem document (RFC 9457)."""
    status = status_of(error)
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": error.message,
    }
    if isinstance(error, RequestError) and error.parameter:
        document |= {"parameter": error.parameter, "value": error.value, "rule": error.rule}
    if error.hint:
        document["hint"] = error.hint
    return document


def problem_body(error: SteeringError) -> bytes:
    """Return an error as the body of a problem document, in ASCII."""
    return json.dumps(problem_document(error), separators=(",", ":")).encode()
