"""A push of whole frames in one call of the library: look-up, step and search, with no Python between.

A step reads more weights than a cache holds, so Python and torch find their own code gone from it at every call. For
a small codec that takes as long as the step.
"""

import ctypes
from collections.abc import Sequence
from threading import get_ident
from typing import Any

import torch
from streamcodec_kernels.native import library
from streamcodec_kernels.native.library import InstructionSet

from .native_quantizers import RVQLookup, RVQSearch
from .native_support import CPU, floats
from .state import State

__all__ = ["NativePush"]


class NativePush:
    """work: the calling thread's memory for a step, which `plan` and `call` are of; state: of all streams; sizes: the
    most streams of a push, and samples, frames, and channels of latents of each; quantized: what searches the latents
    that come out, or looks up those that go in, with so many `stages`.

    codes: [streams * frames, stages] int64, those of the last push.
    """

    def __init__(
        self, work: object, here: InstructionSet, plan: library.Plan, call: library.Call, state: State,
        sizes: tuple[int, int, int, int], quantized: RVQSearch | RVQLookup, stages: int,
    ):  # fmt: skip
        batch, samples, frames, dimension = sizes
        rows, latents = floats(batch, samples), floats(batch * frames, dimension)
        self.codes = torch.zeros(batch * frames, stages, dtype=torch.int64, device=CPU)
        asked = quantized.of(latents, self.codes)
        self._push = push = library.Push(frames=frames, samples=samples)
        push.state, push.state_stream, push.state_count = state.bytes.data_ptr(), state.bytes.stride(0), state.batch
        push.rows, push.latents, push.codes = rows.data_ptr(), latents.data_ptr(), self.codes.data_ptr()
        self._made: Any = (library.Made * batch)()  # which takes tuples too
        self._places: Any = (ctypes.c_int64 * batch)()
        push.made, push.places = ctypes.addressof(self._made), ctypes.addressof(self._places)
        setattr(push, "search" if isinstance(quantized, RVQSearch) else "lookup", ctypes.addressof(asked))
        self._run, self._thread, self._batch = here.push, get_ident(), batch
        self._asked = ctypes.byref(plan), ctypes.byref(call), ctypes.byref(push)
        self._kept = work, state, asked, quantized, rows, latents  # what these point to

    def __call__(
        self,
        given: Sequence[tuple[int, int, int, int, int, int]],
        made: Sequence[tuple[int, bool]],
        streams: Sequence[int],
    ) -> bool:
        """As `ops.Push` has it. False too where another thread calls."""
        batch, count, push = len(streams), len(given), self._push
        if get_ident() != self._thread or batch > self._batch or len(made) != batch:
            return False
        array: Any = library.Given * count
        stretches = array(*given)
        push.batch, push.given_count, push.given = batch, count, ctypes.addressof(stretches)
        self._made[:batch], self._places[:batch] = made, streams
        return self._run(*self._asked) == 1
