"""The state folder: which files are workers' counters."""

from __future__ import annotations

from pathlib import Path

from steering.state.folder import worker_file, worker_files


def test_the_files_of_workers_are_found_by_number_in_order(tmp_path: Path) -> None:
    for name in (
        "worker.10",
        "worker.2",
        "worker.old",
        "worker.0",
        "worker.02",
        "worker.123456",
        ".worker.1",
        "table.1",
    ):
        (tmp_path / name).touch()
    assert worker_files(tmp_path) == {2: tmp_path / "worker.2", 10: tmp_path / "worker.10"}
    assert list(worker_files(tmp_path)) == [2, 10]
    assert worker_file(tmp_path, 10) == tmp_path / "worker.10"
