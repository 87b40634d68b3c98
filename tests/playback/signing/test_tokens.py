"""What is signed is worth it until it expires, for whom it was signed, and nothing that is changed is; by a second hand."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import ipaddress
import random
import re
from typing import Any
from urllib.parse import parse_qs, quote, unquote_to_bytes

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from _fastpath.client import pack, unwrap
from steering.model.service import Service
from steering.playback.signing import tokens as signing
from steering.playback.signing.tokens import Signing, SigningKey, token_for
from tests.support.token_verifier import Verdict, verify

NOW = 1_767_225_000.0
SECRETS = {"k1": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG", "k2": "GFEDCBAzyxwvutsrqponmlkjihgfedcba9876543210"}
KEYS = {name: SigningKey(name, secret) for name, secret in SECRETS.items()}
URLS = {
    "path": "https://{host}/{token}/v/{title}/master.m3u8",
    "query": "https://{host}/v/{title}.mp4?a=b&{token}",
    "secure_link": "https://{host}/v/{title}?{token}",
}
CLIENT, NEIGHBOUR, STRANGER = "49.36.1.1", "49.36.1.254", "49.36.2.1"
CLIENT_V6, NEIGHBOUR_V6, STRANGER_V6 = "2001:db8:1::1", "2001:db8:1:ffff::9", "2001:db8:2::1"


def service_of(form: str, **fields: Any) -> Service:
    url = fields.pop("url", URLS[form])
    return Service("video", url, "https://origin.example/{title}", token=form, keys=("k1", "k2"), **fields)


def signed(service: Service, title: str, client: str = CLIENT, now: float = NOW, keys: Any = KEYS) -> str:
    """Return a title's URL, signed."""
    url = service.url.replace("{host}", "c1.example").replace("{title}", quote(title, safe=""))
    path = "/" + url.split("?")[0].split("/", 3)[3].removeprefix("{token}/")
    how = Signing.of(service)
    assert how
    token = token_for(how, keys, path, ipaddress.ip_address(client).packed, now)
    assert token
    return url.replace("{token}", token)


# ---- a second implementation, by docs/formats.md and not by the code


def base64url(data: bytes) -> str:
    return base64.b64encode(data).decode().replace("+", "-").replace("/", "_").replace("=", "")


def network(client: str, packed: bool = False) -> Any:
    address = ipaddress.ip_address(client)
    first = address.packed[: 3 if address.version == 4 else 6]
    return b" %d" % address.version + first if packed else first.hex()


def hmac_code(secret: str, *lines: object) -> str:
    message = "\n".join(str(line) for line in lines).encode()
    return base64url(hmac.new(secret.encode(), message, hashlib.sha256).digest()[:18])


def is_good(form: str, url: str, client: str, now: float) -> bool:
    """Tell whether the URL's token is good, recomputed from the URL alone."""
    path, _, query = url.removeprefix("https://c1.example").partition("?")
    given = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if form == "path":
        _, token, *rest = path.split("/")
        _, key, expiry, count, code = token.split("~")
        who = network(client) if count.endswith("b") else "-"
        covered = "".join("/" + part for part in rest[: int(count.removesuffix("b"))])
        return now <= int(expiry) and code == hmac_code(SECRETS[key], "path", key, expiry, who, covered)
    if form == "query":
        who = network(client) if given["b"] == "1" else "-"
        wanted = hmac_code(SECRETS[given["k"]], "query", given["k"], given["e"], who, path)
        return now <= int(given["e"]) and given["t"] == wanted
    uri = unquote_to_bytes(path)
    while b"//" in uri:
        uri = uri.replace(b"//", b"/")
    bound = network(client, packed=True) if given.get("b") == "1" else b""
    message = given["expires"].encode() + bound + uri + b" " + SECRETS[given["k"]].encode()
    return now <= int(given["expires"]) and given["md5"] == base64url(hashlib.md5(message).digest())


# ---- what is signed


FORMS = st.sampled_from(list(URLS))
TITLES = st.text(min_size=1, max_size=60).filter(lambda title: len(title.encode("utf-8", "ignore")) <= 256)
# As steering knows clients: those of 6to4 and the like are unwrapped.
ADDRESSES = st.ip_addresses().map(lambda address: str(ipaddress.ip_address(unwrap(pack(str(address)) or b""))))


