"""Pushes of whole frames in the middle of a live stream, in one call of an executor (`executors.Push`).

Nearly all pushes of a live stream are alike, and what a small codec's step takes is less than what the general way
around it does. A push of another size is refused here, before it has changed anything. The general way then does it, or
says why not.
"""

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
        self._whole, self._seen = whole, Seen(quantizer, "codebooks")
        self._given, self.frames, self.samples = (1, 1, whole.rows), whole.frames, whole.rows
        self._made = torch.empty(1, used.stop, whole.frames, dtype=torch.int64, device="cpu")

    def push(self, pcm: AudioLike) -> Tensor | None:
        """Codes [1, K, T]; None where the general way has to do it."""
        address = _address(pcm, self._given)
        if address is None or not self._seen.still():
            return None
        codes = torch.empty_like(self._made)
        return codes if self._whole(address, codes.data_ptr()) else None


class WholeCodes:
    """Codes of one shape to audio. frames, samples: of a push; last: the last frame of the last push."""

    def __init__(self, quantizer: ResidualVectorQuantizer, stages: int, whole: Whole):
        self._whole, self._seen = whole, Seen(quantizer, "codebooks")
        self._given, self.frames, self.samples = (1, stages, whole.frames), whole.frames, whole.made
        self._made = torch.empty(1, 1, whole.made, dtype=torch.float32, device="cpu")
        self.last = Codes(whole.codes[-1:].t()[None])

    def push(self, codes: CodesLike) -> Tensor | None:
        """Audio [1, 1, n]; None where the general way has to do it."""
        if isinstance(codes, Codes):
            if codes.scale is not None or codes.length not in (None, self.samples):
                return None
            codes = codes.data
        if type(codes) is not Tensor or not self._seen.still():
            return None
        if codes.shape != self._given or codes.dtype is not torch.int64 or not codes.is_cpu:
            return None
        audio, (_, stage, frame) = torch.empty_like(self._made), codes.stride()
        return audio if self._whole(codes.data_ptr(), audio.data_ptr(), frame, self._given[1], stage) else None


def _address(pcm: AudioLike, shape: tuple[int, int, int]) -> int | None:
    """Where float32 samples of just that shape lie one after the other."""
    if type(pcm) is Tensor:
        fits = pcm.shape == shape and pcm.dtype is torch.float32 and pcm.is_cpu
        return pcm.data_ptr() if fits and pcm.is_contiguous() and not pcm.is_neg() else None
    if type(pcm) is np.ndarray:
        fits = pcm.shape == shape and pcm.dtype == np.float32
        return pcm.ctypes.data if fits and pcm.flags.c_contiguous and pcm.flags.aligned else None
    return None


def whole_audio(core: Core, quantizer: Quantizer, codebooks: int, samples: int) -> WholeAudio | None:
    """Pushes of so many samples, as the next ones; None where an executor has no quicker way, or the stream stands
    within a frame or before its first output.
    """
    if type(quantizer) is not ResidualVectorQuantizer or not isinstance(core, FramedCore):
        return None
    if not core.transducer.takes_whole(samples):
        return None
    used = slice(codebooks)
    whole = core.transducer.whole(samples, quantizer.bound_search(used).run, codebooks)
    return None if whole is None else WholeAudio(quantizer, used, whole)


def whole_codes(core: Core, quantizer: Quantizer, codes: Codes) -> WholeCodes | None:
    """Pushes of codes as these were, likewise."""
    _, stages, frames = codes.data.shape
    if type(quantizer) is not ResidualVectorQuantizer or not isinstance(core, FramedCore):
        return None
    if not core.transducer.takes_whole(frames):
        return None
    whole = core.transducer.whole(frames, quantizer.bound_lookup().run, stages)
    return None if whole is None else WholeCodes(quantizer, stages, whole)
