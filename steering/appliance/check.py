"""`steering-appliance --check`: what is wrong with an appliance, a row a part, each with the step that mends it."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple

import httpx

from steering.appliance.control_client import ControlClient, ControlError
from steering.appliance.manifest import read_manifest
from steering.appliance.nginx import configuration
from steering.appliance.report import CANARY_BYTES
from steering.appliance.settings import ApplianceSettings, read_token
from steering.appliance.store import CANARY, Store
from steering.errors import FeedError, SettingsError

Result = Literal["ok", "warning", "failed"]

WARN_OFFSET_S: Final = 2.0
MOST_OFFSET_S: Final = 60.0  # tokens in URLs live for minutes
KEY_LINE: Final = re.compile(r'\s*default\s+("[^"\n]{16,}"|[^\s;"]{16,})\s*;\s*')
PROBE_S: Final = 3.0

WRAPPED: Final = """\
pid @/pid;
error_log stderr;
events {}
http {
    client_body_temp_path @/body;
    proxy_temp_path @/proxy;
    fastcgi_temp_path @/fastcgi;
    uwsgi_temp_path @/uwsgi;
    scgi_temp_path @/scgi;
    access_log off;
    include @/appliance.conf;
}
"""


class Row(NamedTuple):
    """The result for one part."""

    part: str
    result: Result
    text: str
    step: str = ""


def check_token(settings: ApplianceSettings) -> Row:
    try:
        read_token(settings.token_file)
    except SettingsError as error:
        return Row("token", "failed", error.message, error.hint or f"steering token make appliance:{settings.id}")
    return Row("token", "ok", f"{settings.token_file}, only its owner reads it")


def check_folder(settings: ApplianceSettings) -> Row:
    folder = settings.folder
    try:
        about = folder.stat()
    except OSError as error:
        return Row("folder", "failed", f"{folder}: {error.strerror}", f"install -d -o steering-appliance {folder}")
    if not stat.S_ISDIR(about.st_mode) or not os.access(folder, os.W_OK | os.X_OK):
        return Row("folder", "failed", f"{folder}: this user cannot write it", f"chown steering-appliance {folder}")
    for above in (folder, *folder.absolute().parents):
        if not above.stat().st_mode & 0o001:
            return Row("folder", "warning", f"{above}: nginx's user cannot enter it", f"chmod o+x {above}")
    return Row("folder", "ok", f"{folder} is writable")


def check_disk(settings: ApplianceSettings) -> Row:
    try:
        store = Store(settings.folder, settings.disk_bytes)
    except OSError as error:
        return Row("disk", "failed", f"{settings.folder}: {error.strerror or error}", "look at the folder and dmesg")
    try:
        room, used, count = store.room(), store.disk_used(), sum(1 for _ in store.links())
    finally:
        store.close()
    text = f"{count} titles, {used:.0%} used, {room / 1e9:.1f} GB may still be filled"
    return Row("disk", "ok", text) if room else Row("disk", "warning", text, "raise disk_bytes, or free the disk")


def check_fill_key(settings: ApplianceSettings) -> Row:
    step = "steering key make fill, and its secret into the file"
    try:
        text = settings.fill_key_file.read_text("utf-8", "replace")
        mode = stat.S_IMODE(settings.fill_key_file.stat().st_mode)
    except PermissionError:
        return Row("fill key", "ok", f"{settings.fill_key_file}: for nginx alone; `nginx -t` as root reads it")
    except OSError as error:
        return Row("fill key", "failed", f"{settings.fill_key_file}: {error.strerror}", step)
    if not KEY_LINE.fullmatch(text):
        return Row("fill key", "failed", f'{settings.fill_key_file}: not one line `default "secret";`', step)
    if mode & 0o007:
        fix = f"chmod 0600 {settings.fill_key_file}"
        return Row("fill key", "failed", f"{settings.fill_key_file} has mode {mode:04o}: all users can read it", fix)
    return Row("fill key", "ok", f"{settings.fill_key_file}")


def check_certificate(settings: ApplianceSettings) -> Row:
    if not settings.certificate_file or not settings.certificate_key_file:
        return Row("certificate", "ok", "no listener with ssl")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.certificate_file, settings.certificate_key_file)
    except PermissionError:
        return Row("certificate", "ok", f"{settings.certificate_key_file}: for nginx alone")
    except OSError as error:
        text = f"{settings.certificate_file}, {settings.certificate_key_file}: {error}"
        return Row("certificate", "failed", text, "a certificate and its own key, as PEM")
    return Row("certificate", "ok", f"{settings.certificate_file}")


def check_nginx(settings: ApplianceSettings) -> Row:
    """Run `nginx -t` on the configuration of the settings, in a folder of its own."""
    try:
        text = configuration(settings)
    except SettingsError as error:
        return Row("nginx -t", "failed", error.message, "change the setting")
    with tempfile.TemporaryDirectory(prefix="steering-appliance-") as folder:
        (Path(folder) / "appliance.conf").write_text(text.replace("/var/cache/nginx/steering ", f"{folder}/demand "))
        (Path(folder) / "nginx.conf").write_text(WRAPPED.replace("@", folder))
        command = [str(settings.nginx_program), "-t", "-q", "-p", folder, "-c", f"{folder}/nginx.conf"]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            return Row("nginx -t", "failed", f"{settings.nginx_program}: {error}", "apt-get install nginx-light")
    lines = [line for line in ended.stderr.splitlines() if "[emerg]" in line]
    if ended.returncode:
        return Row("nginx -t", "failed", (lines or [ended.stderr.strip()])[0][:300], "mend the setting that it names")
    return Row("nginx -t", "ok", "it accepts the configuration of these settings")


async def check_served(settings: ApplianceSettings) -> list[Row]:
    """Ask the nginx that runs for its counters and for the canary, and connect to its listeners."""
    rows, start = [], "steering-appliance --nginx > /etc/nginx/conf.d/steering-appliance.conf; nginx -s reload"
    async with httpx.AsyncClient(timeout=PROBE_S, trust_env=False) as http:
        for path, part, expected in (("status", "counters", b"Active connections"), (CANARY, "canary", CANARY_BYTES)):
            url = f"http://{settings.status_listen}/{path}"
            try:
                answer = await http.get(url)
            except httpx.HTTPError as error:
                rows.append(Row(part, "failed", f"{url}: {error or type(error).__name__}", start))
                continue
            good = answer.status_code == httpx.codes.OK and answer.content.startswith(expected)
            step = "start steering-appliance, which writes the canary" if path == CANARY else start
            text = f"{url} answers" if good else f"{url}: {answer.status_code}, not what was written"
            rows.append(Row(part, "ok" if good else "failed", text, "" if good else step))
    for part, listener in (("players' port", settings.serve_listen), ("fill port", settings.fill_listen)):
        address = listener.split()[0]
        host, _, port = address.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        try:
            connection = asyncio.open_connection("127.0.0.1" if host in ("*", "0.0.0.0") else host, int(port))  # noqa: S104
            _, writer = await asyncio.wait_for(connection, PROBE_S)
            writer.close()
        except (OSError, ValueError, TimeoutError) as error:
            rows.append(Row(part, "failed", f"{address}: {error or type(error).__name__}", start))
        else:
            rows.append(Row(part, "ok", f"{address} is open"))
    return rows


async def check_control(settings: ApplianceSettings) -> list[Row]:
    """Ask control for the fill manifest, and compare the clocks."""
    try:
        token = read_token(settings.token_file)
        control = ControlClient(settings, token)
    except SettingsError as error:
        return [Row("control", "failed", "not asked: there is no token", error.hint)]
    except OSError as error:
        return [Row("control", "failed", f"ca_file {settings.ca_file}: {error}", "name a file of PEM certificates")]
    rows = []
    try:
        answer = await control.manifest("", {})
        manifest = read_manifest(answer.body, "", settings.id, {})
        count = sum(map(len, manifest.targets.values()))
        rows.append(Row("control", "ok", f"{settings.control}: plan {manifest.document.plan}, {count} titles"))
    except ControlError as error:
        steps = {
            0: "is the URL right, does control listen, is the network open?",
            401: "the token is not valid: make one",
        }
        steps |= {403: f"make a token for appliance:{settings.id}", 404: "control has no fill manifest: publish a plan"}
        result: Result = "warning" if error.status == httpx.codes.NOT_FOUND else "failed"
        rows.append(Row("control", result, error.message[:300], steps.get(error.status, "look at control's log")))
    except FeedError as error:
        rows.append(Row("control", "failed", error.message[:300], "is the setting id right, are both of one version?"))
    finally:
        await control.close()
    now = control.clock.time(time.monotonic())
    if now is None:
        return [*rows, Row("clock", "warning", "not compared: control did not answer")]
    offset_s = time.time() - now - 0.5  # Date has whole seconds
    off = abs(offset_s)
    level: Result = "ok" if off < WARN_OFFSET_S else "warning" if off < MOST_OFFSET_S else "failed"
    step = "" if level == "ok" else "run chrony or systemd-timesyncd: nginx checks the expiry of URLs by this clock"
    return [*rows, Row("clock", level, f"{offset_s:+.1f} s from control's", step)]


CHECKS: Final[tuple[Callable[[ApplianceSettings], Row], ...]] = (
    check_token,
    check_folder,
    check_disk,
    check_fill_key,
    check_certificate,
    check_nginx,
)


async def check(settings: ApplianceSettings) -> list[Row]:
    """Return all rows, in the order in which they are mended."""
    rows = [await asyncio.to_thread(one, settings) for one in CHECKS]
    return [*rows, *await check_served(settings), *await check_control(settings)]
