"""Steps of a lane in one call of an executor (`executors.Push`)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..executors import Push
from ..nn.quantize import Quantizer, ResidualVectorQuantizer
from ..nn.transducer import Network
from ..stamps import Seen
from ..state import State

__all__ = ["Pushed", "Pushes"]


class Pushed(NamedTuple):
    """A session in a step. waiting: the rows that it takes, in pieces, fewer than a step has where its signal ends;
    int16: whether its audio is to be that.
    """

    slot: int
    waiting: list[Tensor]
    int16: bool


class Pushes:
    """What pushes the streams of `states` through a network, and through its quantizer before or after it.

    Nothing does where the quantizer has several parts, or the executor has no quicker way than step by step.
    """

    def __init__(self, network: Network, quantizer: Quantizer, states: State):
        self._network, self._quantizer, self._states = network, quantizer, states
        self._kept: dict[tuple[int, int, int], tuple[Push, Tensor] | None] = {}
        self._current: Callable[[], bool] = lambda: False

    def run(
        self, sides: Sequence[Pushed], frames: int, stages: int, edges: list[tuple[int, int]] | None
    ) -> list[Tensor] | None:
        """So many frames of each; stages: of the codes that audio becomes, 0 for codes that become audio; edges: as
        `Push` has them. Returns what came out, [1, stages, frames] or [1, 1, samples] each, or None where nothing
        was done.
        """
        if type(self._quantizer) is not ResidualVectorQuantizer:
            return None
        given, widest = list[int](), 1
        for place, side in enumerate(sides):
            for piece in side.waiting:
                (rows, width), (row, column) = piece.shape, piece.stride()
                given += (piece.data_ptr(), place, rows, row, width, column)
                widest = max(widest, width)
        ready = self._ready(self._quantizer, len(sides), frames, stages, widest)
        if ready is None:
            return None
        push, like = ready
        made, to = list[Tensor](), list[int]()
        for side in sides:
            int16 = side.int16 and not stages
            made.append(torch.empty_like(like, dtype=torch.int16) if int16 else torch.empty_like(like))
            to += (made[-1].data_ptr(), int16)
        if push(given, to, [side.slot for side in sides], edges):
            return made
        self._kept.clear()  # another thread may have made it
        return None

    def _ready(
        self, quantizer: ResidualVectorQuantizer, batch: int, frames: int, stages: int, widest: int
    ) -> tuple[Push, Tensor] | None:
        """What pushes at least so many streams, and a tensor as what comes out for one."""
        if not self._current():  # weights may have changed
            network, executor, seen = self._network, self._network.executor, Seen(quantizer, "codebooks")
            self._current = lambda: network.runs_on(executor) and seen.still()
            self._kept.clear()
        key = (1 << (batch - 1).bit_length(), frames, stages or widest)
        if key not in self._kept:
            bound = quantizer.bound_search(slice(stages)) if stages else quantizer.bound_lookup()
            push = self._network.executor.push(key[0], frames, self._states, bound.run, key[2])
            samples = frames * self._network.out.rate
            shape, dtype = ((stages, frames), torch.int64) if stages else ((1, samples), torch.float32)
            with torch.inference_mode(False):
                self._kept[key] = None if push is None else (push, torch.empty(1, *shape, dtype=dtype, device="cpu"))
        return self._kept[key]
