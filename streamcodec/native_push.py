"""A push of whole frames in one call of the library: look-up, step and search, with no Python between.

A step reads more weights than a cache holds, so Python and torch find their own code gone from it at every call. For
a small codec that takes as long as the step.
"""

import ctypes
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any

import torch
from streamcodec_kernels.native import library
from torch import Tensor

from .native_quantizers import RVQLookup, RVQSearch
from .native_support import CPU
from .state import State

__all__ = ["NativePush"]

# Numbers of 64 bits in the library's structures, one a field.
GIVEN, MADE = (len(kind._fields_) for kind in (library.Given, library.Made))


class NativePush:
    """running: gives what runs a push, by `call`, in the calling thread's memory; state: of all streams; samples: of a
    stream in a push; rows, latents: room for those of all streams, [streams * samples, 1] and [streams * frames, D];
    quantized: what searches the latents that come out, or looks up those that go in, with so many `stages`.

    codes: [streams * frames, stages] int64, those of the last push.
    """

    def __init__(
        self, running: Callable[[library.Push], Callable[[], int]], call: library.Call, state: State, samples: int,
        rows: Tensor, latents: Tensor, quantized: RVQSearch | RVQLookup, stages: int,
    ):  # fmt: skip
        batch = len(rows) // samples
        self.codes = torch.zeros(len(latents), stages, dtype=torch.int64, device=CPU)
        asked = quantized.of(latents, self.codes)
        self._push = push = library.Push(frames=len(latents) // batch, samples=samples)
        push.state, push.state_stream, push.state_count = state.bytes.data_ptr(), state.bytes.stride(0), state.batch
        push.rows, push.latents, push.codes = rows.data_ptr(), latents.data_ptr(), self.codes.data_ptr()
        # As numbers: a structure is written field by field.
        self._given, self._made = self._numbers(GIVEN * 2 * batch), self._numbers(MADE * batch)
        self._places, self._position, self._length = self._numbers(batch), self._numbers(batch), self._numbers(batch)
        push.made, push.places = ctypes.addressof(self._made), ctypes.addressof(self._places)
        setattr(push, "search" if isinstance(quantized, RVQSearch) else "lookup", ctypes.addressof(asked))
        self._run, self._call, self._thread, self._batch = running(push), call, get_ident(), batch
        self._kept = running, state, asked, quantized, rows, latents  # what these point to

    @staticmethod
    def _numbers(count: int) -> Any:
        return (ctypes.c_int64 * count)()

    def __call__(
        self,
        given: Sequence[int],
        made: Sequence[int],
        streams: Sequence[int],
        edges: Sequence[tuple[int, int]] | None = None,
    ) -> bool:
        """As `executors.Push` has it. False too where another thread calls."""
        batch, count, push = len(streams), len(given), self._push
        if get_ident() != self._thread or batch > self._batch:
            return False
        if count % GIVEN or len(made) != MADE * batch or len(edges or streams) != batch:
            return False
        if count > len(self._given):
            self._given = self._numbers(2 * count)
        push.batch, push.given_count, push.given = batch, count // GIVEN, ctypes.addressof(self._given)
        self._given[:count], self._made[: MADE * batch], self._places[:batch] = given, made, streams
        push.position = push.length = None
        if edges is not None:
            self._position[:batch], self._length[:batch] = zip(*edges, strict=True)
            push.position, push.length = ctypes.addressof(self._position), ctypes.addressof(self._length)
        self._call.batch = batch
        return self._run() == 1
