from __future__ import annotations

import logging
from pathlib import Path

import pytest

from steering.playback.signing.keyring import Keyring
from steering.state.keys import FILE, Key, write_keys

ONE, OTHER = "1" * 43, "2" * 43


def test_keys_are_followed_as_they_are_made_changed_and_taken_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keyring = Keyring(tmp_path)
    keyring.step()
    assert keyring.keys == {}
    write_keys(tmp_path, {"k1": Key(ONE, 1)})
    keyring.step()
    (before,) = keyring.keys.values()
    assert (before.id, before.secret) == ("k1", ONE.encode())
    keyring.step()
    assert keyring.keys["k1"] is before, "an unchanged file is not read again"
    write_keys(tmp_path, {"k1": Key(OTHER, 1), "k2": Key(ONE, 1)})
    keyring.step()
    assert [(key.id, key.secret) for key in keyring.keys.values()] == [("k1", OTHER.encode()), ("k2", ONE.encode())]
    (tmp_path / FILE).unlink()
    keyring.step()
    assert keyring.keys == {}
    assert ONE not in caplog.text
    assert OTHER not in caplog.text


def test_a_file_that_cannot_be_used_is_logged_once_and_the_old_keys_go_on_signing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = Keyring(tmp_path)
    write_keys(tmp_path, {"k1": Key(ONE, 1)})
    keyring.step()
    (tmp_path / FILE).chmod(0o644)
    keyring.step()
    keyring.step()
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / FILE}: mode 0644 lets others read secrets; the old keys go on signing"
    ]
    assert list(keyring.keys) == ["k1"]
    (tmp_path / FILE).chmod(0o600)
    write_keys(tmp_path, {"k2": Key(OTHER, 1)})
    keyring.step()
    assert list(keyring.keys) == ["k2"]
