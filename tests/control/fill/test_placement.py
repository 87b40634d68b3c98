"""Placement beside HiGHS, its proof beside the relaxation, and the rules that every plan keeps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from steering.control.fill.network import Disk, Network, Viewers
from steering.control.fill.placement import FILLED, ClusterPlan, Placement, copies_for_load
from tests.support import fill_judge
from tests.support.fill_certificate import bound_of

TITLES = 300
Rates = dict[str, NDArray[np.float64]]


def instance(seed: int) -> tuple[Network, Rates, NDArray[np.float64]]:
    """Return 3 to 6 clusters in two groups and one or two exchanges, and 300 titles of three areas."""
    rng = np.random.default_rng(seed)
    sizes = 3.5e9 * np.exp(0.7 * rng.standard_normal(TITLES))
    common = np.log(1.6 * TITLES / np.arange(1, TITLES + 1)) ** 3
    rates = {
        area: common * np.exp(rng.standard_normal(TITLES)) * 10 ** rng.uniform(0, 2) for area in ("AA", "BB", "CC")
    }
    counts = (int(rng.integers(1, 4)), int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    disks = [[Disk(0, int(sizes.sum() * rng.uniform(0.03, 0.4)), 1) for _ in range(count)] for count in counts]
    exchanges = tuple(range(counts[2]))
    viewers = []
    for group, area in ((0, "AA"), (1, "BB")):
        shares = rng.dirichlet(np.ones(counts[group]))
        for number, share in enumerate(shares):
            gains = tuple(1.0 if other == number else 0.7 for other in range(counts[group]))
            reached = exchanges if rng.random() < 0.7 else exchanges[:1]
            viewers.append(Viewers(area, float(share) * 0.9, group, gains, reached))
    viewers += [Viewers("CC", 1.0, -1, (), exchanges[-1:]), Viewers("AA", 0.1, -1, (), exchanges)]
    return Network(disks[:2], disks[2], viewers, 0.4), rates, sizes


def placed(
    network: Network, rates: Rates, sizes: NDArray[np.float64]
) -> tuple[Placement, list[ClusterPlan], float, float]:
    placement = Placement(network, list(rates), np.array(list(rates.values()), np.float32), sizes)
    prices, proof = placement.solve()
    return placement, list(placement.plans(prices)), proof.value, proof.bound


def holders_of(plans: list[ClusterPlan], titles: int) -> fill_judge.Holders:
    holders = np.zeros((len(plans), titles), bool)
    for number, plan in enumerate(plans):
        holders[number, plan.titles] = True
    return holders


@pytest.mark.parametrize("seed", range(12))  # the bench has 50
def test_a_plan_is_near_the_best_and_its_bound_is_one(seed: int) -> None:
    network, rates, sizes = instance(seed)
    _, plans, value, bound = placed(network, rates, sizes)
    best = fill_judge.best_value(network, rates, sizes, FILLED, whole=True)
    relaxed = fill_judge.best_value(network, rates, sizes, FILLED, whole=False)
    assert value == pytest.approx(fill_judge.value_of(network, rates, sizes, holders_of(plans, TITLES)), rel=1e-5)
    assert value >= 0.99 * best
    assert bound >= relaxed * (1 - 1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_the_prices_of_a_plan_prove_its_value(seed: int) -> None:
    network, rates, sizes = instance(seed)
    placement = Placement(network, list(rates), np.array(list(rates.values()), np.float32), sizes)
    prices, proof = placement.solve()
    written = [price for group in prices.groups for price in group] + list(prices.exchanges)
    bound = bound_of(network, rates, sizes, FILLED, written)
    assert proof.value <= bound * (1 + 1e-6)
    assert bound <= proof.bound * 1.005  # the proof has the exchanges' prices of before the last trials


@pytest.mark.parametrize("seed", range(4))
def test_no_disk_holds_more_than_it_has(seed: int) -> None:
    network, rates, sizes = instance(seed)
    _, plans, _, _ = placed(network, rates, sizes)
    for plan in plans:
        used = (sizes[plan.titles] * plan.copies).sum()
        assert used <= plan.disk.disk_bytes
        assert used >= 0.95 * plan.disk.disk_bytes or len(plan.titles) == TITLES or plan.disk in network.exchanges


def test_the_same_input_gives_the_same_plan() -> None:
    first, second = (placed(*instance(3))[1] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert (one.titles == other.titles).all()
        assert (one.copies == other.copies).all()


def test_a_second_plan_after_a_full_fill_adds_nothing() -> None:
    network, rates, sizes = instance(5)
    placement, plans, _, _ = placed(network, rates, sizes)
    rows = np.array(list(rates.values()), np.float32)
    held, by_exchanges = placement.sets.copy(), placement.exchanges.copies.copy()
    again = Placement(network, list(rates), rows, sizes, lambda group: held[group], by_exchanges)
    prices, proof = again.solve()
    for before, after in zip(plans, again.plans(prices), strict=True):
        assert (after.titles == before.titles).all()
        assert (after.copies == before.copies).all()
    assert proof.gap < 0.01


def test_viewers_in_no_area_with_plays_need_nothing() -> None:
    network, rates, sizes = instance(1)
    _, plans, value, bound = placed(network, {area: plays * 0 for area, plays in rates.items()}, sizes)
    assert (value, bound) == (0, 0)
    assert all(len(plan.titles) == 0 or plan.plays.sum() == 0 for plan in plans)


@pytest.mark.parametrize(
    ("loads", "appliances", "copies"),
    [
        ([90, 10], 1, [1, 1]),
        ([90, 10], 4, [4, 1]),  # 0.9 of four appliances, at half an appliance each: 8, and there are four
        ([26, 74], 2, [2, 2]),
        ([1] * 100, 10, [1] * 100),
        ([], 3, []),
    ],
)
def test_a_title_gets_as_many_copies_as_its_load_needs(loads: list[int], appliances: int, copies: list[int]) -> None:
    assert copies_for_load(np.array(loads, float), appliances).tolist() == copies
