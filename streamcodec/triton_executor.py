"""A program run on a GPU: its products and LSTMs by Triton kernels, everything else by torch.

A kernel does all that follows a product too: what is added, activations, targets and edges (`product` and `lstm` of
streamcodec_kernels). Every other operation is laid out as in `torch_executor`. Products may be in a lower precision.
"""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .native_weights import pays
from .program import Buffer, Edges, LSTMCell, Op, Product, Program
from .torch_executor import TorchExecutor, Weights, Workspace, weights
from .vector_math import Call

__all__ = ["TritonExecutor", "lacks"]

MOST = 2  # kinds of windows, and targets, that a kernel takes

Launch = Callable[[bool], Any]


@cache
def _kernels() -> tuple[ModuleType, ModuleType]:
    """Imported when a program is to be run: Triton is on Linux alone."""
    from streamcodec_kernels import lstm, product

    return product, lstm


def lacks(program: Program) -> str | None:
    """The first thing that a program asks for and this executor has not, or None."""
    if program.dtype != torch.float32:
        return f"arithmetic in {program.dtype}, only in float32"
    if program.device.type != "cuda" and not _kernels()[0].INTERPRETED:
        return f"way to run on {program.device}, only on a GPU"
    return None


def _has_kernel(op: Op) -> bool:
    return isinstance(op, (Product, LSTMCell)) and max(len(op.windows), len(op.into)) <= MOST


def _weights(op: Op, precision: str) -> Weights:
    """What the kernel of an operation multiplies by, or torch."""
    if not _has_kernel(op):
        return weights(op)
    if isinstance(op, LSTMCell):
        w_ih, w_hh, b_ih, b_hh = op.weights
        return {"input": w_ih.t().contiguous(), "recurrent": w_hh.t().contiguous(), "bias": b_ih + b_hh}
    assert isinstance(op, Product)
    precision = precision if pays(op) else "float32"
    return {"matrix": _kernels()[0].operand(op.matrix, precision), "precision": precision}


class TritonExecutor(TorchExecutor):
    """Runs one program; what pays of its products in `precision` (`precisions.PRECISIONS`). Threads may share it."""

    def __init__(self, program: Program, precision: str = "float32"):
        self._precision = precision
        super().__init__(program)

    def _maker(self) -> Callable[[int, int, int], Workspace]:
        program, packed = self.program, [_weights(op, self._precision) for op in self.program.ops]
        return lambda batch, frames, part: TritonWorkspace(program, packed, batch, frames)


class _Signal:
    """Where the streams of a step stand, in memory that launches are bound to.

    position: [B] int64; lengths: [B] int64, for each of the program's; at_edges: whether the step may touch an edge.
    """

    def __init__(self, program: Program, batch: int):
        self.position = torch.zeros(batch, dtype=torch.int64, device=program.device)
        self.lengths = [torch.zeros_like(self.position) for _ in program.lengths]
        self.at_edges = False


class TritonWorkspace(Workspace):
    """A step of one size, laid out."""

    def __init__(self, program: Program, weights: list[Weights], batch: int, frames: int):
        self._signal = _Signal(program, batch)
        super().__init__(program, weights, batch, frames)

    def _lay_out(self, op: Op, weights: Weights) -> list[Call]:
        if not _has_kernel(op):
            return super()._lay_out(op, weights)
        # Rows that are copies of others are made when all are there.
        self.masked.update(b for b in op.into if self.program.buffers[b].padding.mode == "constant")
        launch = self._lstm(op, weights) if isinstance(op, LSTMCell) else self._windows_times_matrix(op, weights)
        signal = self._signal
        return [lambda: launch(signal.at_edges)]

    def _windows_times_matrix(self, op: Op, weights: Weights) -> Launch:
        assert isinstance(op, Product)
        kernels, _ = _kernels()
        windows = [
            kernels.Windows(self.memory[w.buffer][:, w.first :], w.stride, w.taps, w.dilation) for w in op.windows
        ]
        end = self._added(op), self._targets(op), self._signal.position
        return kernels.product(windows, weights["matrix"], op.bias, *end, op.spread, weights["precision"])

    def _lstm(self, op: LSTMCell, weights: Weights) -> Launch:
        x, at, width = self.memory[op.buffer], self.program.buffers[op.buffer].at, op.weights[1].shape[1]
        hidden, cell = self._room(x.shape[1] + 1, width), self._room(width)
        self.holds |= {op.hidden: (hidden[:, 0], hidden[:, -1]), op.cell: (cell, cell)}
        of = weights["input"], weights["recurrent"], weights["bias"]
        return _kernels()[1].lstm(x, hidden, cell, of, self._added(op), self._targets(op), self._signal.position, *at)

    def _added(self, op: Op) -> Tensor | None:
        return None if op.add is None else self.memory[op.add]

    def _targets(self, op: Op) -> list[Any]:
        return [self._target(self.program.buffers[b], self.rows[b], b in self.masked) for b in op.into]

    def _target(self, buffer: Buffer, rows: Tensor, masked: bool) -> Any:
        activation = buffer.activation or (None, None, None)
        length = self._signal.lengths[buffer.length] if masked else None
        return _kernels()[0].Target(rows, *activation, length, *buffer.at)

    def run_at_edges(self, edges: Edges) -> None:
        """As in torch; the kernels are told where the signals lie."""
        signal, lengths = self._signal, list[Tensor]()
        signal.position.copy_(edges.position)
        for length, kept in zip(self.program.lengths, signal.lengths, strict=True):
            lengths.append(length.of_each(lengths[length.source]) if lengths else edges.length)
            kept.copy_(lengths[-1])
        signal.at_edges = True
        try:
            super().run_at_edges(edges)
        finally:
            signal.at_edges = False
