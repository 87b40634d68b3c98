"""The configuration that `--nginx` prints: nginx accepts it, and it does what the settings say."""

from __future__ import annotations

import base64
import hashlib
import time
from pathlib import Path

import httpx
import pytest

from steering.appliance.check import check_nginx
from steering.appliance.nginx import configuration
from steering.appliance.settings import ApplianceSettings
from steering.errors import SettingsError
from tests.support.fill_stage import NGINX, Content, Control, Machine

SECRET = "0123456789abcdef0123456789abcdef"
DEPLOYED = Path(__file__).parents[2] / "deploy" / "nginx-appliance.conf"


def settings(**more: object) -> ApplianceSettings:
    least = {"id": "c1", "control": "http://control", "capacity_gbps": 1, "fill_listen": "8443"}
    return ApplianceSettings(**least | more)  # type: ignore[arg-type]


def test_the_fill_server_has_no_upstream() -> None:
    text = configuration(settings(demand_origin="https://origin.example"))
    fill = text[text.index("limit_conn_zone") : text.index("stub_status")]
    assert "proxy_pass" not in fill
    assert "proxy_pass" in text
    assert "proxy_pass" not in configuration(settings())


def test_signed_urls_are_checked_as_the_example_of_deploy_does() -> None:
    def directives(text: str) -> list[str]:
        start = text.index("secure_link $arg_md5")
        return [line.strip() for line in text[start : text.index("add_header", start)].splitlines() if line.strip()]

    made = configuration(settings(serve_key_file="/etc/steering/serve.key"))
    assert directives(made) == directives(DEPLOYED.read_text())
    maps = made[made.index("map $binary_remote_addr") : made.index("server {")].strip()
    assert maps in DEPLOYED.read_text()


@pytest.mark.parametrize("setting", ["folder", "fill_key_file", "serve_key_file", "hosts"])
def test_a_value_with_characters_of_nginx_is_refused(setting: str) -> None:
    for value in ("/a;b", "/a{", "/a$b", '/a"', "/a\nb", "/a#b"):
        with pytest.raises(SettingsError, match=setting):
            configuration(settings(**{setting: value}))


def test_nginx_accepts_every_variant(tmp_path: Path) -> None:
    if not NGINX:
        pytest.skip("nginx is not installed")
    key = tmp_path / "key"
    key.write_text(f'default "{SECRET}";\n')
    serve = tmp_path / "serve"
    serve.write_text(f'k1 "{SECRET}";\n')
    for more in (
        {},
        {"serve_key_file": serve},
        {"demand_origin": "http://127.0.0.1:9", "serve_key_file": serve},
        {"hosts": "a.example, b.example", "serve_listen": "127.0.0.1:8099", "ipv6": "no"},
    ):
        row = check_nginx(settings(folder=tmp_path, fill_key_file=key, nginx_program=NGINX, **more))
        assert row.result == "ok", row
    assert check_nginx(settings(fill_key_file=tmp_path / "none", nginx_program=NGINX)).result == "failed"


def test_players_need_a_signed_url_where_there_are_keys(tmp_path: Path) -> None:
    film = Content(1, {"media": 1000})
    with Control().running() as control:
        key = tmp_path / "serve.key"
        key.write_text(f'k1 "{SECRET}";\n')
        machine = Machine("c1", tmp_path, control, serve_key_file=str(key))
        (machine.folder / "fill" / "video" / film.recipe).mkdir(parents=True)
        (machine.folder / "fill" / "video" / film.recipe / "media").write_bytes(film.files["media"])
        served = machine.folder / "served" / "v"
        served.mkdir(parents=True)
        (served / "t1").symlink_to(f"../../fill/video/{film.recipe}")
        (served / "bad").symlink_to("/etc")
        expires = int(time.time()) + 60
        code = hashlib.md5(f"{expires}/v/t1 {SECRET}".encode()).digest()
        token = f"md5={base64.urlsafe_b64encode(code).decode().rstrip('=')}&expires={expires}&k=k1"
        with machine.nginx():
            base = f"http://127.0.0.1:{machine.serve_port}/v"
            assert httpx.get(f"{base}/t1").status_code == 403
            assert httpx.get(f"{base}/t2?{token}").status_code == 403
            answer = httpx.get(f"{base}/t1?{token}")  # a title of one file
            assert (answer.status_code, answer.content) == (200, film.files["media"])
            assert (
                httpx.get(f"{base}/t1?{token}", headers={"Range": "bytes=10-19"}).content == film.files["media"][10:20]
            )
