"""Handing a checkpoint's tensors to layers so that every one is accounted for."""

from collections.abc import Mapping

from torch import Tensor

from ..errors import CheckpointError

__all__ = ["TensorReader"]


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
