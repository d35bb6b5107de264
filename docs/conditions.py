"""Recordings of speech under hard conditions, for `streamcodec evaluate`.

    python docs/conditions.py FOLDER... OUT
    streamcodec evaluate OUT

FOLDER holds recordings; OUT gets a folder of 24 kHz WAV files for each condition, under their old names. What a codec
is measured against is the recording as it is after the change.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.signal import butter, sosfiltfilt

RATE = 24_000
LIMIT = 20  # seconds of a recording


def read(path: Path) -> np.ndarray:
    """[N] float32, mono at 24 kHz, its peak at -6 dBFS."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(audio.mean(1), rate, RATE)[: LIMIT * RATE]
    return to_peak(mono, -6)


def to_peak(audio: np.ndarray, dbfs: float) -> np.ndarray:
    """`audio` with its peak at so many dB of full scale."""
    return (audio * (10 ** (dbfs / 20) / max(np.abs(audio).max(), 1e-9))).astype(np.float32)


def telephone(audio: np.ndarray) -> np.ndarray:
    """300 to 3,400 Hz."""
    return sosfiltfilt(butter(6, (300, 3400), "bandpass", fs=RATE, output="sos"), audio).astype(np.float32)


def clipped(audio: np.ndarray) -> np.ndarray:
    """12 dB too loud for its converter, then at -6 dBFS."""
    return to_peak(np.clip(4 * to_peak(audio, 0), -1, 1), -6)


def two_voices(audio: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Another recording at the same level, in a circle where it is shorter."""
    level = np.sqrt(np.mean(audio**2) / max(np.mean(other**2), 1e-12))
    return to_peak(audio + level * np.resize(other, len(audio)), -6)


CONDITIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "speech_0_dbfs": lambda audio: to_peak(audio, 0),
    "speech_20_dbfs_below": lambda audio: to_peak(audio, -20),
    "speech_40_dbfs_below": lambda audio: to_peak(audio, -40),
    "speech_telephone": telephone,
    "speech_clipped": clipped,
}


def write(out: Path, condition: str, name: str, audio: np.ndarray) -> None:
    """One recording; float, so that a quiet one is not rounded."""
    (out / condition).mkdir(parents=True, exist_ok=True)
    soundfile.write(out / condition / f"{name}.wav", audio, RATE, subtype="FLOAT")


def main() -> None:
    """Read the arguments and write the folders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("out", type=Path, metavar="OUT")
    arguments = parser.parse_args()
    files = [path for folder in arguments.folders for path in sorted(folder.iterdir()) if path.suffix != ".txt"]
    heard = [read(path) for path in files]
    for i, (path, audio) in enumerate(zip(files, heard, strict=True)):
        for condition, change in CONDITIONS.items():
            write(arguments.out, condition, path.stem, change(audio))
        write(arguments.out, "speech_two_voices", path.stem, two_voices(audio, heard[i - 1]))


if __name__ == "__main__":
    main()
