"""`control.catalogue`: the titles that may be placed, and their recipes."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from steering.control.fill.catalogue import CatalogueTitle, read_catalogue
from steering.control.fill.recipes import NAME as RECIPE_NAME
from steering.control.fill.recipes import name_of, read_recipe
from steering.control.records.audit import Entry
from steering.control.records.catalogue import RecipeRow, TitleRow
from steering.control.records.database import NAME, reading
from steering.control.routes.build import Progress, quiet
from steering.control.services.concern import Concern
from steering.control.services.run import in_pieces
from steering.errors import RequestError
from steering.model.fleet import Fleet

KEPT_S: Final = 7 * 86_400  # that an unused recipe stays: appliances may be filling it
PIECE: Final = 500  # titles in one transaction: some 10 ms


@contextmanager
def feed_file(state: Path, name: str, body: bytes) -> Iterator[Path]:
    """Give a file of a feed that came as a request's body: readers take files. JSON Lines begin with a brace."""
    suffix = ".jsonl" if body.lstrip()[:1] == b"{" else ".csv"
    with tempfile.TemporaryDirectory(prefix=".feed-", dir=state) as folder:
        path = Path(folder) / f"{name}{suffix}"
        path.write_bytes(body)
        yield path


def require_service(fleet: Fleet, service: str) -> None:
    """Raise RequestError 404 unless the fleet has the service."""
    if service not in {item.id for item in fleet.services}:
        raise RequestError(f"there is no service {service!r}", status=404)


@dataclasses.dataclass(frozen=True)
class ReadCatalogue:
    """The task that reads a catalogue document: what a report says of it, and its rows in packed pieces."""

    state: Path
    service: str
    body: bytes

    def __call__(self, progress: Progress) -> tuple[dict[str, Any], list[bytes]]:
        """Read it."""
        progress("read the catalogue")
        with feed_file(self.state, "catalogue", self.body) as path:
            read = read_catalogue(path)
        rows = [row_of(self.service, title) for title in read.titles]
        pieces = [msgspec.msgpack.encode(rows[first : first + PIECE]) for first in range(0, len(rows), PIECE)]
        return read.describe(), pieces


@dataclasses.dataclass(frozen=True)
class CompareRecipes:
    """The task that counts the titles whose recipe is not on record, and names recipes that no title uses."""

    state: Path
    service: str
    put_before: float

    def __call__(self, progress: Progress) -> tuple[int, list[str]]:
        """Read the records."""
        progress("compare titles with recipes")
        with reading(self.state / NAME) as records:
            missing = len(records.catalogue.missing_recipes(self.service))
            return missing, records.catalogue.unused_recipes(self.service, self.put_before)


class CatalogueService(Concern):
    """`control.catalogue`."""

    def put(self, service: str, body: bytes, who: str) -> dict[str, Any]:
        """Put titles in the place of others; titles that are not in the document stay. A wrong row is refused alone."""
        require_service(self.fleet(), service)
        about, pieces = self.run("read the catalogue", ReadCatalogue(self.state, service, body), quiet)
        for (piece,) in in_pieces(pieces, 1, self.give_way):
            rows = msgspec.msgpack.decode(piece, type=list[TitleRow])
            with self.records.transaction() as transaction:
                transaction.catalogue.put_titles(rows)
        now = self.clock()
        task = CompareRecipes(self.state, service, now - KEPT_S)
        missing, unused = self.run("compare titles with recipes", task, quiet)
        with self.records.transaction() as transaction:
            transaction.catalogue.delete_recipes(service, unused)
            transaction.audit.add(Entry(now, who, "put catalogue", f"services/{service}", None, about))
        return {**about, "missing_recipes": missing}

    def remove(self, service: str, title: str, who: str) -> dict[str, Any]:
        """Take a title out of the catalogue; the next plan lets appliances remove it."""
        row = self.records.catalogue.title(service, title)
        if row is None:
            raise RequestError(f"service {service!r} has no title {title!r} in its catalogue", status=404)
        with self.records.transaction() as transaction:
            transaction.catalogue.delete_titles(service, [title])
            entry = Entry(self.clock(), who, "remove title", f"titles/{service}/{title}", dataclasses.asdict(row))
            transaction.audit.add(entry)
        return dataclasses.asdict(row)

    def rows(self, service: str, count: int = 1000, after: str = "") -> list[dict[str, Any]]:
        """Return the next titles after one; safe from any thread."""
        with self.records.reading() as records:
            return [dataclasses.asdict(row) for row in records.catalogue.after(service, after, count)]

    def put_recipe(self, service: str, recipe: str, body: bytes, who: str) -> dict[str, Any]:
        """Record a recipe; its name must be that of its bytes."""
        require_service(self.fleet(), service)
        if name_of(body) != recipe:
            raise RequestError.of_parameter("recipe", recipe, f"the name of the document is {name_of(body)}", 422)
        read = read_recipe(body)
        size, now = sum(file.bytes for file in read.files), self.clock()
        with self.records.transaction() as transaction:
            transaction.catalogue.put_recipe(RecipeRow(service, recipe, body, size, len(read.files), now, who))
            about = {"bytes": size, "files": len(read.files)}
            transaction.audit.add(Entry(now, who, "put recipe", f"recipes/{service}/{recipe}", None, about))
        return {"recipe": recipe, **about}

    def recipe(self, service: str, recipe: str) -> bytes:
        """Return the document of a recipe; safe from any thread. Raises RequestError 404."""
        with self.records.reading() as records:
            body = records.catalogue.recipe(service, recipe) if RECIPE_NAME.fullmatch(recipe) else None
        if body is None:
            raise RequestError(f"service {service!r} has no recipe {recipe!r}", status=404)
        return body


def row_of(service: str, title: CatalogueTitle) -> TitleRow:
    """Return a title as a row of the record."""
    fields = {field.name: getattr(title, field.name) for field in dataclasses.fields(title)}
    return TitleRow(service=service, **{**fields, "regions": " ".join(title.regions)})
