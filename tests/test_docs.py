"""The docs agree with the code: links and named files exist, examples work, and nothing is left out."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from _fastpath.status_words import REASONS
from steering.cli import main
from steering.control.api.report_format import HealthRow, ReportRow, parse
from steering.control.fill import catalogue, launches, plays, recipes
from steering.control.fill.holdings_rows import Delta, Full, digest_of
from steering.control.records.documents import FIELDS, parse_fleet
from steering.control.routes.bgp.sessions import read_sessions
from steering.control.routes.feeds import FeedSource, csv, kind_of, read_feed
from steering.control.routes.rpki import read_payloads
from steering.model.fleet import Fleet
from steering.model.service import Service
from steering.playback.http.steer import PARAMETERS
from steering.playback.signing.tokens import Signing, SigningKey, token_for
from steering.settings import Settings

ROOT = Path(__file__).parents[1]
PLACE = (
    r"`((?:steering|_fastpath|tests|geo_data|docs|deploy)/[\w/.-]+?)(?:: ([\w.]+))?`"  # a file, perhaps a name in it
)
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
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), target


def test_files_that_the_docs_name_exist() -> None:
    for page in PAGES:
        for name, inside in re.findall(PLACE, page.read_text()):
            file = ROOT / name
            assert file.exists(), f"{page.name}: {name}"
            assert not inside or re.search(rf"\b{inside}\b", file.read_text()), f"{page.name}: {name} has no {inside}"


def test_no_page_uses_a_retired_word() -> None:
    retired = re.compile(r"\b(lanes?|doors?|voices?|wish(es)?|belief|blast|heat|rungs?)\b", re.IGNORECASE)
    assert [f"{page.name}: {word[0]}" for page in PAGES for word in retired.finditer(page.read_text())] == []


def test_the_glossary_defines_each_word_once() -> None:
    words = re.findall(r"^\| ([^|]+) \| [^|]+\.\)? \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(words) == len(set(words)) > 60


def test_every_answer_of_where_is_names_a_place_in_the_code() -> None:
    rows = [line for line in (ROOT / "docs" / "where-is.md").read_text().splitlines() if line.startswith("| **")]
    assert len(rows) >= 12
    assert [row for row in rows if not re.search(PLACE, row)] == []


def extensions() -> dict[str, str]:
    """Return the sections of extending.md by title."""
    _, *sections = re.split(r"^## (A new .+)$", (ROOT / "docs" / "extending.md").read_text(), flags=re.MULTILINE)
    return dict(zip(sections[::2], sections[1::2], strict=True))


def test_every_way_to_extend_is_described() -> None:
    assert set(extensions()) == {
        "A new query parameter",
        "A new refusal reason",
        "A new output form",
        "A new feed",
        "A new ranking key",
        "A new job",
        "A new verb of control",
    }


@pytest.mark.parametrize("title", extensions())
def test_an_extension_changes_at_most_two_source_modules_three_for_a_reason(title: str) -> None:
    files = [
        name for name, _ in re.findall(PLACE, "".join(re.findall(r"^\d\. .+$", extensions()[title], re.MULTILINE)))
    ]
    sources = {Path(name).with_suffix("") for name in files if name.startswith(("steering/", "_fastpath/"))}
    assert 1 <= len(sources) <= (3 if title == "A new refusal reason" else 2)
    assert any(name.startswith("tests/") for name in files)


@pytest.mark.parametrize("title", extensions())
def test_the_example_of_an_extension_is_where_the_section_says(title: str) -> None:
    section = extensions()[title]
    example = re.search(r"^Example: `(.+?)`", section, re.MULTILINE)
    assert example
    steps = re.findall(r"^\d\. .+$", section, re.MULTILINE)
    sources = {name for name, _ in re.findall(PLACE, "".join(steps)) if name.startswith(("steering/", "_fastpath/"))}
    assert [name for name in sorted(sources) if example[1] not in name + (ROOT / name).read_text()] == []


def test_every_setting_and_every_command_is_documented() -> None:
    documented = (ROOT / "docs" / "operating.md").read_text()
    assert [name for name in Settings.model_fields if f"| `{name}` |" not in documented] == []
    everywhere = "".join(page.read_text() for page in PAGES)
    for name, command in main.commands.items():
        inner = [f"{name} {word}" for word in command.commands] if isinstance(command, click.Group) else [name]
        assert [one for one in inner if one not in everywhere] == []


def test_every_parameter_and_every_reason_is_documented() -> None:
    documented = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in PARAMETERS if f"| `{name}` |" not in documented] == []
    assert [letter for letter in REASONS if f"`{letter}` " not in documented] == []


def test_every_column_of_feeds_and_field_of_fleets_is_documented() -> None:
    documented = (ROOT / "docs" / "formats.md").read_text()
    assert [name for name in csv.COLUMNS if f"| `{name}` |" not in documented] == []
    fields = {field.name for fields in FIELDS.values() for field in fields}
    assert [name for name in sorted(fields) if f"`{name}`" not in documented] == []


def test_the_fleet_document_of_the_docs_is_valid() -> None:
    blocks = re.findall(r"```json\n(.+?)```", (ROOT / "docs" / "formats.md").read_text(), re.DOTALL)
    (fleet,) = (document for document in map(json.loads, blocks) if "partners" in document)
    assert len(parse_fleet(json.dumps(fleet).encode()).appliances) == 1


def test_the_reports_of_the_docs_are_valid() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    whole, change = (json.loads(block) for block in re.findall(r"```json\n(.+?)```", page, re.DOTALL))
    row, then = (parse(json.dumps(report).encode()) for report in (whole, whole | {"holdings": change}))
    assert isinstance(row, ReportRow)
    assert isinstance(then, ReportRow)
    first, second = row.holdings, then.holdings
    assert isinstance(first, Full)
    assert isinstance(second, Delta)
    assert second.base == first.digest == digest_of(first.full)
    assert second.digest == digest_of({*first.full, *second.add} - {*second.remove})
    *_, python = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    scope: dict[str, Any] = {"hashlib": hashlib}
    exec(python, scope)
    assert scope["digest"](set(first.full)) == first.digest


def test_every_field_of_a_report_is_documented() -> None:
    documented = (ROOT / "docs" / "api.md").read_text()
    fields = {name for row in (ReportRow, HealthRow, Full, Delta) for name in row.__struct_fields__} - {"health"}
    assert [
        name for name in sorted(fields) if f"`{name}`" not in documented and f"`health.{name}`" not in documented
    ] == []


def test_the_feeds_and_sessions_of_the_docs_are_valid(fleet: Fleet, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    documents = [json.loads(block) for block in re.findall(r"```json\n(.+?)```", page, re.DOTALL)]
    (route,) = (item for item in documents if "prefix" in item)
    (zones,) = (item for item in documents if "coverageZones" in item)
    (payloads,) = (item for item in documents if "roas" in item)
    for name, text in (("r.jsonl", json.dumps(route)), ("z.json", json.dumps(zones)), ("p.json", json.dumps(payloads))):
        (tmp_path / name).write_text(text + "\n")
    for name in ("r.jsonl", "z.json"):
        feed = read_feed(FeedSource(kind_of(Path(name)), str(tmp_path / name)), fleet)
        assert feed.accepted
        assert not feed.refused
    assert read_payloads(tmp_path / "p.json").describe()["accepted"] == 1
    (toml,) = re.findall(r"```toml\n(\[\[session.+?)```", page, re.DOTALL)
    (tmp_path / "bgp.toml").write_text(toml)
    assert len(read_sessions(tmp_path / "bgp.toml", 65000)) == 1


def test_the_feeds_of_fill_of_the_docs_are_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "formats.md").read_text().partition("## Feeds of fill")[2]
    for name, text in zip(
        ("plays", "launches", "titles"), re.findall(r"```csv\n(.+?)```", page, re.DOTALL), strict=True
    ):
        (tmp_path / f"{name}.csv").write_text(text)
    played = plays.read_plays(tmp_path / "plays.csv", "video")
    launched = launches.read_launches(tmp_path / "launches.csv")
    titles = catalogue.read_catalogue(tmp_path / "titles.csv")
    assert (len(played), len(launched.launches), len(titles.titles)) == (2, 3, 2)
    assert not any((played.refused, launched.refused, titles.refused))
    document = next(block for block in re.findall(r"```json\n(.+?)```", page, re.DOTALL) if "part_bytes" in block)
    recipe = recipes.read_recipe(document.encode())
    recipes.check_size(recipes.name_of(document.encode()), recipe, "80100172", titles.titles[0].bytes)
    assert titles.titles[0].recipe == recipes.name_of(document.encode())
    columns = {*plays.COLUMNS, *launches.COLUMNS, *catalogue.COLUMNS, *recipes.RecipeFile.__struct_fields__}
    assert [name for name in sorted(columns) if f"`{name}`" not in page] == []


def test_the_tokens_of_the_docs_are_those_of_the_signer_and_of_openssl() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    documented = page[page.index("## Tokens in URLs") : page.index("## The state folder")]
    example = re.search(
        r"the secret `(\S+)` of the key `(k1)`, at (\d+) .*for the client (\S+), the title (\d+)", documented
    )
    assert example
    secret, key, now, client, title = example.groups()
    urls = [line for line in documented.splitlines() if line.startswith("https://")]
    templates = dict(re.findall(r"^\| `(\w+)` \| `(https://\S+\})[^`]*`", documented, re.MULTILINE))
    templates["path"] += "/master.m3u8"
    signed = []
    for form, bind in (
        ("path", False),
        ("path", True),
        ("query", False),
        ("secure_link", False),
        ("secure_link", True),
    ):
        service = Service(
            "video", templates[form], "https://origin.example/{title}", token=form, token_bind=bind, keys=(key,)
        )
        how = Signing.of(service)
        assert how
        keys = {key: SigningKey(key, secret)}
        token = token_for(how, keys, how.path_of(title), ipaddress.ip_address(client).packed, float(now))
        assert token
        url = service.url.replace("{host}", "c001-bom001.cdn.example").replace("{title}", title)
        signed.append(url.replace("{token}", token))
    assert urls == signed
    command, printed = re.findall(r"```console\n\$ (printf .+)\n(\S+)\n```", documented)[0]
    assert f"~{printed}/" in urls[0]
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    assert subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.strip() == printed


def test_the_example_services_are_a_valid_fleet() -> None:
    fleet = parse_fleet((ROOT / "deploy" / "services.json").read_bytes())
    assert [service.id for service in fleet.services] == ["download", "game", "video"]
    assert {service.token for service in fleet.services} == {"path", "secure_link"}
    assert {service.token_covers for service in fleet.services} == {"title", "service"}
    assert len({key for service in fleet.services for key in service.keys}) == 4
