"""URL references: the examples of RFC 3986, and where they may lead."""

from __future__ import annotations

import pytest

from steering.control.playlists.references import Folder, relative, resolve
from steering.errors import FeedError

# RFC 3986, section 5.4, and beyond it: case, the default port, empty segments.
EXAMPLES = [
    "g:h",
    "g:h",
    "g",
    "http://a/b/c/g",
    "./g",
    "http://a/b/c/g",
    "g/",
    "http://a/b/c/g/",
    "/g",
    "http://a/g",
    "//g",
    "http://g/",
    "?y",
    "http://a/b/c/d;p?y",
    "g?y",
    "http://a/b/c/g?y",
    "#s",
    "http://a/b/c/d;p?q",
    "g#s",
    "http://a/b/c/g",
    ";x",
    "http://a/b/c/;x",
    "g;x",
    "http://a/b/c/g;x",
    ".",
    "http://a/b/c/",
    "./",
    "http://a/b/c/",
    "..",
    "http://a/b/",
    "../",
    "http://a/b/",
    "../g",
    "http://a/b/g",
    "../..",
    "http://a/",
    "../../",
    "http://a/",
    "../../g",
    "http://a/g",
    "../../../g",
    "http://a/g",
    "/./g",
    "http://a/g",
    "/../g",
    "http://a/g",
    "g.",
    "http://a/b/c/g.",
    ".g",
    "http://a/b/c/.g",
    "g..",
    "http://a/b/c/g..",
    "..g",
    "http://a/b/c/..g",
    "./../g",
    "http://a/b/g",
    "./g/.",
    "http://a/b/c/g/",
    "g/./h",
    "http://a/b/c/g/h",
    "g/../h",
    "http://a/b/c/h",
    "g;x=1/./y",
    "http://a/b/c/g;x=1/y",
    "g;x=1/../y",
    "http://a/b/c/y",
    "g?y/./x",
    "http://a/b/c/g?y/./x",
    "g?y/../x",
    "http://a/b/c/g?y/../x",
    "a//b",
    "http://a/b/c/a//b",
    "HTTP://A:80/x/../y",
    "http://a/y",
    "https://a:443/y",
    "https://a/y",
    "http://a:443/y",
    "http://a:443/y",
]


@pytest.mark.parametrize(("reference", "url"), [*zip(EXAMPLES[::2], EXAMPLES[1::2], strict=True)])
def test_references_are_resolved_as_the_rfc_has_it(reference: str, url: str) -> None:
    assert resolve(reference, "http://a/b/c/d;p?q").geturl() == url


PLACED = [
    # reference, path below the folder of http://o.example/o/t1/manifest.mpd
    ("v.m3u8", "v.m3u8"),
    ("/o/t1/v.m3u8", "v.m3u8"),
    ("../t1/v.m3u8", "v.m3u8"),
    ("//o.example/o/t1/v.m3u8", "v.m3u8"),
    ("HTTP://O.EXAMPLE:80/o/t1/v.m3u8", "v.m3u8"),
    ("a/../v", "v"),
    ("a/./b/../v?x=/../y", "a/v?x=/../y"),
    ("a/%2E/v/%2e%2E/w", "a/w"),
    ("", ""),
    (".", ""),
    ("a//b", "a//b"),
    ("v.mp4#t=10", "v.mp4"),
    ("é.mp4", "é.mp4"),
]
ELSEWHERE = [
    "..", "../t2/v", "/o/t1", "/o/t10/v", "/v", "//x.example/o/t1/v", "https://o.example/o/t1/v", "javascript:x", "data:,x",
    "http://o.example:81/o/t1/v", "http://u@o.example/o/t1/v", "http://o.example@x.example/o/t1/v", "%2e%2e/v", "a/%2e./../v", "a%2f..%2f..%2fv",
    "..\\v", "a\tb", " //x.example/v", "a b", "v\x00", "v\x85", "{$x}/v", "http://[::1", "http:v", "a/..%5c../v",
]  # fmt: skip


@pytest.mark.parametrize(("reference", "path"), PLACED)
def test_a_reference_below_the_folder_is_placed(reference: str, path: str) -> None:
    assert Folder("http://o.example/o/t1/manifest.mpd?x=1").place(reference, 7) == path


@pytest.mark.parametrize("reference", ELSEWHERE)
def test_a_reference_that_leads_elsewhere_is_refused_with_its_line(reference: str) -> None:
    with pytest.raises(FeedError, match=r"^line 7: .*: a URL leads to a file below the folder of the playlist$"):
        Folder("http://o.example/o/t1/manifest.mpd").place(reference, 7)


@pytest.mark.parametrize("reference", ["/v", "//title/v", "../v", "http://x/v"])
def test_without_a_url_only_relative_references_are_placed(reference: str) -> None:
    with pytest.raises(FeedError):
        Folder("").place(reference, 1)


@pytest.mark.parametrize(
    ("path", "base", "reference"),
    [
        ("media/v", "media/", "v"),
        ("media/v", "media/x.mp4?a/b", "v"),
        ("a/v", "media/x/", "../../a/v"),
        ("media/", "media/", "./"),
        ("", "media/", "../"),
        ("a:b", "", "./a:b"),
        ("a//b", "a/", ".//b"),
        ("?x", "", "./?x"),
    ],
)
def test_a_relative_reference_leads_back_to_the_path(path: str, base: str, reference: str) -> None:
    assert relative(path, base) == reference
    folder = Folder("http://o.example/o/t1/")
    assert folder.place(reference, 1, base) == path
