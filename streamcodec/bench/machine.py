"""What this machine can do at most: multiply-adds of large matrices, and bytes read from memory."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from streamcodec_kernels.native.memory import together

__all__ = ["bandwidth", "best", "gemm_peak", "processor", "synchronized"]

SIZE = 1024  # of the matrices: enough for the peak, and 15 ms of a core
SECONDS = 0.3  # for each figure
RUNS = 3  # at least


def processor() -> str:
    """The processor's name as the system has it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, "") or platform.processor() or platform.machine()


def synchronized(run: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """`run`, which returns when the device has done what it was given."""
    if device.type != "cuda":
        return run

    def both() -> object:
        result = run()
        torch.cuda.synchronize(device)
        return result

    return both


def best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < RUNS or time.perf_counter() < end:
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return min(times)


@torch.inference_mode()
def gemm_peak(precision: str = "float32", device: torch.device | None = None) -> float:
    """Floating-point operations a second of a large matrix product in torch, on as many threads as torch has now.

    precision: one of `precisions.PRECISIONS`.
    """
    device = device or torch.device("cpu")
    size = SIZE if device.type == "cpu" else 8 * SIZE
    if precision == "bfloat16x3":  # three products in bfloat16
        return gemm_peak("bfloat16", device) / 3
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    matmul = torch.backends.cuda.matmul
    allowed, matmul.allow_tf32 = matmul.allow_tf32, precision == "tf32"
    try:
        return 2 * size**3 / best(synchronized(lambda: left @ right, device))
    finally:
        matmul.allow_tf32 = allowed


@torch.inference_mode()
def bandwidth(size: int, device: torch.device | None = None) -> float:
    """Bytes a second at which torch reads `size` bytes again and again: those that a step reads, wherever they lie.

    The faster of a sum and a matrix times a vector counts. On a CPU they are in huge pages, where the system has them.
    """
    device = device or torch.device("cpu")
    rows = max(1, size // (4 * SIZE))
    values = together([torch.ones(rows, SIZE)])[0] if device.type == "cpu" else torch.ones(rows, SIZE, device=device)
    vector = torch.ones(SIZE, device=device)
    ways = (lambda: values.sum(), lambda: values @ vector)
    return values.nbytes / min(best(synchronized(way, device)) for way in ways)
