"""Keys: made and told once, listed without a secret, retired when nobody names them; and a secret is in no other file."""

from __future__ import annotations

import dataclasses
import logging
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.records.documents import format_fleet
from steering.control.remote import RemoteControl
from steering.control.services.control import Control
from steering.control.services.keys import MAX_KEYS
from steering.errors import RequestError, SnapshotError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.keys import FILE, Key, read_keys, write_keys
from tests.support.control_app import ControlApp, running_control_app
from tests.support.processes import publish_tiny_fleet, serving, until
from tests.support.token_verifier import Verdict, verify

GIVEN = "given-0123456789abcdefghijklmnopqrstuvwxyz"


def signing(fleet: Fleet, *keys: str) -> Fleet:
    """Return the fleet with a service that signs with these keys."""
    service = dataclasses.replace(fleet.services[0], url="https://{host}/{token}/v/{title}", token="path", keys=keys)
    return dataclasses.replace(fleet, services=(service,))


def test_a_key_is_random_and_shown_once(control: Control) -> None:
    first, second = control.keys.make("k1", "alice"), control.keys.make("k2", "alice")
    assert len(first["secret"]) == 43
    assert first["secret"] != second["secret"]
    assert read_keys(control.settings.state)["k1"] == Key(first["secret"], first["made_at"])
    assert stat.S_IMODE((control.settings.state / FILE).stat().st_mode) == 0o600
    rows = control.keys.list()
    assert rows[0] == {"id": "k1", "made_at": first["made_at"], "signs": [], "named_by": []}
    entry = control.audit.list(1)[0]
    assert (entry["who"], entry["what"], entry["subject"]) == ("alice", "make key", "key k2")


def test_a_given_secret_is_kept_and_not_shown(control: Control) -> None:
    assert control.keys.make("k1", "alice", GIVEN) == {"id": "k1", "made_at": pytest.approx(control.clock(), abs=60)}
    assert read_keys(control.settings.state)["k1"].secret == GIVEN


WRONG: list[tuple[str, str, int, str]] = [
    # id, secret, status, what it says
    ("K1", "", 400, "parameter id = 'K1': 1 to 63 lower-case letters"),
    ("-k", "", 400, "parameter id = '-k'"),
    ("k~1", "", 400, "parameter id = 'k~1'"),
    ("default", "", 400, "parameter id = 'default': another word than default, hostnames, include, volatile"),
    ("include", GIVEN, 400, "parameter id = 'include'"),
    ("hostnames", "", 400, "parameter id = 'hostnames'"),
    ("volatile", "", 400, "parameter id = 'volatile'"),
    ("k" * 47, "", 400, "at most 46 characters, as nginx's maps have room for"),
    ("k2", "short-0123456789abcdefghijklmno", 400, "32 to 128 letters"),
    ("k2", GIVEN + "\n", 400, "32 to 128 letters"),
    ("k2", GIVEN + '"; }', 400, "32 to 128 letters"),
    ("k2", "x" * 129, 400, "32 to 128 letters"),
    ("k1", "", 409, "key k1: is there already"),
]


@pytest.mark.parametrize(("name", "secret", "status", "message"), WRONG)
def test_what_is_no_key_is_refused_and_neither_shown_nor_on_record(
    control: Control, name: str, secret: str, status: int, message: str
) -> None:
    control.keys.make("k1", "alice")
    before = (control.settings.state / FILE).read_bytes()
    with pytest.raises(RequestError, match=message) as caught:
        control.keys.make(name, "alice", secret)
    assert caught.value.status == status
    assert not secret or secret[:20] not in f"{caught.value}{caught.value.value}"
    assert (control.settings.state / FILE).read_bytes() == before
    assert len(control.audit.list()) == 1


def test_there_is_an_end_to_keys(control: Control) -> None:
    write_keys(control.settings.state, {f"k{number}": Key(GIVEN, 1) for number in range(MAX_KEYS)})
    with pytest.raises(RequestError, match="the most there may be"):
        control.keys.make("one-more", "alice")


def test_a_key_is_changed_with_an_overlap_and_retired_when_unused(control: Control, fleet: Fleet) -> None:
    control.keys.make("k1", "alice")
    control.fleet.replace(signing(fleet, "k1"), "alice")
    with pytest.raises(RequestError, match="services video name it") as caught:
        control.keys.retire("k1", "alice")
    assert caught.value.status == 409
    control.keys.make("k2", "alice")
    control.fleet.replace(signing(fleet, "k2", "k1"), "alice")
    assert [(row["id"], row["signs"], row["named_by"]) for row in control.keys.list()] == [
        ("k1", [], ["video"]),
        ("k2", ["video"], ["video"]),
    ]
    control.fleet.replace(signing(fleet, "k2"), "alice")
    control.keys.retire("k1", "alice")
    assert list(read_keys(control.settings.state)) == ["k2"]
    assert control.audit.list(1)[0]["what"] == "retire key"
    with pytest.raises(RequestError, match="there is none of this id") as caught:
        control.keys.retire("k1", "alice")
    assert caught.value.status == 404


