"""Handing a checkpoint's tensors to layers so that every one is accounted for."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from ..errors import CheckpointError

__all__ = ["TensorReader", "layers_for"]


# What torch's own layers draw their first weights with; inside these calls no mode sees the methods of tensors.
DRAWN = (init.kaiming_normal_, init.kaiming_uniform_, init.normal_, init.uniform_)


class _Unfilled(TorchFunctionMode):
    """Random numbers are not drawn: what was to hold them is memory as it comes.

    Not the device "meta": its first operation imports torch's compiler, which takes as long as torch itself.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        if func in DRAWN:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def layers_for(tensors: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Where a codec makes its layers: with random weights if `tensors` is None, else with memory to be filled.

    Weights that `tensors` overwrite are not drawn, and torch's random numbers stay as they were. (transformers draws a
    vector all the same: it makes the one of masked frames with `torch.Tensor`.)
    """
    if tensors is None:
        yield
        return
    with torch.random.fork_rng(devices=[]), _Unfilled():
        yield


class TensorReader:
    """Named tensors of which each must be taken once."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self._left = dict(tensors)
        self._missing: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor | None:
        """The tensor, or None where it is missing (`finish` names it). Raises CheckpointError for another shape."""
        tensor = self._left.pop(name, None)
        if tensor is None:
            self._missing.append(name)
            return None
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"{name} has shape {list(tensor.shape)}; this configuration needs {list(shape)}")
        return tensor

    def drop(self, *names: str) -> None:
        """Entries that matter to training only."""
        for name in names:
            self._left.pop(name, None)

    def drop_matching(self, pattern: str) -> None:
        """Entries of whole names like `pattern`, of which a codec has no use."""
        self.drop(*[name for name in self._left if re.fullmatch(pattern, name)])

    def finish(self) -> None:
        """Raises CheckpointError naming what was missing and what was left over."""
        faults = []
        if self._missing:
            faults.append(f"missing {_listed(self._missing)}")
        if self._left:
            faults.append(f"unexpected {_listed(sorted(self._left))}")
        if faults:
            raise CheckpointError(f"weights do not fit the configuration: {'; '.join(faults)}")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
