"""The `keys` file of the state folder: the secrets that URLs are signed with, by id. Control writes, playback reads.

    {"k1": {"secret": "43 characters", "made_at": 1795445032.2}, "k2": …}

No other file has a secret: no table, fleet file, database, export or log, and no answer but the one to the request
that makes a key. The mode is 0600, and readers refuse a file that other users may read. A secret is ASCII text; its
bytes are hashed as they are.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from steering.errors import SnapshotError
from steering.model.fields import ID
from steering.state.sections import write_atomically

FILE: Final = "keys"
MAX_FILE: Final = 1 << 20
TAG_KEYS: Final = "tag-"  # the prefix of keys for session tags, which no appliance has
# Characters that need no quoting in URL tools, nginx configurations and shells; 32 of base64 are 192 bits.
SECRET: Final = re.compile(r"[A-Za-z0-9._~+/=-]{32,128}")


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """A secret and the time it was made at; its printed form has no secret."""

    secret: str = dataclasses.field(repr=False)
    made_at: float


def read_keys(state: Path) -> dict[str, Key]:
    """Return the keys of a state folder by id, oldest first; none without a file.

    Raises SnapshotError, which never shows the file's content.
    """
    path = state / FILE
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise SnapshotError(f"{path}: mode {mode:04o} lets others read secrets", hint=f"chmod 600 {path}")
    try:
        keys = {name: key_of(name, row) for name, row in json.loads(data).items()}
    except (ValueError, TypeError, AttributeError):
        raise SnapshotError(f"{path}: torn or not ours", hint=f"remove {path}, and make its keys again") from None
    return keys


def key_of(name: str, row: Any) -> Key:
    """Return one key of the file. Raises ValueError or TypeError for a wrong row."""
    key = Key(**row)
    if not ID.fullmatch(name) or not SECRET.fullmatch(key.secret) or not isinstance(key.made_at, int | float):
        raise ValueError("not a key")
    return key


def write_keys(state: Path, keys: Mapping[str, Key]) -> None:
    """Replace the keys of a state folder, whole or not at all. For the holder of its lock alone."""
    rows = {name: dataclasses.asdict(key) for name, key in keys.items()}
    write_atomically(state / FILE, [json.dumps(rows, indent=1).encode() + b"\n"], mode=0o600)
