"""The fleet as a document: JSON that people write and read, one object a line, and `Fleet` on the other side.

    {"format": 1,
     "partners": [{"id": "as55836", "name": "Reliance Jio", "country": "IN", "asns": [55836]}],
     "sites": [{"id": "bom001", "country": "IN", "city": "Mumbai", "latitude": 19.09, "longitude": 72.87}],
     "clusters": [{"id": "as55836-bom001", "site": "bom001", "class": "embedded", "partner": "as55836"}],
     "appliances": [{"id": "c001-bom001", "cluster": "as55836-bom001", "host": "c001.example", "capacity_gbps": 100}],
     "services": [{"id": "video", "url": "https://{host}/{title}", "fallback": "https://origin.example/{title}"}]}

A document is the whole fleet. All broken rules are collected before it is refused. An unknown field is an error, so
that a misspelt field does not silently become a default. Numbers and slots belong to the database, not to the document.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from steering.errors import FeedError
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Pathway, Service
from steering.settings import is_length_range
from steering.state.keys import TAG_KEYS

FORMAT: Final = 1
MAX_DOCUMENT: Final = 64 << 20  # bytes; 19,000 appliances with their clusters and sites take 4 MB
SHOWN: Final = 5
REQUIRED: Final = object()

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
COUNTRY = re.compile(r"[A-Z]{2}")
# Neither control characters nor invisible ones, such as those that change the direction of text.
LABEL = re.compile(r"[^\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]{1,200}")
# RFC 1123 2.1; the last label holds a letter, so that an address does not pass for a name.
HOST = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*(?![0-9]+$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
# The characters of RFC 3986 but for braces, which mark the places to be filled.
PART = r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*"
AUTHORITY = r"[A-Za-z0-9._~:-]*"
BEFORE_TITLE = rf"{PART}(\{{token\}}{PART})?"
URL = re.compile(rf"https?://{AUTHORITY}\{{host\}}{AUTHORITY}/{BEFORE_TITLE}\{{title\}}{PART}(\{{token\}}{PART})?")
FALLBACK = re.compile(rf"https?://[A-Za-z0-9]{AUTHORITY}/{PART}\{{title\}}{PART}")
PLAIN_URL = re.compile(rf"(?=.{{0,500}}$)(https?://[A-Za-z0-9]{AUTHORITY}(/{PART})?)?")
REGION = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
SUBDIVISION = re.compile(r"([A-Z]{2}-[A-Z0-9]{1,3})?")
PATHWAY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # draft-pantos-content-steering
# The parameters of tokens in a query: nothing else in a URL may have their names.
TOKEN_NAMES: Final = {"query": {"k", "e", "b", "t"}, "secure_link": {"md5", "expires", "k", "b"}}
# Where each form of token stands in a service's URL, and the rule in words.
IN_QUERY = re.compile(r"[^{}]*\{host\}[^{}?#]*\{title\}[^{}?#]*\?([^{}#]*&)?\{token\}(&[^{}#]*)?")
QUERY_RULE: Final = "{title} in its path and {token} in its query: https://{host}/v/{title}?{token}"
TOKEN_PLACES: Final = {
    "": (re.compile(r"[^{}]*\{host\}[^{}]*\{title\}[^{}]*"), "no {token}, or the form of its token"),
    "path": (
        re.compile(r"[^{}]*\{host\}[^{}/?#]*/\{token\}/([^{}?#/]*/){0,90}[^{}?#/]*\{title\}[^{}#]*"),
        "{token} as the first part of its path, {title} in another: https://{host}/{token}/v/{title}",
    ),
    "query": (IN_QUERY, QUERY_RULE),
    "secure_link": (IN_QUERY, QUERY_RULE),
}

FleetObject = Partner | Site | Cluster | Appliance | Service


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object: what it takes, and the rule in words. `most` > 0 makes it a list of so many at most."""

    name: str
    takes: Callable[[Any], bool]
    rule: str
    default: Any = REQUIRED
    most: int = 0