def services() -> st.SearchStrategy[Service]:
    """Services of each form, of each expiry and binding, and covering what each may."""

    def make(form: str, binds: bool, ttl_s: int, covers: str) -> Service:
        covers = covers if form == "path" else "title"
        return service_of(form, token_bind=binds, token_ttl_s=ttl_s, token_covers=covers)

    return st.builds(make, FORMS, st.booleans(), st.integers(60, 604_800), st.sampled_from(["title", "service"]))


def is_served(title: str) -> bool:
    """Tell whether a title can stand in a URL: it is UTF-8, and no server reads a part of it as `..`."""
    try:
        return not {".", ".."} & set(title.encode().decode().split("/"))
    except UnicodeEncodeError:
        return False


@settings(deadline=None, max_examples=300)
@given(services(), TITLES.filter(is_served), ADDRESSES, st.floats(1, 2e9))
def test_what_is_signed_is_good_until_it_expires_by_both_hands(
    service: Service, title: str, client: str, now: float
) -> None:
    url = signed(service, title, client, now)
    assert verify(service.token, url, client, SECRETS, now) is Verdict.good
    assert verify(service.token, url, client, SECRETS, now + service.token_ttl_s) is Verdict.good
    assert is_good(service.token, url, client, now + service.token_ttl_s)
    late = now + service.token_ttl_s + signing.STEP_S
    assert verify(service.token, url, client, SECRETS, late + 1) is Verdict.expired
    assert not is_good(service.token, url, client, late + 1)


@settings(deadline=None, max_examples=300)
@given(services(), TITLES.filter(is_served), ADDRESSES, st.data())
def test_no_changed_byte_of_a_token_or_of_what_it_covers_is_good(
    service: Service, title: str, client: str, data: st.DataObject
) -> None:
    url = signed(service, title, client)
    before_token, after_token = service.url.replace("{title}", quote(title, safe="")).split("{token}")
    start = len(before_token.replace("{host}", "c1.example"))
    places = [*range(start, len(url) - len(after_token))]
    if service.token == "path":
        covered = "/v" if service.token_covers == "service" else f"/v/{quote(title, safe='')}"
        places += range(places[-1] + 1, places[-1] + 1 + len(covered))
    else:
        places += range(len("https://c1.example"), url.index("?"))
    at = data.draw(st.sampled_from(places))
    byte = data.draw(st.characters(max_codepoint=255).filter(lambda byte: byte != url[at]))
    changed = url[:at] + byte + url[at + 1 :]
    if service.token == "secure_link":  # nginx looks at a path as it decodes it
        assume(at >= start or signing.uri_of(changed[18:].split("?")[0]) != signing.uri_of(url[18:].split("?")[0]))
    assert verify(service.token, changed, client, SECRETS, NOW) is not Verdict.good


ALTERED = 96_000
HOST = re.compile("^https://[^/?#]*")  # no token is for one host


def test_of_tens_of_thousands_of_altered_urls_none_is_good() -> None:
    """Every byte of every form is replaced, left out, repeated, escaped and moved; titles, clients and times are others."""
    chance = random.Random(7)
    tried = 0
    forms = [
        service_of(form, token_bind=binds, token_covers=covers)
        for form in URLS
        for binds in (False, True)
        for covers in (("title", "service") if form == "path" else ("title",))
    ]
    while tried < ALTERED:
        service = forms[tried % len(forms)]
        title = chance.choice(["80100172", "a b", "\u65e5\u672c", "x/y", "a" * 60, "%2e"])
        client = chance.choice([CLIENT, CLIENT_V6])
        url = signed(service, title, client)
        start = len("https://c1.example")
        assert verify(service.token, url, client, SECRETS, NOW) is Verdict.good
        for at in range(start, len(url)):
            for changed in alterations(url, at, chance):
                tried += 1
                if verify(service.token, changed, client, SECRETS, NOW) is Verdict.good:
                    assert covers_the_same(service, url, changed), (service.token, url, changed)


def alterations(url: str, at: int, chance: random.Random) -> list[str]:
    other = chance.choice([char for char in "AZaz09-_~=&?/.%b" if char != url[at]])
    end = chance.randrange(at, len(url))
    return [
        url[:at] + other + url[at + 1 :],
        url[:at] + url[at + 1 :],
        url[:at] + url[at] + url[at:],
        url[:at] + f"%{ord(url[at]):02X}" + url[at + 1 :],
        url[:at] + other + url[at:],
        url[:at] + url[end:] + url[at:end],
    ]


