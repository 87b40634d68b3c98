"""Metalink: as RFC 5854 has it, and good enough for a stock aria2c to fill from."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from lxml import etree

from steering.control.fill.fill_tokens import fill_url, token_for
from steering.control.fill.metalink import NAMESPACE, render_metalink
from tests.support.range_server import RangeServer, serving_ranges

PART = 1 << 20
NAMES = {"m": NAMESPACE}
SECRET = "a-secret-of-the-fill-port"


@dataclasses.dataclass(frozen=True)
class File:
    path: str
    bytes: int
    sha256: str
    parts: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Recipe:
    part_bytes: int
    files: Sequence[File]


def recipe_of(contents: dict[str, bytes]) -> Recipe:
    def sha256(body: bytes) -> str:
        return hashlib.sha256(body).hexdigest()

    files = []
    for path, body in contents.items():
        parts = [sha256(body[first : first + PART]) for first in range(0, len(body), PART)] if len(body) > PART else []
        files.append(File(path, len(body), sha256(body), parts))
    return Recipe(PART, files)


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    rnd = random.Random(5854)
    return {"master.m3u8": b"#EXTM3U\n", "v5/seg 1.ts": rnd.randbytes(5 * PART + 17)}


def test_it_names_files_sizes_hashes_parts_and_sources_in_order(contents: dict[str, bytes]) -> None:
    recipe = recipe_of(contents)
    text = render_metalink(
        recipe, [lambda path: f"https://a.example/{path}?md5=x&e=1", lambda path: f"https://b.example/{path}"]
    )
    root = etree.fromstring(text)
    assert root.tag == f"{{{NAMESPACE}}}metalink"
    small, large = root.findall("m:file", NAMES)
    assert [small.get("name"), large.get("name")] == list(contents)
    assert small.findtext("m:size", namespaces=NAMES) == "8"
    assert small.find("m:pieces", NAMES) is None
    (whole,) = large.findall("m:hash", NAMES)
    assert (whole.get("type"), whole.text) == ("sha-256", recipe.files[1].sha256)
    pieces = large.find("m:pieces", NAMES)
    assert (pieces.get("length"), pieces.get("type")) == (str(PART), "sha-256")
    assert [part.text for part in pieces] == list(recipe.files[1].parts)
    urls = large.findall("m:url", NAMES)
    assert [(url.get("priority"), url.text) for url in urls] == [
        ("1", "https://a.example/v5/seg 1.ts?md5=x&e=1"),
        ("2", "https://b.example/v5/seg 1.ts"),
    ]


def test_names_and_urls_are_escaped() -> None:
    file = File('a&b <"1">.ts', 1, "0" * 64, [])
    (element,) = etree.fromstring(render_metalink(Recipe(PART, [file]), [lambda path: f"https://a/{path}"]))[1:]
    assert element.get("name") == file.path
    assert element.findtext("m:url", namespaces=NAMES) == f"https://a/{file.path}"


# ---- aria2c. (Version 1.36 reads `&amp;` in a file's name as `&#38;`, so these names have none.)


@pytest.fixture
def servers(contents: dict[str, bytes]) -> Iterator[tuple[RangeServer, RangeServer]]:
    if shutil.which("aria2c") is None:
        pytest.skip("aria2c is not installed")
    files = {
        fill_url("", "video", "sha256-ab", path, "")[len("https://") : -1]: body for path, body in contents.items()
    }
    with serving_ranges(files) as first, serving_ranges(files, "127.0.0.2") as second:
        yield first, second


def fill(folder: Path, contents: dict[str, bytes], servers: Sequence[RangeServer], *options: str) -> int:
    """Let aria2c fill a folder from our Metalink, and return its exit status."""
    token = token_for(SECRET, "video", "sha256-ab", 1_796_000_000)
    urls = [functools.partial(url_of, server.host, token) for server in servers]
    path = folder / "title.meta4"
    path.write_bytes(render_metalink(recipe_of(contents), urls))
    command = ["aria2c", "--no-conf", "--quiet", "--metalink-file", str(path), "--dir", str(folder / "title")]
    command += ["--max-tries=2", "--retry-wait=0", "--auto-save-interval=0", "--file-allocation=none", "--continue"]
    return subprocess.run([*command, *options], timeout=60, check=False).returncode


def url_of(host: str, token: str, path: str) -> str:
    return fill_url(host, "video", "sha256-ab", path, token, "http")


def read(folder: Path) -> dict[str, bytes]:
    title = folder / "title"
    files = [path for path in title.rglob("*") if path.is_file() and path.suffix != ".aria2"]
    return {str(path.relative_to(title)): path.read_bytes() for path in files}


def test_aria2c_fills_from_two_appliances(
    tmp_path: Path, contents: dict[str, bytes], servers: tuple[RangeServer, RangeServer]
) -> None:
    assert fill(tmp_path, contents, servers, "--split=2", "--min-split-size=1M") == 0
    assert read(tmp_path) == contents
    assert all("?md5=" in sent.path for server in servers for sent in server.sent)
    assert all(server.total for server in servers)


def test_aria2c_goes_on_where_both_appliances_broke_off(
    tmp_path: Path, contents: dict[str, bytes], servers: tuple[RangeServer, RangeServer]
) -> None:
    first, second = servers
    for server in servers:
        server.most = PART + 100_000
    assert fill(tmp_path, contents, servers, "--split=1") != 0
    sent = first.total + second.total
    assert PART < sent < sum(map(len, contents.values()))
    for server in servers:
        server.most = None
    assert fill(tmp_path, contents, servers, "--split=1") == 0
    assert read(tmp_path) == contents
    again = first.total + second.total - sent
    assert again <= sum(map(len, contents.values())) - PART, "what was checked is not fetched again"


def test_aria2c_refuses_a_flipped_byte(
    tmp_path: Path, contents: dict[str, bytes], servers: tuple[RangeServer, RangeServer]
) -> None:
    bad, _ = servers
    bad.flip = 3 * PART + 5
    assert fill(tmp_path, contents, [bad], "--split=1", "--check-integrity") != 0


def test_aria2c_takes_the_flipped_part_from_the_next_appliance(
    tmp_path: Path, contents: dict[str, bytes], servers: tuple[RangeServer, RangeServer]
) -> None:
    bad, good = servers
    bad.flip = 3 * PART + 5
    status = fill(tmp_path, contents, [bad], "--split=1", "--check-integrity")
    assert status != 0
    assert fill(tmp_path, contents, [good], "--split=1", "--check-integrity") == 0
    assert read(tmp_path) == contents
