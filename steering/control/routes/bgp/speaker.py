"""The BGP speaker: ExaBGP as a child process, which announces nothing and writes received routes as JSON lines.

It never runs in a process that answers players. Its configuration has the sessions' passwords, so the file is in memory
(/dev/shm), in a folder of its own, and is deleted when the speaker has read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import re
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from steering.control.routes.bgp import relay
from steering.control.routes.bgp.sessions import Session
from steering.errors import SettingsError
from steering.state.folder import read_small

MAX_LINE: Final = 16 << 20
START_S: Final = 20.0
STOP_S: Final = 5.0
PRIVATE: Final = Path("/dev/shm")  # noqa: S108 (a folder of mode 0700 is made in it)
HOLD_TIME_S: Final = 30
# IPv4 routes may have IPv6 next hops (RFC 8950); the speaker then negotiates both families.
FAMILIES: Final = {
    4: "    nexthop { ipv4 unicast ipv6; }\n    family { ipv4 unicast; ipv6 unicast; }\n",
    6: "    family { ipv6 unicast; }\n",
}
VERSION: Final = re.compile(rb"ExaBGP\s*:\s*5\.")
MAX_VERSION: Final = 4096
MAX_PASSWORD_FILE: Final = 4096  # bytes; of anything else the password is empty
MAX_REASON: Final = 300

logger = logging.getLogger("steering.bgp")


def find_speaker() -> str:
    """Return the path of ExaBGP, beside this Python or on PATH. Raises SettingsError."""
    beside = Path(sys.executable).with_name("exabgp")
    program = str(beside) if beside.exists() else shutil.which("exabgp")
    if not program:
        raise SettingsError("exabgp: not installed", hint="pip install 'steering[bgp]'")
    return program


async def require_version(program: str) -> None:
    """Raise SettingsError if a program is no ExaBGP 5: others have other commands."""
    process = await asyncio.create_subprocess_exec(
        program, "version", env=environment(), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        text = await asyncio.wait_for(process.stdout.read(MAX_VERSION), START_S)
    except TimeoutError:
        text = b"nothing"
    finally:
        await end(process)
    if not VERSION.search(text):
        shown = text.strip().splitlines()[-1:] or [b"nothing"]
        raise SettingsError(
            f"{program}: is no ExaBGP 5: `version` prints {shown[0][:80].decode('utf-8', 'replace')!r}",
            hint="pip install 'steering[bgp]'",
        )


def configuration(sessions: Sequence[Session], socket: Path) -> str:
    """Return the speaker's configuration. Raises SettingsError if a password cannot be read."""
    parts = [
        f"process steering {{\n    run {sys.executable} -I {relay.__file__} {socket};\n    encoder json;\n}}\n",
    ]
    for session in sessions:
        password = password_of(session)
        parts.append(
            f"neighbor {session.peer} {{\n"
            f"    router-id {router_id(session)};\n"
            f"    local-address {session.local};\n"
            f"    local-as {session.asn};\n"
            f"    peer-as {session.peer_asn};\n"
            f"    connect {session.port};\n"
            f"    hold-time {HOLD_TIME_S};\n"
            + (f"    outgoing-ttl {session.ttl};\n" if session.ttl > 1 else "")
            + (f'    md5-password "{password}";\n' if password else "")
            + "    capability { graceful-restart 120; route-refresh; asn4; }\n"
            f"{FAMILIES[session.family]}"
            "    api { processes [ steering ]; neighbor-changes; receive { parsed; update; } }\n"
            "}\n"
        )
    return "".join(parts)


def password_of(session: Session) -> str:
    """Return a session's password, empty if it has none."""
    if not session.password_file:
        return ""
    try:
        data, _ = read_small(Path(session.password_file), MAX_PASSWORD_FILE)
        password = (data or b"").decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{session.password_file}: {error}") from error
    if not 1 <= len(password) <= 80 or not password.isprintable() or set(password) & {'"', "\\"}:
        rule = "a password has 1 to 80 printable characters, no quote or backslash"
        raise SettingsError(f"{session.password_file}: {rule}")
    return password


def router_id(session: Session) -> str:
    """Return our router id: the local address, or for IPv6 four bytes of our ASN."""
    if ":" not in session.local:
        return session.local
    return ".".join(str(byte) for byte in (session.asn & 0xFFFFFFFF or 1).to_bytes(4, "big"))


@contextlib.asynccontextmanager
async def speaking(
    sessions: Sequence[Session], take: Callable[[bytes], None]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Yield the running speaker, and pass its lines to `take`; stop it on exit."""
    program = find_speaker()
    if Path(program).parent != Path(sys.executable).parent:  # the one that was installed with us has the version
        await require_version(program)
    private = PRIVATE if PRIVATE.is_dir() and os.access(PRIVATE, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="steering-bgp-", dir=private))
    connected = asyncio.Event()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            while True:
                take(await reader.readuntil(b"\n"))
        writer.close()

    server = await asyncio.start_unix_server(receive, folder / "socket", limit=MAX_LINE)
    process = None
    try:
        file = folder / "exabgp.conf"
        file.touch(0o600)
        file.write_text(configuration(sessions, folder / "socket"), encoding="ascii")
        process = await asyncio.create_subprocess_exec(
            program, "server", str(file), env=environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        last_lines: deque[str] = deque(maxlen=3)
        logging_ = asyncio.create_task(log(process, last_lines))
        begun = [asyncio.create_task(connected.wait()), asyncio.create_task(process.wait())]
        await asyncio.wait(begun, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        for task in begun:
            task.cancel()
        file.unlink()
        yield process
        if process.returncode:
            await logging_
            reason = " ".join(last_lines) or "it gives no reason"
            raise SettingsError(f"the speaker ended with status {process.returncode}: {reason[-MAX_REASON:]}")
    finally:
        server.close()
        if process is not None:
            await end(process)
            await logging_
        shutil.rmtree(folder, ignore_errors=True)


async def log(process: asyncio.subprocess.Process, last_lines: deque[str]) -> None:
    """Log the speaker's own messages, and keep the last; the states of its sessions arrive by the socket."""
    assert process.stderr is not None
    async for line in process.stderr:
        text = line.decode("utf-8", "replace").strip()
        logger.info("exabgp: %s", text)
        if text:
            last_lines.append(text)


async def end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def environment() -> dict[str, str]:
    """Return the speaker's environment: it runs as our user, has no command line of its own, and logs warnings."""
    options = {
        "daemon_user": pwd.getpwuid(os.geteuid()).pw_name,
        "daemon_drop": "false",
        "api_cli": "false",
        "api_ack": "false",
        "api_respawn": "false",
        "api_terminate": "true",
        "log_destination": "stderr",
        "log_level": "WARNING",
        "tcp_bind": "",
    }
    own = {name: value for name, value in os.environ.items() if not name.startswith(("exabgp", "STEERING_"))}
    return own | {f"exabgp_{name}": value for name, value in options.items()}
