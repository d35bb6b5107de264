"""Decoded audio of a ``.dac`` file as DAC's own command gives it: its level, its rate and its length.

Upstream's `decompress` brings each channel of the whole decoded signal to `input_db`, resamples it to the recording's
rate and cuts it to the recording's length. The level is known only at the end, so that the audio waits in a temporary
file meanwhile.
"""

import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import AudioError
from .dac import DacFile
from .loudness import LoudnessMeter

__all__ = ["restored"]

Samples = NDArray[np.float32]

PIECE = 65536  # samples a channel read back at a time


def restored(file: DacFile, pieces: Iterable[Tensor], sample_rate: int, directory: Path) -> Iterator[Samples]:
    """Audio [channels, n] at `file.sample_rate`, `file.original_length` samples of it or as many as there are.

    pieces: decoded audio [channels, n] at `sample_rate` Hz, the codec's; directory: where the temporary file lies.
    Where the file has no level that can be used (input_db is NaN) the audio keeps the codec's.
    Raises AudioError if the disk refuses.
    """
    left = file.original_length
    levelled = _levelled(file, pieces, sample_rate, directory)
    for rows in _resampled(levelled, sample_rate, file.sample_rate, file.channels):
        yield np.ascontiguousarray(rows[:left].T)
        left -= min(left, len(rows))
        if not left:
            return


def _levelled(file: DacFile, pieces: Iterable[Tensor], sample_rate: int, directory: Path) -> Iterator[Samples]:
    """[n, channels] at the level that the file names."""
    meters = [LoudnessMeter(sample_rate) for _ in range(file.channels)]
    try:
        with tempfile.TemporaryFile(dir=directory) as spool:
            for piece in pieces:
                pcm = piece.cpu().numpy().astype(np.float32)
                for meter, channel in zip(meters, pcm, strict=True):
                    meter.push(channel)
                spool.write(np.ascontiguousarray(pcm.T).tobytes())
            gains = [_gain(file.input_db - meter.integrated()) for meter in meters]
            yield from _read(spool, np.array(gains, np.float32))
    except OSError as error:
        raise AudioError(f"cannot keep decoded audio in {directory}: {error}") from error


def _gain(decibels: float) -> float:
    return 1.0 if math.isnan(decibels) else 10 ** (decibels / 20)


def _read(spool: IO[bytes], gains: Samples) -> Iterator[Samples]:
    spool.seek(0)
    while data := spool.read(PIECE * gains.nbytes):
        yield np.frombuffer(data, np.float32).reshape(-1, len(gains)) * gains


def _resampled(pieces: Iterable[Samples], rate: int, wanted: int, channels: int) -> Iterator[Samples]:
    if rate == wanted:
        yield from pieces
        return
    import soxr

    resampler: Any = soxr.ResampleStream(rate, wanted, channels, dtype="float32")
    for piece in pieces:
        yield resampler.resample_chunk(piece).reshape(-1, channels)
    yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True).reshape(-1, channels)
