"""The gradient balancer of EnCodec (Défossez et al. 2022, section 3.4, "Balancer").

Each loss's gradient with respect to the decoder's output is divided by a moving average of its own norm and multiplied
by its weight's share, so that a weight is the fraction of the gradient that this loss gives, whatever its scale.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .distributed import World

__all__ = ["Balancer"]

# Under it a gradient is nothing (a loss that is at its minimum): divided by its own norm it would be noise.
SMALLEST = 1e-12


class Balancer:
    """Combines the gradients of several losses of one output.

    weights: by loss name; what counts is their share of the sum over the losses that are given. total: norm of a row's
    combined gradient (times its level) if all gradients agreed. decay: of the moving averages, per call, corrected for
    their start: the average after n calls is sum(decay^(n-i) norm_i) / sum(decay^(n-i)). world: processes whose rows
    count as one batch.
    """

    def __init__(
        self, weights: Mapping[str, float], total: float = 1.0, decay: float = 0.999, world: World | None = None
    ):
        self.weights, self.total, self.decay = dict(weights), total, decay
        self.world = world or World()
        self.sums = dict.fromkeys(self.weights, 0.0)
        self.counts = dict.fromkeys(self.weights, 0.0)

    def __call__(self, losses: Mapping[str, Tensor], output: Tensor, levels: Tensor | None = None) -> Tensor:
        """The gradient to send back from `output` [B, N], for losses that are means over its rows.

        levels: [B, 1]; norms are those of gradients with respect to output / level. A loss that hears relative changes
        has gradients as large as a row is quiet; by their norms alone, quiet rows would set the scale for loud ones.

        Gradients of the norms' size: a row's gradient is taken as that of the row's own loss, B times what it gives to
        the mean, and its norm averaged over the rows; so a batch in two processes is balanced as it would be in one.
        """
        gradients = {
            name: torch.autograd.grad(loss, output, retain_graph=True)[0]
            for name, loss in losses.items()
            if self.weights[name] > 0
        }
        weighed = (gradient if levels is None else levels * gradient for gradient in gradients.values())
        norms = torch.stack([gradient.norm(dim=1).sum() for gradient in weighed])
        shares = sum(self.weights[name] for name in gradients)
        combined = torch.zeros_like(output)
        for (name, gradient), norm in zip(gradients.items(), self.world.mean(norms).tolist(), strict=True):
            self.sums[name] = self.decay * self.sums[name] + norm
            self.counts[name] = self.decay * self.counts[name] + 1
            average = self.sums[name] / self.counts[name]
            if average > SMALLEST:
                combined += gradient * (self.total * self.weights[name] / shares / average)
        return combined

    def state(self) -> dict[str, list[float]]:
        """The moving averages: name to sum and count."""
        return {name: [self.sums[name], self.counts[name]] for name in self.weights}

    def load_state(self, state: Mapping[str, list[float]]) -> None:
        """Go on with moving averages that `state` gave; losses it does not know begin afresh."""
        for name in self.weights:
            self.sums[name], self.counts[name] = state.get(name, [0.0, 0.0])
