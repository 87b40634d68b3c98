"""A token lets its holder in while it is good, and no other text does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steering.control.records.auth import Token, caller_of, digest_of, make_secret

SECRET, DIGEST = make_secret()
TOKENS = {7: Token(7, "partner:a", "", DIGEST, 0.0, "", 100.0, None)}


@given(
    st.one_of(
        st.text(), st.text().map(lambda text: f"Bearer {text}"), st.text().map(lambda t: f"Bearer steering-7-{t}")
    )
)
def test_no_other_text_is_a_token(text: str) -> None:
    assert SECRET in text or caller_of(text, TOKENS, 0.0) is None


def test_a_token_is_good_from_its_first_to_its_last_second_and_in_any_case_of_the_scheme() -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        result = caller_of(f"{scheme} steering-7-{SECRET}", TOKENS, 99.9)
        assert result is not None
        assert (result.role, result.subject, result.who) == ("partner", "a", "token 7")
    assert caller_of(f"Bearer steering-7-{SECRET}", TOKENS, 100.0) is None
    assert caller_of(f"Bearer steering-8-{SECRET}", TOKENS, 0.0) is None
    assert digest_of(SECRET) == DIGEST
    assert len(make_secret()[0]) == 43
