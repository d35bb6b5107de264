"""What tests of the native executor share: its instruction sets, and skipping where nothing can compile it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from streamcodec_kernels.native import library
from streamcodec_kernels.native.compiler import CannotCompileError, flags_of

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
