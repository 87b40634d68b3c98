"""What people read of numbers and progress."""

from __future__ import annotations

import pytest

from steering.console import bytes_text, is_amount, show_bytes

SIZES = [
    (0, "0 B"),
    (999, "999 B"),
    (1000, "1 kB"),
    (1499, "1.50 kB"),
    (12_345, "12.3 kB"),
    (999_400, "999 kB"),
    (999_600, "1.00 MB"),
    (28_311_552_000, "28.3 GB"),
    (6_500_000_000_000, "6.50 TB"),
    (10**19, "10 EB"),
    (10**22, "10000 EB"),
]


@pytest.mark.parametrize(("count", "text"), SIZES)
def test_bytes_have_three_digits_and_a_unit(count: int, text: str) -> None:
    assert bytes_text(count) == text
    assert is_amount(text)


def test_texts_are_no_amounts() -> None:
    for text in ("all", "3 of 4 B", "sha256-", "1.2.3", "12 %x"):
        assert not is_amount(text)
    for amount in (1, 0.5, "", "12.0 %", "< 0.1 %"):
        assert is_amount(amount)


def test_a_pipe_gets_one_line_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with show_bytes("hash 2 files of a\nb", 5_000_000) as advance:
        advance(5_000_000)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "5 MB" in captured.err
