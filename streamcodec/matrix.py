"""A weight ready to be multiplied, by whichever of torch's ways is the fastest for as many rows.

Steps of streams are products of few rows, where torch's own convolution spends most of its time outside the arithmetic.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["Call", "Matrix"]

Call: TypeAlias = Callable[[], Any]
"""A call with everything bound, whose result lies in memory that it was given."""

# oneDNN's packed product costs about 12 us to call where addmm costs 2 us, but it shares a weight among rows better and
# reads it from memory faster. It wins from about this many multiplications, and for a single row from about this many
# weights (measured for 1 to 320 rows with weights in and out of the cache; docs/log.md).
PACKED_FROM_PRODUCTS = 600_000
PACKED_FROM_WEIGHTS = 300_000

# oneDNN's convolution reads the rows as they lie, where the product has to copy every window of a dilated one: 5 to 25%
# faster over this many rows and channels (docs/log.md). Below 100 rows it may be 30 times slower: there it wants the
# weight in another layout than the one packed for PACKED_FOR_ROWS, and converts it in every call.
CONVOLVED_FROM_ROWS = 256
CONVOLVED_FROM_CHANNELS = 64
PACKED_FOR_ROWS = 1024

# Where a convolution has few outputs, multiplying every row by all taps first and adding shifted products up writes
# less than copying windows does: half the time from about this many values of input (docs/log.md).
SPREAD_FROM_VALUES = 32_768


def _can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


class Matrix:
    """A matrix [K, N] with a bias [N] or None, ready to be multiplied from the left by rows [M, K]."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self._packed: Tensor | None = None
        self._convolution: Tensor | None = None
        self._spread: Tensor | None = None
        self._packed_from = 1 if weight.numel() >= PACKED_FROM_WEIGHTS else -(-PACKED_FROM_PRODUCTS // weight.numel())
        if _can_pack(weight):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous(), None)

    def product(self, rows: Tensor, out: Tensor) -> Call:
        """The call that writes `rows` [M, K] times the matrix to `out` [M, N]; both keep their places in memory."""
        if self._packed is not None and rows.shape[0] >= self._packed_from:
            linear = torch.ops.mkldnn._linear_pointwise
            return lambda: out.copy_(linear(rows, self._packed, self.bias, "none", [], ""))
        if self.bias is None:
            return partial(torch.mm, rows, self.weight, out=out)
        return partial(torch.addmm, self.bias, rows, self.weight, out=out)

    def convolution(self, z: Tensor, taps: int, dilation: int, out: Tensor) -> Call | None:
        """The call that writes a convolution of stride 1 of z [B, R, C] to `out` [B, R - (taps - 1) * dilation, N].

        None where the product of its windows is the faster way. A matrix belongs to one convolution: taps and dilation
        are the same in every call.
        """
        if self._packed is None or taps == 1:
            return None
        outputs = self.weight.shape[1]
        if out.shape[1] >= CONVOLVED_FROM_ROWS and min(z.shape[2], outputs) >= CONVOLVED_FROM_CHANNELS:
            return self._convolve(z, taps, dilation, out)
        if taps * outputs <= z.shape[2] and z.numel() >= SPREAD_FROM_VALUES and z.is_contiguous():
            return self._spread_taps(z, taps, dilation, out)
        return None

    def _convolve(self, z: Tensor, taps: int, dilation: int, out: Tensor) -> Call:
        """By oneDNN's convolution."""
        if self._convolution is None:
            weight = self.weight.view(taps, z.shape[2], -1).permute(2, 1, 0).unsqueeze(2)
            self._convolution = torch.ops.mkldnn._reorder_convolution_weight(
                weight.contiguous(memory_format=torch.channels_last),
                [0, 0],
                [1, 1],
                [1, dilation],
                1,
                [1, z.shape[2], 1, PACKED_FOR_ROWS],
            )
        packed, convolve = self._convolution, torch.ops.mkldnn._convolution_pointwise
        # Rows of channels are an image of height 1 with channels last: nothing is moved.
        image, target = z.transpose(1, 2).unsqueeze(2), out.transpose(1, 2).unsqueeze(2)
        return lambda: target.copy_(
            convolve(image, packed, self.bias, [0, 0], [1, 1], [1, dilation], 1, "none", [], "")
        )

    def _spread_taps(self, z: Tensor, taps: int, dilation: int, out: Tensor) -> Call:
        """For few outputs N: each row times all taps, and what belongs together added up."""
        batch, rows, channels = z.shape
        outputs = self.weight.shape[1]
        if self._spread is None:
            weight = self.weight.view(taps, channels, outputs).transpose(1, 2).reshape(taps * outputs, channels)
            self._spread = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        linear, packed, flat = torch.ops.mkldnn._linear_pointwise, self._spread, z.view(-1, channels)
        # Row t, tap k of the result is row t + k * dilation of the product, in its tap k.
        width = taps * outputs
        size, strides = (batch, out.shape[1], taps, outputs), (rows * width, width, dilation * width + outputs, 1)

        def run() -> None:
            terms = linear(flat, packed, None, "none", [], "").as_strided(size, strides)
            torch.sum(terms, 2, out=out)
            if self.bias is not None:
                out.add_(self.bias)

        return run
