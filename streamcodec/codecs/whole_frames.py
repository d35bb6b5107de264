"""Pushes of whole frames in the middle of a live stream, in one call of an executor (`ops.Push`).

Nearly all pushes of a live stream are alike, and what a small codec's step takes is less than what the general way
around it does. A push that is anything else than the last one was is refused here, before it has changed anything. The
general way then does it, or says why not.
"""

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..codes import Codes, CodesLike
from ..nn.piece import Core
from ..nn.quantize import Quantizer, ResidualVectorQuantizer
from ..nn.transducer import Whole
from ..pcm import AudioLike
from ..stamps import Seen
from .framed import FramedCore

__all__ = ["WholeAudio", "WholeCodes", "whole_audio", "whole_codes"]


class WholeAudio:
    """Audio of one size to codes. frames, samples: of a push."""

    def __init__(self, quantizer: ResidualVectorQuantizer, used: slice, whole: Whole):
        self._quantizer, self._whole, self._seen = quantizer, whole, Seen(quantizer.codebooks)
        self._given, self.frames, self.samples = (1, 1, whole.rows), whole.frames, whole.rows
        self._made = torch.empty(1, used.stop, whole.frames, dtype=torch.int64, device="cpu")

    def push(self, pcm: AudioLike) -> Tensor | None:
        """Codes [1, K, T]; None where the general way has to do it."""
        address = _address(pcm, self._given)
        if address is None or not self._seen.still(self._quantizer.codebooks):
            return None
        codes = torch.empty_like(self._made)
        return codes if self._whole(address, codes.data_ptr()) else None


class WholeCodes:
    """Codes of one shape to audio. frames, samples: of a push; last: the last frame of the last push."""

    def __init__(self, quantizer: ResidualVectorQuantizer, stages: int, whole: Whole):
        self._quantizer, self._whole, self._seen = quantizer, whole, Seen(quantizer.codebooks)
        self._given, self.frames, self.samples = (1, stages, whole.frames), whole.frames, whole.made
        self._made = torch.empty(1, 1, whole.made, dtype=torch.float32, device="cpu")
        self.last = Codes(whole.codes[-1:].t()[None])

    def push(self, codes: CodesLike) -> Tensor | None:
        """Audio [1, 1, n]; None where the general way has to do it."""
        if isinstance(codes, Codes):
            if codes.scale is not None or codes.length not in (None, self.samples):
                return None
            codes = codes.data
        address = _address(codes, self._given, torch.int64)
        if address is None or not self._seen.still(self._quantizer.codebooks):
            return None
        audio = torch.empty_like(self._made)
        return audio if self._whole(address, audio.data_ptr()) else None


Given: TypeAlias = AudioLike | CodesLike


def _address(values: Given, shape: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> int | None:
    """Where they lie one after the other, if they are of just that shape and type, in memory."""
    if type(values) is Tensor:
        fits = values.shape == shape and values.dtype is dtype and values.is_cpu
        return values.data_ptr() if fits and values.is_contiguous() and not values.is_neg() else None
    if type(values) is np.ndarray:
        fits = values.shape == shape and values.dtype == (np.float32 if dtype is torch.float32 else np.int64)
        return values.ctypes.data if fits and values.flags.c_contiguous and values.flags.aligned else None
    return None


def whole_audio(core: Core, quantizer: Quantizer, codebooks: int, samples: int) -> WholeAudio | None:
    """Pushes of so many samples, as the next ones; None where an executor has no quicker way, or the stream stands at
    an edge of its signal or within a frame.
    """
    if not isinstance(core, FramedCore) or type(quantizer) is not ResidualVectorQuantizer:
        return None
    used = slice(codebooks)
    whole = core.transducer.whole(samples, quantizer.bound_search(used).run, codebooks)
    return None if whole is None else WholeAudio(quantizer, used, whole)


def whole_codes(core: Core, quantizer: Quantizer, codes: Codes) -> WholeCodes | None:
    """Pushes of codes as these were, likewise."""
    if not isinstance(core, FramedCore) or type(quantizer) is not ResidualVectorQuantizer:
        return None
    _, stages, frames = codes.data.shape
    whole = core.transducer.whole(frames, quantizer.bound_lookup().run, stages)
    return None if whole is None else WholeCodes(quantizer, stages, whole)
