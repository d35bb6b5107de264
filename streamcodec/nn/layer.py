"""What a layer says about itself, and how layers are joined.

Inside the package time comes before channels: a layer maps ``[B, T, C_in]`` to ``[B, T', C_out]``. It says what it is
in two ways:

- ``forward(x)``: the whole signal at once (offline), plain torch and differentiable.
- ``lower(program, x, path)``: what it does in a step, as operations of a `Program`. An executor runs them piece by
  piece and gives the same numbers.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import NotStreamableError
from ..program import Activation, Program, Value
from ..vector_math import LEAK

__all__ = ["Elementwise", "Layer", "Sequential", "activate"]


class Layer(nn.Module):
    """A layer. Subclasses override what differs from a memoryless, row-by-row map."""

    def forward(self, x: Tensor) -> Tensor:
        """The whole signal, [B, T, C_in] to [B, T', C_out]; here the identity."""
        return x

    def lower(self, program: Program, x: Value, path: str) -> Value:
        """Append what a step does to `x`; returns the result. path: the layer's name, with which those of its state
        begin.

        Here: for a layer that maps single rows, its `forward`, which only torch can run. Raises NotStreamableError for
        a layer that needs the whole signal, or whose rows no such map gives.
        """
        if type(self).forward is Layer.forward:
            return x
        with torch.no_grad():
            rows = self(torch.zeros(1, 2, x.channels, dtype=program.dtype, device=program.device)).shape[1]
        if rows != 2:
            raise NotStreamableError(f"{type(self).__name__} does not say what it does in a step; write its `lower`")
        return program.rows(self.forward, x)


def activate(program: Program, x: Value, activation: Activation) -> Value:
    """`x` with an activation that is applied where it is written to a buffer."""
    if x.activation is not None:  # a value has one
        x = program.settled(x)
    return x._replace(activation=activation)


class Elementwise(Layer):
    """An activation, [B, T, C] to the same shape. kind: "elu" (Clevert et al. 2015), "gelu" (Hendrycks & Gimpel
    2016), "gelu_tanh" (its approximation there), "hardtanh" (limited to -1..1), "leaky_relu" (Maas et al. 2013, 0.3
    below 0), "silu" (Elfwing et al. 2018) or "tanh".
    """

    FUNCTIONS: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {
        "elu": F.elu,
        "gelu": F.gelu,
        "gelu_tanh": partial(F.gelu, approximate="tanh"),
        "hardtanh": F.hardtanh,
        "leaky_relu": partial(F.leaky_relu, negative_slope=LEAK),
        "silu": F.silu,
        "tanh": torch.tanh,
    }

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.function = kind, self.FUNCTIONS[kind]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def lower(self, program: Program, x: Value, path: str) -> Value:
        return activate(program, x, Activation(self.kind))


class Sequential(Layer):
    """Layers one after the other."""

    def __init__(self, layers: Iterable[Layer]):
        super().__init__()
        self.chain: tuple[Layer, ...] = tuple(layers)
        self.layers = nn.ModuleList(self.chain)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.chain:
            x = layer(x)
        return x

    def lower(self, program: Program, x: Value, path: str) -> Value:
        for i, layer in enumerate(self.chain):
            x = layer.lower(program, x, f"{path}{i}.")
        return x