def text(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    """Return the test for a string that matches the whole pattern."""
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def number(low: float, high: float, *, whole: bool = False) -> Callable[[Any], bool]:
    """Return the test for a number from `low` to `high`; a boolean is none."""
    kinds = (int,) if whole else (int, float)
    return lambda value: type(value) in kinds and math.isfinite(value) and low <= value <= high


def is_bool(value: Any) -> bool:
    """Return whether a value is true or false."""
    return isinstance(value, bool)


def is_token_form(value: Any) -> bool:
    """Return whether a value names a form of tokens, or none."""
    return isinstance(value, str) and value in TOKEN_PLACES


def is_address(value: Any) -> bool:
    """Return whether a value is an IP address, written as the ipaddress module writes it."""
    try:
        return isinstance(value, str) and "%" not in value and str(ipaddress.ip_address(value)) == value
    except ValueError:
        return False


def is_pathway(value: Any) -> bool:
    """Return whether a value is a pathway: an id, and one of classes, clusters and a host."""
    if not isinstance(value, dict) or value.keys() - {"id", "classes", "clusters", "host"} or len(value) != 2:
        return False
    if not isinstance(value.get("id"), str) or not PATHWAY_ID.fullmatch(value["id"]):
        return False
    if "host" in value:
        return text(HOST)(value["host"])
    takes = RouteClass.__members__.__contains__ if "classes" in value else text(ID)
    names = value.get("classes", value.get("clusters"))
    return isinstance(names, list) and 0 < len(names) <= 1000 and all(isinstance(n, str) and takes(n) for n in names)


ASN_RULE = "an ASN is a number from 1 to 4294967294"
LENGTHS_RULE = "the least and most prefix length, as 8-24, within 0 and"
ID_RULE = "1 to 63 lower-case letters, digits and hyphens, the first no hyphen"
URL_OR_NONE = "an http(s) URL of at most 500 characters, or none"
REGION_RULE = "a country (ISO 3166-1) or a part of one (ISO 3166-2), such as IN or IN-MH"
PATHWAY_RULE = "an id of 1 to 64 letters, digits and ._- and one of classes, clusters (lists of them) and host"
COUNTRY_RULE = "a country is two capital letters (ISO 3166-1)"
LABEL_RULE = "1 to 200 characters without control or invisible characters"
URL_RULE = "an http(s) URL with {host} once in the place of its host, {title} once behind it, and {token} where signed"
FALLBACK_RULE = "an http(s) URL with a host of its own, {title} once behind it, and no {host}"

KINDS: Final[dict[str, tuple[type[FleetObject], int, tuple[Field, ...]]]] = {
    "partners": (
        Partner,
        100_000,
        (
            Field("id", text(ID), ID_RULE),
            Field("name", text(LABEL), LABEL_RULE),
            Field("country", text(COUNTRY), COUNTRY_RULE),
            Field("asns", number(1, 4294967294, whole=True), ASN_RULE, most=10_000),
            Field("allowed_asns", number(1, 4294967294, whole=True), ASN_RULE, (), most=100_000),
            Field("accepts_v4", lambda value: value == "" or is_length_range(value, 32), f"{LENGTHS_RULE} 32", ""),
            Field("accepts_v6", lambda value: value == "" or is_length_range(value, 128), f"{LENGTHS_RULE} 128", ""),
            Field("max_prefixes", number(0, 16_000_000, whole=True), "a number up to 16000000; 0 is the setting's", 0),
        ),
    ),
    "sites": (
        Site,
        100_000,
        (
            Field("id", text(ID), ID_RULE),
            Field("country", text(COUNTRY), COUNTRY_RULE),
            Field("city", text(LABEL), LABEL_RULE),
            Field("latitude", number(-90, 90), "degrees north, from -90 to 90"),
            Field("longitude", number(-180, 180), "degrees east, from -180 to 180"),
            Field("region", text(SUBDIVISION), "a part of its country (ISO 3166-2) such as IN-MH, or none", ""),
        ),
    ),
    "clusters": (
        Cluster,
        200_000,
        (
            Field("id", text(ID), ID_RULE),
            Field("site", text(ID), ID_RULE),
            Field("class", lambda name: name in RouteClass.__members__, f"one of {', '.join(RouteClass.__members__)}"),
            Field("partner", lambda value: value is None or text(ID)(value), ID_RULE, None),
            Field("countries", text(COUNTRY), COUNTRY_RULE, (), most=300),
            Field("accepts_off_net", is_bool, "true or false", False),
            Field("peers", is_address, "an IPv4 or IPv6 address in its shortest form", (), most=1000),
        ),
    ),
    "appliances": (
        Appliance,
        1_000_000,
        (
            Field("id", text(ID), ID_RULE),
            Field("cluster", text(ID), ID_RULE),
            Field("host", text(HOST), "a DNS name without a port"),
            # A weight has 16 bits, in units of 100 Mbit/s.
            Field(
                "capacity_gbps",
                lambda value: number(0, 6553.5)(value) and value > 0,
                "a number over 0 and at most 6553.5",
            ),
            Field("ipv4", is_bool, "true or false", True),
            Field("ipv6", is_bool, "true or false", True),
            Field("addresses", is_address, "an IPv4 or IPv6 address in its shortest form", (), most=16),
            Field("health_url", text(PLAIN_URL), URL_OR_NONE, ""),
        ),
    ),
    "services": (
        Service,
        1_000,
        (
            Field("id", text(ID), ID_RULE),
            Field("url", text(URL), URL_RULE),
            Field("fallback", text(FALLBACK), FALLBACK_RULE),
            Field("ttl_s", number(1, 86400, whole=True), "whole seconds, from 1 to 86400", 300),
            Field("regions", text(REGION), REGION_RULE, (), most=1000),
            Field("holdings", lambda kind: kind in ("title", "file"), "title or file", "title"),
            Field("fail_open", is_bool, "true or false", False),
            Field("n", number(1, 8, whole=True), "a number from 1 to 8", 3),
            Field("client_regions", text(REGION), REGION_RULE, (), most=1000),
            Field("refused_url", text(PLAIN_URL), URL_OR_NONE, ""),
            Field("token", is_token_form, f"one of {', '.join(filter(None, TOKEN_PLACES))}, or none", ""),
            Field("token_ttl_s", number(60, 604_800, whole=True), "whole seconds, from 60 to 604800", 43_200),
            Field("token_bind", is_bool, "true or false", False),
            Field("token_covers", lambda what: what in ("title", "service"), "title or service", "title"),
            Field("keys", text(ID), ID_RULE, (), most=8),
            Field("steer_ttl_s", number(1, 86_400, whole=True), "whole seconds, from 1 to 86400", 30),
            Field("ttl_jitter", number(0, 0.5), "a share from 0 to 0.5", 0.1),
            Field("pathways", is_pathway, PATHWAY_RULE, (), most=16),
            Field("clones", text(ID), ID_RULE, (), most=16),
            Field("origin", text(PLAIN_URL), URL_OR_NONE, ""),
        ),
    ),
}


def parse_fleet(document: bytes) -> Fleet:
    """Return the fleet that a document describes, unnumbered, each tuple ordered by id.

    Raises one FeedError that counts all broken rules and shows the first few with path, value and rule.
    """
    reading = Reading()
    tuples = reading.read(document)
    if reading.errors:
        lines = "".join(f"\n  {error}" for error in reading.errors[:SHOWN])
        rest = f"\n  and {len(reading.errors) - SHOWN} more" if len(reading.errors) > SHOWN else ""
        raise FeedError(f"the fleet document breaks {len(reading.errors)} rule(s):{lines}{rest}")
    return Fleet(**tuples)


def format_fleet(fleet: Fleet) -> str:
    """Return the document of a fleet: one object a line, ordered by id, fields at their default left out."""
    parts = []
    for kind, rows in rows_of(fleet).items():
        lines = ["    " + json.dumps(row, ensure_ascii=False) for row in rows]
        parts.append(f'  "{kind}": [\n' + ",\n".join(lines) + "\n  ]" if lines else f'  "{kind}": []')
    return f'{{\n  "format": {FORMAT},\n' + ",\n".join(parts) + "\n}\n"


def rows_of(fleet: Fleet) -> dict[str, list[dict[str, Any]]]:
    """Return all objects as their objects in a document, by kind, ordered by id."""
    return {
        kind: [row_of(item, fields) for item in sorted(getattr(fleet, kind), key=lambda item: str(item.id))]
        for kind, (_, _, fields) in KINDS.items()
    }


def row_of(item: FleetObject, fields: tuple[Field, ...]) -> dict[str, Any]:
    """Return one item as its object in a document."""
    row = {}
    for field in fields:
        value = getattr(item, attribute_of(field.name))
        if isinstance(value, RouteClass):
            value = value.name
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        elif field.name == "pathways":
            value = tuple({k: v for k, v in dataclasses.asdict(pathway).items() if v} for pathway in value)
        if value != field.default:
            row[field.name] = value
    return row


def pathway_of(row: dict[str, Any]) -> Pathway:
    """Return the pathway of its object in a document."""
    return Pathway(row["id"], tuple(row.get("classes", ())), tuple(row.get("clusters", ())), row.get("host", ""))


def attribute_of(name: str) -> str:
    """Return the attribute behind a field; `class` is a keyword in Python."""
    return "route_class" if name == "class" else name


class Reading:
    """One document being read: collects what is wrong, `errors`, and goes on."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def refuse(self, path: str, value: Any, rule: str) -> None:
        """Add the error that the value at a path breaks a rule."""
        shown = repr(value)
        self.errors.append(f"{path} = {shown if len(shown) <= 80 else shown[:79] + '…'}: {rule}")

    def read(self, document: bytes) -> dict[str, tuple[Any, ...]]:
        """Return the tuples of a Fleet; meaningless when there are errors."""
        whole = self.read_json(document)
        if whole is None:
            return {}
        if whole.get("format", FORMAT) != FORMAT:
            self.refuse("format", whole["format"], f"this version reads format {FORMAT}")
        for key in whole.keys() - KINDS.keys() - {"format"}:
            self.errors.append(f"{key}: no such part; a fleet has {', '.join(KINDS)}")
        rows = {kind: self.read_rows(kind, whole.get(kind, [])) for kind in KINDS}
        objects = {kind: list(self.read_objects(kind, rows[kind])) for kind in KINDS}
        self.check_references(rows, objects)
        return {
            kind: tuple(sorted((item for _, item in indexed), key=lambda item: item.id))
            for kind, indexed in objects.items()
        }

    def read_json(self, document: bytes) -> dict[str, Any] | None:
        """Return the top object, or None with the error noted."""
        if len(document) > MAX_DOCUMENT:
            self.errors.append(f"{len(document)} bytes; at most {MAX_DOCUMENT}")
            return None
        try:
            whole = json.loads(document, object_pairs_hook=once, parse_constant=no_constant)
        except (ValueError, RecursionError) as error:
            self.errors.append(f"not JSON: {error}")
            return None
        if not isinstance(whole, dict):
            self.errors.append(f"a fleet is an object, not {type(whole).__name__}")
            return None
        return whole

    def read_rows(self, kind: str, rows: Any) -> list[dict[str, Any]]:
        """Return the objects of one part; a value that is no object becomes an empty one, so that indexes stay."""
        most = KINDS[kind][1]
        if not isinstance(rows, list) or len(rows) > most:
            what = f"{len(rows)} of them" if isinstance(rows, list) else rows
            self.refuse(kind, what, f"a list of at most {most} objects")
            return []
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                self.refuse(f"{kind}[{index}]", row, "an object")
        return [row if isinstance(row, dict) else {} for row in rows]

    def read_objects(self, kind: str, rows: list[dict[str, Any]]) -> Iterator[tuple[int, Any]]:
        """Yield (index, item) for every row whose fields are right; ids are checked to be given once."""
        make, _, fields = KINDS[kind]
        names = {field.name for field in fields}
        seen: dict[Any, int] = {}
        for index, row in enumerate(rows):
            if not row:
                continue
            path, before = f"{kind}[{index}]", len(self.errors)
            for name in row.keys() - names:
                self.refuse(
                    f"{path}.{name}", row[name], f"no such field; one of {', '.join(field.name for field in fields)}"
                )
            values = {attribute_of(field.name): self.read_field(path, field, row) for field in fields}
            own = row.get("id")
            if isinstance(own, str) and seen.setdefault(own, index) != index:
                self.refuse(f"{path}.id", own, f"given already to {kind}[{seen[own]}]")
            if len(self.errors) == before:
                if kind == "clusters":
                    values["route_class"] = RouteClass[values["route_class"]]
                if kind == "services":
                    values["pathways"] = tuple(map(pathway_of, values["pathways"]))
                yield index, make(**values)

    def read_field(self, path: str, field: Field, row: dict[str, Any]) -> Any:
        """Return the value of a field, a list as a tuple; a broken rule is noted."""
        value = row.get(field.name, field.default)
        if value is REQUIRED:
            self.errors.append(f"{path}.{field.name}: is missing: {field.rule}")
        elif not field.most:
            if not field.takes(value):
                self.refuse(f"{path}.{field.name}", value, field.rule)
        elif not isinstance(value, list | tuple) or len(value) > field.most:
            self.refuse(f"{path}.{field.name}", value, f"a list of at most {field.most}")
        else:
            for index, item in enumerate(value):
                if not field.takes(item):
                    self.refuse(f"{path}.{field.name}[{index}]", item, field.rule)
            return tuple(value)
        return value

    def check_references(
        self, rows: dict[str, list[dict[str, Any]]], objects: dict[str, list[tuple[int, Any]]]
    ) -> None:
        """Add an error for each dangling reference, each value given twice, and each cluster at odds with its class."""
        ids = {kind: {row["id"] for row in items if isinstance(row.get("id"), str)} for kind, items in rows.items()}
        holders: dict[int, str] = {}
        for index, partner in objects["partners"]:
            for position, asn in enumerate(partner.asns):
                if asn in holders:
                    self.refuse(f"partners[{index}].asns[{position}]", asn, f"is {holders[asn]}'s already")
                holders.setdefault(asn, partner.id)
        for index, cluster in objects["clusters"]:
            path = f"clusters[{index}]"
            local = cluster.route_class in (RouteClass.embedded, RouteClass.private)
            if cluster.site not in ids["sites"]:
                self.refuse(f"{path}.site", cluster.site, "no such site")
            if cluster.partner is not None and cluster.partner not in ids["partners"]:
                self.refuse(f"{path}.partner", cluster.partner, "no such partner")
            if local and cluster.partner is None:
                self.refuse(f"{path}.partner", None, f"a cluster of class {cluster.route_class.name} needs a partner")
            if cluster.route_class is RouteClass.exchange and cluster.partner is not None:
                self.refuse(f"{path}.partner", cluster.partner, "a cluster at an exchange has none")
            if local and cluster.countries:
                self.refuse(
                    f"{path}.countries", list(cluster.countries), "only a cluster at an exchange hears countries"
                )
        for index, service in objects["services"]:
            self.check_signing(f"services[{index}]", service)
            path = f"services[{index}]"
            names = [pathway.id for pathway in service.pathways]
            for position, pathway in enumerate(service.pathways):
                if names.index(pathway.id) < position:
                    self.refuse(f"{path}.pathways[{position}].id", pathway.id, "is another pathway's already")
                for cluster in pathway.clusters:
                    if cluster not in ids["clusters"]:
                        self.refuse(f"{path}.pathways[{position}].clusters", cluster, "no such cluster")
        hosts: dict[str, str] = {}
        for index, appliance in objects["appliances"]:
            path = f"appliances[{index}]"
            if appliance.cluster not in ids["clusters"]:
                self.refuse(f"{path}.cluster", appliance.cluster, "no such cluster")
            if hosts.setdefault(appliance.host.lower(), appliance.id) != appliance.id:
                self.refuse(f"{path}.host", appliance.host, f"is {hosts[appliance.host.lower()]}'s already")
            if appliance.health_url and not appliance.addresses:
                self.refuse(
                    f"{path}.health_url", appliance.health_url, "is asked for at `addresses`; give at least one"
                )
            if not appliance.ipv4 and not appliance.ipv6:
                self.refuse(f"{path}.ipv6", False, "an appliance answers on IPv4, IPv6 or both")

    def check_signing(self, path: str, service: Service) -> None:
        """Add an error where a service's form of token, its URL and its keys do not match."""
        pattern, rule = TOKEN_PLACES[service.token]
        if not pattern.fullmatch(service.url):
            self.refuse(f"{path}.url", service.url, f"with token {service.token!r} a URL has {rule}")
        if service.token and not {b".", b".."}.isdisjoint(unquote_to_bytes(service.url.partition("?")[0]).split(b"/")):
            self.refuse(f"{path}.url", service.url, "a path that is signed has no part . or ..")
        names = {part.partition("=")[0] for part in service.url.partition("?")[2].split("&")}
        for name in sorted(names & TOKEN_NAMES.get(service.token, set())):
            self.refuse(f"{path}.url", service.url, f"{name}= is a parameter of the token's")
        if service.token and not service.keys:
            self.refuse(f"{path}.keys", [], f"URLs of form {service.token} are signed with a key; name one")
        for position, key in enumerate(service.keys):
            if service.keys.index(key) < position:
                self.refuse(f"{path}.keys[{position}]", key, "is named already")
            if key.startswith(TAG_KEYS):
                self.refuse(
                    f"{path}.keys[{position}]", key, f"keys {TAG_KEYS}… make session tags: no appliance may have one"
                )
        if service.token != "path" and service.token_covers != "title":  # noqa: S105 (no passwords)
            self.refuse(f"{path}.token_covers", "service", "only a token of form path covers more than one URL")
        if service.refused_url and not service.client_regions:
            self.refuse(f"{path}.refused_url", service.refused_url, "no client is refused; name client_regions")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; ValueError where a key is given twice, which JSON would let the last one win."""
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is given twice in one object")
    return row


def no_constant(name: str) -> Any:
    """Refuse NaN and Infinity, which are not JSON (RFC 8259, section 6)."""
    raise ValueError(f"{name} is no number in JSON")
