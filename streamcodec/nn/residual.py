"""A residual connection around a branch that may lag."""

import torch
from torch import Tensor

from ..errors import ConfigError
from ..program import Product, Program, Value, Window
from .conv import Conv1d
from .layer import Layer

__all__ = ["Residual"]


class Residual(Layer):
    """``y = shortcut(x) + branch(x)``, [B, T, C] to [B, T, C]; the skip is delayed by the lag that the branch adds."""

    def __init__(self, branch: Layer, shortcut: Layer | None = None):
        super().__init__()
        self.branch, self.shortcut = branch, shortcut or Layer()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)

    def lower(self, program: Program, x: Value, path: str) -> Value:
        y = self.branch.lower(program, x, f"{path}branch.")
        op = program.ops[y.op]
        fresh = y.op > x.op and not op.into and op.add is None and y.activation is None
        if fresh and isinstance(op, Product) and isinstance(self.shortcut, Conv1d) and _joins(op, self.shortcut):
            _join(op, self.shortcut, program.buffer(x, _delay(x, y), f"{path}delay"))
            return y
        skip = self.shortcut.lower(program, x, f"{path}shortcut.")
        if not fresh or skip.op > y.op:
            y = program.settled(y)
        program.ops[y.op].add = program.buffer(skip, _delay(skip, y), f"{path}delay")
        return y


def _joins(last: Product, shortcut: Conv1d) -> bool:
    """Whether the branch's last product and the shortcut can be one: both take single rows."""
    single = last.spread == 1 and all(window.taps == window.stride == 1 for window in last.reads)
    return single and shortcut.is_pointwise


def _delay(skip: Value, y: Value) -> int:
    """Rows by which a skip has to wait for the branch."""
    if y.at.lag < skip.at.lag or y.at.rate != skip.at.rate:
        raise ConfigError("a residual's shortcut must not look further ahead than its branch, nor change the rate")
    return y.at.lag - skip.at.lag


def _join(last: Product, shortcut: Conv1d, delay: int) -> None:
    """Make the branch's last product that of [branch, skip] rows."""
    last.reads += (Window(delay),)
    last.matrix = torch.cat([last.matrix, shortcut.weight[0].detach()])
    biases = [bias.detach() for bias in (last.bias, shortcut.bias) if bias is not None]
    last.bias = sum(biases[1:], biases[0]) if biases else None
