"""Opus through the programs of opus-tools, to compare a codec with: the same recordings, bitrates as they came out."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from ..errors import AudioError, InputError
from .recording import Decoded, Recording, at_rate, fitted

__all__ = ["Opus", "audio_bytes", "missing_tools"]

TOOLS = ("opusenc", "opusdec")
OPUS_RATE = 48000  # Hz, at which Opus decodes
_HEADERS = 2  # packets before the audio: OpusHead and OpusTags (RFC 7845, section 3)


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


class Opus:
    """Opus at nominal bitrates in kbps, variable as is its default. Raises InputError for one that it has not."""

    def __init__(self, rates: Sequence[float]):
        if bad := [rate for rate in rates if not 6 <= rate <= 256]:
            raise InputError(f"Opus at {bad[0]:g} kbps: it has 6 to 256 kbps for one channel")
        self.rates = tuple(rates)

    def __call__(self, recording: Recording) -> Iterator[Decoded]:
        """One for each bitrate. Raises AudioError where a tool fails."""
        for rate in self.rates:
            audio, bits = _through(recording.audio, recording.sample_rate, rate)
            yield Decoded(f"Opus {rate:g}", audio, bits)


def _through(wav: np.ndarray, sample_rate: int, kbps: float) -> tuple[np.ndarray, int]:
    """[N] encoded and decoded, at its rate and of its length, and the bits of its audio packets."""
    with tempfile.TemporaryDirectory() as folder:
        original, coded, decoded = (str(Path(folder) / name) for name in ("in.wav", "coded.opus", "out.wav"))
        soundfile.write(original, wav, sample_rate, subtype="FLOAT")
        _call("opusenc", "--quiet", "--bitrate", f"{kbps:g}", original, coded)
        _call("opusdec", "--quiet", "--no-dither", "--rate", str(OPUS_RATE), coded, decoded)
        bits = 8 * audio_bytes(Path(coded).read_bytes())
        audio, rate = soundfile.read(decoded, dtype="float32", always_2d=True)
    return fitted(at_rate(audio.mean(1), rate, sample_rate), len(wav)), bits
