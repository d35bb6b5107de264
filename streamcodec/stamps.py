"""Whether weights were written to since something was made of them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["Stamp", "count_write", "sample", "stamp"]

SAMPLED = 32  # values of a tensor, at least, where it has as many

Stamp = tuple[int, tuple[tuple[int, int], ...]]

_writes = 0


def count_write(*_: Any) -> None:
    """Change every stamp: weights were written in a way that torch does not count."""
    global _writes
    _writes += 1


# An optimizer with fused=True writes to its parameters without their versions changing.
register_optimizer_step_post_hook(count_write)


def stamp(tensors: Iterable[Tensor]) -> Stamp:
    """What changes when the tensors do: by `copy_`, `load_state_dict`, `tensor.data =` or an optimizer's step.

    Torch counts neither writes to tensors made in inference mode nor writes through `.data`: `count_write` after those.
    """
    written = tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
    return _writes, written


def sample(tensors: Iterable[Tensor]) -> Tensor:
    """Some values of each tensor, as bytes: what changes with any write that goes through a tensor's length."""
    flat = (tensor.detach().reshape(-1) for tensor in tensors)
    return torch.cat([values[:: max(1, values.numel() // SAMPLED)].contiguous().view(torch.uint8) for values in flat])
