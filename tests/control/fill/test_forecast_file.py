"""The file of forecasts: a restart goes on, and a file that is none of ours is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from steering.control.fill.areas import Area
from steering.control.fill.catalogue import CatalogueTitle
from steering.control.fill.forecast import Forecast
from steering.control.fill.forecast_file import newest_forecasts, read_forecasts, write_forecasts
from steering.control.fill.launches import Launch
from steering.errors import SnapshotError
from steering.state.sections import write_sections
from tests.control.fill.test_forecast import AT, DAY_S, MONDAY, feed


def make_forecast() -> Forecast:
    forecast = Forecast([Area("eu"), Area("de", "eu")])
    forecast.use_catalogue([CatalogueTitle("é 1", 70, "", "film", AT)])
    forecast.use_launches([Launch("new", AT + DAY_S, ("de",), plays_first_week=70.0)])
    for day in range(3):
        forecast.take(feed([(day, "de", "é 1", 5.0), (day, "*", "b", 3.0)]))
    return forecast


def test_a_restart_goes_on(tmp_path: Path) -> None:
    forecast, empty = make_forecast(), Forecast()
    write_forecasts(tmp_path, {"video": forecast})
    path = write_forecasts(tmp_path, {"video": forecast, "games": empty})
    assert path == newest_forecasts(tmp_path) == tmp_path / "forecast.2"
    assert [item.name for item in tmp_path.iterdir()] == ["forecast.2"]
    read = read_forecasts(path)
    assert list(read) == ["video", "games"]
    for ours, theirs in ((read["video"], forecast), (read["games"], empty)):
        ours.take(feed([(3, "de", "b", 2.0), (3, "de", "new", 9.0)]))
        theirs.take(feed([(3, "de", "b", 2.0), (3, "de", "new", 9.0)]))
        assert (ours.titles.ids, ours.scores, ours.began) == (theirs.titles.ids, theirs.scores, theirs.began)
        for (area, rates), (same, expected) in zip(ours.rates(MONDAY + 4), theirs.rates(MONDAY + 4), strict=True):
            assert area == same
            assert np.array_equal(rates, expected)


def test_there_may_be_no_file(tmp_path: Path) -> None:
    assert newest_forecasts(tmp_path) is None


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    path = write_forecasts(tmp_path, {"video": make_forecast()})
    whole = path.read_bytes()
    path.write_bytes(whole[:-70] + bytes([whole[-70] ^ 1]) + whole[-69:])
    with pytest.raises(SnapshotError, match=r"forecast\.1"):
        read_forecasts(path)
    write_sections(path, "forecast", {"meta": b"{}"})
    with pytest.raises(SnapshotError, match=r"forecast\.1 is unusable"):
        read_forecasts(path)
    meta = b'[{"service":"v","shape":0.7,"began":1,"day":2,"areas":[],"areas_of":{},"scores":[]}]'
    columns = {f"0.{name}": bytes(5) for name in ("y", "n", "days", "weekdays", "lost", "plain")}
    write_sections(path, "forecast", {"meta": meta, "0.ids": b"a", **columns})
    with pytest.raises(SnapshotError, match=r"forecast\.1 is unusable"):
        read_forecasts(path)
