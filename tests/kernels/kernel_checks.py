"""What the tests of both encode kernels need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

NAN = float("nan")

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU; torch sees none")


def assert_near_ties_alone(codes: Tensor, expected: Tensor, size: int, excess: Tensor, near_tie: float) -> None:
    """Codes [M, K] of codebooks of `size` are the expected ones, or their choices nearly tie.

    excess: [M, K], how much worse each choice is than the best one, judged by what the earlier choices leave.
    """
    assert codes.shape == expected.shape
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() < size
    differ = (codes != expected).any(1)
    assert differ.sum() <= 1 + 0.001 * codes.numel(), "more rows differ than near ties explain"
    assert excess.max() < near_tie


def assert_only_row_four_is_harmed(codes: Tensor, clean: Tensor, size: int) -> None:
    """Codes [9, K] of codebooks of `size` are valid indices, and but for row 4 the clean ones."""
    assert codes.min() >= 0
    assert codes.max() < size
    others = torch.arange(9, device=codes.device) != 4
    assert torch.equal(codes[others], clean[others])


def island(tensor: Tensor, filler: float = NAN) -> Tensor:
    """The tensor, cut out of storage that is full of something else."""
    sea = torch.full((tensor.numel() + 8192,), filler, dtype=tensor.dtype, device=tensor.device)
    return sea[4096:-4096].view(tensor.shape).copy_(tensor)


def compile_without_a_gpu(script: str, cache: Path) -> str:
    """What a script beside this file prints, without Triton's interpreter. cache: a directory for what it compiles."""
    pytest.importorskip("triton", reason="Triton is not installed")
    if sys.platform != "linux":
        pytest.skip("Triton's compiler exists on Linux only")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, Path(__file__).with_name(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
