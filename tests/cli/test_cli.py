"""The command as people and machines use it: its output, its exit status, and its effects."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from steering.cli import main
from steering.cli.tables import sources_of
from steering.control.health.rules import Health, Report
from steering.control.records.documents import format_fleet
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.settings import Settings, read_settings
from tests.support.control_app import running_control_app

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the command with a state folder of its own."""
    monkeypatch.setenv("STEERING_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: str = "", code: int = 0) -> Result:
        result = CliRunner().invoke(main, arguments, input=stdin, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture
def served(run: Run, tmp_path: Path, fleet: Fleet) -> Run:
    """Return the same function, over a folder that serves the tiny fleet."""
    (tmp_path / "fleet.json").write_text(format_fleet(fleet))
    (tmp_path / "routes.csv").write_text(
        "prefix,cluster,as_path,med\n203.0.113.0/24,bom001-a,64500,0\n203.0.113.0/24,del001-a,64500,100\n"
        "203.0.0.0/16,bom002-a,64510 64500,0\n"
    )
    run("fleet", "import", "fleet.json")
    run("table", "publish", "routes.csv", "--why", "first")
    return run


def commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))


COMMANDS = list(commands(main))


@pytest.mark.parametrize(("names", "command"), COMMANDS, ids=[" ".join(names) for names, _ in COMMANDS])
def test_every_command_and_every_option_has_help(names: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    assert CliRunner().invoke(main, [*names, "--help"]).exit_code == 0
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.show_default:
            assert parameter.help, f"{names} {parameter.name}"


def test_a_fleet_is_imported_a_table_published_and_an_address_looked_up(served: Run) -> None:
    actual = served("lookup", "203.0.113.7", "192.0.2.1", "203.0.113.0/24").output
    assert "Example ISP" in actual
    assert "AS64500" in actual
    assert "no route" in actual
    assert "bom001-a" in actual


def test_machines_get_the_same_as_json(served: Run) -> None:
    address, prefix = json.loads(served("lookup", "203.0.113.7", "203.0.113.0/24", "--json").output)
    assert address["prefix"] == "203.0.113.0/24"
    assert address["ranking"][0]["cluster"] == "bom001-a"
    assert [route["cluster"] for route in prefix["exact"]] == ["bom001-a", "del001-a"]
    assert [route["cluster"] for route in prefix["covering"]] == ["bom002-a"]
    report = json.loads(served("table", "list", "--json").output)
    assert report[0]["serving"]
    assert report[0]["why"] == "first"
    assert json.loads(served("settings", "--json").output)["workers"] == 2
    assert json.loads(served("version", "--json").output)["formats"]["table"] == 2


def test_addresses_come_from_standard_input(served: Run) -> None:
    actual = json.loads(served("lookup", "-", "--json", stdin="203.0.113.7\n\n2001:db8::1\n").output)
    assert [report["address"] for report in actual] == ["203.0.113.7", "2001:db8::1"]


def test_explain_shows_the_answer_of_playback_and_the_reasons(served: Run, tmp_path: Path) -> None:
    served("drain", "c001-bom001")
    report = json.loads(served("explain", "203.0.113.7", "--title", "t", "--json").output)
    snapshot = Snapshot.map(tmp_path / "state")
    answer = json.loads(snapshot.steer("203.0.113.7", "t", service="video"))
    assert {key: value for key, value in report.items() if key != "explain"} == answer
    actual = served("explain", "203.0.113.7", "--title", "t").output
    assert "disabled or draining" in actual
    assert "64510 64500" in actual
    assert answer["targets"][0]["url"] in actual


def test_overrides_are_carried_out_and_shown(served: Run, tmp_path: Path) -> None:
    snapshot = Snapshot.map(tmp_path / "state")

    def appliances() -> list[str]:
        targets = json.loads(snapshot.steer("203.0.113.7", "t", service="video"))["targets"]
        return [target["appliance"] for target in targets]

    assert {"c001-bom001", "c002-bom001"} & set(appliances())
    actual = served("drain", "c001-bom001", "c002-bom001").output
    assert actual.count("no") >= 2
    assert not {"c001-bom001", "c002-bom001"} & set(appliances())
    served("enable", "c001-bom001", "c002-bom001")
    served("weight", "c001-bom001", "0")
    assert "c001-bom001" not in appliances()
    assert json.loads(served("weight", "c001-bom001", "auto", "--json").output)["appliances"][0]["weight"] == 1000


def test_a_check_shows_the_refused_rows_and_changes_nothing(served: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("prefix,cluster\n203.0.113.1/24,bom001-a\n203.0.113.0/24,bom001-a\n")
    actual = served("table", "check", "bad.csv").output
    assert "203.0.113.1/24" in actual
    assert "write 203.0.113.0/24" in actual
    assert "table 1 is serving" in actual
    served("table", "check", "bad.csv", "--strict", code=1)
    assert len(json.loads(served("table", "list", "--json").output)) == 1


def test_reload_publishes_the_feeds_as_they_are_now(served: Run, tmp_path: Path) -> None:
    (tmp_path / "routes.csv").write_text("prefix,cluster\n198.51.100.0/24,lhr001-a\n")
    assert "table 2 is serving" in served("reload").output
    assert json.loads(served("lookup", "198.51.100.1", "--json").output)[0]["prefix"] == "198.51.100.0/24"


def test_a_fleet_comes_out_as_it_went_in(served: Run, tmp_path: Path) -> None:
    assert served("fleet", "export").output == (tmp_path / "fleet.json").read_text()
    served("fleet", "export", "-o", "out.json")
    assert (tmp_path / "out.json").read_text() == (tmp_path / "fleet.json").read_text()


def test_a_synthetic_fleet_is_written_or_imported(run: Run, tmp_path: Path) -> None:
    run("fleet", "synth", "--appliances", "12", "-o", "made.json")
    document = json.loads((tmp_path / "made.json").read_text())
    assert len(document["appliances"]) == 12
    report = json.loads(run("fleet", "synth", "--appliances", "12", "--import", "--json").output)
    assert report["appliances"]["count"] == 12
    assert run("fleet", "export").output == (tmp_path / "made.json").read_text()
    run("fleet", "synth", "--import", "-o", "made.json", code=2)


WRONG: list[tuple[tuple[str, ...], int, str]] = [
    (("lookup", "1.2.3"), 1, "parameter ip = '1.2.3'"),
    (("lookup", "fe80::1%eth0"), 1, "without a zone id"),
    (("lookup", "203.0.113.7/24"), 1, "write 203.0.113.0/24"),
    (("lookup",), 2, "Missing argument"),
    (("explain",), 2, "IP|PREFIX"),
    (("explain", "203.0.113.7/24"), 1, "host bits"),
    (("what-if", "203.0.113.7", "--off", "nosuch"), 1, "the id of an appliance or a site"),
    (("explain", "nowhere", "--title", "t"), 1, "parameter ip = 'nowhere'"),
    (("explain", "203.0.113.7", "--title", "t", "--service", "games"), 1, "there is no such service"),
    (("explain", "203.0.113.7", "--title", "t", "-n", "9"), 2, "1<=x<=8"),
    (("explain", "203.0.113.7", "--failed", "a,,b"), 1, "parameter failed = 'a,,b': "),
    (("drain", "c001-bom01"), 1, "did you mean c001-bom001?"),
    (("drain",), 2, "Missing argument"),
    (("weight", "c001-bom001", "-1"), 2, "No such option"),
    (("weight", "c001-bom001", "lots"), 1, "from 0 to 65535, or auto"),
    (("weight", "c001-bom001", "65536"), 1, "from 0 to 65535, or auto"),
    (("table", "publish", "absent.csv"), 1, "No such file"),
    (("table", "publish", "fleet.json"), 1, "fleet.json"),
    (("fleet", "import", "routes.csv"), 1, "not JSON"),
    (("fleet", "import", "absent.json"), 2, "No such file"),
    (("fleet", "export", "-o", "absent/out.json"), 2, "absent/out.json"),
    (("serve", "--workers", "0"), 2, "workers"),
    (("serve", "--listen", "here"), 2, "listen"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_an_error_is_printed_and_sets_the_exit_status(
    served: Run, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = served(*arguments, code=code)
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_an_error_is_json_where_json_was_asked_for(served: Run) -> None:
    result = served("drain", "c001-bom01", "--json", code=1)
    assert json.loads(result.stderr) == {
        "error": "RequestError",
        "detail": "appliance 'c001-bom01': the fleet has none of this id",
        "hint": "did you mean c001-bom001?",
    }
    assert result.stdout == ""


def test_before_the_first_publish_a_lookup_names_the_reason(run: Run) -> None:
    assert "nothing is published yet" in run("lookup", "203.0.113.7", code=1).stderr
    assert "nothing was published yet" in run("lookup", "203.0.113.0/24", code=1).stderr


def test_control_characters_of_others_do_not_reach_the_terminal(served: Run, tmp_path: Path) -> None:
    (tmp_path / "evil.csv").write_text("prefix,cluster\n203.0.113.0/24,\x1b[31mred\n203.0.113.0/24,bom001-a\n")
    assert "\x1b" not in served("table", "check", "evil.csv").output


HOSTILE = {
    "an escape sequence": "\x1b[31mred",
    "a C1 control": "\x9b31mred",
    "right to left": "\u202egnp.exe",
    "a formula": "=HYPERLINK(0)",
    "a call": "@SUM(A1)",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_what_a_feed_says_acts_neither_on_a_terminal_nor_on_a_spreadsheet(
    served: Run, tmp_path: Path, text: str
) -> None:
    (tmp_path / "evil.csv").write_text(f"prefix,cluster\n203.0.113.0/24,{text}\n{text},x\n203.0.113.0/24,bom001-a\n")
    shown = served("table", "check", "evil.csv").output
    cells = served("table", "check", "evil.csv", "--csv").output
    document = served("table", "check", "evil.csv", "--json").output
    for output in (shown, cells, document):
        assert output.replace("\n", "").isprintable()
    for row in csv.reader(io.StringIO(cells)):
        assert not any(cell.startswith(("=", "@", "+")) for cell in row)
    values = [row["value"] for row in json.loads(document)["feeds"][0]["refusals"]]
    assert text in [value.strip() for value in values]


def test_settings_are_listed_with_their_meaning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERING_WORKERS", "5")
    monkeypatch.setenv("STEERING_PORTABLE", "0")
    actual = run("settings").output
    assert all(f"STEERING_{name.upper()}" in actual for name in Settings.model_fields)
    assert json.loads(run("settings", "--json").output)["workers"] == 5
    monkeypatch.setenv("STEERING_WORKRES", "5")
    assert "STEERING_WORKRES: no such setting" in run("settings", code=2).stderr


def test_sources_are_recognised_by_their_names() -> None:
    sources = sources_of(("a.csv", "b.csv.gz", "c.txt.xz", "csv:d", "asn:e.csv", "asn:"))
    here = Path.cwd()
    assert [(source.kind, source.path) for source in sources] == [
        ("csv", str(here / "a.csv")),
        ("csv", str(here / "b.csv.gz")),
        ("asn", str(here / "c.txt.xz")),
        ("csv", str(here / "d")),
        ("asn", str(here / "e.csv")),
        ("asn", ""),
    ]
    assert [(source.kind, source.path) for source in sources_of(())] == [("asn", "")]
    assert [source.kind for source in sources_of((str(here), f"{'x' * 300}.csv", "x" * 5000))] == [
        "folder",
        "csv",
        "asn",
    ]


def test_the_command_starts_fast_enough_to_be_typed(tmp_path: Path) -> None:
    """No FastAPI, httpx or compiled core is imported to show help: what makes it quick, rather than how quick it is."""
    code = "import sys, steering.cli; print([m for m in ('fastapi', 'httpx', '_fastpath.lpm') if m in sys.modules])"
    actual: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert actual.stdout.strip() == "[]"


def test_a_key_is_shown_once_or_written_to_a_new_file_and_listed_without_its_secret(run: Run, tmp_path: Path) -> None:
    shown = run("key", "make", "k1").output.strip()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", shown)
    assert "its secret is in secret" in run("key", "make", "k2", "--secret-file", "secret").output
    written = (tmp_path / "secret").read_text().strip()
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert "name a file that does not exist yet" in run("key", "make", "k3", "--secret-file", "secret", code=2).output
    assert "is there already" in run("key", "make", "k1", "--secret-file", "other", code=1).output
    assert not (tmp_path / "other").exists()
    given = "given-0123456789abcdefghijklmnopqrstuvwxyz"
    assert run("key", "make", "k3", "--from", "-", stdin=given + "\n").output == "key k3 was made\n"
    assert json.loads(run("key", "make", "k4", "--json", "--from", "secret").output).keys() == {"id", "made_at"}
    assert "is empty; no key was made" in run("key", "make", "k5", "--from", "-", code=1).output
    assert "32 to 128 letters" in run("key", "make", "k5", "--from", "-", stdin="\0" * 40, code=1).output
    keys = json.loads((tmp_path / "state" / "keys").read_text().splitlines()[0])
    assert [keys[name]["secret"] for name in ("k1", "k2", "k3", "k4")] == [shown, written, given, written]
    outputs = run("key", "list").output + run("key", "list", "--json").output + run("audit", "--json").output
    assert [row["id"] for row in json.loads(run("key", "list", "--json").output)] == ["k1", "k2", "k3", "k4"]
    assert not [secret for secret in (shown, written, given) if secret in outputs]
    assert "k4" in run("key", "retire", "k3", "k4").output
    assert "there is none of this id" in run("key", "retire", "k4", "--json", code=1).output


def test_a_token_is_shown_once_listed_without_its_secret_and_revoked(served: Run) -> None:
    text = served("token", "make", "partner:as64500", "--name", "noc", "--days", "30").output.strip()
    assert re.fullmatch(r"steering-1-[A-Za-z0-9_-]{43}", text)
    made = json.loads(served("token", "make", "ops", "--json").output)
    assert (made["id"], made["role"]) == (2, "ops")
    listed = served("token", "list").output
    assert "partner:as64500" in listed
    assert text[11:] not in listed + served("token", "list", "--json").output + served("audit", "--json").output
    assert "noc" in served("token", "revoke", "1").output
    assert [row["good"] for row in json.loads(served("token", "list", "--json").output)] == [False, True]
    assert "parameter role = 'boss'" in served("token", "make", "boss", code=1).output
    assert "token 9" in served("token", "revoke", "9", code=1).output


def test_the_audit_log_shows_who_changed_what(served: Run) -> None:
    served("drain", "c001-bom001")
    entries = json.loads(served("audit", "--json").output)
    assert [entry["what"] for entry in entries] == ["override", "publish", "import fleet"]
    assert entries[1]["why"] == "first"
    assert entries[0]["after"] == {"c001-bom001": {"enabled": False, "weight": None, "health_source": ""}}
    assert "c001-bom001" in served("audit", "-n", "1").output
    assert json.loads(served("audit", "-n", "1", "--below", "3", "--json").output) == entries[1:2]


def test_a_window_is_planned_listed_and_cancelled(served: Run) -> None:
    made = json.loads(
        served("window", "add", "site", "bom001", "--for", "6h", "--why", "new power feed", "--json").output
    )
    assert (made[0]["ends_at"] - made[0]["begins_at"], made[0]["state"]) == (6 * 3600, "on")
    later = time.time() + 10 * 86_400
    begins = time.strftime("%Y-%m-%dT%H:%M", time.localtime(later))
    ends = time.strftime("%Y-%m-%dT%H:%M", time.localtime(later + 86_400))
    served("window", "add", "cluster", "del001-a", "--from", begins, "--until", ends, "--why", "disks")
    shortest = served("window", "add", "site", "lhr001", "--for", "3h", "--why", "x", "--json").output
    assert json.loads(shortest)[0]["state"] == "on"
    listed = served("window", "list").output
    assert all(word in listed for word in ("new power feed", "del001-a", "to come", begins.replace("T", " ")))
    assert "cancelled" in served("window", "cancel", "2", "--why", "no truck").output
    assert [row["id"] for row in json.loads(served("window", "list", "--json").output)] == [1, 3]
    assert len(json.loads(served("window", "list", "--ended", "--json").output)) == 3
    served("window", "cancel", "1", "3")
    assert served("window", "list").output == "no window is open or planned\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--for", "2h"), 1, "3 hours to 30 days"),
        (("--for", "6 hours"), 1, "parameter for = '6 hours'"),
        (("--until", "tomorrow"), 1, "parameter until = 'tomorrow'"),
        (("--from", "2020-01-01T00:00", "--for", "6h"), 1, "begins_at = '20"),
        (("--from", "2999-13-01", "--for", "6h"), 1, "parameter from"),
        ((), 2, "either --until or --for"),
        (("--for", "6h", "--until", "2999-01-01"), 2, "either --until or --for"),
    ],
    ids=str,
)
def test_a_window_that_cannot_be_is_refused(served: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    assert message in served("window", "add", "site", "bom001", "--why", "x", *arguments, code=code).output


def test_a_backup_is_taken_and_restored(served: Run, tmp_path: Path) -> None:
    served("drain", "c001-bom001")
    actual = served("backup", "b.tar").output
    assert all(name in actual for name in ("steering.db", "table.1", "wrote b.tar"))
    assert json.loads(served("backup", "r.tar", "--records-only", "--json").output)["files"].keys() == {"steering.db"}
    served("enable", "c001-bom001")
    actual = served("restore", "b.tar").output
    assert all(word in actual for word in ("8 appliances", "kept aside", "restored; steering serve"))
    assert "c001-bom001" in served("explain", "203.0.113.7").output
    assert json.loads(served("audit", "-n", "1", "--json").output)[0]["what"] == "restore"
    report = json.loads(served("restore", "b.tar", "--json").output)
    assert (report["table"], report["appliances"]) == (1, 8)
    (tmp_path / "x.tar").write_bytes(b"x" * 2000)
    assert "is no backup" in served("restore", "x.tar", code=2).output


def test_live_commands_need_a_running_control(served: Run) -> None:
    for command in ("top", "alarms"):
        assert "no control process answers" in served(command, code=2).output


def test_the_live_fleet_and_its_alarms_are_shown(served: Run, tmp_path: Path) -> None:
    with running_control_app(read_settings(state=tmp_path / "state")) as app:
        assert served("alarms").output == "no alarm is raised\n"
        failed = Report("boot", 1, None, Health("failed", "no uplink"))
        for name in ("c001-bom001", "c002-bom001"):
            app.control.registry.report(name, failed)
        app.in_loop(app.control.registry.tick)
        frame = served("top", "--once").output
        assert all(word in frame for word in ("8 appliances in 4 clusters", "ALARMS", "0/2", "serving → unhealthy"))
        assert json.loads(served("top", "--json").output)["states"] == {"serving": 6, "unhealthy": 2}
        assert "none of its 2 appliances can serve: no uplink" in served("alarms").output.replace("\n", " ")
        app.control.registry.report("c001-bom001", Report("boot", 2, None, Health()))
        app.in_loop(app.control.registry.tick)
        assert json.loads(served("alarms", "--json").output) == []
        assert [row["resolved"] for row in json.loads(served("alarms", "--resolved", "--json").output)] == [True]
