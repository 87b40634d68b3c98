"""Errors as problem documents."""

from __future__ import annotations

import json

from steering.errors import RequestError, problem_body


def test_a_problem_names_parameter_value_and_rule() -> None:
    assert json.loads(problem_body(RequestError.of_parameter("n", "99", "a number from 1 to 8"))) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "parameter n = '99': a number from 1 to 8",
        "parameter": "n",
        "value": "99",
        "rule": "a number from 1 to 8",
    }


def test_a_problem_without_a_parameter_has_a_hint_where_there_is_one() -> None:
    result = json.loads(problem_body(RequestError("nothing is published yet", hint="publish", status=503)))
    assert result["title"] == "Service Unavailable"
    assert result["hint"] == "publish"
    assert "parameter" not in result


def test_a_long_value_is_cut() -> None:
    result = json.loads(problem_body(RequestError.of_parameter("title", "x" * 10_000, "1 to 256 bytes")))
    assert result["value"] == "x" * 64 + "… (10000 characters)"
