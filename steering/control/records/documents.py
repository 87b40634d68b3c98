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
import json
import re
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any, Final, get_args, get_origin, get_type_hints
from urllib.parse import unquote_to_bytes

import msgspec

from steering.errors import FeedError, syntax_fault
from steering.model.fields import ClassName
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Service
from steering.state.keys import TAG_KEYS

FORMAT: Final = 1
MAX_DOCUMENT: Final = 64 << 20  # bytes; 19,000 appliances with their clusters and sites take 4 MB
SHOWN: Final = 5
FleetObject = Partner | Site | Cluster | Appliance | Service
# The type of each kind of object, and how many of them there may be.
KINDS: Final[dict[str, tuple[type[FleetObject], int]]] = {
    "partners": (Partner, 100_000),
    "sites": (Site, 100_000),
    "clusters": (Cluster, 200_000),
    "appliances": (Appliance, 1_000_000),
    "services": (Service, 1_000),
}
NUMBERS: Final = frozenset({"number", "slot"})  # attributes that a document does not have
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


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of an object in a document, and the rule in words. `most` > 0 makes it a list of so many at most.

    `check` is the test of a value that its type alone does not make right, such as an address.
    """

    name: str
    attribute: str
    type: Any
    rule: str
    default: Any
    most: int
    check: Callable[[Any], bool] | None

    def takes(self, value: Any) -> bool:
        """Return whether a value, of a list each, is within the limits of its type and passes the check."""
        try:
            msgspec.convert(value, self.type)
        except msgspec.ValidationError:
            return False
        return self.check is None or self.check(value)

    def passes(self, row: dict[str, Any]) -> bool:
        """Return whether a field whose type is right passes its check."""
        value = row.get(self.name, ())
        assert self.check
        return all(map(self.check, value)) if self.most else value == () or self.check(value)


def field_of(item: dataclasses.Field[Any], hint: Any) -> Field:
    """Return the field of a document for an attribute of the model; `class` is a keyword in Python."""
    name, hint = ("class", ClassName) if item.name == "route_class" else (item.name, hint)
    most = 0
    if get_origin(get_args(hint)[0]) is tuple:
        (of_list,) = hint.__metadata__
        hint, most = get_args(get_args(hint)[0])[0], of_list.max_length
    (meta,) = (get_args(hint)[0] if NoneType in get_args(hint) else hint).__metadata__
    return Field(name, item.name, hint, meta.description, item.default, most, (meta.extra or {}).get("check"))


FIELDS: Final[dict[type[FleetObject], tuple[Field, ...]]] = {
    kind: tuple(
        field_of(item, get_type_hints(kind, include_extras=True)[item.name])
        for item in dataclasses.fields(kind)
        if item.name not in NUMBERS
    )
    for kind, _ in KINDS.values()
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
    return {kind: [row_of(item) for item in sorted(getattr(fleet, kind), key=lambda item: item.id)] for kind in KINDS}


def row_of(item: FleetObject) -> dict[str, Any]:
    """Return one item as its object in a document."""
    row = {}
    for field in FIELDS[type(item)]:
        value = getattr(item, field.attribute)
        if isinstance(value, RouteClass):
            value = value.name
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        elif field.name == "pathways":
            value = tuple({k: v for k, v in dataclasses.asdict(pathway).items() if v} for pathway in value)
        if value != field.default:
            row[field.name] = value
    return row


def with_class(row: dict[str, Any]) -> dict[str, Any]:
    """Return a cluster's object with the number of its class in the place of the name."""
    name = row.get("class")
    number = RouteClass.__members__.get(name) if isinstance(name, str) else None
    return {**row, "route_class": number}


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
            self.errors.append(f"not JSON: {syntax_fault(error)}")
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
        make, _ = KINDS[kind]
        names = {field.name: field for field in FIELDS[make]}
        checked = [field for field in FIELDS[make] if field.check]
        seen: dict[Any, int] = {}
        for index, row in enumerate(rows):
            if not row:
                continue
            path, before = f"{kind}[{index}]", len(self.errors)
            for name in row.keys() - names.keys():
                self.refuse(f"{path}.{name}", row[name], f"no such field; one of {', '.join(names)}")
            own = row.get("id")
            if isinstance(own, str) and seen.setdefault(own, index) != index:
                self.refuse(f"{path}.id", own, f"given already to {kind}[{seen[own]}]")
            try:
                item = msgspec.convert(with_class(row) if make is Cluster else row, make)
                if not all(field.passes(row) for field in checked):
                    self.refuse_fields(path, FIELDS[make], row)
                elif len(self.errors) == before:
                    yield index, item
            except msgspec.ValidationError:
                self.refuse_fields(path, FIELDS[make], row)

    def refuse_fields(self, path: str, fields: tuple[Field, ...], row: dict[str, Any]) -> None:
        """Add the error of each field that is missing or breaks its rule."""
        for field in fields:
            where, value = f"{path}.{field.name}", row.get(field.name, field.default)
            if value is dataclasses.MISSING:
                self.errors.append(f"{where}: is missing: {field.rule}")
            elif not field.most:
                if not field.takes(value):
                    self.refuse(where, value, field.rule)
            elif not isinstance(value, list | tuple) or len(value) > field.most:
                self.refuse(where, value, f"a list of at most {field.most}")
            else:
                for position, part in enumerate(value):
                    if not field.takes(part):
                        self.refuse(f"{where}[{position}]", part, field.rule)

    def check_references(
        self, rows: dict[str, list[dict[str, Any]]], objects: dict[str, list[tuple[int, Any]]]
    ) -> None:
        """Add an error for each dangling reference, each value given twice, and each cluster at odds with its class."""
        ids = {kind: {row["id"] for row in items if isinstance(row.get("id"), str)} for kind, items in rows.items()}

        def require(kind: str, path: str, name: str) -> None:
            if name not in ids[kind]:
                self.refuse(path, name, f"no such {kind.removesuffix('s')}")

        holders: dict[int, str] = {}
        for index, partner in objects["partners"]:
            for position, asn in enumerate(partner.asns):
                if asn in holders:
                    self.refuse(f"partners[{index}].asns[{position}]", asn, f"is {holders[asn]}'s already")
                holders.setdefault(asn, partner.id)
        for index, cluster in objects["clusters"]:
            path = f"clusters[{index}]"
            is_local = cluster.route_class in (RouteClass.embedded, RouteClass.private)
            require("sites", f"{path}.site", cluster.site)
            if cluster.partner is not None:
                require("partners", f"{path}.partner", cluster.partner)
            elif is_local:
                self.refuse(f"{path}.partner", None, f"a cluster of class {cluster.route_class.name} needs a partner")
            if cluster.route_class is RouteClass.exchange and cluster.partner is not None:
                self.refuse(f"{path}.partner", cluster.partner, "a cluster at an exchange has none")
            if is_local and cluster.countries:
                rule = "only a cluster at an exchange hears countries"
                self.refuse(f"{path}.countries", list(cluster.countries), rule)
        for index, service in objects["services"]:
            path = f"services[{index}]"
            self.check_signing(path, service)
            names = [pathway.id for pathway in service.pathways]
            for position, pathway in enumerate(service.pathways):
                if names.index(pathway.id) < position:
                    self.refuse(f"{path}.pathways[{position}].id", pathway.id, "is another pathway's already")
                for name in pathway.clusters:
                    require("clusters", f"{path}.pathways[{position}].clusters", name)
        hosts: dict[str, str] = {}
        for index, appliance in objects["appliances"]:
            path = f"appliances[{index}]"
            require("clusters", f"{path}.cluster", appliance.cluster)
            if hosts.setdefault(appliance.host.lower(), appliance.id) != appliance.id:
                self.refuse(f"{path}.host", appliance.host, f"is {hosts[appliance.host.lower()]}'s already")
            if appliance.health_url and not appliance.addresses:
                rule = "is asked for at `addresses`; give at least one"
                self.refuse(f"{path}.health_url", appliance.health_url, rule)
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
