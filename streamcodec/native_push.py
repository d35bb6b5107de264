"""A push of whole frames of one stream in one call of the library: look-up, step and search, with no Python between.

A step reads more weights than a cache holds, so Python and torch find their own code gone from it at every call. For
a small codec that takes as long as the step.
"""

import ctypes
from threading import get_ident

import torch
from streamcodec_kernels.native import library
from streamcodec_kernels.native.library import InstructionSet

from .native_quantizers import RVQLookup, RVQSearch
from .native_support import CPU, floats
from .state import State

__all__ = ["NativePush"]


class NativePush:
    """work: the calling thread's memory for a step of one stream, which `plan` and `call` are of; sizes: its samples,
    frames, and channels of latents; quantized: what searches the latents that come out, or looks up those that go in,
    with so many `stages`.

    codes: [frames, stages] int64, those of the last push.
    """

    def __init__(
        self, work: object, here: InstructionSet, plan: library.Plan, call: library.Call, state: State,
        sizes: tuple[int, int, int], quantized: RVQSearch | RVQLookup, stages: int,
    ):  # fmt: skip
        samples, frames, dimension = sizes
        latents = floats(frames, dimension)
        self.codes = torch.zeros(frames, stages, dtype=torch.int64, device=CPU)
        asked = quantized.of(latents, self.codes)
        self._push = library.Push(frames=frames, samples=samples, state=state.bytes.data_ptr())
        self._push.latents, self._push.codes = latents.data_ptr(), self.codes.data_ptr()
        setattr(self._push, "search" if isinstance(quantized, RVQSearch) else "lookup", ctypes.addressof(asked))
        self._run, self._thread = here.push, get_ident()
        self._asked = ctypes.byref(plan), ctypes.byref(call), ctypes.byref(self._push)
        self._kept = work, state, asked, quantized, latents  # what these point to

    def __call__(self, given: int, made: int, apart: tuple[int, int]) -> bool:
        """Addresses of float32 samples [frames * hop] and int64 codes [stages, frames], of which `made` is written.

        apart: how many codes stages and frames lie apart, where codes are given.
        False where a sample is not finite, a code has no entry, or another thread calls: then nothing has changed.
        """
        if get_ident() != self._thread:
            return False
        push = self._push
        push.given, push.made, (push.stage_apart, push.frame_apart) = given, made, apart
        return self._run(*self._asked) == 1