def test_a_fleet_that_names_keys_that_are_not_there_is_taken_with_a_warning(control: Control, fleet: Fleet) -> None:
    def warnings(*keys: str) -> list[str]:
        result: list[str] = control.fleet.replace(signing(fleet, *keys), "alice")["warnings"]
        return result

    (warning,) = warnings("k1", "k2")
    assert warning.startswith("service video: has none of its keys k1, k2, and answers with its fallback alone")
    control.keys.make("k2", "alice")
    assert warnings("k1", "k2") == ["service video: key k1 is not there: steering key make"]
    assert control.keys.list()[0]["signs"] == ["video"]
    control.keys.make("k1", "alice")
    assert warnings("k1", "k2") == []
    (control.settings.state / FILE).chmod(0o644)
    assert "lets others read secrets" in warnings("k1")[0]
    with pytest.raises(SnapshotError, match="lets others read secrets"):
        control.keys.make("k3", "alice")


def secrets_of(app: ControlApp) -> list[str]:
    return [key.secret for key in read_keys(app.control.settings.state).values()]


def ask(client: httpx.Client, method: str, path: str, status: int, **body: Any) -> str:
    answer = client.request(method, path, **body)
    assert answer.status_code == status, answer.text
    return answer.text


def test_a_secret_is_in_the_keys_file_and_in_its_one_answer_and_nowhere_else(
    settings: Settings, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    configured = settings.model_copy(update={"feed_sources": (str(settings.state.parent),)})
    with running_control_app(configured) as app, app.client(app.make_token("ops")) as client:
        made = client.post("/v1/keys", json={"id": "k1"})
        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        (secret,) = secrets_of(app)
        assert made.json()["secret"] == secret
        document = format_fleet(signing(fleet, "k1", "k2")).encode()
        (settings.state.parent / "routes.csv").write_text("prefix,cluster\n203.0.113.0/24,bom001-a\n")
        source = {"kind": "csv", "path": str(settings.state.parent / "routes.csv")}
        texts = [
            ask(client, "POST", "/v1/keys", 201, json={"id": "k2", "secret": GIVEN}),
            ask(client, "POST", "/v1/keys", 409, json={"id": "k2", "secret": GIVEN}),
            ask(client, "POST", "/v1/keys", 422, json={"secret": GIVEN}),
            ask(client, "POST", "/v1/keys", 422, json={"id": "k3", "secret": [GIVEN]}),
            ask(client, "POST", "/v1/keys", 422, json={"id": "k3", "secret": GIVEN, GIVEN[:9]: GIVEN}),
            ask(client, "POST", "/v1/keys", 422, json=[GIVEN]),
            ask(client, "POST", "/v1/keys", 422, content=f'"{GIVEN}', headers={"content-type": "application/json"}),
            ask(client, "POST", "/v1/keys", 400, json={"id": "k3", "secret": GIVEN + " "}),
            ask(client, "POST", "/v1/fleet", 200, content=document),
            ask(client, "POST", "/v1/tables/publish", 200, json={"sources": [source]}),
            *(
                ask(client, "GET", path, 200)
                for path in ("/v1/keys", "/v1/fleet", "/v1/services", "/v1/audit", "/v1/tables")
            ),
            ask(client, "GET", "/v1/explain?ip=203.0.113.1", 200),
            ask(client, "DELETE", "/v1/keys/k1", 409),
        ]
        ask(client, "POST", "/v1/keys", 201, json={"id": "k9", "secret": GIVEN.replace("given", "never")})
        ask(client, "DELETE", "/v1/keys/k9", 200)
        for text in texts:
            assert secret not in text
            assert GIVEN[:20] not in text
        result = [
            path.name
            for path in settings.state.iterdir()
            if not path.is_socket() and any(word.encode() in path.read_bytes() for word in (secret, GIVEN[:20]))
        ]
        assert result == [FILE]
        assert b"never-0123" not in (settings.state / FILE).read_bytes()
    assert secret not in caplog.text
    assert GIVEN[:20] not in caplog.text


def test_running_workers_sign_with_what_is_made_and_stop_at_what_is_taken_out(tmp_path: Path, fleet: Fleet) -> None:
    with serving(publish_tiny_fleet(tmp_path, fleet)) as served, RemoteControl(served.settings) as control:

        def url() -> str:
            return str(served.steer()["targets"][0]["url"])

        control.fleet.replace(signing(fleet, "k1"), "alice")
        until(lambda: url().startswith("https://origin.example/"))
        secret = control.keys.make("k1", "alice")["secret"]
        until(lambda: all("/~k1~" in url() for _ in range(10)))
        assert verify("path", url(), "203.0.113.7", {"k1": secret}, time.time()) is Verdict.good
        control.keys.make("k2", "alice")
        control.fleet.replace(signing(fleet, "k2"), "alice")
        until(lambda: all("/~k2~" in url() for _ in range(10)))
        control.keys.retire("k1", "alice")
        assert "/~k2~" in url()


def test_the_command_line_speaks_to_a_running_control(settings: Settings) -> None:
    with running_control_app(settings), RemoteControl(settings) as control:
        secret = control.keys.make("k1", "alice")["secret"]
        assert read_keys(settings.state)["k1"].secret == secret
        assert [row["id"] for row in control.keys.list()] == ["k1"]
        assert control.keys.retire("k1", "alice")["id"] == "k1"
        with pytest.raises(RequestError, match="there is none of this id"):
            control.keys.retire("k 1", "alice")
        assert read_keys(settings.state) == {}
