"""The public shape of `steering_manifest.pyx`."""

from array import array
from collections.abc import Sequence

from _fastpath.ranking import Service

class Manifest:
    """How one service's steering manifests are made. Frozen.

    They live `ttl_s`, more or less by `jitter_s`. `pathways` are the declared ones as (id, if it is another network's),
    at most 16; of the appliance at place i of the fleet file, bit j of `stands[i]` says that pathway j stands for it.
    Without pathways, appliances are named by their ids. A player keeps what it plays from unless another is better by
    the share `gain`; `most` are looked for; `clones` says that some players are offered more, which is not made here.
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
    ) -> None: ...
