"""The bound of a group of clusters beside the judge that tries all sets for every title."""

from __future__ import annotations

import numpy as np
import pytest

from _fastpath.placement import SHARES, SiteGroup
from _fastpath.title_list import LEVELS, TitleList
from tests.support.fill_certificate import bound_of_group

GAIN = 0.4  # of a byte from an exchange


@pytest.mark.parametrize("seed", range(20))
def test_a_groups_bound_is_that_of_all_sets_tried(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters, titles = int(rng.integers(1, 6)), 200
    plays = np.sort(rng.exponential(100, titles))[::-1].copy()
    sizes = rng.uniform(1, 9, titles)
    levels = rng.integers(0, LEVELS, titles).astype(np.uint8)
    viewers = [(float(volume), tuple(rng.choice([0.0, 0.7, 1.0], clusters))) for volume in rng.dirichlet(np.ones(4))]
    disks = sizes.sum() * rng.uniform(0, 0.4, clusters)
    own = rng.dirichlet(np.ones(clusters)).tolist()
    appliances = rng.integers(0, 5, clusters).tolist()
    group = SiteGroup(viewers, disks, own, appliances, GAIN)
    list_of_titles = TitleList(plays, sizes, levels)
    further = [
        [share * own[number] for share in SHARES[: max(appliances[number] - 1, 0)]] for number in range(clusters)
    ]
    elsewhere = GAIN * levels / (LEVELS - 1)
    solved, proved = group.solve(list_of_titles, None, 60)
    for prices in (np.zeros(clusters), rng.uniform(0, 60, clusters), np.array(solved)):
        judged = bound_of_group(viewers, disks, prices, further, plays, sizes, elsewhere)
        assert group.bound(list_of_titles, prices.tolist()) == pytest.approx(judged, rel=1e-9)
    assert proved == pytest.approx(judged, rel=1e-9)
