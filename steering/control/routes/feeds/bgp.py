"""The `bgp` feed: the routes of live sessions, which `routes/bgp/sessions.py` keeps in the state folder as CSV."""

from steering.control.routes.feeds.csv import read

__all__ = ["read"]
