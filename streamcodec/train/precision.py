"""Whether a device computes a training's layers rightly in bfloat16: measured, since not every processor does.

oneDNN's bfloat16 convolutions are wrong for some sizes on some processors (see `nn.conv`), without an error or a
warning; nobody can list all processors, sizes and versions, so every layer is compared with float32 before the first
update, at the shapes that updates will have.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..nn.conv import Conv1d, ConvTranspose1d

__all__ = ["wrong_layer"]

# Rounding to bfloat16 is an error of 0.2 to 0.4%, twice that in sums that nearly cancel; a wrong kernel's is about 1.
BOUND = 0.05
_MEASURED = (Conv1d, ConvTranspose1d, nn.Conv1d, nn.Conv2d, nn.Linear, nn.LSTM)


def wrong_layer(parts: nn.Module, run: Callable[[], object], autocast: torch.autocast) -> str | None:
    """The layer of `parts` that is wrong under `autocast`, with its error; None where none is.

    run: passes audio through `parts` as an update does. Measured are the layers that autocast touches there, with
    random input of the same shape: outputs, and the gradients of input and weights. No random state is changed.
    """
    for name, (module, shape) in _seen(parts, run, autocast.device).items():
        error = _error(module, shape, autocast)
        if not error < BOUND:
            return f"{name} ({type(module).__name__}, input {list(shape)}): relative error {error:.2g}"
    return None


@torch.no_grad()
def _seen(parts: nn.Module, run: Callable[[], object], kind: str) -> dict[str, tuple[nn.Module, torch.Size]]:
    """The layers that `run` passes through where autocast holds, and the shape of their input."""
    seen: dict[str, tuple[nn.Module, torch.Size]] = {}

    def look(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if torch.is_autocast_enabled(kind):
                seen[name] = (module, inputs[0].shape)

        return hook

    layers = [(name, module) for name, module in parts.named_modules() if isinstance(module, _MEASURED)]
    hooks = [module.register_forward_pre_hook(look(name)) for name, module in layers]
    try:
        run()
    finally:
        for handle in hooks:
            handle.remove()
    return seen


def _error(module: nn.Module, shape: torch.Size, autocast: torch.autocast) -> float:
    """The largest relative error (in the euclidean norm) of a layer's output and gradients under `autocast`."""
    generator = torch.Generator().manual_seed(0)
    device = next(module.parameters()).device
    x = torch.randn(shape, generator=generator).to(device).requires_grad_()
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with torch.set_grad_enabled(bool(learnt)):  # frozen layers are only listened to
        exact = _output(module, x)
        with autocast:
            rounded = _output(module, x)
    pairs = [(rounded, exact)]
    if learnt:
        back, wanted = torch.randn(exact.shape, generator=generator).to(device), [x, *learnt]
        gradients = (torch.autograd.grad(y, wanted, back.to(y.dtype)) for y in (rounded, exact))
        pairs += zip(*gradients, strict=True)
    errors = [((a.float() - b).norm() / b.norm().clamp_min(1e-30)).detach() for a, b in pairs]
    return float(torch.stack(errors).max())  # a NaN among them is one here


def _output(module: nn.Module, x: Tensor) -> Tensor:
    y = module(x)
    output: Tensor = y[0] if isinstance(y, tuple) else y
    return output
