"""A real nginx with deploy/nginx-appliance.conf serves what steering signed, to whom it was signed for, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _fastpath.client import pack, unwrap
from steering.control.services.keys import NGINX_LENGTH
from steering.model.service import Service
from steering.playback.signing.tokens import Signing, SigningKey, token_for
from tests.support.token_verifier import Verdict, verify

CONFIG = Path(__file__).parents[2] / "deploy" / "nginx-appliance.conf"
LONGEST = "k" * NGINX_LENGTH
SECRETS = {
    LONGEST: "longest0123456789abcdefghijklmnopqrstuvwxyz",
    "k1": "old-0123456789abcdefghijklmnopqrstuvwxyz._~",
    "k2": "new+0123456789abcdefghijklmnopqrstuvwxyz/==",
}
SERVICE = Service(
    "video",
    "https://{host}/v/{title}?{token}",
    "https://origin.example/{title}",
    token="secure_link",
    keys=("k1", "k2"),
)
BOUND = dataclasses.replace(SERVICE, token_bind=True)
HOUR_S = 3600


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


HAS_IPV6 = has_ipv6()
REAL_IP = "set_real_ip_from 127.0.0.1; real_ip_header x-client;"


@dataclasses.dataclass(frozen=True, slots=True)
class Appliance:
    """A running nginx with some keys: its port for either family, and one at which it sees IPv4 as mapped into IPv6."""

    port: int
    mapped_port: int
    secrets: Mapping[str, str]

    def ask_as(self, target: str, client: str) -> int:
        """Return the status of a request of a client that a proxy on this machine names."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, 20)) as connection:
            connection.request("GET", target, headers={"x-client": client})
            status = connection.getresponse().status
        good = verify("secure_link", target, client, self.secrets, time.time()) is Verdict.good
        assert good == (status in (200, 404)), (target, client, status)
        return status

    def ask(self, target: str, client: str = "127.0.0.1", *, mapped: bool = False) -> int:
        """Return the status of a request that comes from this address."""
        host, port = "::1" if ":" in client else "127.0.0.1", self.mapped_port if mapped else self.port
        with contextlib.closing(http.client.HTTPConnection(host, port, 20, (client, 0))) as connection:
            connection.request("GET", target)
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status != 200 or body == b"the title"
        # The function that the documents recommend says the same.
        result = verify("secure_link", target, client, self.secrets, time.time())
        accepted = {403: False, 410: False, 200: True, 404: True}[answer.status]
        assert (result is Verdict.good) == accepted, (target, result, answer.status)
        assert (result is Verdict.expired) == (answer.status == 410)
        return answer.status


Start = Callable[..., contextlib.AbstractContextManager[Appliance]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Return a function that runs the example with some of the keys."""
    nginx = shutil.which("nginx")
    if not nginx:
        pytest.skip("nginx is not installed")
    if (
        "http_secure_link_module"
        not in subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr
    ):
        pytest.skip("this nginx has no secure_link module; Debian's nginx-light has")

    @contextlib.contextmanager
    def run(*names: str) -> Iterator[Appliance]:
        folder = tmp_path_factory.mktemp("appliance")
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            port, mapped_port = one.getsockname()[1], other.getsockname()[1]
        addresses = [f"127.0.0.1:{port}"]
        if HAS_IPV6:
            addresses += [f"[::1]:{port}", f"[::ffff:127.0.0.1]:{mapped_port} ipv6only=off"]
        (folder / "content" / "v").mkdir(parents=True)
        (folder / "content" / "v" / "80100172").write_text("the title")
        (folder / "content" / "other.txt").write_text("no title")
        (folder / "keys.map").write_text("".join(f'{name} "{SECRETS[name]}";\n' for name in names))
        example = CONFIG.read_text()
        for theirs, ours in (
            ("listen 80;", " ".join([*(f"listen {address};" for address in addresses), REAL_IP])),
            ("/srv/content", str(folder / "content")),
            ("/etc/nginx/steering-keys.map", str(folder / "keys.map")),
        ):
            assert example.count(theirs) == 1
            example = example.replace(theirs, ours)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder / 'pid'}; events {{}}\n"
            f"http {{ access_log off; {paths}\n{example} }}"
        )
        command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        with subprocess.Popen(command) as process:
            try:
                deadline = time.monotonic() + 20
                while True:
                    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                        break
                    assert process.poll() is None, (folder / "error.log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                yield Appliance(port, mapped_port, {name: SECRETS[name] for name in names})
            finally:
                process.kill()

    return run


@pytest.fixture(scope="module")
def appliance(start: Start) -> Iterator[Appliance]:
    """Return one that knows both keys."""
    with start("k1", "k2") as result:
        yield result


def signed(
    title: str = "80100172",
    service: Service = SERVICE,
    client: str = "127.0.0.1",
    age_s: float = 0,
    key: str = "k1",
) -> str:
    """Return the target of a title's URL, signed so long ago with this key."""
    path = "/v/" + quote(title, safe="")
    how = Signing.of(service)
    assert how
    keys = {key: SigningKey(key, SECRETS[key])}
    address = pack(client)
    assert address
    token = token_for(how, keys, path, unwrap(address), time.time() - age_s)
    return f"{path}?{token}"


def test_what_is_signed_is_served_and_nothing_without_a_token(appliance: Appliance) -> None:
    assert appliance.ask(signed()) == 200
    assert appliance.ask(signed(age_s=SERVICE.token_ttl_s - HOUR_S)) == 200
    assert appliance.ask(signed(service=BOUND)) == 200
    assert appliance.ask("/v/80100172") == 403


def test_an_expired_token_is_refused_as_such_and_a_later_expiry_is_altered(appliance: Appliance) -> None:
    old = signed(age_s=SERVICE.token_ttl_s + HOUR_S)
    assert appliance.ask(old) == 410
    (expiry,) = (part for part in old.split("&") if part.startswith("expires="))
    assert appliance.ask(old.replace(expiry, f"expires={int(time.time()) + HOUR_S}")) == 403


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("80100172", "80100173"),
        ("80100172", "80100172/"),
        ("k=k1", "k=k2"),
        ("k=k1", "k=k3"),
        ("k=k1", "k="),
        ("&k=k1", ""),
        ("&k=k1", "&k=k1&b=1"),
        ("md5=", "md5=A"),
        ("md5=", "md4="),
    ],
)
def test_an_altered_token_is_refused(appliance: Appliance, part: str, other: str) -> None:
    good = signed()
    assert part in good
    assert appliance.ask(good.replace(part, other)) == 403


