"""How good a codec is on recordings that it was not trained on: the table of a model card."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ConfigError
from ..metrics import mel_distance, si_sdr
from .data import find_audio, read_mono
from .quantizer import perplexity

__all__ = ["Score", "Usage", "codebook_usage", "evaluate", "table"]


@dataclass(frozen=True)
class Score:
    """One recording at one bandwidth: STOI (0..1, NaN without speech to judge), mel distance, SI-SDR in dB."""

    group: str
    name: str
    bandwidth: float
    stoi: float
    mel: float
    si_sdr: float


@dataclass(frozen=True)
class Usage:
    """Perplexity of each codebook (entries in effective use) on the codes of some recordings."""

    frames: int
    perplexities: tuple[float, ...]


def _stoi(reference: np.ndarray, result: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al. 2011), NaN for a signal too short or too quiet for it."""
    try:
        from pystoi import stoi
    except ImportError as error:
        raise ConfigError("STOI needs the package pystoi: pip install 'streamcodec[train]'") from error
    with warnings.catch_warnings():
        # pystoi warns, and returns a placeholder, where fewer than 30 frames are left once silence is removed.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(stoi(reference, result, sample_rate, extended=False))
        except RuntimeWarning:
            return math.nan


def _read(codec: Any, path: Path) -> np.ndarray:
    return read_mono(path, codec.spec.sample_rate)


def evaluate(codec: Any, source: str | Path, speech: str = "speech") -> Iterable[Score]:
    """Encode and decode every recording of `source` at every bandwidth; yields the scores as they are made.

    speech: STOI is computed for recordings whose folder's name starts with this. A mono codec hears the channels'
    mean. Raises AudioError where there is no audio.
    """
    for path in find_audio(source):
        reference = _read(codec, path)
        wav = torch.from_numpy(reference)[None, None].expand(1, codec.spec.channels, -1)
        for bandwidth in codec.spec.bandwidths:
            result = codec.decode(codec.encode(wav, bandwidth))[0].mean(0).numpy()
            group = path.parent.name
            yield Score(
                group,
                path.stem,
                bandwidth,
                _stoi(reference, result, codec.spec.sample_rate) if group.startswith(speech) else math.nan,
                mel_distance(reference, result, codec.spec.sample_rate),
                si_sdr(reference, result),
            )


def codebook_usage(codec: Any, source: str | Path) -> Usage:
    """Perplexities over all recordings of `source`."""
    counts = torch.zeros(codec.spec.num_codebooks, codec.spec.codebook_size)
    for path in find_audio(source):
        wav = torch.from_numpy(_read(codec, path))[None, None].expand(1, codec.spec.channels, -1)
        data = codec.encode(wav, codec.spec.bandwidths[-1]).data
        for k in range(data.shape[1]):
            counts[k] += torch.bincount(data[:, k].flatten(), minlength=codec.spec.codebook_size)
    return Usage(int(counts[0].sum()), tuple(perplexity(counts).tolist()))


def _mean(values: list[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return f"{sum(finite) / len(finite):.3f}" if finite else "-"


def table(scores: Iterable[Score]) -> str:
    """Means by folder and bandwidth as a Markdown table."""
    scores = list(scores)
    lines = ["| folder | files | kbps | STOI | mel distance | SI-SDR (dB) |", "|---|---|---|---|---|---|"]
    for group in sorted({score.group for score in scores}):
        for bandwidth in sorted({score.bandwidth for score in scores}):
            rows = [score for score in scores if (score.group, score.bandwidth) == (group, bandwidth)]
            cells = (_mean([getattr(row, name) for row in rows]) for name in ("stoi", "mel", "si_sdr"))
            lines.append(f"| {group} | {len(rows)} | {bandwidth:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
