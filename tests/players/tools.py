"""What is not ours and has to be there: Node with the pinned packages, Chromium, ffmpeg. A test without them is skipped."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import pytest

from deploy.demo import parts

PACKAGES = Path(__file__).with_name("package.json")
SEGMENT_S = parts.SEGMENT_S
LENGTH_S = 60


def need(name: str) -> str:
    """Return the path of a program, or skip the test."""
    result = shutil.which(name)
    if not result:
        pytest.skip(f"needs {name}")
    return result


@functools.cache
def installed() -> Path | str:
    """Return the folder with the pinned packages, or why it cannot be had; npm is asked once."""
    try:
        return parts.install(PACKAGES)
    except parts.MissingError as error:
        return str(error)


def modules() -> Path:
    """Return the folder that holds node_modules, or skip the test."""
    result = installed()
    if isinstance(result, str):
        pytest.skip(result)
    return result


def make_media(folder: Path) -> None:
    """Generate a small title."""
    parts.make_media(folder, LENGTH_S, "320x180", {"low": "100k", "high": "200k"})


def running_as_root() -> bool:
    """Tell whether Chromium needs to be told that it has no sandbox."""
    return os.geteuid() == 0
