"""Fill tokens: stock nginx serves a recipe to requests with its token, until the token expires."""

from __future__ import annotations

import base64
import hashlib

from steering.control.fill.fill_tokens import fill_url, origin_url, token_for


def test_a_token_is_what_nginx_computes() -> None:
    token = token_for("s3cret", "video", "sha256-6f0e", 1796000399.5)
    expected = base64.urlsafe_b64encode(hashlib.md5(b"1796000700/fill/video/sha256-6f0e s3cret").digest()).rstrip(b"=")
    assert token == f"md5={expected.decode()}&expires=1796000700"


def test_a_token_differs_by_recipe_service_secret_and_time() -> None:
    arguments = [
        ("s", "video", "sha256-a", 0.0),
        ("t", "video", "sha256-a", 0.0),
        ("s", "games", "sha256-a", 0.0),
        ("s", "video", "sha256-b", 0.0),
        ("s", "video", "sha256-a", 1.0),
    ]
    assert len({token_for(*row) for row in arguments}) == len(arguments)


def test_urls_have_their_paths_percent_encoded() -> None:
    assert (
        fill_url("c009.cdn.example:8443", "video", "sha256-a", "v5/seg 1?#é.ts", "md5=x&expires=1")
        == "https://c009.cdn.example:8443/fill/video/sha256-a/v5/seg%201%3F%23%C3%A9.ts?md5=x&expires=1"
    )
    template = "https://origin.example/{service}/{title}/{recipe}/{path}"
    values = {"service": "video", "title": "a/b{path}", "recipe": "sha256-a", "path": "x/{title} 1.ts"}
    assert origin_url(template, values) == "https://origin.example/video/a%2Fb%7Bpath%7D/sha256-a/x/%7Btitle%7D%201.ts"
