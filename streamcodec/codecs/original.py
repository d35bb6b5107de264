"""What an upstream project's own weight file says, handed to the families that may know it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Original"]


@dataclass(frozen=True)
class Original:
    """A state dict in an upstream project's naming, and where its settings may be found.

    Attributes:
        tensors: the state dict, weight norm merged.
        filename: the file's name, for messages.
        config: a config.json that came with it, Hugging Face style; None for none.
        inside: the mapping of that name which the file holds beside its weights, also one written out as YAML; None
            for none.
        beside: settings in a YAML file in the same folder, by names in order of preference; None for none.
    """

    tensors: Mapping[str, Tensor]
    filename: str
    config: Mapping[str, Any] | None = None
    inside: Callable[[str], Mapping[str, Any] | None] = lambda name: None
    beside: Callable[[tuple[str, ...]], Mapping[str, Any] | None] = lambda names: None
