"""What tests of the native executor share: its instruction sets, and skipping where nothing can compile it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from streamcodec_kernels.native import library
from streamcodec_kernels.native.compiler import CannotCompileError, flags_of

from streamcodec import native_executor
from streamcodec.native_executor import Workspace

ALL = list(flags_of())

try:
    HERE = list(library.instruction_sets())
    WHY = ""
except CannotCompileError as error:
    HERE, WHY = [], str(error)

compiled = pytest.mark.skipif(not HERE, reason=f"the native executor cannot be compiled here: {WHY}")
each_set = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(name not in HERE, reason=WHY or f"this processor has no {name}"))
        for name in ALL
    ],
)


@contextmanager
def on(name: str) -> Iterator[None]:
    """What is made inside runs on that instruction set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.CHOICE, name)
        yield


@contextmanager
def shared_among(threads: int) -> Iterator[list[int]]:
    """Steps of any size are shared among so many threads; gives how many shares each one that helped took."""
    plain, before, taken = Workspace._help, torch.get_num_threads(), list[int]()
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native_executor, "SHARED_WORK", 0)
            patch.setattr(Workspace, "_help", lambda work, call: taken.append(plain(work, call)))
            yield taken
    finally:
        torch.set_num_threads(before)
