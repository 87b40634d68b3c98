"""The public shape of `zone_rankings.pyx`, which documents it."""

from array import array

from _fastpath.intervals import Chains, Pairs

EARTH_RADIUS_KM: float

class Rankings:
    first: array[int]
    ranking_entries: array[int]
    ranking: array[int]
    partner: array[int]

def make_rankings(
    wanted: Pairs,
    chains: Chains,
    set_first: array[int],
    set_members: array[int],
    routes: dict[str, array[int]],
    cluster_vectors: array[float],
    cluster_partners: array[int],
    region_vectors: array[float],
    fallback_first: array[int],
    fallback_clusters: array[int],
    prices: array[float],
    policy: tuple[str, ...],
    step_km: float,
) -> Rankings: ...
