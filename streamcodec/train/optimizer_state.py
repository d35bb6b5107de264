"""The state of an Adam optimizer as named tensors, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["load_optimizer", "optimizer_tensors"]

_PARTS = ("step", "exp_avg", "exp_avg_sq")


def optimizer_tensors(
    prefix: str, optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]
) -> dict[str, Tensor]:
    """``prefix.part.name`` for every parameter that was ever updated."""
    return {
        f"{prefix}.{part}.{name}": optimizer.state[parameter][part]
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for part in _PARTS
    }


def load_optimizer(
    prefix: str,
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, torch.nn.Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Take what `optimizer_tensors` gave. Raises KeyError if a part is missing."""
    optimizer.state.clear()
    for name, parameter in parameters.items():
        if f"{prefix}.step.{name}" not in tensors:
            continue
        state = {part: tensors[f"{prefix}.{part}.{name}"].clone() for part in _PARTS}
        moved = {part: value.to(parameter.device) for part, value in state.items() if part != "step"}
        optimizer.state[parameter] = {"step": state["step"], **moved}
