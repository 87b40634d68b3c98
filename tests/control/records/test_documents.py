from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering.control.records.documents import MAX_DOCUMENT, format_fleet, parse_fleet
from steering.errors import FeedError
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Service

SMALL: dict[str, Any] = {
    "format": 1,
    "partners": [{"id": "as1", "name": "One", "country": "IN", "asns": [1]}],
    "sites": [{"id": "bom001", "country": "IN", "city": "Mumbai", "latitude": 19.09, "longitude": 72.87}],
    "clusters": [{"id": "a", "site": "bom001", "class": "embedded", "partner": "as1"}],
    "appliances": [{"id": "c1", "cluster": "a", "host": "c1.example", "capacity_gbps": 100}],
    "services": [{"id": "video", "url": "https://{host}/{title}", "fallback": "https://origin.example/{title}"}],
}


def changed(path: str, value: Any) -> bytes:
    """Return the small document with the value at `clusters.0.site` replaced."""
    document = json.loads(json.dumps(SMALL))
    *parents, last = path.split(".")
    at = document
    for name in parents:
        at = at[int(name) if isinstance(at, list) else name]
    at[int(last) if isinstance(at, list) else last] = value
    return json.dumps(document).encode()


def added(kind: str, **fields: Any) -> bytes:
    """Return the small document with one more object, like the first but for these fields."""
    return changed(kind, [*SMALL[kind], {**SMALL[kind][0], **fields}])


def with_service(**fields: Any) -> bytes:
    """Return the small document with a service that has these fields, too."""
    return changed("services.0", {**SMALL["services"][0], **fields})


def signed(form: str, url: str, **fields: Any) -> bytes:
    """Return the small document with a service whose URLs are signed."""
    return with_service(**{"token": form, "url": url, "keys": ["k1"]} | fields)