def covers_the_same(service: Service, url: str, changed: str) -> bool:
    """Return whether a token is allowed to be good for another URL: of the same file, or of one below what it covers."""
    (path, _, query), (other, _, more) = (HOST.sub("", text).partition("?") for text in (url, changed))
    if service.token == "path":  # what the token covers, and anything below it
        count = int(path.split("/")[1].split("~")[3].removesuffix("b"))
        covered = path.split("/")[: count + 2]
        return other.split("/")[: count + 2] == covered
    wanted, given = parse_qs(query, keep_blank_values=True), parse_qs(more, keep_blank_values=True)
    names = ("k", "e", "b", "t") if service.token == "query" else ("k", "expires", "b", "md5")
    same = all(wanted.get(name, ["0"]) == given.get(name, ["0"]) for name in names)
    if service.token == "query":
        return same and path == other
    return same and signing.uri_of(path) == signing.uri_of(other)


@settings(deadline=None)
@given(services(), TITLES.filter(is_served), ADDRESSES, st.integers(2_100, 6_000_000), st.floats(0, 299.9))
def test_the_same_request_within_five_minutes_has_the_same_bytes(
    service: Service, title: str, client: str, window: int, later: float
) -> None:
    now = window * signing.STEP_S - service.token_ttl_s + 0.05
    assert signed(service, title, client, now) == signed(service, title, client, now + later)


CLIENTS = [
    # form, bound, signed for, brought by, verdict
    ("anybody's is good for a stranger", False, CLIENT, STRANGER, Verdict.good),
    ("and over the other family", False, CLIENT, CLIENT_V6, Verdict.good),
    ("and without an address", False, CLIENT, "", Verdict.good),
    ("a /24's is good inside it", True, CLIENT, NEIGHBOUR, Verdict.good),
    ("and not outside", True, CLIENT, STRANGER, Verdict.altered),
    ("a /48's is good inside it", True, CLIENT_V6, NEIGHBOUR_V6, Verdict.good),
    ("and not outside it", True, CLIENT_V6, STRANGER_V6, Verdict.altered),
    ("one family is not the other", True, CLIENT_V6, CLIENT, Verdict.altered),
    ("the other is not the one", True, CLIENT, CLIENT_V6, Verdict.altered),
    ("a mapped address is its own", True, CLIENT, f"::ffff:{NEIGHBOUR}", Verdict.good),
    ("6to4 is unwrapped, as steering does", True, CLIENT, "2002:3124:1::1", Verdict.altered),
    ("6to4 of the same network", True, CLIENT, "2002:3124:0105::1", Verdict.good),
    ("bound, and brought by nobody", True, CLIENT, "", Verdict.altered),
    ("bound, and brought by what is no address", True, CLIENT, "49.36.1", Verdict.altered),
]


@pytest.mark.parametrize("form", URLS)
@pytest.mark.parametrize(
    ("name", "bound", "signed_for", "brought_by", "verdict"), CLIENTS, ids=[row[0] for row in CLIENTS]
)
def test_a_bound_token_is_good_in_the_clients_network_alone(
    form: str, name: str, bound: bool, signed_for: str, brought_by: str, verdict: Verdict
) -> None:
    url = signed(service_of(form, token_bind=bound), "80100172", signed_for)
    assert verify(form, url, brought_by, SECRETS, NOW) is verdict


@pytest.mark.parametrize("form", URLS)
def test_the_first_key_that_is_known_signs_and_a_retired_one_is_worth_nothing(form: str) -> None:
    service = service_of(form)
    old = signed(service, "t")
    new = signed(service, "t", keys={"k2": KEYS["k2"]})
    for url in (old, new):  # during the overlap appliances know both
        assert verify(form, url, CLIENT, SECRETS, NOW) is Verdict.good
    assert verify(form, old, CLIENT, {"k2": SECRETS["k2"]}, NOW) is Verdict.unknown_key
    assert verify(form, new, CLIENT, {"k2": SECRETS["k2"]}, NOW) is Verdict.good
    assert verify(form, old, CLIENT, {"k1": SECRETS["k2"]}, NOW) is Verdict.altered
    how = Signing.of(service)
    assert how
    assert token_for(how, {}, "/v/t", b"\x7f\0\0\1", NOW) is None


def test_a_service_without_tokens_signs_nothing() -> None:
    assert Signing.of(dataclasses.replace(service_of("path"), token="")) is None


