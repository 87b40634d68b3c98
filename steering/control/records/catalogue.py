"""The catalogue: one row a service and title, and the recipes that titles name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from steering.control.records.rows import Repository, upsert

RECIPE_KEY = ("service", "name")
MOST_DELETED = 1000  # recipes at a time


@dataclasses.dataclass(frozen=True, slots=True)
class TitleRow:
    """A title. `regions` has spaces between; `available_from` and `available_until` are None without a limit."""

    service: str
    title: str
    bytes: int
    recipe: str = ""
    kind: str = "other"
    available_from: float | None = None
    available_until: float | None = None
    regions: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RecipeRow:
    """A recipe: the exact bytes of its document, the bytes of its files, and how many they are."""

    service: str
    name: str
    body: bytes
    bytes: int
    files: int
    put_at: float
    who: str


TITLE_COLUMNS = tuple(field.name for field in dataclasses.fields(TitleRow))
# Rows that are as they were are not written: a nightly catalogue changes few.
PUT_TITLE = (
    f"INSERT INTO titles ({', '.join(TITLE_COLUMNS)}) VALUES ({', '.join('?' * len(TITLE_COLUMNS))})"  # noqa: S608
    f" ON CONFLICT (service, title) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in TITLE_COLUMNS)}"
    f" WHERE ({', '.join(TITLE_COLUMNS)}) IS NOT ({', '.join(f'excluded.{name}' for name in TITLE_COLUMNS)})"
)


class CatalogueRepository(Repository):
    """The tables `titles` and `recipes`."""

    def put_titles(self, rows: Iterable[TitleRow]) -> None:
        """Record titles in the place of others."""
        values = ([getattr(row, name) for name in TITLE_COLUMNS] for row in rows)
        self.connection.executemany(PUT_TITLE, values)

    def title(self, service: str, title: str) -> TitleRow | None:
        """Return one title, None where there is none."""
        row = self.connection.execute(
            "SELECT * FROM titles WHERE service = ? AND title = ?", (service, title)
        ).fetchone()
        return TitleRow(**row) if row else None

    def titles(self, service: str) -> Iterator[TitleRow]:
        """Yield the titles of a service, by id."""
        for row in self.connection.execute("SELECT * FROM titles WHERE service = ? ORDER BY title", (service,)):
            yield TitleRow(*row)

    def after(self, service: str, title: str, count: int) -> list[TitleRow]:
        """Return the next so many titles of a service after that one, by id."""
        rows = self.connection.execute(
            "SELECT * FROM titles WHERE service = ? AND title > ? ORDER BY title LIMIT ?", (service, title, count)
        )
        return [TitleRow(*row) for row in rows]

    def count(self, service: str) -> tuple[int, int]:
        """Return how many titles a service has, and their bytes."""
        row = self.connection.execute(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM titles WHERE service = ?", (service,)
        ).fetchone()
        return int(row[0]), int(row[1])

    def delete_titles(self, service: str, titles: Iterable[str]) -> None:
        """Delete titles; their recipes stay until `delete_unused_recipes`."""
        self.connection.executemany(
            "DELETE FROM titles WHERE service = ? AND title = ?", ((service, title) for title in titles)
        )

    def put_recipe(self, row: RecipeRow) -> None:
        """Record a recipe; one of that name has the same bytes."""
        upsert(self.connection, "recipes", RECIPE_KEY, [dataclasses.asdict(row)])

    def recipe(self, service: str, name: str) -> bytes | None:
        """Return the document of a recipe, None where there is none."""
        row = self.connection.execute(
            "SELECT body FROM recipes WHERE service = ? AND name = ?", (service, name)
        ).fetchone()
        return bytes(row[0]) if row else None

    def recipe_sizes(self, service: str) -> dict[str, int]:
        """Return the bytes of the files of each recipe of a service."""
        rows = self.connection.execute("SELECT name, bytes FROM recipes WHERE service = ?", (service,))
        return {row[0]: row[1] for row in rows}

    def recipes_since(self, service: str, put_at: float) -> set[str]:
        """Return the recipes of a service that were put after a time."""
        rows = self.connection.execute("SELECT name FROM recipes WHERE service = ? AND put_at > ?", (service, put_at))
        return {row[0] for row in rows}

    def missing_recipes(self, service: str) -> list[str]:
        """Return the titles of a service whose recipe is not here, by id."""
        rows = self.connection.execute(
            "SELECT title FROM titles WHERE service = ? AND recipe <> '' AND NOT EXISTS"
            " (SELECT 1 FROM recipes WHERE recipes.service = titles.service AND name = recipe) ORDER BY title",
            (service,),
        )
        return [row[0] for row in rows]

    def unused_recipes(self, service: str, put_before: float) -> list[str]:
        """Return the next older recipes that no title names."""
        rows = self.connection.execute(
            "SELECT name FROM recipes WHERE service = ? AND put_at < ? AND name NOT IN"
            " (SELECT recipe FROM titles WHERE service = ?) LIMIT ?",
            (service, put_before, service, MOST_DELETED),
        )
        return [row[0] for row in rows]

    def delete_recipes(self, service: str, names: Iterable[str]) -> None:
        """Delete recipes."""
        self.connection.executemany(
            "DELETE FROM recipes WHERE service = ? AND name = ?", ((service, name) for name in names)
        )
