"""Centred updates: weights learn from how far a channel is from its mean, not from the mean itself.

Channels that an ELU lets pass unchanged stand on an offset several times their deviation (see `transform`). A gradient
with respect to a weight is then almost all offset, and so is an update: what channels say is drowned by steps in their
common mode. Where a channel is the constant 1, a weight's update can be taken off that channel's weight again, times
the mean of the weight's own channel: the sum over the layer then changes by the deviations from the mean alone. This is
gradient descent with respect to centred inputs (Schraudolph 1998, "Centering neural network gradient factors"): with
inputs x - m the function W (x - m) + b is the same as W x + (b - W m). The constant channel takes the place of the bias
since it ends where the signal ends: in the zeros before a stream, and per tap of a transposed convolution.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.layer import Sequential
from ..nn.lstm import LSTM
from ..nn.residual import Residual

__all__ = ["Centring", "constant_channel"]


class _Reader(NamedTuple):
    """A layer that reads a level with a constant channel; weight: [..., inputs at `dim` 1, ...]."""

    module: nn.Module
    weight: nn.Parameter
    constant: int


class _Frozen(NamedTuple):
    """Entries of a parameter, all at one place of its last or first axis, that hold a constant channel constant."""

    parameter: nn.Parameter
    axis: int
    place: int


def constant_channel(module: nn.Module) -> int | None:
    """The output channel of a convolution that is the constant 1: weights 0, bias 1."""
    if not isinstance(module, (Conv1d, ConvTranspose1d)) or module.bias is None:
        return None
    silent = module.weight.flatten(0, -2).abs().amax(0) == 0
    found = (silent & (module.bias == 1)).nonzero()
    return int(found[0]) if len(found) else None


def _layers(half: nn.Module) -> Iterator[nn.Module]:
    """The layers of an encoder or decoder in order, residual blocks as one."""
    if isinstance(half, Sequential):
        for layer in half.chain:
            yield from _layers(layer)
    else:
        yield half


class Centring:
    """For networks with constant channels; for others it does nothing.

    halves: encoder and decoder. means: by layer, the mean of each of its input channels, [C_in]; zeros until `measure`.
    """

    def __init__(self, halves: list[nn.Module]):
        self.readers: list[_Reader] = []
        self.frozen: list[_Frozen] = []
        for half in halves:
            self._find(half)
        self.means = [reader.weight.new_zeros(reader.weight.shape[1]) for reader in self.readers]

    def _find(self, half: nn.Module) -> None:
        constant: int | None = None
        for layer in _layers(half):
            if isinstance(layer, (Conv1d, ConvTranspose1d)):
                if constant is not None:
                    self.readers.append(_Reader(layer, layer.weight, constant))
                constant = constant_channel(layer)
                if constant is not None:
                    self._freeze(layer, constant)
            elif constant is not None and isinstance(layer, Residual):
                convolutions = [m for m in cast(Sequential, layer.branch).chain if isinstance(m, Conv1d)]
                self.readers.append(_Reader(convolutions[0], convolutions[0].weight, constant))
                self._freeze(convolutions[-1], constant)
                if isinstance(layer.shortcut, Conv1d):
                    self._freeze(layer.shortcut, constant)
            elif constant is not None and isinstance(layer, LSTM):
                for i, tensors in enumerate(layer.lstm.all_weights):
                    if i == 0:
                        self.readers.append(_Reader(layer, tensors[0], constant))
                    # The candidate of the constant channel's cell: at zero, the cell stays at zero.
                    self.frozen += [_Frozen(tensor, 0, 2 * layer.channels + constant) for tensor in tensors]

    def _freeze(self, module: Conv1d | ConvTranspose1d, constant: int) -> None:
        self.frozen.append(_Frozen(module.weight, module.weight.ndim - 1, constant))
        if module.bias is not None:
            self.frozen.append(_Frozen(module.bias, 0, constant))

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """While it lasts, what layers are given sets the means."""
        handles = []
        for i, reader in enumerate(self.readers):

            def note(_: nn.Module, given: tuple[Tensor, ...], i: int = i, constant: int = reader.constant) -> None:
                self.means[i] = given[0].detach().to(self.means[i].dtype).flatten(0, -2).mean(0)
                self.means[i][constant] = 0

            handles.append(reader.module.register_forward_pre_hook(note))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def gradients(self) -> None:
        """Make the gradients that stand in the parameters those of centred inputs; hold constant channels."""
        for reader, mean in zip(self.readers, self.means, strict=True):
            gradient = reader.weight.grad
            if gradient is not None:
                shape = (-1, *(1,) * (gradient.ndim - 2))
                gradient -= gradient.select(1, reader.constant).unsqueeze(1) * mean.view(shape)
        for parameter, axis, index in self.frozen:
            if parameter.grad is not None:
                parameter.grad.select(axis, index).zero_()

    @torch.no_grad()
    def before(self) -> list[Tensor]:
        """What `after` has to know of the parameters before an update."""
        kept = [reader.weight.detach().clone() for reader in self.readers]
        return kept + [parameter.select(axis, index).clone() for parameter, axis, index in self.frozen]

    @torch.no_grad()
    def after(self, kept: list[Tensor]) -> None:
        """Take each update's common mode off the constant channel."""
        for (parameter, axis, index), value in zip(self.frozen, kept[len(self.readers) :], strict=True):
            parameter.select(axis, index).copy_(value)
        for reader, mean, old in zip(self.readers, self.means, kept, strict=False):
            change = reader.weight - old
            shape = (-1, *(1,) * (change.ndim - 2))
            reader.weight.select(1, reader.constant).sub_((change * mean.view(shape)).sum(1))
