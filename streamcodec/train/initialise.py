"""Starting weights scaled on data: every convolution begins with outputs of unit variance.

Without this the residual and transposed layers of a SEANet multiply the level up to a thousandfold before the first
update. The scaling is the variance step of LSUV (Mishkin & Matas 2016), done in one forward pass.
"""

import torch
from torch import Tensor, nn

from ..nn.conv import Conv1d, ConvTranspose1d

__all__ = ["scale_input", "scale_output", "scale_to_data"]


def _convolutions(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, (Conv1d, ConvTranspose1d))]


@torch.no_grad()
def scale_input(network: nn.Module, factor: float) -> None:
    """Make ``network(x)`` what ``network(factor * x)`` was; its first layer must be a convolution."""
    _convolutions(network)[0].get_parameter("weight").mul_(factor)


@torch.no_grad()
def scale_output(network: nn.Module, factor: float) -> None:
    """Make ``network(x)`` what ``factor * network(x)`` was; its last layer must be a convolution."""
    for parameter in _convolutions(network)[-1].parameters(recurse=False):
        parameter.mul_(factor)


def _scale(module: nn.Module, _: object, output: Tensor) -> Tensor:
    bias = module.get_parameter("bias")
    output = output - bias
    deviation = output.std().clamp_min(1e-6)
    module.get_parameter("weight").div_(deviation)
    bias.zero_()
    return output / deviation


@torch.no_grad()
def scale_to_data(network: nn.Module, x: Tensor) -> Tensor:
    """Divide the weight of each convolution of `network` by the deviation of its output on `x`; biases become 0.

    Returns what the scaled network makes of `x`.
    """
    hooks = [layer.register_forward_hook(_scale) for layer in _convolutions(network)]
    try:
        output: Tensor = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return output
