"""Kernels run compiled where there is an NVIDIA GPU, and in Triton's interpreter elsewhere."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

for folder in ("nn", "codecs", "engine"):  # random stacks of layers, small codecs, mirrors of sessions
    sys.path.append(str(Path(__file__).parent.parent / folder))

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is first imported


@pytest.fixture(scope="session")
def device() -> str:
    """Where kernels can run: "cuda", or "cpu" in the interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from streamcodec_kernels import rvq

    if torch.cuda.is_available():
        return "cuda"
    if not rvq.INTERPRETED or not _standard_library_is_interpreted():
        pytest.fail(
            "Triton was imported before tests/kernels/conftest.py could set TRITON_INTERPRET=1 (transformers imports "
            "it): set it in tests/conftest.py or in the environment, or run tests/kernels by itself"
        )
    return "cpu"


def _standard_library_is_interpreted() -> bool:
    import triton

    return not isinstance(triton.language.max, triton.JITFunction)


@pytest.fixture
def uninitialised_is_nan() -> Iterator[None]:
    """torch.empty gives NaN, and the largest integer."""
    # With fill_uninitialized_memory, which is on by default; only a warning where cuBLAS may pick its order.
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def ordered_dot(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the interpreter's tl.dot add products in order of dimension, as the compiled kernel's chain of FMAs does.

    NumPy's matmul chooses the order by the place in the matrix, so that equal rows get unequal bits.
    """
    if device == "cuda":
        return
    from triton.runtime import interpreter

    def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
        total = d.data.copy()
        for k in range(a.data.shape[1]):
            total += a.data[:, k : k + 1] * b.data[k : k + 1]
        return interpreter.TensorHandle(total, d.dtype.scalar)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)
