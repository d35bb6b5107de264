"""State trees: what a stream remembers, as a value.

A state is a tree: a tensor whose first dimension is the batch, or a tuple (or NamedTuple) of trees. A layer without
memory has the empty tuple. What a tree holds is written down once, in a tree of the same shape with a `TensorSpec` at
every leaf; init, select, reset, clone, save, load and size are all walks over that one tree, so that none of them can
miss a child.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from .errors import StateError

__all__ = [
    "Spec",
    "State",
    "TensorSpec",
    "assign",
    "clone",
    "expand",
    "init",
    "leaves",
    "load",
    "map_leaves",
    "nbytes",
    "reset",
    "save",
    "select",
    "to",
]

State: TypeAlias = (
    Any  # a tensor or a (named) tuple of states: Python's type system has no recursive alias mypy accepts
)
Spec: TypeAlias = Any  # the same, with TensorSpec at the leaves


class TensorSpec(NamedTuple):
    """One tensor of a state.

    shape: the dimensions after the batch; dtype: the element type.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


def map_leaves(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply `function` to the leaves of one or several trees of the same shape."""
    head = trees[0]
    if isinstance(head, (Tensor, TensorSpec)):
        return function(*trees)
    children = [map_leaves(function, *parts) for parts in zip(*trees, strict=True)]
    return type(head)(*children) if hasattr(head, "_fields") else tuple(children)


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path, for example ``3.branch.1.history``, in a fixed order."""
    if isinstance(tree, (Tensor, TensorSpec)):
        yield prefix, tree
        return
    names = getattr(tree, "_fields", None) or [str(i) for i in range(len(tree))]
    for name, child in zip(names, tree, strict=True):
        yield from leaves(child, f"{prefix}.{name}" if prefix else name)


def init(spec: Spec, batch: int, device: torch.device | str = "cpu") -> State:
    """The state of `batch` streams that have heard nothing: zeros."""
    return map_leaves(lambda leaf: torch.zeros((batch, *leaf.shape), dtype=leaf.dtype, device=device), spec)


def nbytes(spec: Spec) -> int:
    """Bytes that one stream (one batch row) needs."""
    return sum(_numel(leaf.shape) * leaf.dtype.itemsize for _, leaf in leaves(spec))


def _numel(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def clone(state: State) -> State:
    """An independent copy: `step` consumes its state, so fork a stream with this."""
    return map_leaves(Tensor.clone, state)


def to(state: State, device: torch.device | str) -> State:
    """The state on another device."""
    return map_leaves(lambda tensor: tensor.to(device), state)


def select(state: State, rows: Tensor | Sequence[int]) -> State:
    """The streams at `rows` (indices into the batch), copied, in that order."""
    return map_leaves(lambda tensor: tensor[_index(rows, tensor)], state)


def _index(rows: Tensor | Sequence[int], tensor: Tensor) -> Tensor:
    return torch.as_tensor(rows, dtype=torch.int64, device=tensor.device)  # the dtype: no rows at all are fine too


def assign(state: State, rows: Tensor | Sequence[int], source: State) -> None:
    """Write the streams of `source` over `rows` of `state`, in place; every other row keeps its bits."""

    def write(tensor: Tensor, new: Tensor) -> None:
        tensor[_index(rows, tensor)] = new

    map_leaves(write, state, source)


def reset(state: State, rows: Tensor | Sequence[int], initial: State) -> None:
    """Put `rows` back to `initial` (a state of batch 1), in place; every other row keeps its bits."""
    assign(state, rows, map_leaves(lambda tensor: tensor.expand(len(rows), *tensor.shape[1:]), initial))


def expand(state: State, batch: int) -> State:
    """A state of batch 1 repeated to `batch` independent rows."""
    return map_leaves(lambda tensor: tensor.expand(batch, *tensor.shape[1:]).clone(), state)


def save(state: State, prefix: str = "") -> dict[str, Tensor]:
    """The state as named contiguous tensors on the CPU, ready to be written to a file."""
    return {name: leaf.detach().cpu().contiguous() for name, leaf in leaves(state, prefix)}


def load(
    spec: Spec, tensors: Mapping[str, Tensor], batch: int, device: torch.device | str = "cpu", prefix: str = ""
) -> State:
    """The inverse of `save`. Raises StateError where a tensor is missing, too many, or not as `spec` says."""
    expected = dict(leaves(spec, prefix))
    for name in tensors.keys() - expected.keys():
        raise StateError(f"saved state holds an unexpected tensor {name!r}; it belongs to another codec")
    for name, leaf in expected.items():
        if name not in tensors:
            raise StateError(f"saved state lacks the tensor {name!r}; it is cut short or belongs to another codec")
        found, shape = tensors[name], (batch, *leaf.shape)
        if tuple(found.shape) != shape or found.dtype != leaf.dtype:
            raise StateError(
                f"saved state has {name!r} as {found.dtype} {list(found.shape)}, "
                f"this codec needs {leaf.dtype} {list(shape)}"
            )
    names = iter(expected)
    return map_leaves(lambda _: tensors[next(names)].to(device, copy=True), spec)
