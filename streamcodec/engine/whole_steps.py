"""Whole steps of a lane on a GPU: from slots to slots, on memory that keeps its place, captured in CUDA graphs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ..executors import Executor
from ..nn.quantize import Quantizer
from ..nn.transducer import UNKNOWN, Network
from ..program import Edges
from ..stamps import Stamp, modules, stamp, weights
from ..state import Lent, State
from .graphs import Graphs, Replay

__all__ = ["WholeSteps"]


class Size(NamedTuple):
    """What makes whole steps different.

    edges: whether it may touch an edge; asked: as for `finish`; written: changes with the weights of that.
    """

    batch: int
    frames: int
    edges: bool
    asked: int
    executor: Executor
    written: Stamp


class WholeSteps:
    """The steps of a network between rows of `states`, of which the last one is nobody's.

    inputs: where the rows of a step's input lie, [B, frames * rate, channels] for a batch and frames; finish: what is
    left to do with the network's output, given what it has to make (`BatchedLane._finish`), with the weights of
    `quantizer`.
    """

    def __init__(
        self, network: Network, quantizer: Quantizer, states: State, largest: int,
        inputs: Callable[[int, int], Tensor], finish: Callable[[Tensor, int], Tensor],
    ):  # fmt: skip
        self.states, self.inputs, self.finish = states, inputs, finish
        self._network, self._quantizer = network, cast(nn.Module, quantizer)
        self.nobody = states.batch - 1
        # Slots, and the two of `Edges`.
        self.numbers = torch.zeros(3, largest, dtype=torch.int64, device=states.bytes.device)
        self.graphs = Graphs(self._made)

    def prepare(self, batch: int, step_frames: Sequence[int], first_frames: int, asked: int) -> None:
        """Make those of so many sessions. Those at edges are other steps, and a session's last one must not have to
        wait for them either.
        """
        for frames in step_frames:
            self.graphs.get(self._size(batch, frames, False, asked))
        for frames in {*step_frames, first_frames}:
            self.graphs.get(self._size(batch, frames, True, asked))

    def run(
        self, batch: int, frames: int, asked: int, edges: list[tuple[int, int]] | None,
        fill: Callable[[Tensor], Tensor], slots: Callable[[], list[int]],
    ) -> Tensor:  # fmt: skip
        """A step of at most `batch` sessions; returns what `finish` gives.

        fill: gives the input, in the memory that it is given or elsewhere; slots: asked last, those of the sessions.
        """
        step, x = self.graphs.get(self._size(batch, frames, edges is not None, asked)), self.inputs(batch, frames)
        given = fill(x)
        if given is not x:
            x.copy_(given)
        # From here on nothing of the caller's runs: a side that was closed until now has no slot any more.
        self._place(slots(), edges, batch)
        return step()

    def _size(self, batch: int, frames: int, edges: bool, asked: int) -> Size:
        written = stamp(weights(modules(self._quantizer)))
        return Size(batch, frames, edges, asked, self._network.executor, written)

    def _made(self, size: Size) -> "WholeStep | Replay":
        """A step of this size; it is made on the slot that is nobody's."""
        step = WholeStep(self, size)
        if self.numbers.device.type != "cuda":
            return step
        self._place([], None, size.batch)
        with torch.cuda.device(self.numbers.device):
            return Replay(step)

    def _place(self, slots: list[int], edges: list[tuple[int, int]] | None, batch: int) -> None:
        """Say which slots the next step moves on, and where their signals lie."""
        ends = [(0, UNKNOWN)] * batch if edges is None else edges
        rows = [slots + [self.nobody] * (batch - len(slots)), *zip(*ends, strict=True)]
        self.numbers[:, :batch].copy_(torch.tensor(rows, dtype=torch.int64))


class WholeStep:
    """A step of one size, whose memory keeps its place: `numbers` says which slots."""

    def __init__(self, steps: WholeSteps, size: Size):
        self._steps, self._size = steps, size
        self._work = size.executor.workspace(size.batch, size.frames)
        self.nbytes: int = self._work.nbytes

    def __call__(self) -> Tensor:
        """Run it; returns the batch's output."""
        (batch, frames, edges, asked, executor, _), steps = self._size, self._steps
        slots, position, length = steps.numbers[:, :batch].unbind()
        lent = Lent(steps.states, slots)
        y = executor.step(self._work, steps.inputs(batch, frames), lent, Edges(position, length) if edges else None)
        y = steps.finish(y, asked)
        lent.write(slice(batch), slots)
        return y
