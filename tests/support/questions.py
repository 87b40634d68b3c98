"""What-if questions about a client of the tiny fleet's ISP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steering.control.routes.proposed import propose
from steering.decision.what_if import Question
from steering.decision.what_if import what_if as ask
from steering.settings import Settings

HOME = "203.0.113.0/24,bom001-a,64500,0\n"
CLIENT = Question("203.0.113.9", "80100172", "video")


def what_if(settings: Settings, question: Question, *, routes: Sequence[str] = (), **given: Any) -> dict[str, Any]:
    """Ask as the command and the endpoint do."""
    return ask(settings.state, question, proposed=propose(settings, routes), **given)


def sites(answer: dict[str, Any]) -> list[str]:
    return [target.get("site", "fallback") for target in answer["targets"]]
