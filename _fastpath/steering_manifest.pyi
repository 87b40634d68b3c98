"""The public shape of `steering_manifest.pyx`."""

from array import array
from collections.abc import Sequence

from _fastpath.service import Service

class Manifest:
    """The form of one service's steering manifests. Frozen.

    Their TTL is from `ttl_s - jitter_s` to `ttl_s + jitter_s`; `long_ttl_s` is for overload. `pathways` are the
    declared ones as (id, whether it is another network's), at most 16; of appliance i in the fleet file, bit j of
    `stands[i]` is whether pathway j stands for it. Without pathways, appliances are named by their ids. A player keeps
    its pathway unless another is better by the share `gain`; `most` picks are made; with `clones`, some players are
    offered clones, which are not made here.
    """

    clones: bool
    def __init__(
        self,
        service: Service,
        ttl_s: int,
        jitter_s: int,
        gain: float,
        most: int,
        pathways: Sequence[tuple[str, bool]] = (),
        stands: array[int] | None = None,
        clones: bool = False,
        long_ttl_s: int = 300,
        long_jitter_s: int = 0,
    ) -> None: ...
