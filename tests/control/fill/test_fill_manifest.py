"""Fill manifests: whoever follows them has the plan's set, and a poll that changes nothing costs nothing."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from steering.control.fill.fill_manifest import (
    Changes,
    FillManifest,
    FullList,
    Held,
    Numbered,
    Outline,
    PollCache,
    Target,
    TitleRow,
    build,
    changes_between,
    etag_of,
    matches,
    read_have,
    render,
)
from steering.control.fill.fill_windows import FillWindow
from steering.control.fill.holdings_rows import digest_of, digest_text
from steering.errors import RequestError

WINDOW = FillWindow(1796000400, 1796043600, 1.2, 6_500_000_000_000)


def row(name: str, **other: Any) -> TitleRow:
    return TitleRow(name, 28_311_552_000, f"sha256-{name:0>64}", 1, **other)


def target(names: Iterable[str], renewed: Iterable[str] = ()) -> Target:
    ids = list(names)
    return Target(lambda: list(map(row, ids)), lambda some: list(map(row, some)), frozenset(renewed))


def held(names: Iterable[str], wanted: Iterable[str]) -> Held:
    return Held(digest_of(names), lambda: changes_between(names, wanted))


def outline(names: Iterable[str] = (), **other: Any) -> Outline:
    values: dict[str, Any] = {
        "appliance": "c008-hyd001",
        "plan": 31,
        "revision": "7",
        "expires_at": 1796100000,
        "fill_s": 300,
        "remove_after_s": 14400,
        "windows": (WINDOW,),
        "urgent_gbps": 0.0,
        "digests": (("video", digest_of(names)),),
    }
    return Outline(**(values | other))


def part_of(
    wanted: Iterable[str], holding: Iterable[str], named: str | None = None, **other: Any
) -> FullList | Changes:
    """Return the part of a service in the manifest of an appliance that names a digest, its own if none is given."""
    holding = list(holding)
    have = {"video": digest_of(holding) if named is None else named}
    manifest = build(outline(wanted), {"video": target(wanted, **other)}, have, {"video": held(holding, wanted)})
    (part,) = msgspec.json.decode(render(manifest), type=FillManifest).services
    return part


def test_a_manifest_has_the_fields_of_the_protocol() -> None:
    rows = [row("80100174", before=1796050000), row("80100175", urgent=True)]
    manifest = build(
        outline(["80100174", "80100175"], check=(("video", "80100174"),)),
        {"video": Target(lambda: rows, list)},
        {},
        {},
    )
    assert msgspec.json.decode(render(manifest)) == {
        "format": 1,
        "appliance": "c008-hyd001",
        "plan": 31,
        "expires_at": 1796100000,
        "fill_s": 300,
        "remove_after_s": 14400,
        "windows": [{"from": 1796000400, "until": 1796043600, "gbps": 1.2, "bytes": 6500000000000}],
        "urgent_gbps": 0.0,
        "services": [
            {
                "service": "video",
                "kind": "full",
                "digest": digest_of(["80100174", "80100175"]),
                "titles": [
                    {
                        "id": "80100174",
                        "bytes": 28311552000,
                        "recipe": f"sha256-{'80100174':0>64}",
                        "priority": 1,
                        "before": 1796050000,
                    },
                    {
                        "id": "80100175",
                        "bytes": 28311552000,
                        "recipe": f"sha256-{'80100175':0>64}",
                        "priority": 1,
                        "urgent": True,
                    },
                ],
            }
        ],
        "check": [{"service": "video", "id": "80100174"}],
    }


MANY = [str(number) for number in range(20)]
PARTS = [
    # name, wanted, holding, named digest, kind, titles or add, remove
    ("first poll", MANY, [], "", "full", MANY, None),
    ("lost base", MANY, MANY[:19], "19-0000000000000000", "full", MANY, None),
    ("changes", MANY[1:], MANY[:19], None, "delta", ["19"], ["0"]),
    ("nothing to do", MANY, MANY, None, "delta", [], []),
    ("a list that is shorter than the changes", MANY[:2], MANY[10:], None, "full", MANY[:2], None),
    ("remove all", [], MANY[:3], None, "full", [], None),
    ("nothing, and nothing held", [], [], None, "delta", [], []),
]


@pytest.mark.parametrize("case", PARTS, ids=[case[0] for case in PARTS])
def test_a_service_is_a_list_or_the_changes_to_what_the_appliance_reported(case: tuple[Any, ...]) -> None:
    _, wanted, holding, named, form, names, remove = case
    part = part_of(wanted, holding, named)
    assert part.digest == digest_of(wanted)
    if isinstance(part, FullList):
        assert (form, {title.id for title in part.titles}) == ("full", set(names))
    else:
        assert (form, {title.id for title in part.add}, list(part.remove)) == ("delta", set(names), remove)
        assert part.base == digest_of(holding)


def test_a_title_with_a_new_recipe_is_in_each_delta() -> None:
    part = part_of(MANY, MANY, renewed=["7"])
    assert isinstance(part, Changes)
    assert [title.id for title in part.add] == ["7"]


def test_after_ten_thousand_edits_the_digest_after_each_delta_is_the_plans() -> None:
    rnd = random.Random(19)
    names = [str(80_000_000 + number) for number in range(80)]
    wanted, holding = set(names[:40]), set[str]()
    forms = set()
    for _ in range(10_000):
        for _ in range(rnd.randrange(4)):
            wanted ^= {rnd.choice(names)}
        digest = digest_of(wanted)
        named = digest_of(holding) if rnd.random() < 0.95 else digest
        have = {"video": named}
        manifest = build(outline(wanted), {"video": target(wanted)}, have, {"video": held(holding, wanted)})
        (part,) = manifest.services
        forms.add(type(part))
        if isinstance(part, FullList):
            holding = {title.id for title in part.titles}
        else:
            assert part.base == digest_of(holding)
            holding = holding - {*part.remove} | {title.id for title in part.add}
        assert digest_of(holding) == part.digest == digest
    assert forms == {FullList, Changes}


CHANGED = [
    ("plan", {"plan": 32}),
    ("catalogue", {"revision": "8"}),
    ("window", {"windows": (WINDOW._replace(gbps=0.4),)}),
    ("urgent rate", {"urgent_gbps": 0.1}),
    ("target", {"digests": (("video", digest_of(["1"])),)}),
    ("service", {"digests": ()}),
    ("check", {"check": (("video", "1"),)}),
    ("life", {"expires_at": 1796100001}),
    ("appliance", {"appliance": "c009-hyd001"}),
]


@pytest.mark.parametrize("change", [row[1] for row in CHANGED], ids=[row[0] for row in CHANGED])
def test_whatever_changes_the_meaning_changes_the_etag(change: dict[str, Any]) -> None:
    assert etag_of(outline(MANY)) == etag_of(outline(MANY))
    assert etag_of(outline(MANY, **change)) != etag_of(outline(MANY))


def test_the_etag_is_that_of_the_target_and_not_of_the_way_there() -> None:
    etag = etag_of(outline(MANY))
    assert etag.startswith('"31-')
    for value, expected in [
        (etag, True),
        (f"W/{etag}", True),
        (f'"30-0000000000000000", {etag}', True),
        ("*", True),
        ("", False),
        ('"31"', False),
        (etag.strip('"'), False),
    ]:
        assert matches(value, etag) is expected, value


WRONG_HAVE = [
    ("no digest", ["video"], HAVE_RULE := "a service and the digest"),
    ("digest", ["video:1-abc"], HAVE_RULE),
    ("service", ["Video:1-1b82dc14c04bbc0a"], HAVE_RULE),
    ("twice", ["video:1-1b82dc14c04bbc0a"] * 2, "each service once"),
    ("too many", [f"s{number}:1-1b82dc14c04bbc0a" for number in range(33)], "at most 32 times"),
]


@pytest.mark.parametrize(("values", "message"), [row[1:] for row in WRONG_HAVE], ids=[row[0] for row in WRONG_HAVE])
def test_a_wrong_have_is_refused(values: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_have(values)


def test_have_is_read_by_service() -> None:
    assert read_have(["video:20388-1b82dc14c04bbc0a", "games:0-0000000000000000"]) == {
        "video": "20388-1b82dc14c04bbc0a",
        "games": "0-0000000000000000",
    }


def test_a_poll_is_unchanged_while_its_etag_is_kept() -> None:
    cache = PollCache()
    assert not cache.is_unchanged(7, '"31-aa"', 0)
    cache.keep(7, '"31-aa"', 100)
    assert cache.is_unchanged(7, '"31-aa"', 99)
    assert not cache.is_unchanged(7, '"31-aa"', 100)
    assert not cache.is_unchanged(7, '"30-aa"', 99)
    assert not cache.is_unchanged(8, '"31-aa"', 99)
    cache.drop(7)
    assert not cache.is_unchanged(7, '"31-aa"', 99)
    cache.keep(7, '"31-aa"', 100)
    cache.clear()
    assert not cache.is_unchanged(7, "*", 99)


def test_targets_as_bits_have_the_digest_and_the_changes_of_their_ids() -> None:
    rnd = random.Random(1)
    names = [str(number) for number in range(5000)]
    numbered = Numbered(names, names)
    sets = [0, 1, 1 << 4999, (1 << 5000) - 1, rnd.getrandbits(5000), rnd.getrandbits(300), rnd.getrandbits(300) << 700]
    for bits in sets:
        chosen = [name for index, name in enumerate(names) if bits >> index & 1]
        assert numbered.select(bits) == numbered.select_few(bits) == chosen
        assert digest_text(numbered.digest(bits)) == digest_of(chosen)
        for other in sets:
            assert numbered.digest_after(numbered.digest(bits), bits, other) == numbered.digest(other)
            add, remove = numbered.changes(bits, other)
            assert (set(add), set(remove)) == changes_between(chosen, numbered.select(other))
    assert digest_text(Numbered([], []).digest(0)) == digest_of([])
