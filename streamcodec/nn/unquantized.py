"""What stands in place of a quantizer where latents are continuous."""

from typing import NoReturn

import torch
from torch import Tensor, nn

from ..errors import InputError
from .quantize import StraightThrough

__all__ = ["Unquantized"]


class Unquantized(nn.Module):
    """No codebooks at all: there are no codes. Everything that asks for some raises InputError.

    codebooks: [0, 0, D], which says the element type and the device; dimension: D.
    """

    codebooks: Tensor

    def __init__(self, dimension: int):
        super().__init__()
        self.dimension, self.backend = dimension, "auto"
        self.register_buffer("codebooks", torch.zeros(0, 0, dimension))

    def set_codebooks(self, codebooks: Tensor) -> None:
        """There are none."""

    def served_by(self) -> dict[str, str]:
        """It has no operations."""
        return {}

    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        return self._refuse()

    def decode(self, codes: Tensor) -> Tensor:
        return self._refuse()

    def stages(self, codes: Tensor) -> Tensor:
        return self._refuse()

    def straight_through(self, latents: Tensor, num_codebooks: int) -> StraightThrough:
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError("there is no quantizer, and so there are no codes")
