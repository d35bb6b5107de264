"""A product of a step in one launch: windows of rows times a matrix, and all that follows while it is in registers.

Windows are read where their rows lie, since rows that follow each other in time are neighbours in memory: a window is
one stretch of memory, or where it is dilated, one a row (*segments*). Two kinds of windows may lie side by side, as the
two ends of a residual block. A transposed convolution is the same product, whose columns are those of several rows.

- A program owns BLOCK_M windows, of whichever streams, and BLOCK_N columns, and adds up their products in order of the
  window's values, with the same tiles whatever the step's size is: so a row's bits depend neither on how many rows a
  step has, nor on the batch, nor on the neighbours.
- Then come the bias, what is added, and for each of up to two targets an activation of its own and the edges: rows
  outside of the signal are written as zeros.
- Nothing outside of the windows is read, and nothing of a row that has no window.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["ACTIVATIONS", "INTERPRETED", "PRECISIONS", "Target", "Windows", "operand", "product"]

BLOCK_M = 16  # the least that tl.dot takes in every Triton since 3.2; see rvq.py on why it does not grow
BLOCK_N = 32
BLOCK_K = 64
NUM_WARPS = 4
NUM_STAGES = 3

# By name, what tl.dot calls them; in bfloat16 both operands are rounded, and sums are float32 in all three.
PRECISIONS = {"float32": "ieee", "tf32": "tf32", "bfloat16": "bfloat16"}
ACTIVATIONS = ("elu", "gelu", "gelu_tanh", "hardtanh", "leaky_relu", "silu", "snake", "tanh")


class Windows(NamedTuple):
    """A window of `taps` rows, `dilation` apart, every `stride` rows from the first of `rows` [B, R, C] on."""

    rows: Tensor
    stride: int = 1
    taps: int = 1
    dilation: int = 1


class Target(NamedTuple):
    """Where results go: rows [B, n, C], contiguous but for the streams.

    activation: one of `ACTIVATIONS` or None; alpha, gain: [C], of "snake". length: [B] int64, rows of the signal, or
    None where no row is to be zero; rate, lag: at `position` frames, row 0 is row ``position * rate - lag`` of it.
    """

    rows: Tensor
    activation: str | None = None
    alpha: Tensor | None = None
    gain: Tensor | None = None
    length: Tensor | None = None
    rate: int = 0
    lag: int = 0


@triton.jit
def expm1(x):  # type: ignore[no-untyped-def]
    """exp(x) - 1. Near 0, where that would cancel, the first terms of its series."""
    near = tl.where(tl.abs(x) < 0.35, x, 0.0)
    series = near * (1 + near / 2 * (1 + near / 3 * (1 + near / 4 * (1 + near / 5 * (1 + near / 6 * (1 + near / 7))))))
    return tl.where(tl.abs(x) < 0.35, series, tl.exp(x) - 1)


@triton.jit
def tanh(x):  # type: ignore[no-untyped-def]
    below = expm1(-2 * tl.abs(x))  # from -1 to 0: nothing overflows
    size = -below / (below + 2)
    return tl.where(x < 0, -size, size)


@triton.jit
def sigmoid(x):  # type: ignore[no-untyped-def]
    small = tl.exp(-tl.abs(x))
    return tl.where(x < 0, small, 1.0) / (1 + small)


@triton.jit
def activated(x, channel, KIND: tl.constexpr, alpha_ptr, gain_ptr, inside):  # type: ignore[no-untyped-def]
    """The activation of values [BLOCK_M, BLOCK_N], whose channels are [BLOCK_N]. `vector_math` names the sources."""
    if KIND == "elu":
        return tl.where(x > 0, x, expm1(tl.where(x > 0, 0.0, x)))
    elif KIND == "gelu":
        return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
    elif KIND == "gelu_tanh":
        return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    elif KIND == "hardtanh":
        return tl.where(x > 1, 1.0, tl.where(x < -1, -1.0, x))
    elif KIND == "leaky_relu":
        return tl.where(x > 0, x, 0.3 * x)
    elif KIND == "silu":
        return x * sigmoid(x)
    elif KIND == "snake":
        alpha = tl.load(alpha_ptr + channel, mask=inside, other=0.0)
        gain = tl.load(gain_ptr + channel, mask=inside, other=0.0)
        wave = tl.sin(alpha[None, :] * x)
        return x + gain[None, :] * wave * wave
    elif KIND == "tanh":
        return tanh(x)
    return x


@triton.jit
def write(  # type: ignore[no-untyped-def]
    x,
    stream,
    row,
    channel,
    real,
    owned,
    to_ptr,
    alpha_ptr,
    gain_ptr,
    length_ptr,
    position_ptr,
    R,
    RATE: tl.constexpr,
    LAG: tl.constexpr,
    C: tl.constexpr,
    KIND: tl.constexpr,
):
    """Write values [BLOCK_M, BLOCK_N] to a target whose streams are R rows apart.

    stream, real: [BLOCK_M], whose they are and which there are; row: [BLOCK_M, BLOCK_N], of the target; channel:
    [BLOCK_N]; owned: [BLOCK_M, BLOCK_N], which values there are.
    """
    x = activated(x, channel, KIND, alpha_ptr, gain_ptr, channel < C)
    if length_ptr is not None:
        start = tl.load(position_ptr + stream, mask=real, other=0) * RATE - LAG
        length = tl.load(length_ptr + stream, mask=real, other=0)
        index = start[:, None] + row
        x = tl.where((index >= 0) & (index < length[:, None]), x, 0.0)
    tl.store(to_ptr + (stream[:, None] * R + row) * C + channel[None, :], x, mask=owned)


@triton.jit
def rounded(x):  # type: ignore[no-untyped-def]
    """The nearest bfloat16, as a float32."""
    bits = x.to(tl.int32, bitcast=True)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits & -65536).to(tl.float32, bitcast=True)


@triton.jit
def accumulated(  # type: ignore[no-untyped-def]
    total,
    x_ptr,
    matrix_ptr,
    first,
    column,
    real,
    N: tl.constexpr,
    SEGMENTS: tl.constexpr,
    STEP: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """`total` [BLOCK_M, BLOCK_N] and the products of windows with columns of a matrix [SEGMENTS * WIDTH, N].

    first: [BLOCK_M], where each window begins; real: [BLOCK_M], which there are. It has SEGMENTS stretches of WIDTH
    values, STEP apart.
    """
    for segment in range(SEGMENTS):
        for start in range(0, WIDTH, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            x = tl.load(
                x_ptr + first[:, None] + (segment * STEP + k)[None, :],
                mask=real[:, None] & (k < WIDTH)[None, :],
                other=0.0,
            )
            weights = tl.load(
                matrix_ptr + (segment * WIDTH + k)[:, None] * N + column[None, :],
                mask=(k < WIDTH)[:, None] & (column < N)[None, :],
                other=0.0,
            )
            if PRECISION != "bfloat16":
                total = tl.dot(x, weights, total, input_precision=PRECISION)
            elif INTERPRETED:  # which neither rounds to bfloat16 nor multiplies it; products are exact in float32
                total = tl.dot(rounded(x), weights.to(tl.float32), total)
            else:
                total = tl.dot(x.to(tl.bfloat16), weights, total)
    return total


@triton.jit(do_not_specialize=["M", "count", "R", "also_R", "add_R", "to_R", "more_R"])
def _product(  # type: ignore[no-untyped-def]
    x_ptr,
    also_ptr,
    matrix_ptr,
    bias_ptr,
    add_ptr,
    to_ptr,
    alpha_ptr,
    gain_ptr,
    length_ptr,
    more_ptr,
    more_alpha_ptr,
    more_gain_ptr,
    more_length_ptr,
    position_ptr,
    M,
    count,
    R,
    also_R,
    add_R,
    to_R,
    more_R,
    N: tl.constexpr,
    SPREAD: tl.constexpr,
    C: tl.constexpr,
    STRIDE: tl.constexpr,
    SEGMENTS: tl.constexpr,
    STEP: tl.constexpr,
    WIDTH: tl.constexpr,
    ALSO_C: tl.constexpr,
    ALSO_STRIDE: tl.constexpr,
    ALSO_SEGMENTS: tl.constexpr,
    ALSO_STEP: tl.constexpr,
    ALSO_WIDTH: tl.constexpr,
    RATE: tl.constexpr,
    LAG: tl.constexpr,
    KIND: tl.constexpr,
    MORE_RATE: tl.constexpr,
    MORE_LAG: tl.constexpr,
    MORE_KIND: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    ALSO_BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    window = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    real = window < M
    stream, place = (window // count).to(tl.int64), window % count
    total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    first = (stream * R + place * STRIDE) * C
    total = accumulated(
        total, x_ptr, matrix_ptr, first, column, real, N, SEGMENTS, STEP, WIDTH, BLOCK_K, PRECISION, INTERPRETED
    )
    if also_ptr is not None:
        first = (stream * also_R + place * ALSO_STRIDE) * ALSO_C
        rest_ptr = matrix_ptr + SEGMENTS * WIDTH * N
        total = accumulated(
            total, also_ptr, rest_ptr, first, column, real, N, ALSO_SEGMENTS, ALSO_STEP, ALSO_WIDTH, ALSO_BLOCK_K,
            PRECISION, INTERPRETED
        )  # fmt: skip
    if bias_ptr is not None:
        total += tl.load(bias_ptr + column, mask=column < N, other=0.0)[None, :]
    channel = column % (N // SPREAD)
    row = place[:, None] * SPREAD + (column // (N // SPREAD))[None, :]
    owned = real[:, None] & (column < N)[None, :]
    if add_ptr is not None:
        total += tl.load(
            add_ptr + (stream[:, None] * add_R + row) * (N // SPREAD) + channel[None, :], mask=owned, other=0.0
        )
    write(
        total, stream, row, channel, real, owned, to_ptr, alpha_ptr, gain_ptr, length_ptr, position_ptr, to_R, RATE,
        LAG, N // SPREAD, KIND
    )  # fmt: skip
    if more_ptr is not None:
        write(
            total, stream, row, channel, real, owned, more_ptr, more_alpha_ptr, more_gain_ptr, more_length_ptr,
            position_ptr, more_R, MORE_RATE, MORE_LAG, N // SPREAD, MORE_KIND
        )  # fmt: skip


# TRITON_INTERPRET=1, seen when this file was imported: the kernels run in Python, on CPU tensors.
INTERPRETED: bool = not isinstance(_product, triton.JITFunction)


def operand(matrix: Tensor, precision: str) -> Tensor:
    """A matrix as `product` takes it in that precision."""
    return matrix.to(torch.bfloat16 if precision == "bfloat16" else torch.float32).contiguous()


def product(
    windows: Sequence[Windows],
    matrix: Tensor,
    bias: Tensor | None,
    add: Tensor | None,
    targets: Sequence[Target],
    position: Tensor,
    spread: int = 1,
    precision: str = "float32",
) -> Callable[[bool], Any]:
    """The launch that writes the products of windows, of one kind or two, to one target or two.

    The windows' values side by side times `matrix` [K, spread * C], plus `bias` [spread * C], are `spread` rows of each
    target; ``add`` [B, n, C] is added to them first. position: [B] int64, the frames before the step. precision: one of
    `PRECISIONS`, and the matrix an `operand` in it. All else is float32, and on one device; everything keeps its place.

    The launch is told whether the step may touch an edge: without that no row is made zero. Raises ValueError where the
    kernel cannot take the arguments.
    """
    check(matrix=matrix, windows=windows[0].rows, targets=targets[0].rows)
    if len(windows) > 2 or len(targets) > 2:
        raise ValueError(f"{len(windows)} kinds of windows and {len(targets)} targets; the kernel takes two of each")
    x, also = windows[0], windows[1] if len(windows) > 1 else None
    to, more = targets[0], targets[1] if len(targets) > 1 else None
    batch, columns = to.rows.shape[0], matrix.shape[1]
    count = to.rows.shape[1] // spread
    pointers = (
        x.rows, also and also.rows, matrix, bias, add,
        to.rows, to.alpha, to.gain, to.length,
        more and more.rows, more and more.alpha, more and more.gain, more and more.length,
    )  # fmt: skip
    apart = (rows_apart(each) for each in (x.rows, also and also.rows, add, to.rows, more and more.rows))
    options = {
        "N": columns, "SPREAD": spread, **_shape(x), **{f"ALSO_{name}": size for name, size in _shape(also).items()},
        **of_target(to), **{f"MORE_{name}": value for name, value in of_target(more).items()},
        "BLOCK_M": BLOCK_M, "BLOCK_N": min(BLOCK_N, max(16, triton.next_power_of_2(columns))),
        "PRECISION": PRECISIONS[precision], "INTERPRETED": INTERPRETED,
        "num_warps": NUM_WARPS, "num_stages": NUM_STAGES,
    }  # fmt: skip
    grid = (triton.cdiv(batch * count, BLOCK_M), triton.cdiv(columns, options["BLOCK_N"]))
    inside = tuple(None if i in (8, 12) else each for i, each in enumerate(pointers))
    sizes = (batch * count, count, *apart)

    def launch(at_edges: bool) -> None:
        with torch.cuda.device_of(matrix):
            if at_edges:
                _product[grid](*pointers, position, *sizes, **options)
            else:
                _product[grid](*inside, None, *sizes, **options)

    return launch


def _shape(windows: Windows | None) -> dict[str, int]:
    """What the kernel has to know of windows; those that are not there have one value."""
    if windows is None:
        return {"C": 1, "STRIDE": 1, "SEGMENTS": 1, "STEP": 1, "WIDTH": 1, "BLOCK_K": 16}
    channels, apart = windows.rows.shape[2], windows.dilation > 1
    width = channels * (1 if apart else windows.taps)
    return {
        "C": channels, "STRIDE": windows.stride, "SEGMENTS": windows.taps if apart else 1,
        "STEP": windows.dilation * channels, "WIDTH": width,
        "BLOCK_K": min(BLOCK_K, max(16, triton.next_power_of_2(width))),
    }  # fmt: skip


def of_target(target: Target | None) -> dict[str, Any]:
    """What `write` has to know of a target."""
    target = target or Target(torch.empty(0))
    return {"RATE": target.rate, "LAG": target.lag, "KIND": target.activation}


def rows_apart(rows: Tensor | None) -> int:
    """How many rows of [B, n, C] the streams are apart; 0 for None."""
    return 0 if rows is None else rows.stride(0) // rows.shape[2]


def check(**tensors: Tensor) -> None:
    """Raise ValueError for tensors that the kernels cannot address."""
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"{name} must be torch.float32, not {tensor.dtype}")
        if not (tensor.is_cuda or INTERPRETED):
            raise ValueError(
                f"{name} lies on {tensor.device}, and compiled kernels need a GPU "
                "(TRITON_INTERPRET=1, set before Triton is imported, runs them slowly on the CPU)"
            )
    if len({tensor.device for tensor in tensors.values()}) > 1:
        raise ValueError("all tensors must lie on one device")
