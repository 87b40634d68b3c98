"""The `keys` file of the state folder: the secrets that URLs are signed with, by id. Control writes, playback reads.

    {"k1": {"secret": "43 characters", "made_at": 1795445032.2}, "k2": …}
    9a2f00c1

No other file has a secret: no table, fleet file, database, export or log, and no answer but the one to the request
that makes a key. The mode is 0600, and readers refuse a file that other users may read. A secret is ASCII text; its
bytes are hashed as they are.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from steering.errors import SnapshotError
from steering.model.fields import Id
from steering.state.sections import read_checked, write_checked

FILE: Final = "keys"
TAG_KEYS: Final = "tag-"  # the prefix of keys for session tags, which no appliance has
# Characters that need no quoting in URL tools, nginx configurations and shells; 32 of base64 are 192 bits.
SECRET: Final = re.compile(r"[A-Za-z0-9._~+/=-]{32,128}")


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """A secret and the time it was made at; its printed form has no secret."""

    secret: Annotated[str, Meta(pattern=rf"^{SECRET.pattern}\Z")] = dataclasses.field(repr=False)
    made_at: Annotated[float, Meta(ge=0, lt=1 << 40)]


def read_keys(state: Path) -> dict[str, Key]:
    """Return the keys of a state folder by id, oldest first; none without a file.

    Raises SnapshotError, which never shows the file's content.
    """
    path = state / FILE
    try:
        return read_checked(path, dict[Id, Key], forbidden_mode=0o077)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from error
    except SnapshotError as error:
        raise SnapshotError(
            error.message, error.hint or f"restore {path}, or remove it and make its keys again"
        ) from None


def write_keys(state: Path, keys: Mapping[str, Key]) -> None:
    """Replace the keys of a state folder, whole or not at all. For the holder of its lock alone."""
    write_checked(state / FILE, keys)
