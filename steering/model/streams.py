"""A title's streams, as a catalogue lists them, and which of them a device can play.

    {"streams": [{"file": "80100172-v5", "codecs": "hvc1.2.4.L153", "height": 2160, "hdr": true, "protocols": ["dash"]},
                 {"file": "80100172-a1", "codecs": "mp4a.40.2"}]}

Control checks a catalogue; playback reads it for a request that names a device and no files. A member that a stream
lacks fits every device, and a member that a device lacks rules out no stream.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

MAX_STREAMS: Final = 1000  # as many as a playback request has files
MAX_NAME: Final = 256
MAX_LISTED: Final = 64

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Names = Annotated[list[Name], msgspec.Meta(max_length=MAX_LISTED)]
Height = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file. `codecs` is as in RFC 6381, with commas; `height` in lines, 0 without a picture."""

    file: Name
    codecs: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    height: Height = 0
    hdr: bool = False
    protocols: Names = []


class Device(msgspec.Struct, frozen=True):
    """The abilities of a device. A codec may be named in short: `hvc1` is every `hvc1.…`."""

    codecs: Names | None = None
    max_height: Height | None = None
    hdr: bool = True
    protocols: Names | None = None


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The streams of a title."""

    streams: Annotated[list[Stream], msgspec.Meta(min_length=1, max_length=MAX_STREAMS)]


DECODER: Final = msgspec.json.Decoder(Catalogue)


def read_catalogue(body: bytes | str) -> Catalogue:
    """Return a catalogue read from JSON. Raises ValueError naming the member and the rule that it breaks."""
    try:
        catalogue = DECODER.decode(body)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise ValueError(f"{where.rstrip('`').lstrip('.') or 'the whole'}: {what}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no JSON in UTF-8: {error}") from None
    seen: set[str] = set()
    for index, stream in enumerate(catalogue.streams):
        if stream.file in (".", "..") or len(stream.file.encode()) > MAX_NAME or not stream.file.isprintable():
            raise ValueError(f"streams[{index}].file: 1 to {MAX_NAME} bytes of printable UTF-8, not . or ..")
        if stream.file in seen:
            raise ValueError(f"streams[{index}].file: {stream.file[:64]} is named twice")
        seen.add(stream.file)
    return catalogue


def files_for(catalogue: Catalogue, device: Device) -> list[str]:
    """Return the files of a catalogue that a device plays, in its order."""
    return [stream.file for stream in catalogue.streams if plays(device, stream)]


def plays(device: Device, stream: Stream) -> bool:
    """Return whether a device plays a stream."""
    if device.max_height is not None and stream.height > device.max_height:
        return False
    if stream.hdr and not device.hdr:
        return False
    if device.protocols is not None and stream.protocols and not set(device.protocols) & set(stream.protocols):
        return False
    codecs = [codec.strip() for codec in stream.codecs.split(",") if codec.strip()]
    known = device.codecs
    return known is None or all(any(is_codec(codec, name) for name in known) for codec in codecs)


def is_codec(codec: str, name: str) -> bool:
    """Return whether a codec is the one that a name stands for: it is that, or begins with it and a dot."""
    return codec == name or codec.startswith(f"{name}.")
