"""Checks of appliances against real local servers: which answers are well, and that a check connects nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steering.control.jobs.check_appliances import MOST_BYTES, CheckAppliances, families_of
from steering.model.fleet import Appliance, Fleet
from steering.settings import Settings

pytestmark = pytest.mark.anyio

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Seen = list[tuple[str, bool, str, int]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeControl:
    """What the job asks of control: the settings, the fleet on record, and the registry that takes observations."""

    def __init__(self, settings: Settings, fleet: Fleet, observe: Callable[..., None]) -> None:
        self.settings = settings
        self.inventory = fleet
        self.fleet = SimpleNamespace(current=lambda: self.inventory)
        self.registry = SimpleNamespace(observe=observe)


@contextlib.asynccontextmanager
async def server(answer: Answer, host: str = "127.0.0.1", port: int = 0, **more: Any) -> AsyncIterator[int]:
    """Give the port of a server that answers each connection so."""
    waiting: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.close()

    running = await asyncio.start_server(serve, host, port, **more)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def says(text: str) -> Answer:
    """Return an answer of these bytes, once a request came."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text.encode())
        await writer.drain()

    return answer


OK = says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(1 << 16))
        await writer.drain()


async def long_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: " + b"x" * 8000 + b"\r\n")
        await writer.drain()


def appliance(url: str, *addresses: str, name: str = "a", **more: Any) -> Appliance:
    return Appliance(name, "c", f"{name}.example", 100.0, addresses=addresses, health_url=url, **more)


def fleet_of(*appliances: Appliance) -> Fleet:
    return Fleet((), (), (), appliances, ())


def settings(**more: float) -> Settings:
    quick = {"check_s": 0.02, "check_timeout_s": 0.4} | more
    return Settings().model_copy(update=quick)


async def check(*appliances: Appliance, until: int = 1, **more: float) -> Seen:
    """Return the first observations of these appliances."""
    seen: Seen = []
    enough = asyncio.Event()

    def observe(name: str, ok: bool, why: str, *, family: int) -> None:
        seen.append((name, ok, why, family))
        if len(seen) >= until:
            enough.set()

    control = FakeControl(settings(**more), fleet_of(*appliances), observe)
    running = asyncio.create_task(CheckAppliances(control, None).run())  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        await enough.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return seen


