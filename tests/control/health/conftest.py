"""A registry over a real file of status words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.appliances import Bench, make_fleet


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Four appliances in Mumbai and twenty elsewhere, one a site."""
    return Bench(tmp_path, make_fleet(bom001=4, **{f"del{i:03}": 1 for i in range(20)}), ejection_limit_fleet=0.2)
