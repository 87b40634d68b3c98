"""From a folder and a plays file to a plan, as an owner and an operator use the commands."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from steering.cli import main
from steering.control.fill.recipes import read_recipe
from steering.control.records.documents import format_fleet
from steering.model.fleet import Fleet

Run = Callable[..., Result]
SIZE = 300_000
PLAYS = "day,area,title,plays\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Fleet) -> Run:
    """Return a function that runs the command over a state folder that serves the tiny fleet with small disks."""
    monkeypatch.setenv("STEERING_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    appliances = tuple(dataclasses.replace(item, disk_bytes=3 * SIZE) for item in fleet.appliances)
    Path("fleet.json").write_text(format_fleet(dataclasses.replace(fleet, appliances=appliances)))
    Path("routes.csv").write_text("prefix,cluster,as_path\n203.0.113.0/24,bom001-a,64500\n")
    Path("plays.csv").write_text(PLAYS + "2026-11-27,IN,t1,900\n2026-11-27,IN,t2,1\n2026-11-28,IN,t1,800\n")
    for title in ("t1", "t2"):
        (tmp_path / title / "high").mkdir(parents=True)
        (tmp_path / title / "high" / "v.mp4").write_bytes(title.encode() * (SIZE // 2 - 4))
        (tmp_path / title / "master.m3u8").write_bytes(b"#EXTM3U\n")

    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    call("fleet", "import", "fleet.json")
    call("table", "publish", "routes.csv")
    return call


@pytest.fixture
def planned(run: Run) -> Run:
    """Return the same function, with two titles and a plan in force."""
    for title in ("t1", "t2"):
        run("catalogue", "recipe", "video", title, "--title", title, "--kind", "film")
    run("fill", "plays", "video", "plays.csv")
    run("fill", "plan", "--why", "first")
    return run


def test_a_folder_becomes_a_recipe_and_a_title_of_the_catalogue(run: Run) -> None:
    (report,) = json.loads(run("catalogue", "recipe", "video", "t1", "--title", "t1", "--json").output)
    assert (report["files"], report["bytes"], report["title"]) == (2, SIZE, "t1")
    (row,) = json.loads(run("catalogue", "list", "video", "--json").output)
    assert (row["title"], row["bytes"], row["recipe"], row["kind"]) == ("t1", SIZE, report["recipe"], "other")
    actual = run("catalogue", "recipe", "video", "t1").output
    assert "hash 2 files of t1, 300 kB" in actual
    assert report["recipe"] in actual


def test_a_new_recipe_leaves_kind_times_and_regions_of_the_title(run: Run) -> None:
    run("catalogue", "recipe", "video", "t1", "--title", "t1", "--json")
    before = "2026-02-06T08:00:00Z"
    text = f"title,bytes,kind,available_from,regions\nt1,{SIZE},series,{before},IN LK\nt0,5,,,\nt10,5,,,\n"
    Path("titles.csv").write_text(text)
    run("catalogue", "put", "video", "titles.csv")
    run("catalogue", "recipe", "video", "t1", "--title", "t1", "--json")
    rows = json.loads(run("catalogue", "list", "video", "--json").output)
    assert [row["title"] for row in rows] == ["t0", "t1", "t10"]
    assert (rows[1]["kind"], rows[1]["regions"], rows[1]["available_from"]) == ("series", "IN LK", 1770364800.0)
    assert rows[1]["recipe"].startswith("sha256-")
    assert "none: it cannot be filled" in run("catalogue", "list", "video", "-n", "1").output


def test_a_catalogue_is_put_listed_and_cut(run: Run) -> None:
    rows = f"t1,6500000000000,film,sha256-{0:064}\nt2,0,film,\nt3,5,film,\n"
    Path("titles.csv").write_text(f"title,bytes,kind,recipe\n{rows}")
    actual = run("catalogue", "put", "video", "titles.csv").output
    assert "1 rows refused: a title has bytes" in actual
    assert "1 title names a recipe that is not on record" in actual
    assert "2 titles of 6.50 TB put" in actual
    run("catalogue", "remove", "video", "t3")
    assert [row["title"] for row in json.loads(run("catalogue", "list", "video", "--json").output)] == ["t1"]
    assert "has no title 't3'" in run("catalogue", "remove", "video", "t3", code=1).output
    assert "no title here" in run("catalogue", "list", "video", "--after", "t1").output


def test_a_recipe_that_was_made_elsewhere_is_recorded(run: Run) -> None:
    document = {"files": [{"path": "media", "bytes": 3, "sha256": "0" * 64}]}
    Path("recipe.json").write_text(json.dumps(document))
    assert read_recipe(Path("recipe.json").read_bytes()).bytes == 3
    assert "sha256-" in run("catalogue", "recipe", "video", "recipe.json", "--title", "t1").output


WRONG: list[tuple[tuple[str, ...], int, str]] = [
    (("catalogue", "recipe", "video", "none"), 1, "none: No such file or directory"),
    (("catalogue", "recipe", "video", "plays.csv"), 1, "plays.csv: is no recipe"),
    (("catalogue", "recipe", "video", "t1", "t2", "--title", "t1"), 2, "--title takes one PATH"),
    (("catalogue", "recipe", "video", "t1", "--kind", "film"), 2, "give --title too"),
    (("catalogue", "recipe", "video", "t1", "--title", ".."), 1, "a title is 1 to 256 bytes"),
    (("catalogue", "recipe", "music", "t1"), 1, "there is no service 'music'"),
    (("catalogue", "put", "video", "none.csv"), 1, "none.csv: No such file or directory"),
    (("catalogue", "put", "video", "plays.csv"), 1, "does not name the columns"),
    (("fill", "plays", "video", "routes.csv"), 1, "does not name the columns"),
    (("fill", "launches", "music", "plays.csv"), 1, "there is no service 'music'"),
    (("fill", "plan"), 1, "no plays were counted yet"),
    (("fill", "status"), 1, "no plan is in force"),
    (("fill", "pin"), 1, "no plan is in force"),
    (("fill", "rollback", "3"), 1, "there is no plan 3"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_what_is_wrong_is_a_sentence(run: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    assert message in run(*arguments, code=code).output
    assert "no plan was made yet" in run("fill", "plans").output


def test_a_title_that_cannot_be_put_records_no_title(run: Run) -> None:
    run("catalogue", "recipe", "video", "t1", "--title", "..", code=1)
    assert json.loads(run("catalogue", "list", "video", "--json").output) == []


def test_status_has_the_proof_and_the_clusters_most_behind(planned: Run) -> None:
    actual = planned("fill", "status").output
    assert "below the best possible plan" in actual
    assert "of all bytes" in actual
    report = json.loads(planned("fill", "status", "--json").output)
    assert report["bytes_left"] == report["planned_bytes"] >= SIZE
    assert [row["bytes_left"] for row in report["clusters"]] == sorted(
        (row["bytes_left"] for row in report["clusters"]), reverse=True
    )
    assert all(row["cluster"] in actual for row in report["clusters"] if row["bytes_left"])


def test_a_plan_explains_a_title_in_a_cluster(planned: Run) -> None:
    actual = planned("fill", "explain", "video", "t1", "bom001-a").output
    assert "worth more than the price" in actual
    assert "video/t1, 300 kB" in actual
    assert "has no title 't9'" in planned("fill", "explain", "video", "t9", "bom001-a", code=1).output
    assert "no cluster 'bom777'" in planned("fill", "explain", "video", "t1", "bom777", code=1).output


def test_plans_are_listed_pinned_and_rolled_back(planned: Run) -> None:
    assert "plan 1 is in force and pinned" in planned("fill", "pin", "--why", "launch week").output
    assert "is pinned by" in planned("fill", "plan", code=1).output
    assert "no plan is pinned" in planned("fill", "unpin").output
    assert "plan 2 is in force" in planned("fill", "plan", "--why", "second").output
    assert "steering fill unpin" in planned("fill", "rollback", "1").output
    rows = json.loads(planned("fill", "plans", "--json").output)
    assert [(row["plan"], row["serving"], row["pinned"], row["why"]) for row in rows] == [
        (2, False, False, "second"),
        (1, True, True, "first"),
    ]
    assert "yes pinned" in planned("fill", "plans").output


def test_days_that_were_counted_are_left_out(planned: Run) -> None:
    assert "counted up to 2026-11-28" in planned("fill", "plays", "video", "plays.csv").output
    Path("launches.csv").write_text("title,at,areas,plays_first_week\nt2,2026-12-06,*,5000\n")
    assert "1 launch used" in planned("fill", "launches", "video", "launches.csv").output
