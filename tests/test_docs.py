"""The docs are true where that can be checked: links lead somewhere, nothing that exists is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from steering.cli import main
from steering.control.fleet.documents import KINDS, parse_fleet
from steering.control.network.feeds import csv
from steering.playback.app import PARAMETERS
from steering.settings import Settings
from steering.snapshot import REASONS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "geo_data" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors_of(found), target


def test_files_that_the_docs_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(
            r"`((?:steering|_fastpath|tests|geo_data|docs|deploy)/[A-Za-z_/.]+?)`", page.read_text()
        ):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_setting_and_every_command_is_told_to_operators() -> None:
    told = (ROOT / "docs" / "operating.md").read_text()
    assert [name for name in Settings.model_fields if f"| `{name}` |" not in told] == []
    everywhere = "".join(page.read_text() for page in PAGES)
    for name, command in main.commands.items():
        inner = [f"{name} {word}" for word in command.commands] if isinstance(command, click.Group) else [name]
        assert [one for one in inner if one not in everywhere] == []


def test_every_parameter_and_every_reason_is_told_to_player_engineers() -> None:
    told = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in PARAMETERS if f"| `{name}` |" not in told] == []
    used = [letter for letter in REASONS if letter != "C"]  # what somebody holds is not reported yet
    assert [letter for letter in used if f"`{letter}` " not in told] == []


def test_every_column_and_field_is_told_to_who_writes_feeds_and_fleets() -> None:
    told = (ROOT / "docs" / "formats.md").read_text()
    assert [name for name in csv.COLUMNS if f"| `{name}` |" not in told] == []
    fields = {field.name for _, _, fields in KINDS.values() for field in fields}
    assert [name for name in sorted(fields) if f"`{name}`" not in told] == []


def test_the_fleet_document_of_the_docs_is_one() -> None:
    blocks = re.findall(r"```json\n(.+?)```", (ROOT / "docs" / "formats.md").read_text(), re.DOTALL)
    assert len(parse_fleet(json.dumps(json.loads(blocks[0])).encode()).appliances) == 1
