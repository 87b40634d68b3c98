from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from steering.errors import SnapshotError
from steering.state.keys import FILE, Key, read_keys, write_keys
from tests.support.checked import sealed

SECRET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
GOOD = {"k1": {"secret": SECRET, "made_at": 1.5}}


def test_what_is_written_is_read_in_its_order_and_is_its_owners_alone(tmp_path: Path) -> None:
    assert read_keys(tmp_path) == {}
    keys = {"k2": Key("s" * 32, 1.5), "k1": Key("._~+/=-" + "A" * 121, 2)}
    os.umask(os.umask(0))
    write_keys(tmp_path, keys)
    assert list(read_keys(tmp_path).items()) == list(keys.items())
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_file_that_others_may_read_is_not_used(tmp_path: Path, mode: int) -> None:
    write_keys(tmp_path, {"k1": Key(SECRET, 1.5)})
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(SnapshotError, match="lets others read secrets") as caught:
        read_keys(tmp_path)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        SECRET,
        "",
        "[]",
        json.dumps(GOOD)[:-9],
        json.dumps([GOOD]),
        json.dumps({"k1": SECRET}),
        json.dumps({"K1": GOOD["k1"]}),
        json.dumps({"k1": {"secret": SECRET}}),
        json.dumps({"k1": {"secret": SECRET, "made_at": -1}}),
        json.dumps({"k1": {"secret": SECRET, "made_at": 1e99}}),
        '{"k1":' * 100_000,
        json.dumps({"k1": {"secret": SECRET[:31], "made_at": 1}}),
        json.dumps({"k1": {"secret": SECRET + "\n", "made_at": 1}}),
        json.dumps({"k1": {"secret": [SECRET], "made_at": 1}}),
        json.dumps({"k1": {"secret": SECRET, "made_at": "now"}}),
        "\udcff",
    ],
)
def test_a_torn_file_is_refused_and_nothing_of_it_is_shown(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_bytes(sealed(content.encode("utf-8", "surrogateescape")))
    (tmp_path / FILE).chmod(0o600)
    with pytest.raises(SnapshotError, match="torn or not ours") as caught:
        read_keys(tmp_path)
    assert SECRET[:20] not in f"{caught.value}{caught.value.hint}{caught.value.__cause__!r}"


def test_a_damaged_byte_of_a_secret_is_noticed(tmp_path: Path) -> None:
    write_keys(tmp_path, {"k1": Key(SECRET, 1.5)})
    content = (tmp_path / FILE).read_bytes().replace(SECRET[:5].encode(), b"x" + SECRET[1:5].encode())
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(SnapshotError, match="checksum") as caught:
        read_keys(tmp_path)
    assert "make its keys again" in caught.value.hint


def test_a_key_that_is_printed_shows_no_secret() -> None:
    key: Any = Key(SECRET, 1.5)
    assert SECRET not in f"{key} {key!r} { {'k1': key} }"
