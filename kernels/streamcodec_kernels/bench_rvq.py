"""Time the fused encode kernel against the torch reference: ``python -m streamcodec_kernels.bench_rvq``.

Every problem is checked before it is timed, and where one code is wrong nothing is reported. Prints a Markdown table
of medians in milliseconds. Exit status: 0, 1 for wrong codes, 2 where there is no NVIDIA GPU or no Triton.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .rvq_reference import NEAR_TIE, excess_distance, random_problem
from .rvq_reference import rvq_encode as reference

__all__ = ["main"]

ROWS = (1, 75, 750, 7500, 75000)  # at 75 frames/s: one live frame, then 1 s, 10 s, 100 s and 1,000 s of audio
CODEBOOKS = ((8, 1024, 128), (32, 1024, 128), (8, 1024, 1024))  # stages, codebook size, dimension
PRECISIONS = ("ieee", "tf32x3")

Encode = Callable[[Tensor, Tensor, Tensor], Tensor]


class WrongCodesError(Exception):
    """An implementation chose a vector that is not the nearest."""


def implementations() -> dict[str, Encode]:
    """The columns of the table, the reference first."""
    from .rvq import rvq_encode

    kernels = {f"Triton {precision}": partial(rvq_encode, input_precision=precision) for precision in PRECISIONS}
    return {"torch": reference, **kernels}


def row(columns: dict[str, Encode], rows: int, stages: int, size: int, dimension: int) -> str:
    """One line of the table. Raises WrongCodesError rather than time a wrong result."""
    from triton.testing import do_bench

    z, codebooks = random_problem(rows, stages, size, dimension, "cuda")
    half_norms = codebooks.square().sum(-1) * 0.5
    cells = [f"{rows:,}", f"{stages}", f"{size:,}", f"{dimension:,}"]
    for name, encode in columns.items():
        call = partial(encode, z, codebooks, half_norms)
        excess = float(excess_distance(z, codebooks, call()).max())
        if not excess < NEAR_TIE:
            raise WrongCodesError(f"{name} at {cells}: a chosen vector is {excess:.1e} farther than the nearest")
        cells.append(f"{do_bench(call, return_mode='median'):.3f}")
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Check and time every problem; returns the exit status."""
    if not torch.cuda.is_available():
        print("bench_rvq: torch sees no NVIDIA GPU here, and only compiled kernels are worth timing", file=sys.stderr)
        return 2
    try:
        import triton

        columns = implementations()
    except ImportError as error:
        print(f"bench_rvq: Triton cannot be imported: {error}. Install it with: pip install triton", file=sys.stderr)
        return 2
    try:
        table = [row(columns, rows, *codebooks) for codebooks in CODEBOOKS for rows in ROWS]
    except WrongCodesError as error:
        print(f"bench_rvq: no times reported, since codes are wrong: {error}", file=sys.stderr)
        return 1
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, Triton {triton.__version__}; median ms a call\n")
    print(f"| rows | codebooks | size | dimension | {' | '.join(columns)} |")
    print("|---" * (4 + len(columns)) + "|")
    print("\n".join(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
