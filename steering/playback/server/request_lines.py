"""Request lines of players that are no HTTP: targets with spaces, or with bytes that are not ASCII.

Players give up steering after an error, so these bytes are percent-encoded, as a careful player sends them. Other
requests with such targets are refused.
"""

from __future__ import annotations

import re
from typing import Final

PLAYER_LINE: Final = re.compile(rb"((?:GET|HEAD) )(/v1/(?:hls|dash)/[^\x00-\x1f\x7f]*)( HTTP/1\.[01]\r\n)")
ODD: Final = re.compile(rb"[ \x80-\xff]")


def encoded_line(data: bytes, start: int = 0) -> bytes | None:
    """Return the data from an offset, where a request begins, with a player's target encoded; None if it is already."""
    line = PLAYER_LINE.match(data, start)
    if line is None or not ODD.search(line[2]):
        return None
    target = ODD.sub(lambda match: b"%%%02X" % ord(match[0]), line[2])
    return line[1] + target + line[3] + data[line.end() :]