BROKEN: list[tuple[str, bytes, str]] = [
    ("not JSON", b"{", "not JSON: Expecting property name"),
    ("not UTF-8", b'{"format": "\xff"}', "not JSON: it is not UTF-8, at byte 12"),
    ("nested too deep", b"[" * 100_000, "not JSON: it is nested too deep"),
    ("a number without end", b'{"format": ' + b"9" * 5000 + b"}", "not JSON: a number has too many digits"),
    ("a key twice", b'{"sites": [], "sites": []}', "key 'sites' is given twice in one object"),
    ("not a number", b'{"format": NaN}', "NaN is no number in JSON"),
    ("a list", b"[]", "a fleet is an object, not list"),
    ("too long", b" " * (MAX_DOCUMENT + 1), f"at most {MAX_DOCUMENT}"),
    ("another format", changed("format", 2), "format = 2: this version reads format 1"),
    ("an unknown part", changed("boxes", []), "boxes: no such part; a fleet has partners, sites"),
    ("a part that is no list", changed("services", {}), "services = {}: a list of at most 1000 objects"),
    ("an object that is none", changed("services.0", 5), "services[0] = 5: an object"),
    ("an unknown field", changed("appliances.0.capacity", 5), "appliances[0].capacity = 5: no such field; one of id, "),
    (
        "a missing field",
        changed("clusters.0", {"id": "a", "site": "bom001", "partner": "as1"}),
        "clusters[0].class: is missing",
    ),
    ("an id in capitals", changed("appliances.0.id", "C1"), "appliances[0].id = 'C1': 1 to 63 lower-case letters"),
    ("an id like an option", changed("appliances.0.id", "-c"), "appliances[0].id = '-c': "),
    ("an empty id", changed("services.0.id", ""), "services[0].id = '': "),
    ("an id of 64", changed("services.0.id", "x" * 64), "services[0].id = 'xxx"),
    ("an id that is a number", changed("services.0.id", 5), "services[0].id = 5: "),
    ("an id twice", added("sites"), "sites[1].id = 'bom001': given already to sites[0]"),
    ("no such site", changed("clusters.0.site", "x"), "clusters[0].site = 'x': no such site"),
    ("no such partner", changed("clusters.0.partner", "x"), "clusters[0].partner = 'x': no such partner"),
    ("no such cluster", changed("appliances.0.cluster", "x"), "appliances[0].cluster = 'x': no such cluster"),
    ("no such class", changed("clusters.0.class", "x"), "clusters[0].class = 'x': one of embedded, private, exchange"),
    ("a class that is a list", changed("clusters.0.class", ["exchange"]), "clusters[0].class = ['exchange']: one of"),
    ("a class by its number", changed("clusters.0.class", 2), "clusters[0].class = 2: one of embedded, private"),
    ("a slot", changed("appliances.0.slot", 7), "appliances[0].slot = 7: no such field"),
    ("an attribute of the model", changed("clusters.0.route_class", 2), "clusters[0].route_class = 2: no such field"),
    ("a line end after an id", changed("sites.0.country", "IN\n"), "sites[0].country = 'IN\\n': a country is two"),
    ("a whole number as a fraction", changed("services.0.ttl_s", 300.0), "services[0].ttl_s = 300.0: whole seconds"),
    ("an ASN as a fraction", changed("partners.0.asns", [1.0]), "partners[0].asns[0] = 1.0: an ASN is a number"),
    ("lengths the wrong way round", changed("partners.0.accepts_v4", "24-8"), "partners[0].accepts_v4 = '24-8': the l"),
    (
        "lengths of the other family",
        changed("partners.0.accepts_v4", "8-48"),
        "prefix length, as 8-24, within 0 and 32",
    ),
    (
        "IPv4 inside IPv6",
        changed("clusters.0.peers", ["::ffff:192.0.2.1"]),
        "clusters[0].peers[0] = '::ffff:192.0.2.1': an IPv4 or IPv6 address in its shortest form",
    ),
    (
        "an address in a long form",
        changed("appliances.0.addresses", ["::01"]),
        "appliances[0].addresses[0] = '::01': an",
    ),
    ("a pathway of two", with_service(pathways=[{"id": "p", "host": "h", "classes": ["embedded"]}]), "one of classes"),
    (
        "a pathway of none",
        with_service(pathways=[{"id": "p", "clusters": []}]),
        "services[0].pathways[0] = {'id': 'p',",
    ),
    ("embedded with nobody", changed("clusters.0.partner", None), "a cluster of class embedded needs a partner"),
    ("an exchange with a partner", changed("clusters.0.class", "exchange"), "a cluster at an exchange has none"),
    ("embedded that hears countries", changed("clusters.0.countries", ["IN"]), "only a cluster at an exchange hears"),
    ("a country in small letters", changed("sites.0.country", "in"), "sites[0].country = 'in': a country is two"),
    ("a country in a list", changed("clusters.0.countries", ["IN", 5]), "clusters[0].countries[1] = 5: a country is"),
    ("north of the pole", changed("sites.0.latitude", 90.1), "sites[0].latitude = 90.1: degrees north, from -90 to 90"),
    ("east of the date line", changed("sites.0.longitude", 181), "sites[0].longitude = 181: degrees east"),
    ("a place that is true", changed("sites.0.latitude", True), "sites[0].latitude = True: degrees north"),
    ("a place without end", changed("sites.0.latitude", 1e999), "Infinity is no number"),
    ("a line break in a name", changed("sites.0.city", "a\nb"), "sites[0].city = 'a\\nb': 1 to 200 characters"),
    ("an ASN of 0", changed("partners.0.asns", [1, 0]), "partners[0].asns[1] = 0: an ASN is a number from 1 to"),
    ("an ASN that is reserved", changed("partners.0.asns", [4294967295]), "partners[0].asns[0] = 4294967295: "),
    ("an ASN of two partners", added("partners", id="as2"), "partners[1].asns[0] = 1: is as1's already"),
    ("an ASN twice in one", changed("partners.0.asns", [7, 7]), "partners[0].asns[1] = 7: is as1's already"),
    ("no capacity", changed("appliances.0.capacity_gbps", 0), "appliances[0].capacity_gbps = 0: a number over 0"),
    ("more than a weight holds", changed("appliances.0.capacity_gbps", 6554), "capacity_gbps = 6554: a number over 0"),
    ("a host with a port", changed("appliances.0.host", "c1.example:80"), "a DNS name without a port"),
    ("a host with a quote", changed("appliances.0.host", 'c1"'), "a DNS name without a port"),
    ("a host that is an address", changed("appliances.0.host", "192.0.2.1"), "a DNS name without a port"),
    ("a host with an empty label", changed("appliances.0.host", "a..b"), "a DNS name without a port"),
    ("a host of 254", changed("appliances.0.host", "a." * 126 + "aa"), "a DNS name without a port"),
    (
        "a host of two",
        added("appliances", id="c2", host="C1.example"),
        "appliances[1].host = 'C1.example': is c1's alr",
    ),
    (
        "no family",
        changed("appliances.0", {**SMALL["appliances"][0], "ipv4": False, "ipv6": False}),
        "IPv4, IPv6 or both",
    ),
    ("a family that is 1", changed("appliances.0.ipv4", 1), "appliances[0].ipv4 = 1: true or false"),
    ("a URL without host", changed("services.0.url", "https://x/{title}"), "an http(s) URL with {host} once"),
    ("a URL without title", changed("services.0.url", "https://{host}/"), "an http(s) URL with {host} once"),
    (
        "a URL with two titles",
        changed("services.0.url", "https://{host}/{title}/{title}"),
        "an http(s) URL with {host}",
    ),
    ("a URL with the host behind", changed("services.0.url", "https://x/{host}/{title}"), "an http(s) URL with {host}"),
    ("a URL of another scheme", changed("services.0.url", "ftp://{host}/{title}"), "an http(s) URL with {host} once"),
    ("a URL with a quote", changed("services.0.url", 'https://{host}/"{title}'), "an http(s) URL with {host} once"),
    ("a fallback with host", changed("services.0.fallback", "https://{host}/{title}"), "and no {host}"),
    ("a fallback without title", changed("services.0.fallback", "https://origin.example/"), "and no {host}"),
    ("a ttl of 0", changed("services.0.ttl_s", 0), "services[0].ttl_s = 0: whole seconds, from 1 to 86400"),
    ("a ttl in halves", changed("services.0.ttl_s", 1.5), "services[0].ttl_s = 1.5: whole seconds"),
    ("half a region", changed("services.0.regions", ["US-"]), "services[0].regions[0] = 'US-': a country (ISO 3166-1)"),
    (
        "clients of nowhere",
        changed("services.0.client_regions", ["in"]),
        "services[0].client_regions[0] = 'in': a country",
    ),
    (
        "nobody to be sent away",
        with_service(refused_url="https://a.example/"),
        "no client is refused; name client_regions",
    ),
    ("no such form", with_service(token="jwt"), "services[0].token = 'jwt': one of path, query, secure_link, or none"),
    (
        "a form that is a list",
        with_service(token=[]),
        "services[0].token = []: one of path, query, secure_link, or none",
    ),
    ("a place for no token", with_service(url="https://{host}/{token}/{title}"), "with token '' a URL has no {token}"),
    (
        "no place for a token",
        signed("path", "https://{host}/v/{title}"),
        "with token 'path' a URL has {token} as the first",
    ),
    ("two places", signed("path", "https://{host}/{token}/{title}?{token}"), "with token 'path' a URL has {token} as"),
    (
        "a token behind the title",
        signed("path", "https://{host}/{title}/{token}"),
        "with token 'path' a URL has {token}",
    ),
    (
        "a token behind a part",
        signed("path", "https://{host}/v/{token}/{title}"),
        "with token 'path' a URL has {token} as",
    ),
    ("a part of a part", signed("path", "https://{host}/x{token}/{title}"), "with token 'path' a URL has {token} as"),
    (
        "a title that no token covers",
        signed("path", "https://{host}/{token}/v?f={title}"),
        "with token 'path' a URL has",
    ),
    (
        "a fragment is not sent",
        signed("path", "https://{host}/{token}/v/{title}#a"),
        "with token 'path' a URL has {token}",
    ),
    (
        "a query token in the path",
        signed("query", "https://{host}/{token}/{title}"),
        "with token 'query' a URL has {title}",
    ),
    (
        "a title in the query",
        signed("query", "https://{host}/v?f={title}&{token}"),
        "with token 'query' a URL has {title}",
    ),
    (
        "a token as a value",
        signed("query", "https://{host}/{title}?x={token}"),
        "with token 'query' a URL has {title} in",
    ),
    (
        "a token with more to it",
        signed("query", "https://{host}/{title}?{token}x"),
        "with token 'query' a URL has {title}",
    ),
    (
        "a token in the fragment",
        signed("query", "https://{host}/{title}?a#{token}"),
        "with token 'query' a URL has {title}",
    ),
    (
        "a path that goes up",
        signed("path", "https://{host}/{token}/v/%2E./{title}"),
        "a path that is signed has no part . or ..",
    ),
    (
        "a parameter of the token's",
        signed("query", "https://{host}/{title}?e=1&{token}"),
        "e= is a parameter of the token's",
    ),
    ("nginx's own", signed("secure_link", "https://{host}/{title}?{token}&expires=1"), "expires= is a parameter of"),
    (
        "nginx's in the path",
        signed("secure_link", "https://{host}/{token}/{title}"),
        "with token 'secure_link' a URL has",
    ),
    (
        "nobody signs",
        signed("path", "https://{host}/{token}/{title}", keys=[]),
        "services[0].keys = []: URLs of form path",
    ),
    (
        "a key twice",
        signed("path", "https://{host}/{token}/{title}", keys=["k1", "k2", "k1"]),
        "services[0].keys[2] = 'k1': is named already",
    ),
    (
        "a key for session tags",
        signed("path", "https://{host}/{token}/{title}", keys=["tag-1"]),
        "services[0].keys[0] = 'tag-1': keys tag-… make session tags",
    ),
    (
        "a query that covers all",
        signed("query", "https://{host}/{title}?{token}", token_covers="service"),
        "services[0].token_covers = 'service': only a token of form path covers more than one URL",
    ),
]


