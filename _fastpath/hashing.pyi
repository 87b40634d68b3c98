"""The public shape of `hashing.pyx`."""

def key_of(title: str) -> int:
    """Return the 64-bit key of a title, which appliances are ranked by."""

def content_key_of(service: str, title: str) -> int:
    """Return the 64-bit key of a service's title in holdings, popularity and misses; never 0."""

def viewer_of(session: str, packed: bytes) -> int:
    """Return the number of a viewer: of its session, or where that is empty, of the /24 or /48 of a packed address."""

def ttl_of(ttl_s: int, jitter_s: int, title: str, viewer: int) -> int:
    """Return a TTL from `ttl_s - jitter_s` to `ttl_s + jitter_s`, always the same for a title and a viewer's number.

    Raises ValueError where `jitter_s` is not below `ttl_s`.
    """