def test_a_token_without_a_secret_is_refused_although_anybody_can_compute_it(appliance: Appliance) -> None:
    how = Signing.of(SERVICE)
    assert how
    token = token_for(how, {"k1": SigningKey("k3", "")}, "/v/80100172", b"\x7f\0\0\1", time.time())
    assert appliance.ask(f"/v/80100172?{token}") == 403


CLIENTS = [
    # signed for, brought by, status
    ("127.0.0.1", "127.0.0.200", 200),
    ("127.0.0.1", "127.0.1.1", 403),
    ("127.0.10.1", "127.0.10.10", 200),  # bytes that end lines
    ("127.0.13.1", "127.0.10.1", 403),
    ("::1", "::1", 200),
    ("::ffff", "::1", 200),
    ("2001:db8::1", "::1", 403),
    ("127.0.0.1", "::1", 403),
    ("::1", "127.0.0.1", 403),
]


@pytest.mark.parametrize(("signed_for", "brought_by", "status"), CLIENTS)
def test_a_bound_token_is_served_in_the_clients_network_alone(
    appliance: Appliance, signed_for: str, brought_by: str, status: int
) -> None:
    if ":" in brought_by and not HAS_IPV6:
        pytest.skip("this machine has no IPv6")
    assert appliance.ask(signed(service=BOUND, client=signed_for), brought_by) == status
    assert appliance.ask(signed(client=signed_for), brought_by) == 200
    unbound = signed(service=BOUND, client=signed_for).replace("&b=1", "")
    assert appliance.ask(unbound, brought_by) == 403


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_an_ipv4_client_of_a_listener_for_both_families_is_itself(appliance: Appliance) -> None:
    assert appliance.ask(signed(service=BOUND), mapped=True) == 200
    assert appliance.ask(signed(service=BOUND), "127.0.1.1", mapped=True) == 403
    assert appliance.ask(signed(service=BOUND, client="::ffff"), mapped=True) == 403


INSIDE = [
    # signed for, brought by, status: an IPv4 address inside an IPv6 one is itself
    ("203.0.113.7", "2002:cb00:7107::1", 200),
    ("203.0.113.7", "2002:cb00:7163:1:2:3:4:5", 200),
    ("203.0.113.7", "64:ff9b::203.0.113.99", 200),
    ("203.0.113.7", "::ffff:203.0.113.8", 200),
    ("2002:cb00:7107::1", "203.0.113.9", 200),
    ("64:ff9b::203.0.113.7", "2002:cb00:7107::1", 200),
    ("203.0.113.7", "2002:cb00:7207::1", 403),
    ("203.0.113.7", "64:ff9b::203.0.114.7", 403),
    ("203.0.113.7", "64:ff9b:1::203.0.113.7", 403),
    ("203.0.113.7", "64:ff9b::1:203.0.113.7", 403),
    ("2001:db8::1", "2001:db8::2", 200),
]


@pytest.mark.parametrize(("signed_for", "brought_by", "status"), INSIDE)
def test_a_bound_token_of_an_address_inside_another_is_served(
    appliance: Appliance, signed_for: str, brought_by: str, status: int
) -> None:
    assert appliance.ask_as(signed(service=BOUND, client=signed_for), brought_by) == status


@pytest.mark.parametrize("path", ["/other.txt", "/", "/v", "/v/../other.txt", "//other.txt", "/other.txt?b=1&k=k1"])
def test_nothing_is_served_outside_what_needs_a_token(appliance: Appliance, path: str) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", appliance.port, 20)) as connection:
        connection.request("GET", path)
        assert connection.getresponse().status in (301, 403, 404)


def test_a_key_is_changed_with_an_overlap_and_the_retired_one_is_refused(start: Start, appliance: Appliance) -> None:
    old, new = signed(key="k1"), signed(key="k2")
    assert (appliance.ask(old), appliance.ask(new)) == (200, 200)
    with start("k1") as before:
        assert (before.ask(old), before.ask(new)) == (200, 403)
    with start("k2") as after:
        assert (after.ask(old), after.ask(new)) == (403, 200)
    with start() as none:
        assert (none.ask(old), none.ask(new)) == (403, 403)


def test_a_key_id_of_the_greatest_length_is_one_that_nginx_reads(start: Start) -> None:
    with start(LONGEST) as appliance:
        service = dataclasses.replace(SERVICE, keys=(LONGEST,))
        assert appliance.ask(signed(service=service, key=LONGEST)) == 200


def is_a_file(title: str) -> bool:
    return not title.endswith("/") and not {".", ".."} & set(title.split("/"))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40).filter(is_a_file))
def test_any_title_that_is_signed_is_let_in(appliance: Appliance, title: str) -> None:
    assert appliance.ask(signed(title)) in (200, 404)  # 404: it has no such file, and said so to its holder
