"""What is checked and printed once all processes are ready: the health of each listener, and requests worth trying."""

from __future__ import annotations

import http.client
import logging
import shlex
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from _fastpath.client import Trust, pack
from steering.decision.examples import suggest_requests
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError, SnapshotError
from steering.playback.server.listeners import Listener
from steering.playback.server.proxy_protocol import LOCAL
from steering.settings import Settings

HEALTH_S: Final = 10.0

logger = logging.getLogger("steering.supervisor")


def status_line(listeners: Sequence[Listener]) -> str:
    """Return where the service can be reached."""
    return f"serving on {', '.join(map(str, listeners))}"


def announce(
    settings: Settings, listeners: Sequence[Listener], control_listeners: Sequence[Listener], say: Callable[[str], None]
) -> None:
    """Print where the service can be reached, and requests that are worth trying."""
    if control_listeners:
        say(f"control on {', '.join(map(str, control_listeners))}")
    say(status_line(listeners))
    try:
        examples = suggest_requests(Snapshot.map(settings.state))
    except SnapshotError as error:
        logger.warning("%s", error.message)
        return
    if examples:
        say("Try:")
    first = next((listener for listener in listeners if not listener.path), listeners[0])
    curl = "curl" + " --insecure" * first.is_tls + " --haproxy-protocol" * settings.proxy_protocol
    url = str(first)
    if first.path:
        curl, url = f"{curl} --unix-socket {shlex.quote(str(first.path))}", "http://localhost"
    for example in examples:
        say(f"# {example.partner}, {example.country}")
        say(f"{curl} '{url}/v1/steer?title=80100172&ip={example.address}'")


def check(listener: Listener, settings: Settings) -> None:
    """Request /healthz at a listener; SettingsError where it does not answer 200."""
    client = http.client.HTTPConnection("localhost", timeout=HEALTH_S)
    try:
        client.sock = listener.connect(HEALTH_S)
        if settings.proxy_protocol and is_trusted(client.sock, settings):
            client.sock.sendall(LOCAL)
        if listener.is_tls:  # its names are those of its clients
            client.sock = ssl._create_unverified_context().wrap_socket(client.sock)  # noqa: S323
        client.request("GET", "/healthz")
        status = client.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise SettingsError(f"{listener}: /healthz: {error}") from error
    finally:
        client.close()
    if status != http.HTTPStatus.OK:
        raise SettingsError(f"{listener}: /healthz answered {status}")


def is_trusted(connection: socket.socket, settings: Settings) -> bool:
    """Tell whether the service trusts the address that this connection to it comes from."""
    if connection.family == socket.AF_UNIX:
        return True
    packed = pack(connection.getsockname()[0])
    return packed is not None and packed in Trust(settings.trusted)
