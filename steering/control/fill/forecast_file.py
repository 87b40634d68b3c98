"""`forecast.<number>`: the forecasts of all services, so that a restart goes on where it was. Needs numpy.

Sections: `meta` (JSON: for each service its areas, days, scores, and the launches of some areas alone), and for the
service at an index its title ids and columns, named `<index>.<column>`. Only control reads it; it is no part of a
publish, and `current` does not name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct, json
from numpy.typing import NDArray

from steering.control.fill.areas import Area
from steering.control.fill.forecast import AreaScore, Forecast
from steering.state.folder import number_of, versioned_files
from steering.state.sections import Data, StateFile, write_sections, written_by_us

KIND: Final = "forecast"
BY_AREA: Final = ("y", "n", "days", "weekdays", "lost", "plain")
BY_TITLE: Final = ("is_film", "launched", "sizes", "expected", "by_week")
SEPARATOR: Final = "\0"  # no title has control characters


class ServiceMeta(Struct, frozen=True):
    """What is no column of a service's forecast."""

    service: str
    shape: float
    began: int
    day: int
    areas: list[Area]
    areas_of: dict[int, tuple[str, ...]]
    scores: list[AreaScore]


def write_forecasts(state: Path, forecasts: Mapping[str, Forecast]) -> Path:
    """Write the next `forecast.<number>`, remove the ones before, and return its path."""
    before = [(number, path) for path, kind, number in versioned_files(state) if kind == KIND]
    path = state / f"{KIND}.{max((number for number, _ in before), default=0) + 1}"
    sections: dict[str, Data] = {}
    metas: list[ServiceMeta] = []
    for index, (service, forecast) in enumerate(forecasts.items()):
        titles = forecast.titles
        days = forecast.began, forecast.day
        metas.append(
            ServiceMeta(service, forecast.shape, *days, forecast.areas.areas, titles.areas_of, forecast.scores)
        )
        sections[f"{index}.ids"] = SEPARATOR.join(titles.ids).encode()
        for owner, names in ((forecast, BY_AREA), (titles, BY_TITLE)):
            sections.update({f"{index}.{name}": bytes_of(getattr(owner, name)) for name in names})
    write_sections(path, KIND, {"meta": json.encode(metas), **sections})
    for _, older in before:
        older.unlink(missing_ok=True)
    return path


def bytes_of(array: NDArray[Any]) -> Data:
    """Return the memory of an array, which is not copied."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""


def newest_forecasts(state: Path) -> Path | None:
    """Return the newest file of forecasts, None where there is none."""
    paths = [path for path, kind, _ in versioned_files(state) if kind == KIND]
    return max(paths, key=lambda path: number_of(path.name), default=None)


def read_forecasts(path: Path) -> dict[str, Forecast]:
    """Return the forecasts of all services. Raises SnapshotError where the file is unusable."""
    file = StateFile(path, KIND)
    with written_by_us(path.name):
        metas = json.decode(file["meta"], type=list[ServiceMeta])
        return {meta.service: forecast_of(file, index, meta) for index, meta in enumerate(metas)}


def forecast_of(file: StateFile, index: int, meta: ServiceMeta) -> Forecast:
    """Return the forecast of a service. ValueError: a column has another length."""
    forecast = Forecast(meta.areas, meta.shape)
    text = bytes(file[f"{index}.ids"]).decode()
    forecast.add_titles(text.split(SEPARATOR) if text else [])
    for owner, names in ((forecast, BY_AREA), (forecast.titles, BY_TITLE)):
        for name in names:
            empty = getattr(owner, name)
            read = np.frombuffer(file[f"{index}.{name}"], empty.dtype).reshape(empty.shape)
            setattr(owner, name, read.copy())
    forecast.titles.areas_of = dict(meta.areas_of)
    forecast.began, forecast.day = meta.began, meta.day
    forecast.scores = meta.scores
    forecast.titles.learn_curves(meta.began, meta.day)
    return forecast
