"""What partners, appliances, players and feeds write acts on nothing that shows it: one row a kind, each form."""

from __future__ import annotations

import io
import json
import logging
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.escape import LogFormatter, for_csv, for_json, for_label, for_log, for_terminal

HOSTILE = [
    ("an escape sequence", "\x1b[2J\x1b]0;owned\x07"),
    ("a control sequence in one character", "\x9b31mred"),
    ("an operating system command in one character", "\x9d0;owned\x9c"),
    ("right to left", "abc\u202egnp.exe"),
    ("an isolate", "\u2066\u2067\u2068x\u2069"),
    ("a mark", "\u200e\u200f\u061c"),
    ("nothing to see", "a\u200bb\u2060c\ufeff"),
    ("line ends", "one\ntwo\r\nthree\x0b\x0c\x85\u2028\u2029"),
    ("a backspace", "good\x08\x08\x08\x08evil"),
    ("deleted", "a\x7fb"),
    ("a null", "a\0b"),
    ("a tag", "\U000e0041\U000e0042"),
    ("a private character", "\ue000"),
    ("a lone surrogate", "a\ud800b"),
]
IDS = [name for name, _ in HOSTILE]
GOOD = ["Zürich", "東京 (2)", "as64500", "مومباي", "résumé – 100 %", "🎬 film", ""]


def is_harmless(text: str) -> bool:
    return not any(unicodedata.category(char)[0] == "C" or unicodedata.category(char) in ("Zl", "Zp") for char in text)


@pytest.mark.parametrize("text", [text for _, text in HOSTILE], ids=IDS)
def test_no_form_lets_a_hidden_character_through(text: str) -> None:
    assert is_harmless(for_terminal(text))
    assert is_harmless(for_log(text))
    assert is_harmless(for_csv(text).removeprefix("'"))
    assert is_harmless(for_label(text))
    document = for_json({"name": text, text: [text]}).decode()
    assert is_harmless(document)
    assert json.loads(document) == {"name": text, text: [text]}


@pytest.mark.parametrize("text", GOOD)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert for_terminal(text) == for_log(text) == for_csv(text) == for_label(text) == text
    assert json.loads(for_json(text)) == text
    assert text in for_json(text).decode()


@given(st.text())
def test_json_says_the_same_in_harmless_characters(text: str) -> None:
    document = for_json([text]).decode()
    assert json.loads(document) == [text]
    assert is_harmless(document)


CELLS: list[tuple[Any, Any]] = [
    ("=HYPERLINK(0)", "'=HYPERLINK(0)"),
    ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
    ("-2+3", "'-2+3"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("  =1", "'  =1"),
    ("\t=1", "'�=1"),
    ("\r=1", "'�=1"),
    ("＝1", "'＝1"),
    ("-5", "-5"),
    ("-5.5e3", "-5.5e3"),
    ("a=1", "a=1"),
    (-5, -5),
    (0.5, 0.5),
    ("", ""),
]


@pytest.mark.parametrize(("value", "cell"), CELLS, ids=[repr(value) for value, _ in CELLS])
def test_a_spreadsheet_runs_no_cell(value: Any, cell: Any) -> None:
    assert for_csv(value) == cell


def test_a_label_is_one_quoted_line() -> None:
    assert for_label('a"b\\c\nd') == r"a\"b\\c\nd"


def test_a_log_record_is_one_line_and_a_traceback_has_no_hidden_character() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LogFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("feed %s: %s", "a\nERROR forged", "\x1b[31m\u202e")
    assert stream.getvalue() == "WARNING feed a\\nERROR forged: \\x1b[31m\\u202e\n"
    try:
        raise ValueError("\x1b]0;owned\x07\x9b")
    except ValueError:
        logger.exception("failed")
    assert is_harmless(stream.getvalue().replace("\n", ""))
    assert "\nTraceback (most recent call last):\n" in stream.getvalue()
