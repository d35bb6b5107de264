"""The state of an optimizer, AdamW or Muon, as named tensors, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .muon import Muon

__all__ = ["load_optimizer", "optimizer_tensors"]


def _parts(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """What it keeps for each parameter."""
    return ("momentum",) if isinstance(optimizer, Muon) else ("step", "exp_avg", "exp_avg_sq")


def optimizer_tensors(
    prefix: str, optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]
) -> dict[str, Tensor]:
    """``prefix.part.name`` for every parameter that was ever updated."""
    return {
        f"{prefix}.{part}.{name}": optimizer.state[parameter][part]
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for part in _parts(optimizer)
    }


def load_optimizer(
    prefix: str,
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, torch.nn.Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Take what `optimizer_tensors` gave. Raises KeyError if a part is missing."""
    optimizer.state.clear()
    own = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    first, *_ = parts = _parts(optimizer)
    for name, parameter in parameters.items():
        if parameter not in own or f"{prefix}.{first}.{name}" not in tensors:
            continue
        state = {part: tensors[f"{prefix}.{part}.{name}"].clone() for part in parts}
        # AdamW keeps its count of steps on the CPU.
        optimizer.state[parameter] = {
            part: value if part == "step" else value.to(parameter.device) for part, value in state.items()
        }
