"""The `bgp` feed: what live sessions say, as `network/sessions.py` keeps it in the state folder, in native CSV."""

from steering.control.routes.feeds.csv import read

__all__ = ["read"]
