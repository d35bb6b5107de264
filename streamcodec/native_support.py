"""What the native executor and quantizers run on here: an instruction set of the library, if there is one."""

import functools
import shlex

import torch
from streamcodec_kernels.native import library
from streamcodec_kernels.native.compiler import CannotCompileError, compiler, ready, shipped
from streamcodec_kernels.native.library import InstructionSet
from torch import Tensor

from .errors import BackendError

__all__ = ["CPU", "about", "by_itself", "check_tiles", "floats", "instruction_set"]

CPU = torch.device("cpu")


def floats(*shape: int) -> Tensor:
    """Memory that the library may write to, whatever torch makes by default where it is asked for."""
    return torch.empty(shape, dtype=torch.float32, device=CPU)


def instruction_set() -> InstructionSet:
    """The instruction set that it runs on. Raises BackendError where there is no library, and none can be made."""
    try:
        return library.chosen()
    except CannotCompileError as error:
        raise BackendError(f"the native executor cannot run here: {error}. Use backend='auto' or 'torch'") from error


@functools.cache
def by_itself() -> bool:
    """Whether it runs where nobody asks for it by name: where it came with the package, and the library opens.

    Not what was compiled here before: then one installation would give other last bits from some day on.
    """
    try:
        return shipped() is not None and bool(instruction_set())
    except BackendError:
        return False


def about() -> str:
    """What it runs on here, or why it does not, in a few words. Compiles nothing."""
    if ready():
        try:
            chosen = instruction_set()
            tiles = "; float32 in part as products of bfloat16, on AMX" if chosen.tiles else ""
            return f"{chosen.name} (of {', '.join(library.instruction_sets())}){tiles}"
        except BackendError as error:
            return str(error)
    command = compiler()
    if command is None:
        return "not here: no C++ compiler (for one: pip install ziglang)"
    return f"not compiled yet; backend 'native' does that, by {shlex.join(command)}"


def check_tiles(precision: str) -> None:
    """Raises BackendError where nothing multiplies in bfloat16, as `precision` does."""
    if not instruction_set().tiles:
        raise BackendError(
            f"precision {precision!r} needs a processor with AMX (Intel Xeon from 2023 on) under Linux, on the "
            f"instruction set amx; this runs on {instruction_set().name}. Use precision='float32'"
        )
