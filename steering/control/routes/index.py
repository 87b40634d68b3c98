"""The routes of one table by prefix: those of exactly a prefix, those of prefixes that cover it, and those inside it.

A binary trie of prefixes (pytricia), built on first use. It costs some hundred bytes a route, so only the control plane
has one, and no request uses it.
"""

from __future__ import annotations

import ipaddress
import itertools
from typing import Any, Final

import pytricia

from steering.model.prefix import parse_prefix
from steering.state.routes import Routes

MOST_SHOWN: Final = 100  # prefixes inside the requested one; all are counted


class RouteIndex:
    """The prefixes of a mapped routes file, IPv4 and IPv6."""

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self.tries = {4: pytricia.PyTricia(32), 6: pytricia.PyTricia(128)}
        for family, trie in self.tries.items():
            high, low, lengths, _, _ = routes.columns[family]
            for row in range(len(high)):
                if family == 4:
                    packed = (high[row] >> 32).to_bytes(4, "big")
                else:
                    assert low is not None
                    packed = (high[row] << 64 | low[row]).to_bytes(16, "big")
                trie.insert(packed, lengths[row], row)

    def about(self, prefix: str) -> dict[str, Any]:
        """Return the routes of this prefix, the routes of prefixes that cover it, and the prefixes inside it.

        Routes have cluster numbers. Raises RequestError if the text is no prefix.
        """
        network = parse_prefix(prefix)
        trie = self.tries[network.version]
        text = str(network)
        covering = []
        above = trie.get_key(text)
        if above == text:
            above = trie.parent(text)
        while above is not None:
            covering += self.routes_of(above)
            above = trie.parent(above)
        inside = self.inside(network)
        return {
            "prefix": text,
            "exact": self.routes_of(text) if trie.has_key(text) else [],
            "covering": covering,
            "inside": inside[:MOST_SHOWN],
            "inside_count": len(inside),
        }

    def inside(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[str]:
        """Return the announced prefixes inside a network, without itself, in order."""
        trie = self.tries[network.version]
        text = str(network)
        if trie.has_key(text):
            return list(trie.children(text))
        # children() needs a prefix that is in the trie: add this one for the call.
        trie[text] = -1
        try:
            return list(trie.children(text))
        finally:
            del trie[text]

    def routes_of(self, prefix: str) -> list[dict[str, Any]]:
        """Return the routes of an announced prefix."""
        network = ipaddress.ip_network(prefix)
        number = int(network.network_address) << (128 - network.max_prefixlen)
        rows = self.routes.rows_of(network.version, number, network.prefixlen)
        return list(itertools.chain.from_iterable(self.routes.routes_at(network.version, row) for row in rows))
