"""Rows side by side: several rows of a signal as one row, and one as several."""

from torch import Tensor

from ..errors import ConfigError
from ..program import Program, Reshape, Schedule, Value, Window
from .layer import Layer

__all__ = ["Stack", "Unstack", "stacked", "unstacked"]


def stacked(x: Tensor, count: int) -> Tensor:
    """Every `count` rows as one, [B, T, C] to [B, T // count, count * C]; rows that fill none are left out."""
    return x[:, : x.shape[1] // count * count].reshape(x.shape[0], -1, count * x.shape[2])


def unstacked(x: Tensor, count: int) -> Tensor:
    """The inverse, [B, T, count * C] to [B, T * count, C]."""
    return x.reshape(x.shape[0], -1, x.shape[2] // count)


class Stack(Layer):
    """Every `count` rows side by side, [B, T, C] to [B, T // count, count * C]."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return stacked(x, self.count)

    def lower(self, program: Program, x: Value, path: str) -> Value:
        count = self.count
        if x.at.rate % count:
            raise ConfigError(
                f"{x.at.rate} rows a frame cannot be stacked by {count}; a whole number of stacks is needed"
            )
        lag = -(-x.at.lag // count)
        buffer = program.buffer(x, lag * count - x.at.lag, f"{path}history")
        op = Reshape(Window(buffer, stride=count, taps=count))
        length = program.length(x.length, 1, 0, count)
        return program.emit(op, count * x.channels, Schedule(x.at.rate // count, lag), length)


class Unstack(Layer):
    """The inverse of `Stack`, [B, T, count * C] to [B, T * count, C]."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return unstacked(x, self.count)

    def lower(self, program: Program, x: Value, path: str) -> Value:
        count = self.count
        op = Reshape(Window(program.buffer(x)), count)
        at = Schedule(x.at.rate * count, x.at.lag * count)
        return program.emit(op, x.channels // count, at, program.length(x.length, count, 0, 1))
