"""One row of an LSTM layer in one launch: two products, of the row and of the hidden state, and the cell after them.

A program owns BLOCK_M streams and BLOCK_N hidden units, and makes their four gates. The hidden state is read by all
programs, so the new one is written elsewhere: to the next row of the same memory. Products are added in one order, as
in product.py.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .product import (
    BLOCK_K,
    BLOCK_M,
    NUM_STAGES,
    NUM_WARPS,
    Target,
    accumulated,
    check,
    of_target,
    rows_apart,
    sigmoid,
    tanh,
    write,
)

__all__ = ["lstm"]

BLOCK_N = 16  # four gates of them


@triton.jit
def gate(  # type: ignore[no-untyped-def]
    which: tl.constexpr,
    x_ptr,
    x_first,
    hidden_ptr,
    hidden_first,
    input_ptr,
    recurrent_ptr,
    bias_ptr,
    unit,
    real,
    C: tl.constexpr,
    H: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """One of the four, of `unit` [BLOCK_N], before its function: [BLOCK_M, BLOCK_N]."""
    column = which * H + unit
    column = tl.where(unit < H, column, 4 * H)  # those of the next gate are not this one's
    total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    total = accumulated(total, x_ptr, input_ptr, x_first, column, real, 4 * H, 1, 0, C, BLOCK_C, "ieee", False)
    total = accumulated(
        total, hidden_ptr, recurrent_ptr, hidden_first, column, real, 4 * H, 1, 0, H, BLOCK_H, "ieee", False
    )
    return total + tl.load(bias_ptr + column, mask=unit < H, other=0.0)[None, :]


@triton.jit(do_not_specialize=["t", "B", "R", "hidden_R", "add_R", "to_R", "more_R"])
def _lstm(  # type: ignore[no-untyped-def]
    x_ptr,
    hidden_ptr,
    cell_ptr,
    input_ptr,
    recurrent_ptr,
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
    t,
    B,
    R,
    hidden_R,
    add_R,
    to_R,
    more_R,
    C: tl.constexpr,
    H: tl.constexpr,
    X_RATE: tl.constexpr,
    X_LAG: tl.constexpr,
    RATE: tl.constexpr,
    LAG: tl.constexpr,
    KIND: tl.constexpr,
    MORE_RATE: tl.constexpr,
    MORE_LAG: tl.constexpr,
    MORE_KIND: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    stream = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    unit = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    real = stream < B
    owned = real[:, None] & (unit < H)[None, :]
    x_first, hidden_first = (stream * R + t) * C, (stream * hidden_R + t) * H
    i = sigmoid(gate(0, x_ptr, x_first, hidden_ptr, hidden_first, input_ptr, recurrent_ptr, bias_ptr, unit, real, C, H,
                     BLOCK_M, BLOCK_N, BLOCK_C, BLOCK_H))  # fmt: skip
    f = sigmoid(gate(1, x_ptr, x_first, hidden_ptr, hidden_first, input_ptr, recurrent_ptr, bias_ptr, unit, real, C, H,
                     BLOCK_M, BLOCK_N, BLOCK_C, BLOCK_H))  # fmt: skip
    g = tanh(gate(2, x_ptr, x_first, hidden_ptr, hidden_first, input_ptr, recurrent_ptr, bias_ptr, unit, real, C, H,
                  BLOCK_M, BLOCK_N, BLOCK_C, BLOCK_H))  # fmt: skip
    o = sigmoid(gate(3, x_ptr, x_first, hidden_ptr, hidden_first, input_ptr, recurrent_ptr, bias_ptr, unit, real, C, H,
                     BLOCK_M, BLOCK_N, BLOCK_C, BLOCK_H))  # fmt: skip
    place = stream[:, None] * H + unit[None, :]
    cell = tl.load(cell_ptr + place, mask=owned, other=0.0)
    new_cell = f * cell + i * g
    hidden = o * tanh(new_cell)
    if position_ptr is not None:  # rows before the signal leave a recurrence as it is
        before = tl.load(position_ptr + stream, mask=real, other=0) * X_RATE - X_LAG + t < 0
        old = tl.load(hidden_ptr + hidden_first[:, None] + unit[None, :], mask=owned, other=0.0)
        hidden, new_cell = tl.where(before[:, None], old, hidden), tl.where(before[:, None], cell, new_cell)
    tl.store(cell_ptr + place, new_cell, mask=owned)
    tl.store(hidden_ptr + (hidden_first + H)[:, None] + unit[None, :], hidden, mask=owned)
    row = tl.zeros_like(place) + t
    if add_ptr is not None:
        hidden += tl.load(add_ptr + (stream[:, None] * add_R + row) * H + unit[None, :], mask=owned, other=0.0)
    write(
        hidden, stream, row, unit, real, owned, to_ptr, alpha_ptr, gain_ptr, length_ptr, position_ptr, to_R, RATE, LAG,
        H, KIND
    )  # fmt: skip
    if more_ptr is not None:
        write(
            hidden, stream, row, unit, real, owned, more_ptr, more_alpha_ptr, more_gain_ptr, more_length_ptr,
            position_ptr, more_R, MORE_RATE, MORE_LAG, H, MORE_KIND
        )  # fmt: skip


def lstm(
    x: Tensor,
    hidden: Tensor,
    cell: Tensor,
    weights: tuple[Tensor, Tensor, Tensor],
    add: Tensor | None,
    targets: Sequence[Target],
    position: Tensor,
    rate: int,
    lag: int,
) -> Callable[[bool], Any]:
    """The launches that move an LSTM layer over the rows of x [B, n, C], one a row.

    hidden: [B, n + 1, H], whose first row is the state before, and each other that after a row; cell: [B, H], moved
    on. weights: of the input [C, 4 H], recurrent [H, 4 H], bias [4 H], gates in torch's order. add, targets, position:
    as in `product.product`; at `position` frames x begins with row ``position * rate - lag`` of its signal, and rows
    before the signal move nothing. All float32, on one device; everything keeps its place.

    The launches are told whether the step may touch an edge. Raises ValueError where the kernel cannot take the
    arguments.
    """
    check(x=x, hidden=hidden, cell=cell)
    if len(targets) > 2:
        raise ValueError(f"{len(targets)} targets; the kernel takes two")
    to, more = targets[0], targets[1] if len(targets) > 1 else None
    (batch, rows, channels), width = x.shape, cell.shape[1]
    pointers = (
        x, hidden, cell, *weights, add, to.rows, to.alpha, to.gain, to.length,
        more and more.rows, more and more.alpha, more and more.gain, more and more.length,
    )  # fmt: skip
    sizes = (batch, *(rows_apart(each) for each in (x, hidden, add, to.rows, more and more.rows)))
    options = {
        "C": channels, "H": width, "X_RATE": rate, "X_LAG": lag,
        **of_target(to), **{f"MORE_{name}": value for name, value in of_target(more).items()},
        "BLOCK_M": BLOCK_M, "BLOCK_N": BLOCK_N,
        "BLOCK_C": min(BLOCK_K, max(16, triton.next_power_of_2(channels))),
        "BLOCK_H": min(BLOCK_K, max(16, triton.next_power_of_2(width))),
        "num_warps": NUM_WARPS, "num_stages": NUM_STAGES,
    }  # fmt: skip
    grid = (triton.cdiv(batch, BLOCK_M), triton.cdiv(width, BLOCK_N))
    inside = tuple(None if i in (10, 14) else each for i, each in enumerate(pointers))

    def launch(at_edges: bool) -> None:
        given = (*pointers, position) if at_edges else (*inside, None)
        with torch.cuda.device_of(x):
            for t in range(rows):
                _lstm[grid](*given, t, *sizes, **options)

    return launch
