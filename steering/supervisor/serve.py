"""One command starts everything: sockets, the state folder, the imports that all processes share, the supervisor."""

from __future__ import annotations

import contextlib
import gc
import importlib
import resource
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from steering.control.first_start import make_ready
from steering.control.routes.build import Progress, quiet
from steering.errors import SettingsError
from steering.playback.server.listeners import bound
from steering.process.child import FORK, SIGNALS, run
from steering.settings import Settings, is_tls
from steering.state.folder import worker_files
from steering.supervisor.watch import Supervisor, is_end, next_signal
from steering.tls.certificates import Certificates

# What uvicorn imports when it starts; imported before the fork it is shared.
PRELOADED: Final = ("uvloop", "uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on")

ShowProgress = Callable[[], AbstractContextManager[Progress]]


def serve(
    settings: Settings,
    who: str,
    show_progress: ShowProgress,
    appliances: int | None = None,
    synth: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Make the state folder ready, serve until SIGTERM or SIGINT, and end all processes.

    Raises SettingsError where an address or the folder is taken, or a process does not start.
    """
    with contextlib.ExitStack() as closing:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        closing.callback(signal.pthread_sigmask, signal.SIG_UNBLOCK, SIGNALS)
        listeners = closing.enter_context(bound(settings.listen, settings.workers))
        control_listeners = closing.enter_context(bound(settings.control_listen, 1))
        pairs = list(zip(settings.tls_cert, settings.tls_key, strict=True))
        certificates = Certificates(pairs) if any(map(is_tls, settings.listen)) else None
        ca = settings.control_client_ca
        control_certificates = Certificates(pairs, ca) if any(map(is_tls, settings.control_listen)) else None
        raise_file_limit()

        def prepare(_: Progress) -> None:
            with show_progress() as progress:
                make_ready(settings, who, appliances, synth, progress)

        run("preparing the state folder", prepare, quiet, meanwhile=end_on_signal, context=FORK)
        remove_counts(settings.state, settings.workers)
        for name in PRELOADED:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        Supervisor(settings, listeners, control_listeners, say, certificates, control_certificates).run()


def remove_counts(state: Path, workers: int) -> None:
    """Remove the counters of workers beyond the configured number; the others go on counting in theirs."""
    for number, path in worker_files(state).items():
        if number > workers:
            path.unlink()


def raise_file_limit() -> None:
    """Let the children open as many files as they may: a connection is one, and shells begin with 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_on_signal() -> None:
    """Raise SettingsError after SIGTERM or SIGINT, which are blocked."""
    if is_end(next_signal(0)):
        raise SettingsError("asked to end before it could serve")
