"""Settings come from flags, the environment and a file; an error names the setting, its value and the rule."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from steering.appliance.settings import ApplianceSettings, meanings, read_settings, read_token, usable_bytes
from steering.errors import SettingsError

LEAST = {"id": "c1", "control": "https://control.example", "capacity_gbps": "100", "fill_listen": "8443"}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("STEERING_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "appliance.toml"
    monkeypatch.setenv("STEERING_APPLIANCE_CONFIG", str(file))
    return file


def test_each_setting_has_its_meaning_below_it() -> None:
    assert list(meanings()) == list(ApplianceSettings.model_fields)
    assert all(meanings().values())


def test_flags_win_over_the_environment_over_the_file(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone.write_text(
        "\n".join(f'{name} = "{value}"' for name, value in LEAST.items()) + "\nparallel = 2\nreport_s = 5\n"
    )
    monkeypatch.setenv("STEERING_APPLIANCE_PARALLEL", "3")
    settings = read_settings(report_s="7")
    assert (settings.capacity_gbps, settings.parallel, settings.report_s) == (100.0, 3, 7.0)
    assert settings.served_as("video") == "v"
    assert settings.served_as("games") == "games"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"id": None}, "setting id is missing"),
        ({"id": "../x"}, "setting id = '../x'"),
        ({"control": "control.example"}, "setting control"),
        ({"capacity_gbps": "0"}, "greater than 0"),
        ({"disk_bytes": "lots"}, "a size such as 7.2T"),
        ({"services": "video=../v"}, "a plain name"),
        ({"services": "video=v,games=v"}, "each folder once"),
        ({"fill_listen": "8443 ssl"}, "needs certificate_file"),
        ({"fill_listen": "80; include /etc/passwd"}, "setting fill_listen"),
        ({"status_listen": "0.0.0.0:80"}, "setting status_listen"),
        ({"demand_origin": "https://origin.example/path"}, "setting demand_origin"),
    ],
)
def test_a_wrong_setting_is_named_with_value_and_rule(flags: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(**LEAST | flags)
    assert text in caught.value.message


def test_unknown_names_are_errors(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERING_APPLIANCE_CAPACITY", "1")
    with pytest.raises(SettingsError, match="no such setting"):
        read_settings(**LEAST)
    monkeypatch.delenv("STEERING_APPLIANCE_CAPACITY")
    alone.write_text("capacity = 1\n")
    with pytest.raises(SettingsError, match="capacity"):
        read_settings(**LEAST)
    alone.write_text("capacity = \n")
    with pytest.raises(SettingsError, match=r"appliance\.toml"):
        read_settings(**LEAST)


@pytest.mark.parametrize(
    ("size", "result"),
    [
        ("90%", 900),
        ("all but 2%", 980),
        ("250", 250),
        ("1k", 1000),
        ("7.2T", 1000),
        ("all but 300", 700),
        ("all but 2k", 0),
    ],
)
def test_the_usable_part_of_a_disk_of_1000_bytes(size: str, result: int) -> None:
    assert usable_bytes(size, 1000) == result


def test_only_the_owner_may_read_the_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(SettingsError, match="No such file"):
        read_token(file)
    file.write_text("secret-1\n")
    for mode in (0o644, 0o640, 0o604):
        file.chmod(mode)
        with pytest.raises(SettingsError, match="others can read it") as caught:
            read_token(file)
        assert "secret" not in caught.value.message
    file.chmod(0o600)
    assert read_token(file) == "secret-1"
    for text in ("", "two words", "a\nb", "é"):
        file.write_text(text)
        with pytest.raises(SettingsError, match="one line"):
            read_token(file)
