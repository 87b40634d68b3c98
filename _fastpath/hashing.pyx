"""The keys of titles and viewers, for Python; `hashing.h` has the hashes."""

from libc.stdint cimport uint32_t, uint64_t


def key_of(str title not None):
    data = title.encode()
    return hash_bytes(data, len(data))


def content_key_of(str service not None, str title not None):
    return content_key(key_of(title), key_of(service))


def viewer_of(str session not None, bytes packed not None):
    data = session.encode()
    if data:
        return hash_bytes(data, len(data))
    return viewer_of_client(4 if len(packed) == 4 else 6, int.from_bytes(packed[:8], "big"))


def ttl_of(uint32_t ttl_s, uint32_t jitter_s, str title not None, uint64_t viewer):
    if not jitter_s < ttl_s:
        raise ValueError(f"the jitter of {jitter_s} s is not below the TTL of {ttl_s} s")
    return jittered_ttl(ttl_s, jitter_s, key_of(title), mix(viewer))
