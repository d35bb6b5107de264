"""Whether weights were written to since something was made of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["Sampler", "Seen", "Stamp", "count_write", "modules", "stamp", "weights"]

# Places of a tensor that are looked at, at least, and values at each. These lie in one page: what nothing has looked at
# for long takes a virtual machine some 10 us a page.
PLACES, EACH = 8, 4

Stamp = tuple[tuple[int, int, int], ...]

# By where a storage begins. What lies there later begins with that count, and only a difference tells something.
_writes: Counter[int] = Counter()


def modules(root: nn.Module) -> list[nn.Module]:
    """It and all that are in it, each once: `root.modules()`, whose generators take three times as long. A stream that
    opens looks at all weights.
    """
    found = {root: None}
    waiting = [root]
    while waiting:
        for module in waiting.pop()._modules.values():
            if module is not None and module not in found:
                found[module] = None
                waiting.append(module)
    return list(found)


def weights(of: Iterable[nn.Module], buffers: bool = True) -> list[Tensor]:
    """The parameters of these modules themselves, each once, and the buffers too."""
    found = dict[int, Tensor]()
    for module in of:
        for tensors in (module._parameters, module._buffers) if buffers else (module._parameters,):
            for tensor in tensors.values():
                if tensor is not None:
                    found[id(tensor)] = tensor
    return list(found.values())


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except RuntimeError:  # an optimizer may have tensors that have no memory of their own
        return 0


def count_write(tensors: Iterable[Tensor]) -> None:
    """Change the stamps of all that share memory with these: they were written in a way that torch does not count."""
    _writes.update({_storage(tensor) for tensor in tensors})


def _after_step(optimizer: Optimizer, *_: Any) -> None:
    """An optimizer with fused=True writes to its parameters without their versions changing."""
    count_write(weight for group in optimizer.param_groups for weight in group["params"])


register_optimizer_step_post_hook(_after_step)


def stamp(tensors: Iterable[Tensor]) -> Stamp:
    """What changes when the tensors do: by `copy_`, `load_state_dict`, `tensor.data =` or an optimizer's step.

    Torch counts neither writes to tensors made in inference mode nor writes through `.data`: `count_write` after those.
    """
    return tuple(
        (
            tensor.data_ptr(),
            0 if tensor.is_inference() else tensor._version,
            _writes[_storage(tensor)] if _writes else 0,  # to find the storage takes as long as all the rest
        )
        for tensor in tensors
    )


class Seen:
    """A parameter or buffer of a module as it is now, which is asked at every push of a stream whether it is still the
    same: as `stamp` does.
    """

    def __init__(self, module: nn.Module, name: str):
        # Where torch has it: `module.name` takes ten lines of Python.
        self._all: Mapping[str, Tensor | None] = module._buffers if name in module._buffers else module._parameters
        self._name, self._tensor = name, cast(Tensor, self._all[name])
        self._storage, self._counted = _storage(self._tensor), not self._tensor.is_inference()
        self._address, self._version, _ = stamp((self._tensor,))[0]
        self._writes = _writes.get(self._storage, 0)

    def still(self) -> bool:
        """Whether it is the same tensor, and has not been written to."""
        tensor = self._tensor
        if self._all.get(self._name) is not tensor or tensor.data_ptr() != self._address:
            return False
        same = not self._counted or tensor._version == self._version
        return same and _writes.get(self._storage, 0) == self._writes


class Sampler:
    """Some values of each of some tensors: what changes with any write that goes through a tensor's length."""

    def __init__(self) -> None:
        self._of: list[tuple[int, int]] = []
        self._views: dict[tuple[torch.dtype, int], list[Tensor]] = {}

    def sample(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The values as they are, as bytes."""
        # Where to look is kept: a stream opens in less than the time that it takes to find it for a hundred tensors.
        of = [(tensor.data_ptr() if tensor.is_contiguous() else -1, tensor.numel()) for tensor in tensors]
        if of != self._of or any(address < 0 for address, _ in of):
            self._of, self._views = of, {}
            for tensor in tensors:
                values, count = tensor.detach().reshape(-1), tensor.numel()
                if count >= PLACES * EACH:
                    values = values.unfold(0, EACH, count // PLACES)
                self._views.setdefault((tensor.dtype, values.dim()), []).append(values)
        return [torch.cat(views).view(torch.uint8) for views in self._views.values()]