ANSWERS = [
    ("200", OK, ""),
    ("204", says("HTTP/1.1 204 No Content\r\n\r\n"), ""),
    ("a body of the most", says(f"HTTP/1.1 200 OK\r\nContent-Length: {MOST_BYTES}\r\n\r\n" + "x" * MOST_BYTES), ""),
    ("500", says("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), "answered 500"),
    ("404", says("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), "answered 404"),
    (
        "a redirect",
        says("HTTP/1.1 302 Go\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"),
        "answered 302, and redirects",
    ),
    ("a huge body", endless, "a body of over 64 KiB"),
    ("a head without end", long_head, "Receive buffer too long"),
    ("cut off", says("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nno"), "closed"),
    ("no HTTP", says("SSH-2.0-OpenSSH\r\n\r\n"), "illegal status line"),
    ("silence", silent, "no answer within 0.4 s"),
    ("a drip", dripping, "no answer within 0.4 s"),
]


@pytest.mark.parametrize(("answer", "why"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
async def test_an_answer_is_well_only_where_it_is_2xx_in_time_and_of_reasonable_size(answer: Answer, why: str) -> None:
    async with server(answer) as port:
        ((name, ok, found, family), *_) = await check(appliance(f"http://a.example:{port}/health", "127.0.0.1"))
    assert (name, ok, family) == ("a", why == "", 4)
    if why:
        assert found.startswith("127.0.0.1: ")
        assert why in found
        assert len(found) <= 200


async def test_a_port_that_nobody_listens_on_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    ((_, ok, why, _), *_) = await check(appliance(f"http://a.example:{port}/", "127.0.0.1"))
    assert not ok
    assert why


async def test_the_registered_address_is_asked_for_the_host_of_the_url_and_nobody_else_is() -> None:
    """`localhost` is 127.0.0.1 to everybody; the appliance's address is another, and so is the only one contacted."""
    heads: list[bytes] = []
    strangers = 0

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal strangers
        strangers += 1

    async with server(count) as port, server(record, "127.0.0.9", port):
        seen = await check(appliance(f"http://localhost:{port}/health?deep=1", "127.0.0.9"), until=3)
    assert all(ok for _, ok, _, _ in seen)
    assert strangers == 0
    assert heads[0].startswith(b"GET /health?deep=1 HTTP/1.1\r\n")
    assert f"host: localhost:{port}".encode() in heads[0].lower()


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        server(says("HTTP/1.1 502 Proxy\r\nContent-Length: 0\r\n\r\n")) as proxy,
        server(OK, "127.0.0.9") as port,
    ):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy}")
        ((_, ok, why, _), *_) = await check(appliance(f"http://a.example:{port}/", "127.0.0.9"))
    assert ok, why


async def test_a_redirect_is_not_followed() -> None:
    asked: Counter[str] = Counter()

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked["elsewhere"] += 1

    async with server(elsewhere, "127.0.0.8") as other:
        go = says(f"HTTP/1.1 301 Go\r\nLocation: http://127.0.0.8:{other}/\r\nContent-Length: 0\r\n\r\n")
        async with server(go) as port:
            seen = await check(appliance(f"http://a.example:{port}/", "127.0.0.1"), until=3)
    assert not any(ok for _, ok, _, _ in seen)
    assert not asked


async def test_each_family_is_checked_by_its_own_addresses_and_all_of_them_are_to_be_well() -> None:
    async with server(OK) as port, server(OK, "127.0.0.2", port):
        url = f"http://a.example:{port}/"
        seen = await check(appliance(url, "127.0.0.1", "127.0.0.2", "::1"), until=2)
        assert {(family, ok) for _, ok, _, family in seen} == {(4, True), (6, False)}
        ((_, ok, why, _), *_) = await check(appliance(url, "127.0.0.1", "127.0.0.3"))
        assert (ok, why[:10]) == (False, "127.0.0.3:")


def test_a_family_that_the_appliance_does_not_answer_on_is_not_checked() -> None:
    one = appliance("http://a.example/", "192.0.2.1", "2001:db8::1", "192.0.2.2")
    assert list(families_of(one)) == [(4, ["192.0.2.1", "192.0.2.2"]), (6, ["2001:db8::1"])]
    assert list(families_of(dataclasses.replace(one, ipv6=False))) == [(4, ["192.0.2.1", "192.0.2.2"])]


async def test_checks_at_once_are_bounded_and_one_that_hangs_does_not_hold_up_the_rest() -> None:
    now = most = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        now -= 1

    async with server(slow) as port, server(silent) as hanging:
        many = [appliance(f"http://a.example:{port}/", "127.0.0.1", name=f"a{n}") for n in range(20)]
        stuck = appliance(f"http://a.example:{hanging}/", "127.0.0.1", name="stuck")
        seen = await check(*many, stuck, until=120, check_parallel=4)
    assert 2 <= most <= 4
    counts = Counter(name for name, *_ in seen)
    assert len(counts) == 21
    assert counts["stuck"] < min(counts[item.id] for item in many)


async def test_who_leaves_the_fleet_is_checked_no_more_and_who_comes_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steering.control.jobs.check_appliances.LOOK_S", 0.02)
    seen: asyncio.Queue[str] = asyncio.Queue()
    async with server(OK) as port:
        one, two = (appliance(f"http://x:{port}/", "127.0.0.1", name=name) for name in ("one", "two"))
        without = dataclasses.replace(one, id="none", health_url="")
        control = FakeControl(settings(), fleet_of(one, without), lambda name, *_, **__: seen.put_nowait(name))
        job = CheckAppliances(control, None)  # type: ignore[arg-type]
        running = asyncio.create_task(job.run())
        async with asyncio.timeout(10):
            assert {await seen.get() for _ in range(3)} == {"one"}
            control.inventory = fleet_of(two)
            while await seen.get() != "two":
                pass
            assert {await seen.get() for _ in range(3)} == {"two"}
            control.inventory = fleet_of(one, two)
            while await seen.get() != "one":
                pass
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert job.planned == {"one", "two"}


async def test_a_check_that_fails_in_an_unknown_way_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(OK) as port:
        good, bad = (appliance(f"http://{name}:{port}/", "127.0.0.1", name=name) for name in ("good", "bad"))
        seen: asyncio.Queue[str] = asyncio.Queue()
        job = CheckAppliances(
            FakeControl(settings(), fleet_of(bad, good), lambda name, *_, **__: seen.put_nowait(name)),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
        )
        check_address = job.ask

        async def ask(url: str, address: str) -> str:
            if "bad" in url:
                raise UnicodeError("label too long")
            return await check_address(url, address)

        monkeypatch.setattr(job, "ask", ask)
        running = asyncio.create_task(job.run())
        async with asyncio.timeout(10):
            assert [await seen.get() for _ in range(5)] == ["good"] * 5
        assert not running.done()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_a_certificate_is_to_be_for_the_host_of_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("no openssl to make a certificate with")
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=a.example"
    names = ["-addext", "subjectAltName=DNS:a.example", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([openssl, *request.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    async with server(OK, ssl=context) as port:
        ((_, ok, why, _), *_) = await check(appliance(f"https://a.example:{port}/", "127.0.0.1"))
        assert ok, why
        ((_, ok, why, _), *_) = await check(appliance(f"https://b.example:{port}/", "127.0.0.1"))
    assert not ok
    assert "certificate" in why
    assert asked[0] == "a.example"
    assert "b.example" in asked
