"""Fuzz what parses bytes from outside: `make fuzz`, or `python tests/fastpath/fuzz.py TARGET -max_total_time=60`.

Needs atheris, which is no dependency of the project. The compiled targets are blind to it, and so are given mutations
of real requests; they run under AddressSanitizer in the other half of `make fuzz`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["steering"]):
    from steering.errors import PartnerError
    from steering.playback.client import Trust, find_client
    from steering.playback.query import read_steer_query
    from steering.settings import Settings

from _fastpath.lane import Lane, Peer

TRUST = Trust(Settings().trusted)
LANE = Lane(TRUST.networks, "x-forwarded-for")
PEER = Peer(bytes([127, 0, 0, 1]), True)
SEED = (
    b"GET /v1/steer?title=a%20b&n=3&ip=2001:db8::1 HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4, 127.0.0.1\r\n\r\n"
)


def head(data: bytes) -> None:
    """Feed a request head, a mutation of a real one, to the lane; health answers show how far it read."""
    provider = atheris.FuzzedDataProvider(data)
    at, cut = provider.ConsumeIntInRange(0, len(SEED)), provider.ConsumeIntInRange(0, len(SEED))
    whole = SEED[:at] + provider.ConsumeBytes(sys.maxsize) + SEED[cut:]
    for request in (whole, whole.replace(b"/v1/steer?", b"/healthz")):
        if LANE.answer(request, 0, PEER) is not None:
            assert request[: LANE.end].endswith(b"\r\n\r\n")


def query(data: bytes) -> None:
    """Read a query; only a PartnerError may come out."""
    try:
        found = read_steer_query(data, "video")
    except PartnerError:
        return
    assert 1 <= found.n <= 8


def forwarded(data: bytes) -> None:
    """Walk both headers; who is trusted was named by trusted hops alone."""
    for name in ("forwarded", "x-forwarded-for"):
        client = find_client("127.0.0.1", [(name.encode(), data)], TRUST, name)
        assert len(client.packed) in (4, 16)
        assert find_client("8.8.8.8", [(name.encode(), data)], TRUST, name).packed == bytes([8, 8, 8, 8])


TARGETS: dict[str, Callable[[bytes], None]] = {"head": head, "query": query, "forwarded": forwarded}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz.py {'|'.join(TARGETS)} [libFuzzer options]")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
