"""Another codec's output, as files beside the recordings."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..train.data import AUDIO_SUFFIXES, find_audio, read_mono
from .recording import Decoded, Recording, fitted

__all__ = ["Folder"]

MOST_LAG = 0.06  # seconds that a file may be late or early: codecs delay, and many leave the delay in
SHORTER = 1.0  # seconds that it may lack


class Folder:
    """A system whose output lies in `folder`, as GROUP/NAME.wav or NAME.wav (or another kind of audio file).

    Files are resampled to the recording's rate, and moved by up to 60 ms to where they fit it best. The bitrate of what
    they came from is unknown. unmatched: names of the recordings that had no file. Raises AudioError for no audio.
    """

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder
        self.files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in find_audio(folder)}
        self.unmatched: list[str] = []

    def __call__(self, recording: Recording) -> Iterator[Decoded]:
        """One or none. Raises InputError for a file that is much shorter than the recording."""
        path = self.files.get(f"{recording.group}/{recording.name}") or self.files.get(recording.name)
        if path is None:
            self.unmatched.append(recording.name)
            return
        audio = read_mono(path, recording.sample_rate)
        if len(audio) / recording.sample_rate < recording.seconds - SHORTER:
            raise InputError(
                f"{path} has {len(audio) / recording.sample_rate:.1f} s and the recording {recording.seconds:.1f} s; "
                "files are matched by name: is it another recording's?"
            )
        yield Decoded(self.name, aligned(recording.audio, audio, int(MOST_LAG * recording.sample_rate)), None)

    def left_out(self) -> str | None:
        """A sentence on recordings without a file."""
        if not self.unmatched:
            return None
        kinds = " ".join(sorted(AUDIO_SUFFIXES))
        return f"left out: {self.name}, for want of files in {self.folder}: {', '.join(self.unmatched)} ({kinds})"


def aligned(reference: np.ndarray, result: np.ndarray, most: int) -> np.ndarray:
    """The result [M] moved by up to `most` samples to where it correlates best with the reference [N], as [N]."""
    size = 2 ** (len(reference) + len(result)).bit_length()
    spectrum = np.fft.rfft(result, size) * np.fft.rfft(reference, size).conj()
    correlation = np.fft.irfft(spectrum, size)
    lags = np.arange(-most, most + 1)
    lag = int(lags[np.argmax(correlation[lags])])
    moved = result[lag:] if lag >= 0 else np.pad(result, (-lag, 0))
    return fitted(moved, len(reference))
