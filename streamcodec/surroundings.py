"""A codec computes what it says, whatever surrounds the call: torch's switches that would change its numbers.

They are autocast, and a precision of float32 products below float32's own (`torch.set_float32_matmul_precision`), which
on a GPU is torch's default for convolutions (`torch.backends.cudnn.allow_tf32`). They are meant for the model around a
codec; half of a codec's codes would be others. To look at them takes less than a microsecond, so that every push and
step can.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

__all__ = ["built_alone", "undisturbed", "unrecorded"]

P = ParamSpec("P")
T = TypeVar("T")

# Of devices that codecs run on; autocast is switched for each.
KINDS = ("cpu", "cuda") if torch.backends.cuda.is_built() else ("cpu",)

# The precision is one for the whole process: of calls that overlap in several threads, the first keeps what it was, and
# the last puts it back.
_lock = threading.Lock()
_inside = 0
_kept = ("highest", True)


def undisturbed(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, computing in its tensors' own types and in full float32."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if _is_calm():
            return function(*args, **kwargs)
        with _sheltered():
            return function(*args, **kwargs)

    return call


def unrecorded(function: Callable[P, T]) -> Callable[P, T]:
    """`undisturbed`, and it records no gradients.

    As torch.no_grad, which takes twice as long to enter: a live stream's push is a few tenths of a millisecond.
    """
    function = undisturbed(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        torch.set_grad_enabled(False)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_grad_enabled(True)

    return call


def _is_calm() -> bool:
    """Whether nothing surrounds the call that would change a number: no autocast, and products of float32 are in it."""
    if _inside or any(map(torch.is_autocast_enabled, KINDS)):
        return False
    on_gpu = len(KINDS) > 1 and torch.cuda.is_initialized() and torch.backends.cudnn.allow_tf32
    return torch.get_float32_matmul_precision() == "highest" and not on_gpu


@contextmanager
def _sheltered() -> Iterator[None]:
    with ExitStack() as stack:
        for kind in KINDS:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(_full_float32())
        yield


@contextmanager
def _full_float32() -> Iterator[None]:
    global _inside, _kept
    with _lock:
        if not _inside:
            _kept = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
            _set(("highest", False))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _set(_kept)


def _set(precision: tuple[str, bool]) -> None:
    torch.set_float32_matmul_precision(precision[0])
    torch.backends.cudnn.allow_tf32 = precision[1]


def built_alone(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, which makes a codec: float32 weights that hold numbers and can be trained, whatever it is called in.

    Frameworks build models with another default dtype, on the meta device, or in inference mode.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        default = torch.get_default_dtype()
        with torch.inference_mode(False), torch.device("cpu"):
            torch.set_default_dtype(torch.float32)
            try:
                return function(*args, **kwargs)
            finally:
                torch.set_default_dtype(default)

    return undisturbed(call)
