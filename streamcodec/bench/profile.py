"""Where the time of a native step goes: what each operation of its program takes."""

import statistics
import time
from typing import NamedTuple

import torch

from ..native_executor import NativeExecutor
from ..nn.transducer import Network
from ..state import State

__all__ = ["Spent", "profile"]

WARM, STEPS = 3, 30


class Spent(NamedTuple):
    """operation: a line of the program; ms: of a step; gflops: what it multiplies in that time."""

    operation: str
    ms: float
    gflops: float


@torch.inference_mode()
def profile(network: Network, batch: int, frames: int) -> list[Spent]:
    """The operations of a step, in order; none of a network that runs elsewhere."""
    executor, program = network.executor, network.program
    if not isinstance(executor, NativeExecutor):
        return []
    work, state, times = executor.workspace(batch, frames), State(network.spec, batch), list[float]()
    x = 0.1 * torch.randn(batch, frames * program.at.rate, program.values[0].channels)

    def steps(count: int) -> None:
        for _ in range(count):
            begun = time.perf_counter()
            executor.step(work, x, state)
            times.append(time.perf_counter() - begun)

    steps(WARM)
    parts = work.profile(lambda: steps(STEPS))
    ms = 1000 * statistics.median(times[WARM:])
    rows = [batch * frames * value.at.rate // op.spread for op, value in zip(program.ops, program.values, strict=True)]
    work_of = [2e-6 * op.multiply_adds * count for op, count in zip(program.ops, rows, strict=True)]
    lines = [*str(program).splitlines(), "state and output, copied"]
    return [
        Spent(line, ms * part, flops / (ms * part) if part else 0.0)
        for line, part, flops in zip(lines, parts, [*work_of, 0.0], strict=True)
    ]
