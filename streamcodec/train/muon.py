"""Muon, an optimizer for matrices (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks").

The momentum of a matrix is made nearly orthogonal before it is added: so all directions are learnt at one speed, not
the few that gradients point to. torch has one since 2.9, for matrices alone; the weights here are [taps, inputs,
outputs].
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "is_matrix"]

SMALLEST_SIDE = 32  # a matrix with a shorter side, or a vector, is learnt better by AdamW
# Of the polynomial a x + b x^3 + c x^5, chosen by Jordan: five rounds bring singular values from 0.01 to 1 near to 1.
ROUNDS, A, B, C = 5, 3.4445, -4.7750, 2.0315
# An orthogonal step's RMS, times the root of the longer side: that of AdamW's steps (Liu et al. 2025, section 2.2).
RMS = 0.2


def _rows(weight: Tensor) -> Tensor:
    """A weight [..., outputs] as a matrix."""
    return weight.reshape(-1, weight.shape[-1])


def is_matrix(weight: Tensor) -> bool:
    """Whether Muon is for this weight."""
    return weight.ndim > 1 and min(_rows(weight).shape) >= SMALLEST_SIDE


def orthogonal(matrix: Tensor) -> Tensor:
    """[M, N] with its singular values moved to about 1, between 0.7 and 1.2, in bfloat16."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = (wide / wide.norm().clamp_min(1e-7)).bfloat16()
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = A * x + (B * gram + C * (gram @ gram)) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """With Nesterov's momentum and decoupled weight decay.

    lr: the RMS of a step is about a fifth of it, as AdamW's is; so both can have the same one.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        step = orthogonal(_rows(gradient.lerp(state["momentum"], group["momentum"])))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        size = RMS * max(step.shape) ** 0.5
        parameter.add_(step.view_as(parameter), alpha=-group["lr"] * size)
