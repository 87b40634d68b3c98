"""The error tree, sorted by who must act. A message names the subject, the value and the rule."""

from __future__ import annotations


class SteeringError(Exception):
    """What every error of this project is; never raised itself."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(SteeringError):
    """The operator must act: a setting, a flag or the state of the machine. Exit status 2."""


class FeedError(SteeringError):
    """A feed, a fleet document or a request to publish must be mended. Exit status 1."""


class RequestError(SteeringError):
    """The caller must act; a door answers it as a problem document (RFC 9457) with `status`.

    `parameter`, `value` and `rule` are members of that document where a parameter is to blame.
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