SIGNED: list[tuple[str, bytes]] = [
    ("path", signed("path", "https://{host}/{token}/v/{title}/master.m3u8?a=b")),
    ("the least path", signed("path", "http://{host}:8080/{token}/{title}", keys=["k2", "k1"], token_covers="service")),
    ("query", signed("query", "https://{host}/v/{title}.mp4?{token}", token_bind=True)),
    ("query among others", signed("query", "https://{host}/v/{title}?a=b&{token}&c=d", token_ttl_s=60)),
    ("secure_link", signed("secure_link", "https://cdn-{host}/{title}?a&{token}")),
    ("somewhere", with_service(regions=["US-CA", "DE"], client_regions=["IN-MH"], refused_url="https://a.example/why")),
]


@pytest.mark.parametrize(("name", "document"), SIGNED, ids=[row[0] for row in SIGNED])
def test_what_is_signed_and_where_it_may_be_played_is_read_and_written_back(name: str, document: bytes) -> None:
    fleet = parse_fleet(document)
    assert parse_fleet(format_fleet(fleet).encode()) == fleet
    (row,) = json.loads(format_fleet(fleet))["services"]
    (given,) = json.loads(document)["services"]
    assert row == given


def test_a_very_long_url_is_refused_as_fast_as_it_is_read() -> None:
    with pytest.raises(FeedError, match="an http"):
        parse_fleet(with_service(url="https://{host}/" + "a/" * 1_000_000 + "{titel}"))


