"""Reports lead control to the holdings, whatever is lost on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steering.appliance.holdings import EMPTY_DELTA_S, Holdings, digest_of
from steering.control.fill import holdings_rows


@given(st.sets(st.text(max_size=5), max_size=10))
def test_the_digest_is_controls(titles: set[str]) -> None:
    titles = {title.encode("utf-8", "replace").decode() for title in titles}
    assert digest_of(titles) == holdings_rows.digest_of(titles)


def test_full_first_then_deltas_then_an_empty_one_each_minute() -> None:
    holdings = Holdings(unknown=("tail",))
    holdings.manage(["video"])
    rows = holdings.rows(0.0)
    assert [row["kind"] for row in rows] == ["unknown", "full"]
    assert rows[1]["full"] == []
    holdings.accepted(rows, [], 0.0)
    assert holdings.rows(EMPTY_DELTA_S - 1) == []
    holdings.add("video", "a", "r")
    (row,) = holdings.rows(1.0)
    assert (row["kind"], row["add"], row["remove"]) == ("delta", ["a"], [])
    holdings.accepted([row], [], 1.0)
    (row,) = holdings.rows(EMPTY_DELTA_S + 1.0)
    assert (row["kind"], row["add"], row["base"]) == ("delta", [], row["digest"])


def test_a_title_is_gone_once_control_accepted_the_report_without_it() -> None:
    holdings = Holdings()
    holdings.add("video", "a", "r")
    assert not holdings.is_confirmed_gone("video", "a")
    holdings.accepted(holdings.rows(0.0), [], 0.0)
    holdings.drop("video", "a")
    assert not holdings.is_confirmed_gone("video", "a")
    rows = holdings.rows(1.0)
    assert not holdings.is_confirmed_gone("video", "a")  # the report was sent, not accepted
    holdings.accepted(rows, [], 1.0)
    assert holdings.is_confirmed_gone("video", "a")


step = st.tuples(st.sampled_from(["add", "drop", "report", "lost", "refused", "restored"]), st.sampled_from("abcd"))


@given(st.lists(step, max_size=30))
def test_control_has_the_holdings_after_each_accepted_report(steps: list[tuple[str, str]]) -> None:
    holdings, control, now = Holdings(), None, 0.0
    holdings.manage(["video"])
    for verb, title in [*steps, ("report", ""), ("report", "")]:
        now += 1.0
        if verb == "add":
            holdings.add("video", title, "r")
        elif verb == "drop":
            holdings.drop("video", title)
        elif verb == "restored":
            control = None
        elif verb in ("report", "lost", "refused"):
            now += EMPTY_DELTA_S
            (row,) = holdings.rows(now)
            if verb == "refused":  # it never arrived
                continue
            if row["kind"] == "full":
                control, resync = set(row["full"]), []
            elif control is not None and digest_of(control) == row["base"]:
                control, resync = (control - set(row["remove"])) | set(row["add"]), []
            else:
                resync = ["video"]
            if verb == "report":  # else the answer was lost
                holdings.accepted([row], resync, now)
    assert control == set(holdings.held["video"])