BELOW = [
    # what follows the token's own URL, whether it is covered
    ("/v/80100172/master.m3u8", True),
    ("/v/80100172/1080p/seg-1.ts?x=y", True),
    ("/v/80100172/", True),
    ("/v/80100172", True),
    ("/v/80100172?/v/80100173", True),
    ("/v/80100173/master.m3u8", False),
    ("/v/801001721", False),
    ("/v/8010017", False),
    ("/v", False),
    ("/", False),
    ("", False),
    ("/v/80100172/../80100173/master.m3u8", False),
    ("/v/80100172/%2e%2E/80100173/master.m3u8", False),
    ("/v/80100172/..%2f80100173", False),
    ("/v/80100172%2f80100173", False),
    ("/v/80100172/./x", False),
    ("//v/80100172/x", False),
    ("/v//80100172", False),
    ("/v/80100172/a b", False),
    ("/v/80100172/a\n", False),
    ("/%76/80100172", False),
]


@pytest.mark.parametrize(("path", "is_covered"), BELOW)
def test_a_token_in_the_path_covers_its_title_and_what_lies_below_it(path: str, is_covered: bool) -> None:
    url = signed(service_of("path"), "80100172")
    start = url[: url.index("/v/")]
    assert (verify("path", start + path, CLIENT, SECRETS, NOW) is Verdict.good) == is_covered


def test_a_token_of_the_service_covers_all_of_its_titles_and_one_of_the_root_all() -> None:
    url = signed(service_of("path", token_covers="service"), "80100172")
    assert "~1~" in url
    for path, wanted in (("/v/9/x", True), ("/v/9", True), ("/v", True), ("/w/80100172", False)):
        result = verify("path", url[: url.index("/v/")] + path, CLIENT, SECRETS, NOW)
        assert (result is Verdict.good) == wanted, path
    url = signed(service_of("path", token_covers="service", url="https://{host}/{token}/{title}"), "80100172")
    assert "~0~" in url
    assert verify("path", url.replace("80100172", "x/y"), CLIENT, SECRETS, NOW) is Verdict.good


def test_a_title_inside_a_part_is_covered_with_all_of_the_part() -> None:
    url = signed(service_of("path", url="https://{host}/{token}/a/b/{title}.mp4"), "x")
    assert "~3~" in url
    assert verify("path", url, CLIENT, SECRETS, NOW) is Verdict.good
    assert verify("path", url.replace(".mp4", ".mp5"), CLIENT, SECRETS, NOW) is Verdict.altered


def test_what_was_signed_in_one_form_is_nothing_in_another() -> None:
    query = signed(service_of("query", url="https://{host}/v/{title}?{token}"), "80100172")
    values = {name: value[0] for name, value in parse_qs(query.partition("?")[2]).items()}
    as_path = f"https://c1.example/~{values['k']}~{values['e']}~2~{values['t']}/v/80100172/other"
    assert verify("path", as_path, CLIENT, SECRETS, NOW) is Verdict.altered
    for form in URLS:
        for other in URLS:
            if form != other:
                assert verify(other, signed(service_of(form), "t"), CLIENT, SECRETS, NOW) is Verdict.missing


@pytest.mark.parametrize("more", ["&{name}={value}", "&{name}="])
@pytest.mark.parametrize("form", ["query", "secure_link"])
def test_a_parameter_of_the_token_that_is_given_twice_is_no_token(form: str, more: str) -> None:
    url = signed(service_of(form, token_bind=True), "t")
    for name, values in parse_qs(url.partition("?")[2]).items():
        if name != "a":
            twice = url + more.format(name=name, value=values[0])
            assert verify(form, twice, CLIENT, SECRETS, NOW) is Verdict.missing


@pytest.mark.parametrize(
    "url", ["", "x", "/", "/v/t", "//", "/~", "/~k1~1~0~", "https://c1.example", "/v?k=k1&e=1&b=0&t=", "/v?\udcff"]
)
@pytest.mark.parametrize("form", URLS)
def test_an_entry_without_a_token_is_marked(form: str, url: str) -> None:
    assert verify(form, url, CLIENT, SECRETS, NOW) is Verdict.missing


def test_a_secret_is_in_nothing_that_is_printed() -> None:
    assert SECRETS["k1"] not in repr(KEYS["k1"]) + str(KEYS) + repr(Signing.of(service_of("path")))