@pytest.mark.parametrize(("name", "document", "expected"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_rule_is_refused_with_path_value_and_rule(name: str, document: bytes, expected: str) -> None:
    with pytest.raises(FeedError) as caught:
        parse_fleet(document)
    assert expected in caught.value.message
    assert "breaks 1 rule" in caught.value.message


def test_all_errors_are_counted_and_the_first_few_shown() -> None:
    rows = [{"id": f"c{i}", "cluster": f"x{i}", "host": f"c{i}.example", "capacity_gbps": 1} for i in range(40)]
    with pytest.raises(FeedError) as caught:
        parse_fleet(json.dumps({**SMALL, "appliances": rows}).encode())
    lines = caught.value.message.splitlines()
    assert lines[0] == "the fleet document breaks 40 rule(s):"
    assert lines[1] == "  appliances[0].cluster = 'x0': no such cluster"
    assert lines[-1] == "  and 35 more"


def test_defaults_are_those_of_the_model() -> None:
    fleet = parse_fleet(json.dumps(SMALL).encode())
    assert fleet == Fleet(
        (Partner("as1", "One", "IN", (1,)),),
        (Site("bom001", "IN", "Mumbai", 19.09, 72.87),),
        (Cluster("a", "bom001", RouteClass.embedded, "as1"),),
        (Appliance("c1", "a", "c1.example", 100),),
        (Service("video", "https://{host}/{title}", "https://origin.example/{title}"),),
    )


def test_an_empty_document_is_an_empty_fleet() -> None:
    assert parse_fleet(b"\xef\xbb\xbf{}") == Fleet((), (), (), (), ())


def test_a_document_has_one_object_a_line_in_the_order_of_ids(fleet: Fleet) -> None:
    text = format_fleet(fleet)
    lines = text.splitlines()
    assert lines[0:3] == ["{", '  "format": 1,', '  "partners": [']
    assert '    {"id": "as64500", "name": "Example ISP", "country": "IN", "asns": [64500]}' in lines
    appliances = [json.loads(line.rstrip(","))["id"] for line in lines if '"host"' in line]
    assert appliances == sorted(item.id for item in fleet.appliances)
    assert "slot" not in text
    assert "number" not in text


ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
labels = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
countries = st.from_regex(r"[A-Z]{2}", fullmatch=True)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    asns = iter(draw(st.lists(st.integers(1, 4294967294), unique=True, max_size=8)))
    partners = [
        Partner(name, draw(labels), draw(countries), tuple(asn for asn, _ in zip(asns, range(2), strict=False)))
        for name in draw(st.lists(ids, unique=True, max_size=3))
    ]
    sites = [
        Site(name, draw(countries), draw(labels), draw(st.floats(-90, 90)), draw(st.floats(-180, 180)))
        for name in draw(st.lists(ids, unique=True, min_size=1, max_size=3))
    ]
    kinds = list(RouteClass) if partners else [RouteClass.exchange, RouteClass.transit]
    clusters = []
    for name in draw(st.lists(ids, unique=True, min_size=1, max_size=4)):
        kind = draw(st.sampled_from(kinds))
        local = kind in (RouteClass.embedded, RouteClass.private)
        clusters.append(
            Cluster(
                name,
                draw(st.sampled_from(sites)).id,
                kind,
                draw(st.sampled_from(partners)).id if local else None,
                () if local else tuple(draw(st.lists(countries, max_size=3))),
                draw(st.booleans()),
            )
        )
    appliances = [
        Appliance(
            name,
            draw(st.sampled_from(clusters)).id,
            f"h{place}.example",
            draw(st.floats(0.01, 6553.5)),
            ipv4 := draw(st.booleans()),
            draw(st.booleans()) if ipv4 else True,
        )
        for place, name in enumerate(draw(st.lists(ids, unique=True, max_size=5)))
    ]
    services = [
        Service(
            name, "http://{host}:8080/v/{title}?a", "https://o.example/{title}", draw(st.integers(1, 86400)), ("IN",)
        )
        for name in draw(st.lists(ids, unique=True, max_size=2))
    ]
    parts = (partners, sites, clusters, appliances, services)
    return Fleet(*(tuple(sorted(part, key=lambda item: item.id)) for part in parts))  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(fleets())
def test_importing_an_export_changes_nothing(fleet: Fleet) -> None:
    text = format_fleet(fleet)
    assert parse_fleet(text.encode()) == fleet
    assert format_fleet(parse_fleet(text.encode())) == text


def test_an_export_leaves_the_stores_numbers_out(fleet: Fleet) -> None:
    result = parse_fleet(format_fleet(fleet).encode())
    assert {item.slot for item in result.appliances} == {-1}
    assert tuple(dataclasses.replace(item, slot=-1) for item in fleet.appliances) == result.appliances
