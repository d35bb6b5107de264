"""What a listener might think, in numbers: STOI and PESQ through their packages, where those are installed."""

import importlib.util
import math
import warnings

import numpy as np
import soxr

from ..errors import ConfigError
from ..install import how_to_install

__all__ = ["missing_metrics", "pesq", "stoi"]

PESQ_RATE = 16000  # Hz, of wide-band PESQ (ITU-T P.862.2)
PACKAGES = {"STOI": "pystoi", "PESQ": "pesq"}


def missing_metrics() -> dict[str, str]:
    """Metrics that cannot be computed here, and the package that each one needs."""
    return {name: package for name, package in PACKAGES.items() if importlib.util.find_spec(package) is None}


def stoi(reference: np.ndarray, result: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al. 2011) of [N], 0..1; NaN if too short or too quiet for it.

    Raises ConfigError without the package pystoi.
    """
    try:
        from pystoi import stoi as measure
    except ImportError as error:
        raise ConfigError(f"STOI needs the package pystoi: {how_to_install('train')}") from error
    with warnings.catch_warnings():
        # pystoi warns, and returns a placeholder, where fewer than 30 frames are left once silence is removed.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(measure(reference, result, sample_rate, extended=False))
        except RuntimeWarning:
            return math.nan


def pesq(reference: np.ndarray, result: np.ndarray, sample_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2) of [N], about 1 to 4.6; NaN where it finds no speech or too little of it.

    Raises ConfigError without the package pesq.
    """
    try:
        from pesq import PesqError
        from pesq import pesq as measure
    except ImportError as error:
        raise ConfigError(f"PESQ needs the package pesq: {how_to_install('evaluate')}") from error
    if not reference.any() or not result.any():
        return math.nan
    pair = [soxr.resample(wav, sample_rate, PESQ_RATE) for wav in (reference, result)]
    try:
        return float(measure(PESQ_RATE, *pair, "wb"))
    except (PesqError, ValueError):  # ValueError: fewer samples than it takes
        return math.nan
