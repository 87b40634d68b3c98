"""The public shape of `steering_manifest.pyx`."""

from array import array
from collections.abc import Sequence

from _fastpath.ranking import Picker
from _fastpath.service import Service

class Manifest:
    """The form of one service's steering manifests. Frozen.

    Their TTL is from `ttl_s - jitter_s` to `ttl_s + jitter_s`; `long_ttl_s` is for overload. `pathways` are the
    declared ones as (id, whether it is another network's), at most 16; of appliance i in the fleet file, bit j of
    `stands[i]` is whether pathway j stands for it. Without pathways, appliances are named by their ids. Within a rank,
    a player keeps its pathway unless another is better by the share `gain`; `most` picks are made; with `clones`, some
    players are offered clones, which are not made here.
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
    def order(
        self,
        picker: Picker,
        address: str | bytes,
        title: str,
        session: str,
        family: int,
        current: Sequence[str],
        declared: Sequence[str],
        failed: Sequence[str],
    ) -> tuple[tuple[str, ...], str | None]:
        """Return pathways, best first, each once; and which of those that the player uses stays first, if any.

        `current` are the pathways that the player reports to use, `declared` those of its playlist, each at most 16;
        `failed` come last. Counts nothing. Raises ValueError as `Picker.picks` does.
        """
