"""Certificates: which one a client gets, which files are refused, and how changed files are followed."""

from __future__ import annotations

import logging
import os
import shutil
import ssl
from pathlib import Path

import pytest

from steering.errors import SettingsError
from steering.settings import read_settings
from steering.tls.certificates import MAX_FILE, Certificates, load_certificate
from tests.support.certificates import Pair, make_certificate, openssl


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_certificate(tmp_path, "steer.example", "steer.example", "*.play.example")


def served(certificates: Certificates) -> list[str]:
    return [each.path.name for each in certificates.served]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("steer.example", "steer.example"),
        ("STEER.example.", "steer.example"),
        ("eu.play.example", "steer.example"),
        ("a.eu.play.example", "first.example"),  # a wildcard is for one label (RFC 6125, 6.4.3)
        ("play.example", "first.example"),
        ("first.example", "first.example"),
        ("www.first.example", "first.example"),
        ("only.example", "only.example"),  # no DNS names: the common name
        ("", "first.example"),
        ("192.0.2.1", "first.example"),
    ],
)
def test_a_client_gets_the_certificate_of_the_name_that_it_asks_for(
    tmp_path: Path, pair: Pair, asked: str, answered: str
) -> None:
    first = make_certificate(tmp_path, "first.example", "first.example")
    only = make_certificate(tmp_path, "only.example", key="rsa")
    found = Certificates([first, pair, only]).find(asked)
    assert found.path.name == f"{answered}.pem"


def encrypt(pair: Pair) -> None:
    openssl("pkcs8", "-topk8", "-in", str(pair[1]), "-out", f"{pair[1]}.new", "-passout", "pass:secret")
    Path(f"{pair[1]}.new").rename(pair[1])


def make_fifo(pair: Pair) -> None:
    pair[1].unlink()
    os.mkfifo(pair[1])


