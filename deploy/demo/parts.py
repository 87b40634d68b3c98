"""What is not ours and is fetched or made when it is needed: the players, by name and version from npm, and media."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

INSTALL_S = 240
SEGMENT_S = 2


class MissingError(Exception):
    """Something that has to be there is not; the text says what."""


def need(name: str) -> str:
    """Return the path of a program."""
    found = shutil.which(name)
    if not found:
        raise MissingError(f"needs {name}")
    return found


def install(packages: Path) -> Path:
    """Return a folder of this venv with the node_modules that a package.json pins, installed once."""
    npm = need("npm")
    need("node")
    digest = hashlib.sha256(packages.read_bytes()).hexdigest()[:12]
    folder = Path(sys.prefix) / "players" / digest
    if (folder / "node_modules").is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    shutil.copy(packages, beside / "package.json")
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=beside, capture_output=True, text=True, check=False, timeout=INSTALL_S)
        if done.returncode:
            raise MissingError(f"npm could not install the players: {done.stderr.strip()[-300:]}")
        try:
            beside.rename(folder)
        except OSError:  # another run was first
            if not (folder / "node_modules").is_dir():
                raise
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"npm could not install the players in {INSTALL_S} s") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def make_media(folder: Path, length_s: int, size: str, rates: dict[str, str], look: str = "null") -> None:
    """Generate a title of so many seconds: HLS with these qualities and one sound, and DASH with the first of them.

    `look` is an ffmpeg filter for the picture.
    """
    ffmpeg = need("ffmpeg")
    sources = [f"testsrc2=size={size}:rate=15:duration={length_s},{look}", f"sine=frequency=440:duration={length_s}"]
    common = [
        ffmpeg,
        "-loglevel",
        "error",
        "-y",
        *(part for source in sources for part in ("-f", "lavfi", "-i", source)),
    ]
    video = [
        *("-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-pix_fmt", "yuv420p"),
        *("-g", "30", "-keyint_min", "30", "-sc_threshold", "0", "-threads", "1"),
    ]
    sound = ["-c:a", "aac", "-b:a", "48k"]
    tracks = {name: ["-map", "0:v", *video, "-b:v", rate] for name, rate in rates.items()} | {
        "sound": ["-map", "1:a", *sound]
    }
    for name, options in tracks.items():
        (folder / name).mkdir(parents=True)
        hls = [
            *("-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"),
            *("-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", "seg%d.m4s", "v.m3u8"),
        ]
        subprocess.run([*common, *options, *hls], cwd=folder / name, check=True, timeout=300)
    (folder / "dash").mkdir()
    dash = [
        *("-map", "0:v", "-map", "1:a", *video, "-b:v", next(iter(rates.values())), *sound),
        *("-f", "dash", "-seg_duration", str(SEGMENT_S), "-use_template", "1", "-use_timeline", "0"),
        *("-init_seg_name", "dash/init-$RepresentationID$.m4s"),
        *("-media_seg_name", "dash/$RepresentationID$-$Number$.m4s", "manifest.mpd"),
    ]
    subprocess.run([*common, *dash], cwd=folder, check=True, timeout=300)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    lines.append('#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="tone",DEFAULT=YES,AUTOSELECT=YES,URI="sound/v.m3u8"')
    for name, rate in rates.items():
        bandwidth = int(rate.removesuffix("k")) * 1500 + 100_000
        lines.append(
            f'#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS="avc1.42c01e,mp4a.40.2",RESOLUTION={size},AUDIO="sound"'
        )
        lines.append(f"{name}/v.m3u8")
    (folder / "master.m3u8").write_text("\n".join(lines) + "\n")
