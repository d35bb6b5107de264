"""Opus through the programs of opus-tools, to compare a codec with: the same recordings, bitrates as they came out."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from ..errors import AudioError

__all__ = ["OpusResult", "audio_bytes", "missing_tools", "opus"]

TOOLS = ("opusenc", "opusdec")
OPUS_RATE = 48000  # Hz, at which Opus decodes
_HEADERS = 2  # packets before the audio: OpusHead and OpusTags (RFC 7845, section 3)


class OpusResult(NamedTuple):
    """audio: [N] float32 at the rate and of the length of what was encoded; bits: of its audio packets."""

    audio: np.ndarray
    bits: int


def missing_tools() -> list[str]:
    """Which of opusenc and opusdec are not installed (Debian: apt install opus-tools)."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def audio_bytes(data: bytes) -> int:
    """Bytes of Opus's audio packets in an Ogg file with one stream: without pages' headers, OpusHead and OpusTags.

    Pages are laid out as in RFC 3533, section 6: a packet ends with a lacing value below 255. Raises AudioError.
    """
    place, packets, current = 0, [], 0
    while place < len(data):
        if data[place : place + 4] != b"OggS" or place + 27 > len(data):
            raise AudioError(f"no Ogg page at byte {place}")
        lacing = data[place + 27 : place + 27 + data[place + 26]]
        for value in lacing:
            current += value
            if value < 255:
                packets.append(current)
                current = 0
        place += 27 + len(lacing) + sum(lacing)
    return sum(packets[_HEADERS:])


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AudioError(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")


def opus(wav: np.ndarray, sample_rate: int, kbps: float) -> OpusResult:
    """Encode and decode [N] mono at a nominal bitrate, variable as is Opus's default. Raises AudioError."""
    with tempfile.TemporaryDirectory() as folder:
        original, coded, decoded = (str(Path(folder) / name) for name in ("in.wav", "coded.opus", "out.wav"))
        soundfile.write(original, wav, sample_rate, subtype="FLOAT")
        _call("opusenc", "--quiet", "--bitrate", f"{kbps:g}", original, coded)
        _call("opusdec", "--quiet", "--no-dither", "--rate", str(OPUS_RATE), coded, decoded)
        bits = 8 * audio_bytes(Path(coded).read_bytes())
        audio, rate = soundfile.read(decoded, dtype="float32", always_2d=True)
    mono = soxr.resample(audio.mean(1), rate, sample_rate)[: len(wav)]
    return OpusResult(np.pad(mono, (0, len(wav) - len(mono))).astype(np.float32), bits)