REFUSED = [
    ("no certificate", lambda pair: pair[0].unlink(), "tls_cert {0}: No such file or directory"),
    ("no key", lambda pair: pair[1].unlink(), "tls_key {1}: No such file or directory"),
    ("a folder", lambda pair: (pair[1].unlink(), pair[1].mkdir()), "tls_key {1}: no file of at most"),
    ("a pipe", make_fifo, "tls_key {1}: no file of at most"),
    (
        "too large",
        lambda pair: pair[0].write_bytes(b"x" * (MAX_FILE + 1)),
        "tls_cert {0}: no file of at most 1048576 bytes",
    ),
    ("no PEM", lambda pair: pair[0].write_bytes(b"\x30\x82"), "tls_cert {0}: no PEM file of certificates"),
    ("exchanged", lambda pair: shutil.copy(pair[1], pair[0]), "tls_cert {0}: no PEM file of certificates"),
    ("no key in PEM", lambda pair: shutil.copy(pair[0], pair[1]), "tls_key {1}: no PEM file of a private key"),
    (
        "cut off",
        lambda pair: pair[1].write_text(pair[1].read_text()[:90]),
        "tls_cert {0}, tls_key {1}: OpenSSL refuses them",
    ),
    ("encrypted", encrypt, "tls_key {1}: is encrypted"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_files_that_cannot_be_served_are_refused_by_name(
    tmp_path: Path, pair: Pair, name: str, spoil: object, message: str
) -> None:
    spoil(pair)  # type: ignore[operator]
    with pytest.raises(SettingsError) as caught:
        load_certificate(*pair)
    assert message.format(*pair) in caught.value.message


def test_the_key_of_another_certificate_is_refused(tmp_path: Path, pair: Pair) -> None:
    for key in ("ec", "rsa"):
        other = make_certificate(tmp_path, f"{key}.example", key=key)
        with pytest.raises(SettingsError) as caught:
            load_certificate(pair[0], other[1])
        assert str(other[1]) in caught.value.message
    weak = make_certificate(tmp_path, "weak.example", key="weak")
    with pytest.raises(SettingsError, match="KEY_TOO_SMALL"):
        load_certificate(*weak)


def test_an_expired_certificate_is_served_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = make_certificate(tmp_path, "late.example", days=-1)
    certificates = Certificates([pair])
    certificates.step()
    certificates.step()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"tls_cert {pair[0]}: expired at 20")
    assert certificates.expires_at() < certificates.clock()


def test_a_certificate_that_expires_while_it_is_served_is_warned_of(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    certificates = Certificates([pair], clock=lambda: now)
    assert "is not valid before" in caplog.text
    caplog.clear()
    now = certificates.served[0].starts_at + 1
    certificates.warned.clear()
    certificates.step()
    assert not caplog.records
    now = certificates.expires_at() + 1
    certificates.step()
    certificates.step()
    assert [": expired at " in record.getMessage() for record in caplog.records] == [True]


def test_changed_files_are_served_once_they_rest(tmp_path: Path, pair: Pair) -> None:
    certificates = Certificates([pair])
    before, context = certificates.served[0], certificates.context
    certificates.step()
    assert certificates.served[0] is before, "nothing has changed"
    new = make_certificate(tmp_path, "new.example")
    new[0].rename(pair[0])
    certificates.step()
    new[1].rename(pair[1])  # the key comes later: until then the files do not fit each other
    certificates.step()
    assert certificates.served[0] is before
    certificates.step()
    assert certificates.served[0].names == {"new.example"}
    assert certificates.context is context, "tickets of before stay good"


def test_a_bad_new_certificate_never_replaces_a_good_one_and_is_logged_once(
    tmp_path: Path, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates([pair])
    before, refused = certificates.served, []
    certificates.refused = lambda: refused.append(1)
    make_certificate(tmp_path, "new.example")[0].rename(pair[0])
    for _ in range(5):
        certificates.step()
    assert certificates.served is before
    assert len(refused) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"tls_key {pair[1]}: is not the key of the first certificate of {pair[0]}; the old certificates serve on"
    ]
    pair[0].unlink()
    for _ in range(3):
        certificates.step()
    assert (certificates.served, len(refused)) == (before, 2)
    (tmp_path / "new.example.key").rename(pair[1])
    make_certificate(tmp_path, "again.example")
    for end, path in zip(("pem", "key"), pair, strict=True):
        (tmp_path / f"again.example.{end}").rename(path)
    certificates.hurry()  # as SIGHUP does
    certificates.step()
    assert certificates.served[0].names == {"again.example"}


SETTINGS = [
    ({"listen": "tls:127.0.0.1:1"}, "tls:127.0.0.1:1 needs a certificate: set tls_cert and tls_key"),
    ({"control_listen": "tls:[::1]:1"}, "tls:[::1]:1 needs a certificate: set tls_cert and tls_key"),
    ({"tls_cert": "a.pem"}, "tls_cert names 1 files and tls_key 0: each certificate has a key"),
    ({"tls_cert": "a.pem, b.pem", "tls_key": "a.key"}, "tls_cert names 2 files and tls_key 1"),
    ({"control_client_ca": "ca.pem"}, "control_client_ca is for TLS: begin a listener of control_listen with tls:"),
    ({"listen": "tls:unix:/run/a.sock", "tls_cert": "a.pem", "tls_key": "a.key"}, "TLS is for addresses"),
    (
        {"listen": "tls:localhost:1", "tls_cert": "a.pem", "tls_key": "a.key"},
        "does not appear to be an IPv4 or IPv6 address",
    ),
    ({"listen": "ssl:127.0.0.1:1"}, "does not appear to be an IPv4 or IPv6 address"),
]


@pytest.mark.parametrize(("given", "rule"), SETTINGS, ids=[row[1] for row in SETTINGS])
def test_settings_of_tls_that_contradict_are_refused(given: dict[str, str], rule: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(**given)
    assert rule in caught.value.message


def test_settings_of_tls_are_read() -> None:
    settings = read_settings(listen="tls:0.0.0.0:443, 127.0.0.1:80", tls_cert="a.pem, b.pem", tls_key="a.key,b.key")
    assert settings.listen == ("tls:0.0.0.0:443", "127.0.0.1:80")
    assert settings.tls_key == (Path("a.key"), Path("b.key"))


def test_a_file_of_client_cas_is_checked(tmp_path: Path, pair: Pair) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"control_client_ca .*: no PEM file of certificates"):
        Certificates([pair], tmp_path / "ca.pem")
    shutil.copy(pair[0], tmp_path / "ca.pem")
    assert Certificates([pair], tmp_path / "ca.pem").context.verify_mode is ssl.CERT_OPTIONAL
