"""Residual vector quantization in one launch: every stage of encode, or of decode.

Encode. A program owns BLOCK_M rows of z and takes them through all K stages. A stage scans the codebook in tiles of
BLOCK_N code vectors, scores them by ``r.e - |e|^2 / 2`` (whose argmax is the nearest vector), keeps the best of each
tile column, and at the end subtracts the winner from the residual. No score is written to global memory.

- Dimensions up to `REGISTER_DIMENSION`: the residual is one register tile. Beyond: it lies in a scratch [M, D] in
  global memory, walked in chunks of BLOCK_D.
- A row's products are added in order of dimension, with the same tiles whatever M is, so that its codes depend
  neither on the batch size nor on its neighbours.
- Ties go to the lowest index. A row that holds NaN or infinity gets valid indices that mean nothing, and no other row
  is touched.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["INTERPRETED", "rvq_decode", "rvq_encode"]

# The least that tl.dot takes in every Triton since 3.2. More rows a program would read the codebooks less often, but
# a live step brings 1 to 16 rows and waits for all of BLOCK_M, and tiles that grow with M would make codes depend on M.
BLOCK_M = 16
BLOCK_N = 128  # 16 scores for each of 128 threads: Triton then lays them out 4 x 4, the most reuse of what is loaded
BLOCK_D = 32  # one 128-byte line of a row

REGISTER_DIMENSION = 128
# Floats of a codebook tile while the residual is in registers: 32 KiB. Two buffers (one is read while the next is
# fetched) and 8 KiB of residual let three programs share an H100's 227 KiB, and one fit the 99 KiB of smaller GPUs.
TILE_FLOATS = 8192
NUM_WARPS = 4
NUM_STAGES = 3  # software pipelining: two tile buffers


@triton.jit
def _keep_better(score, n, N: tl.constexpr, best_score, best_index):  # type: ignore[no-untyped-def]
    """Merge a tile of scores [BLOCK_M, BLOCK_N] of the vectors `n` into the best so far, column by column.

    Tiles come in ascending order and only a strictly better score replaces, so each column keeps its lowest index.
    NaN compares false, so `best_score` never holds one.
    """
    better = (n[None, :] < N) & (score > best_score)
    return tl.where(better, score, best_score), tl.where(better, n[None, :], best_index)


@triton.jit
def _lowest_best(best_score, best_index):  # type: ignore[no-untyped-def]
    """The index of each row's best column, the lowest on ties. At least one column equals the maximum, so the result
    is always one of `best_index`: a valid index even where every score was -inf or NaN (then 0)."""
    best = tl.max(best_score, axis=1)
    return tl.min(tl.where(best_score == best[:, None], best_index, 2147483647), axis=1)


@triton.jit(do_not_specialize=["M", "K"])
def _encode_in_registers(  # type: ignore[no-untyped-def]
    z_ptr,
    scan_ptr,
    half_norms_ptr,
    codebooks_ptr,
    codes_ptr,
    M,
    K,
    N: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    columns = tl.arange(0, BLOCK_N)
    inside = (rows[:, None] < M) & (dims[None, :] < D)
    residual = tl.load(z_ptr + rows[:, None] * D + dims[None, :], mask=inside, other=0.0)
    stage = 0
    while stage < K:
        best_score = tl.full((BLOCK_M, BLOCK_N), float("-inf"), tl.float32)
        best_index = tl.full((BLOCK_M, BLOCK_N), 0, tl.int32)
        for start in range(0, N, BLOCK_N):
            n = start + columns
            tile = tl.load(
                scan_ptr + dims[:, None] * N + n[None, :], mask=(dims[:, None] < D) & (n[None, :] < N), other=0.0
            )
            half_norm = tl.load(half_norms_ptr + n, mask=n < N, other=0.0)
            score = tl.dot(residual, tile, input_precision=PRECISION) - half_norm[None, :]
            best_score, best_index = _keep_better(score, n, N, best_score, best_index)
        code = _lowest_best(best_score, best_index).to(tl.int64)
        tl.store(codes_ptr + rows * K + stage, code, mask=rows < M)
        chosen = codebooks_ptr + code[:, None] * D + dims[None, :]
        residual -= tl.load(chosen, mask=inside, other=0.0)
        scan_ptr += N * D
        half_norms_ptr += N
        codebooks_ptr += N * D
        stage += 1


@triton.jit(do_not_specialize=["M", "K"])
def _encode_through_scratch(  # type: ignore[no-untyped-def]
    z_ptr,
    scan_ptr,
    half_norms_ptr,
    codebooks_ptr,
    codes_ptr,
    scratch_ptr,
    M,
    K,
    N: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.arange(0, BLOCK_N)
    residual_ptr = z_ptr
    stage = 0
    while stage < K:
        best_score = tl.full((BLOCK_M, BLOCK_N), float("-inf"), tl.float32)
        best_index = tl.full((BLOCK_M, BLOCK_N), 0, tl.int32)
        for start in range(0, N, BLOCK_N):
            n = start + columns
            score = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
            for first in range(0, D, BLOCK_D):
                dims = first + tl.arange(0, BLOCK_D)
                inside = (rows[:, None] < M) & (dims[None, :] < D)
                residual = tl.load(residual_ptr + rows[:, None] * D + dims[None, :], mask=inside, other=0.0)
                tile = tl.load(
                    scan_ptr + dims[:, None] * N + n[None, :], mask=(dims[:, None] < D) & (n[None, :] < N), other=0.0
                )
                score = tl.dot(residual, tile, score, input_precision=PRECISION)
            score -= tl.load(half_norms_ptr + n, mask=n < N, other=0.0)[None, :]
            best_score, best_index = _keep_better(score, n, N, best_score, best_index)
        code = _lowest_best(best_score, best_index).to(tl.int64)
        tl.store(codes_ptr + rows * K + stage, code, mask=rows < M)
        # Threads read residual rows that other threads of the program write, through global memory, which the
        # compiler does not guard as it does shared memory: nobody may write before all have read, nor read the new
        # residual before all have written.
        tl.debug_barrier()
        for first in range(0, D, BLOCK_D):
            dims = first + tl.arange(0, BLOCK_D)
            inside = (rows[:, None] < M) & (dims[None, :] < D)
            place = rows[:, None] * D + dims[None, :]
            chosen = codebooks_ptr + code[:, None] * D + dims[None, :]
            residual = tl.load(residual_ptr + place, mask=inside, other=0.0) - tl.load(chosen, mask=inside, other=0.0)
            tl.store(scratch_ptr + place, residual, mask=inside)
        tl.debug_barrier()
        residual_ptr = scratch_ptr
        scan_ptr += N * D
        half_norms_ptr += N
        codebooks_ptr += N * D
        stage += 1


@triton.jit(do_not_specialize=["M", "K"])
def _decode(  # type: ignore[no-untyped-def]
    codes_ptr,
    codebooks_ptr,
    z_ptr,
    M,
    K,
    N: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = (rows[:, None] < M) & (dims[None, :] < D)
    total = tl.full((BLOCK_M, BLOCK_D), 0.0, tl.float32)
    stage = 0
    while stage < K:
        code = tl.load(codes_ptr + rows * K + stage, mask=rows < M, other=0)
        valid = (code >= 0) & (code < N)  # a bad code adds zeros: memory beyond the codebook is never read
        vectors = codebooks_ptr + code[:, None] * D + dims[None, :]
        total += tl.load(vectors, mask=inside & valid[:, None], other=0.0)
        codebooks_ptr += N * D
        stage += 1
    tl.store(z_ptr + rows[:, None] * D + dims[None, :], total, mask=inside)


# TRITON_INTERPRET=1, seen when this file was imported: the kernels run in Python, on CPU tensors.
INTERPRETED: bool = not isinstance(_decode, triton.JITFunction)


def rvq_encode(
    z: Tensor,
    codebooks: Tensor,
    half_norms: Tensor | None = None,
    scan: Tensor | None = None,
    *,
    input_precision: str = "ieee",
) -> Tensor:
    """The nearest code vector, stage after stage: z [M, D], codebooks [K, N, D] to codes [M, K] int64.

    half_norms: [K, N], ``|e|^2 / 2``; scan: [K, D, N], the codebooks transposed; computed where absent. All float32, on
    one GPU.

    input_precision: ``"ieee"`` is float32 arithmetic; ``"tf32x3"`` is three products on the tensor cores, about as
    exact; ``"tf32"`` keeps 10 bits of the residual and is not fit for codes. Raises ValueError where the kernel
    cannot take the arguments.
    """
    rows, dimension = z.shape
    stages, size, _ = codebooks.shape
    _check(z=z, codebooks=codebooks, half_norms=half_norms, scan=scan)
    codes = torch.empty(rows, stages, dtype=torch.int64, device=z.device)
    if rows == 0:
        return codes
    if half_norms is None:
        half_norms = codebooks.square().sum(-1) * 0.5
    # The scan wants neighbouring code vectors side by side: as [K, D, N] a tile lies in shared memory the way the
    # threads read it; as [K, N, D] all 32 lanes of a warp would hit one bank. Copying costs less than those conflicts.
    scan = (codebooks.mT if scan is None else scan).contiguous()
    z = z.contiguous()
    tensors = (z, scan, half_norms.contiguous(), codebooks.contiguous(), codes)
    columns = min(BLOCK_N, max(16, triton.next_power_of_2(size)))
    options = {"PRECISION": input_precision, "num_warps": NUM_WARPS, "num_stages": NUM_STAGES}
    grid = (triton.cdiv(rows, BLOCK_M),)
    with torch.cuda.device_of(z):
        if dimension <= REGISTER_DIMENSION:
            chunk = max(16, triton.next_power_of_2(dimension))
            columns = min(columns, TILE_FLOATS // chunk)
            _encode_in_registers[grid](*tensors, rows, stages, size, dimension, BLOCK_M, columns, chunk, **options)
        else:
            sizes = (rows, stages, size, dimension, BLOCK_M, columns, BLOCK_D)
            _encode_through_scratch[grid](*tensors, torch.empty_like(z), *sizes, **options)
    return codes


def rvq_decode(codes: Tensor, codebooks: Tensor) -> Tensor:
    """The sum of the chosen vectors, first stage first: codes [M, K'] int64, codebooks [K, N, D] to [M, D] float32.

    K' <= K; all on one GPU. A code outside 0..N-1 adds nothing. No gradient. Raises ValueError where the kernel
    cannot take the arguments.
    """
    rows, stages = codes.shape
    _, size, dimension = codebooks.shape
    if torch.is_grad_enabled() and codebooks.requires_grad:
        raise ValueError("the kernel has no gradient, and the codebooks require one (torch.no_grad() lifts this)")
    _check(codes=codes, codebooks=codebooks)
    z = torch.empty(rows, dimension, device=codes.device)
    if rows == 0:
        return z
    chunk = min(BLOCK_N, triton.next_power_of_2(dimension))
    grid = (triton.cdiv(rows, BLOCK_M), triton.cdiv(dimension, chunk))
    tensors = (codes.contiguous(), codebooks.contiguous(), z)
    with torch.cuda.device_of(z):
        _decode[grid](*tensors, rows, stages, size, dimension, BLOCK_M, chunk, num_warps=NUM_WARPS)
    return z


def _check(**tensors: Tensor | None) -> None:
    """Raise ValueError for what the kernels cannot address: dtypes, devices, offsets beyond 32 bits in a codebook."""
    devices = set()
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        devices.add(tensor.device)
        wanted = torch.int64 if name == "codes" else torch.float32
        if tensor.dtype != wanted:
            raise ValueError(f"{name} must be {wanted}, not {tensor.dtype}")
        if not (tensor.is_cuda or INTERPRETED):
            raise ValueError(
                f"{name} lies on {tensor.device}, and compiled kernels need a GPU "
                "(TRITON_INTERPRET=1, set before Triton is imported, runs them slowly on the CPU)"
            )
        if name == "codebooks" and tensor[0].numel() >= 2**31:
            raise ValueError(f"one codebook may hold fewer than 2**31 numbers, not {tensor[0].numel()}")
    if len(devices) > 1:
        raise ValueError(f"all tensors must lie on one device, not on {sorted(map(str, devices))}")
