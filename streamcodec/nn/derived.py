"""Values made from weights, and made again when these change."""

import copy
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .. import stamps

__all__ = ["Derived", "apart"]

T = TypeVar("T")
M = TypeVar("M")


class Derived(Generic[T]):
    """A value made from tensors when first asked for, and again when they changed (`stamps.stamp`).

    What that does not see, writes to tensors made in inference mode or through `.data`, calls for `clear`.
    """

    def __init__(self) -> None:
        self._kept: tuple[stamps.Stamp, tuple[Tensor, ...], T] | None = None

    def get(self, sources: tuple[Tensor, ...], make: Callable[[], T]) -> T:
        """The value for `sources` as they are."""
        kept = self._kept
        stamp = stamps.stamp(sources)
        if kept is None or kept[0] != stamp:
            with torch.inference_mode(False), torch.no_grad():
                # The memory is kept with the stamp: else new tensors could come to lie at the same addresses.
                kept = self._kept = (stamp, tuple(source.detach() for source in sources), make())
        return kept[2]

    def clear(self) -> None:
        """Forget the value."""
        self._kept = None

    def __deepcopy__(self, memo: object) -> "Derived[T]":
        return Derived()

    def __reduce__(self) -> tuple[type["Derived[Any]"], tuple[()]]:
        return Derived, ()


def apart(module: M) -> M:
    """A module of its own with the same submodules and weights, which makes for itself what it makes of them."""
    other = copy.copy(module)
    vars(other).update({name: Derived() for name, value in vars(module).items() if isinstance(value, Derived)})
    return other
