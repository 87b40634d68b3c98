"""What is not ours and has to be there: Node with the pinned packages, Chromium, ffmpeg. A test without them is skipped."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PACKAGES = Path(__file__).with_name("package.json")
INSTALL_S = 240
SEGMENT_S = 2
LENGTH_S = 60


def need(name: str) -> str:
    """Return the path of a program, or skip the test."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"needs {name}")
    return found


@functools.cache
def install() -> Path | str:
    """Return the scratch folder with the pinned packages, installed once, or why it cannot be had."""
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        return "needs node and npm"
    digest = hashlib.sha256(PACKAGES.read_bytes()).hexdigest()[:12]
    folder = Path(sys.prefix) / "players" / digest
    if (folder / "node_modules").is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    shutil.copy(PACKAGES, beside)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=beside, capture_output=True, text=True, check=False, timeout=INSTALL_S)
        if done.returncode:
            return f"npm could not install the players: {done.stderr.strip()[-300:]}"
        try:
            beside.rename(folder)
        except OSError:  # another run was first
            if not (folder / "node_modules").is_dir():
                raise
        return folder
    except subprocess.TimeoutExpired:
        return f"npm could not install the players in {INSTALL_S} s"
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def modules() -> Path:
    """Return the folder that holds node_modules, or skip the test."""
    found = install()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def make_media(folder: Path) -> None:
    """Generate a title: `LENGTH_S` seconds of picture and tone, for HLS (two qualities, one sound) and for DASH."""
    ffmpeg = need("ffmpeg")
    picture = f"testsrc2=size=320x180:rate=15:duration={LENGTH_S}"
    tone = f"sine=frequency=440:duration={LENGTH_S}"
    common = [ffmpeg, "-loglevel", "error", "-y", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone]
    video = [
        *("-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-pix_fmt", "yuv420p"),
        *("-g", "30", "-keyint_min", "30", "-sc_threshold", "0", "-threads", "1"),
    ]
    for name, options in (
        ("low", ["-map", "0:v", *video, "-b:v", "100k"]),
        ("high", ["-map", "0:v", *video, "-b:v", "200k"]),
        ("sound", ["-map", "1:a", "-c:a", "aac", "-b:a", "48k"]),
    ):
        inside = folder / name
        inside.mkdir(parents=True)
        hls = [
            *("-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"),
            *("-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", "seg%d.m4s", "v.m3u8"),
        ]
        subprocess.run([*common, *options, *hls], cwd=inside, check=True, timeout=120)
    inside = folder / "dash"
    inside.mkdir()
    dash = [
        *("-map", "0:v", "-map", "1:a", *video, "-b:v", "100k", "-c:a", "aac", "-b:a", "48k"),
        *("-f", "dash", "-seg_duration", str(SEGMENT_S), "-use_template", "1", "-use_timeline", "0"),
        *("-init_seg_name", "dash/init-$RepresentationID$.m4s"),
        *("-media_seg_name", "dash/$RepresentationID$-$Number$.m4s", "manifest.mpd"),
    ]
    subprocess.run([*common, *dash], cwd=folder, check=True, timeout=120)
    (folder / "master.m3u8").write_text(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="tone",DEFAULT=YES,AUTOSELECT=YES,URI="sound/v.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=250000,CODECS="avc1.42c00c,mp4a.40.2",RESOLUTION=320x180,AUDIO="sound"\n'
        "low/v.m3u8\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=400000,CODECS="avc1.42c00c,mp4a.40.2",RESOLUTION=320x180,AUDIO="sound"\n'
        "high/v.m3u8\n"
    )


def running_as_root() -> bool:
    """Tell whether Chromium needs to be told that it has no sandbox."""
    return os.geteuid() == 0
