"""The packages whose test data the corpus is, fetched once with the ordinary clients into `.corpus/`, outside git."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[2] / ".corpus"
FETCH_S: Final = 300
MAX_FILE: Final = 64 << 20


class NotFetchedError(Exception):
    """A package could not be fetched: no network, no client, or the registry does not have it."""


@dataclasses.dataclass(frozen=True)
class Package:
    """A package of PyPI (`pip`) or npm, and the endings of the files that are read."""

    client: str
    name: str
    version: str
    endings: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return FOLDER / f"{self.name}-{self.version}"

    def fetch(self) -> tarfile.TarFile:
        """Return the archive, fetched before or now. Raises NotFetchedError."""
        if not any(self.folder.glob("*.t*gz")):
            # pip asks a source package for its metadata, which may need the tools that the package is built with.
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", self.name]
            npm = ["npm", "pack", "--silent", "--pack-destination"]
            part = self.folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            command = [*pip, "-d", str(part), f"{self.name}=={self.version}"]
            if self.client == "npm":
                command = [*npm, str(part), f"{self.name}@{self.version}"]
            try:
                ran = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise NotFetchedError(f"{self.name} {self.version} was not fetched: {error}") from None
            if ran.returncode or not any(part.glob("*.t*gz")):
                reason = (ran.stderr.strip().splitlines() or ["no archive"])[-1]
                raise NotFetchedError(f"{self.name} {self.version} was not fetched: {reason}")
            shutil.rmtree(self.folder, ignore_errors=True)
            part.rename(self.folder)
        return tarfile.open(next(self.folder.glob("*.t*gz")))

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and bytes of each file with one of the endings."""
        with self.fetch() as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.name.endswith(self.endings) else None
                if stream and member.size <= MAX_FILE:
                    yield member.name.partition("/")[2], stream.read()


PACKAGES: Final = (
    Package("npm", "m3u8-parser", "7.2.0", (".m3u8",)),
    Package("npm", "mpd-parser", "1.4.0", (".mpd",)),
    Package("pip", "streamlink", "8.6.3", (".m3u8", ".mpd")),
    Package("pip", "yt-dlp", "2026.10.26", (".m3u8", ".mpd")),
    Package("pip", "maxminddb", "3.2.0", (".mmdb",)),
    Package("pip", "geoip2", "5.3.0", (".mmdb",)),
    Package("pip", "geofeed-tools", "0.2.0", ("_geofeed.csv",)),
)
