"""Metalink (RFC 5854) of one title: its files with sizes and hashes, and where each may be fetched, best first.

A stock download program such as aria2c can fill from it: it goes on after a break, changes to the next source when one
fails, and refuses a file or a part whose hash is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from lxml import etree

NAMESPACE: Final = "urn:ietf:params:xml:ns:metalink"
CONTENT_TYPE: Final = "application/metalink4+xml"
LEAST_PRIORITY: Final = 999_999  # RFC 5854, 4.2.16.1


class RecipeFile(Protocol):
    """A file of a recipe: SHA-256 of the whole and of each part, in hexadecimal."""

    @property
    def path(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def parts(self) -> Sequence[str]: ...


class Recipe(Protocol):
    """The files of a title, hashed in parts of `part_bytes`."""

    @property
    def part_bytes(self) -> int: ...
    @property
    def files(self) -> Sequence[RecipeFile]: ...


def render_metalink(recipe: Recipe, urls: Sequence[Callable[[str], str]]) -> bytes:
    """Return the Metalink of a recipe. Each source is a function from a file's path to its URL, the best one first."""
    root = etree.Element(f"{{{NAMESPACE}}}metalink", nsmap={None: NAMESPACE})
    add(root, "generator", "steering")
    for file in recipe.files:
        element = add(root, "file", name=file.path)
        add(element, "size", str(file.bytes))
        add(element, "hash", file.sha256, type="sha-256")
        if file.parts:
            pieces = add(element, "pieces", length=str(recipe.part_bytes), type="sha-256")
            for part in file.parts:
                add(pieces, "hash", part)
        for priority, url_of in enumerate(urls, 1):
            add(element, "url", url_of(file.path), priority=str(min(priority, LEAST_PRIORITY)))
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True))


def add(parent: etree._Element, name: str, text: str | None = None, /, **attributes: str) -> etree._Element:
    """Add an element to another, and return it."""
    element = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}", attributes)
    element.text = text
    return element
