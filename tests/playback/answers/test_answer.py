"""The other forms of an answer."""

from __future__ import annotations

import json

from steering.errors import RequestError
from steering.playback.answers.answer import problem, redirect


def test_a_redirect_goes_to_the_first_target_and_links_the_others_in_order() -> None:
    body = b'{"table":1,"ttl":300,"targets":[{"url":"https://a/"},{"url":"https://b/"},{"url":"https://c/","fallback":true}]}'
    assert redirect(body) == (
        "https://a/",
        ['<https://b/>; rel="duplicate"; pri=2', '<https://c/>; rel="duplicate"; pri=3'],
    )


def test_a_redirect_with_one_target_has_no_links() -> None:
    assert redirect(b'{"targets":[{"url":"https://a/","fallback":true}]}') == ("https://a/", [])


def test_a_problem_names_parameter_value_and_rule() -> None:
    assert json.loads(problem(RequestError.of_parameter("n", "99", "a number from 1 to 8"))) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "parameter n = '99': a number from 1 to 8",
        "parameter": "n",
        "value": "99",
        "rule": "a number from 1 to 8",
    }


def test_a_problem_without_a_parameter_has_a_hint_where_there_is_one() -> None:
    found = json.loads(problem(RequestError("nothing is published yet", hint="publish", status=503)))
    assert found["title"] == "Service Unavailable"
    assert found["hint"] == "publish"
    assert "parameter" not in found


def test_a_long_value_is_cut() -> None:
    found = json.loads(problem(RequestError.of_parameter("title", "x" * 10_000, "1 to 256 bytes")))
    assert found["value"] == "x" * 64 + "… (10000 characters)"
