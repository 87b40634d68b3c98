"""Redirects: the first target, and Link headers for the others."""

from __future__ import annotations

from steering.playback.answers.redirect import redirect


def test_a_redirect_goes_to_the_first_target_and_links_the_others_in_order() -> None:
    assert redirect(["https://a/", "https://b/", "https://c/"]) == (
        "https://a/",
        ['<https://b/>; rel="duplicate"; pri=2', '<https://c/>; rel="duplicate"; pri=3'],
    )


def test_a_redirect_with_one_target_has_no_links() -> None:
    assert redirect(["https://a/"]) == ("https://a/", [])
