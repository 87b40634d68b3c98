"""Settings come from flags, the environment and a file; an error names the setting, its value and the rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from steering.errors import SettingsError
from steering.model.policy import RANKING_KEYS, RANKING_POLICIES
from steering.settings import MAX_SOCKET_PATH, Settings, meanings, read_settings, split_address, unix_path


def test_each_setting_has_its_meaning_below_it() -> None:
    result = meanings()
    assert list(result) == list(Settings.model_fields)
    assert all(result.values())
    assert all(word in result["ranking_policy"] for word in (*RANKING_POLICIES, *RANKING_KEYS))


def test_listeners_are_split_at_commas_in_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listeners = ("127.0.0.1:8080", "[::1]:8080", "unix:/run/steering/playback.sock")
    written = "127.0.0.1:8080, [::1]:8080,unix:/run/steering/playback.sock"
    file = tmp_path / "steering.toml"
    monkeypatch.setenv("STEERING_CONFIG", str(file))
    assert read_settings().listen == ("127.0.0.1:8080",)
    assert read_settings(listen=written).listen == listeners
    for text in (f'listen = "{written}"', f"listen = {list(listeners)}"):
        file.write_text(text)
        assert read_settings().listen == listeners
    monkeypatch.setenv("STEERING_LISTEN", written)
    file.unlink()
    assert read_settings().listen == listeners


@pytest.mark.parametrize(
    ("listen", "rule"),
    [
        ("", "does not appear to be an IPv4 or IPv6 address"),
        ("127.0.0.1:8080,", "does not appear to be an IPv4 or IPv6 address"),
        ("localhost:8080", "does not appear to be an IPv4 or IPv6 address"),
        ("127.0.0.1", "does not appear to be an IPv4 or IPv6 address"),
        ("127.0.0.1:http", "'http' is no port"),
        ("127.0.0.1:65536", "'65536' is no port"),
        ("unix:playback.sock", "begins with /"),
        ("unix:", "begins with /"),
        ("unix:/a\0b", "has no zero byte"),
        (f"unix:/{'x' * MAX_SOCKET_PATH}", "108 bytes, a socket's path has at most 107"),
        ("127.0.0.1:1, 127.0.0.1:1", "name each listener once"),
        ((), "at least one listener"),
        (8080, "listeners are text"),
        ([8080], "listeners are text"),
    ],
)
def test_a_wrong_listener_is_refused_with_its_rule(listen: object, rule: str) -> None:
    with pytest.raises(SettingsError, match="setting listen = ") as caught:
        read_settings(listen=listen)
    assert rule in caught.value.message


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"a = " + b"[" * 100_000, "it is nested too deep"),
        (b"asn = " + b"9" * 5000, "a number has too many digits"),
        (b"asn = \xff", "it is not UTF-8, at byte 6"),
        (b"asn = 5 5", "(at line 1, column 9)"),
    ],
    ids=["deep", "long", "not UTF-8", "not TOML"],
)
def test_a_damaged_file_of_settings_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, rule: str
) -> None:
    file = tmp_path / "steering.toml"
    file.write_bytes(text)
    monkeypatch.setenv("STEERING_CONFIG", str(file))
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).endswith(rule)


TRUSTED = [
    ("10.0.0.0/8, ::1/128", "10.0.0.0/8 ::1/128"),
    ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
    (["::FFFF:127.0.0.1"], "127.0.0.1/32"),
    ("::ffff:0:0/96", "0.0.0.0/0"),
    ("64:ff9b::/96, 2002:a00::/24, ::/0, ::fffe:0:0/95", "64:ff9b::/96 2002:a00::/24 ::/0 ::fffe:0:0/95"),
]


@pytest.mark.parametrize(("written", "networks"), TRUSTED)
def test_a_trusted_network_of_mapped_addresses_is_ipv4(written: object, networks: str) -> None:
    assert [str(network) for network in read_settings(trusted=written).trusted] == networks.split()


@pytest.mark.parametrize("written", ["::ffff:10.0.0.1/104", "10.0.0.1/8", "10.0.0.0/33", "x", "", "fe80::%1/64"])
def test_a_wrong_trusted_network_is_refused(written: str) -> None:
    with pytest.raises(SettingsError, match="setting trusted = "):
        read_settings(trusted=written)


def test_a_socket_path_of_the_greatest_length_is_taken() -> None:
    path = "/" + "x" * (MAX_SOCKET_PATH - 1)
    assert unix_path(f"unix:{path}") == Path(path)
    assert unix_path("127.0.0.1:8080") is None
    assert split_address("[::1]:0") == ("::1", 0)
