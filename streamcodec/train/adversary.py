"""The discriminators' side of an update: what they make of real and decoded audio, and how they learn from it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .config import DiscriminatorSettings
from .discriminator import Discriminators, adversarial_loss, discriminator_loss, feature_loss
from .distributed import World

__all__ = ["Adversary", "Judged"]


# Largest norm of the discriminators' gradient: hinge losses of weight-normed layers give about 1; a guard, not a brake.
CLIP = 10.0


class Judged(NamedTuple):
    """Scalars. losses: of the codec, by name; own: the discriminators', None where they do not learn this time."""

    losses: dict[str, Tensor]
    own: Tensor | None


class Adversary:
    """Discriminators with their optimizer.

    One pass serves both sides: the codec's losses go back to its output, the discriminators' own to their weights, from
    the same verdicts; so both learn from the other as it was before the update (simultaneous gradient descent), at
    little more than half of the cost of turns.
    """

    def __init__(self, settings: DiscriminatorSettings, world: World, seed: int):
        self.settings, self.world = settings, world
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = Discriminators(
                settings.windows,
                settings.filters,
                settings.stride,
                settings.bands,
                settings.periods,
                settings.period_filters,
            )
        self.scales = made.to(world.device)
        self.parameters = dict(self.scales.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=settings.learning_rate, betas=(0.5, 0.9), weight_decay=1e-4
        )

    def judge(self, real: Tensor, fake: Tensor, learns: bool, judges: bool, autocast: torch.autocast) -> Judged:
        """Verdicts on [B, N] audio of about unit level.

        learns: whether `step` follows; judges: whether the codec is to hear of it.
        """
        with autocast:
            with torch.set_grad_enabled(learns):
                wanted = self.scales(real)
            got = self.scales(fake if judges else fake.detach())
        own = discriminator_loss(wanted, got) if learns else None
        losses = {"adversarial": adversarial_loss(got), "feature": feature_loss(wanted, got)} if judges else {}
        return Judged(losses, own)

    def gradients(self, own: Tensor) -> tuple[Tensor, ...]:
        """Of the discriminators' loss with respect to their weights; the codec's graph stays usable."""
        return torch.autograd.grad(own, list(self.parameters.values()), retain_graph=True)

    def step(self, gradients: tuple[Tensor, ...], rate: float) -> None:
        """One update. rate: factor on the learning rate."""
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self.world.mean_in_place(list(gradients))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.settings.learning_rate
        nn.utils.clip_grad_norm_(self.parameters.values(), CLIP, error_if_nonfinite=True)
        self.optimizer.step()
