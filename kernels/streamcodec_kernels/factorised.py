"""Factorised residual quantization in the projected space, all stages of encode in one launch.

A program owns BLOCK_M rows of projections, [M, K * d], and takes them through all K stages. A stage scans its codebook
in tiles of BLOCK_N directions, scores them by the product with the stage's own d columns (the largest product is the
nearest direction, whatever the projection's length), keeps the best of each tile column, and at the end takes what the
winner means for the later stages off their columns: entry times `cross`. No score is written to global memory.

- The columns of later stages lie in a scratch [M, K * d], walked in chunks of BLOCK_W.
- Products are added in order of dimension, with the same tiles whatever M is, so that a row's codes depend neither on
  the batch size nor on its neighbours.
- Ties go to the lowest index. A row that holds NaN or infinity gets valid indices that mean nothing, and no other row
  is touched.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .rvq import BLOCK_M, BLOCK_N, INTERPRETED, NUM_STAGES, NUM_WARPS, TILE_FLOATS, _keep_better, _lowest_best

__all__ = ["DIMENSION", "INTERPRETED", "factorised_encode"]

BLOCK_W = 64  # columns of later stages at once: 8 numbers for each of 128 threads
DIMENSION = 32  # the most that a stage's own columns may be: with 128 they spill out of the registers


@triton.jit(do_not_specialize=["M", "K", "cross_stage", "cross_row"])
def _encode(  # type: ignore[no-untyped-def]
    projected_ptr,
    scan_ptr,
    codebooks_ptr,
    cross_ptr,
    codes_ptr,
    scratch_ptr,
    M,
    K,
    cross_stage,
    cross_row,
    N: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_W: tl.constexpr,
    PRECISION: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    columns = tl.arange(0, BLOCK_N)
    width = K * D
    mine = (rows[:, None] < M) & (dims[None, :] < D)
    left_ptr = projected_ptr
    stage = 0
    while stage < K:
        own = tl.load(left_ptr + rows[:, None] * width + stage * D + dims[None, :], mask=mine, other=0.0)
        best_score = tl.full((BLOCK_M, BLOCK_N), float("-inf"), tl.float32)
        best_index = tl.full((BLOCK_M, BLOCK_N), 0, tl.int32)
        for start in range(0, N, BLOCK_N):
            n = start + columns
            tile = tl.load(
                scan_ptr + dims[:, None] * N + n[None, :], mask=(dims[:, None] < D) & (n[None, :] < N), other=0.0
            )
            score = tl.dot(own, tile, input_precision=PRECISION)
            best_score, best_index = _keep_better(score, n, N, best_score, best_index)
        code = _lowest_best(best_score, best_index).to(tl.int64)
        tl.store(codes_ptr + rows * K + stage, code, mask=rows < M)
        entry = tl.load(codebooks_ptr + code[:, None] * D + dims[None, :], mask=mine, other=0.0)
        # What one thread writes, another reads at the next stage, through global memory, which the compiler does not
        # guard: the next stage may start only when all is written. Here each thread writes what it alone has read.
        first = (stage + 1) * D
        while first < width:
            later = first + tl.arange(0, BLOCK_W)
            cross = tl.load(
                cross_ptr + dims[:, None] * cross_row + later[None, :],
                mask=(dims[:, None] < D) & (later[None, :] < width),
                other=0.0,
            )
            place = rows[:, None] * width + later[None, :]
            inside = (rows[:, None] < M) & (later[None, :] < width)
            left = tl.load(left_ptr + place, mask=inside, other=0.0)
            left -= tl.dot(entry, cross, input_precision=PRECISION)
            tl.store(scratch_ptr + place, left, mask=inside)
            first += BLOCK_W
        tl.debug_barrier()
        left_ptr = scratch_ptr
        scan_ptr += N * D
        codebooks_ptr += N * D
        cross_ptr += cross_stage
        stage += 1


def factorised_encode(
    projected: Tensor, scan: Tensor, codebooks: Tensor, cross: Tensor, *, input_precision: str = "ieee"
) -> Tensor:
    """Stage after stage the entry of the nearest direction: projected [M, K * d] to codes [M, K] int64.

    projected: what every stage projects of the whole input; scan: [K, d, N], the entries at length 1; codebooks: [K,
    N, d]; cross: [K, d, K * d], what a unit of each dimension of a stage's entry is in the later stages' projections,
    and 0 in all others. All float32, on one GPU. input_precision: as in `rvq.rvq_encode`.

    Raises ValueError where the kernel cannot take the arguments, d over `DIMENSION` among them.
    """
    rows = projected.shape[0]
    stages, size, dimension = codebooks.shape
    _check(projected=projected, scan=scan, codebooks=codebooks, cross=cross)
    if dimension > DIMENSION:
        raise ValueError(f"entries have {dimension} dimensions, and the kernel takes at most {DIMENSION}")
    codes = torch.empty(rows, stages, dtype=torch.int64, device=projected.device)
    if rows == 0:
        return codes
    if cross.stride(2) != 1:
        cross = cross.contiguous()
    projected = projected.contiguous()
    tensors = (projected, scan.contiguous(), codebooks.contiguous(), cross, codes, torch.empty_like(projected))
    chunk = max(16, triton.next_power_of_2(dimension))
    columns = min(BLOCK_N, max(16, triton.next_power_of_2(size)), TILE_FLOATS // chunk)
    sizes = (rows, stages, cross.stride(0), cross.stride(1), size, dimension)
    options = {"PRECISION": input_precision, "num_warps": NUM_WARPS, "num_stages": NUM_STAGES}
    with torch.cuda.device_of(projected):
        _encode[(triton.cdiv(rows, BLOCK_M),)](*tensors, *sizes, BLOCK_M, columns, chunk, BLOCK_W, **options)
    return codes


def _check(**tensors: Tensor) -> None:
    """Raise ValueError for what the kernel cannot address: dtypes, devices, offsets beyond 32 bits in a codebook."""
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be torch.float32, not {tensor.dtype}")
        if not (tensor.is_cuda or INTERPRETED):
            raise ValueError(
                f"{name} lies on {tensor.device}, and compiled kernels need a GPU "
                "(TRITON_INTERPRET=1, set before Triton is imported, runs them slowly on the CPU)"
            )
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) > 1:
        raise ValueError(f"all tensors must lie on one device, not on {sorted(map(str, devices))}")
    size = tensors["codebooks"][0].numel()
    if size >= 2**31:
        raise ValueError(f"one codebook may hold fewer than 2**31 numbers, not {size}")
