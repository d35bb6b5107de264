"""A weight ready to be multiplied, by whichever of torch's ways is the fastest for as many rows.

Steps of streams are products of few rows, where torch's own convolution spends most of its time outside the arithmetic.
Which way is taken depends on the processor, its maker included, and on sizes, and never on timing: the same step gives
the same bits in every process of a machine.
"""

import platform
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .vector_math import Call

__all__ = ["Matrix"]

# MKL, behind torch's addmm, is slow on the processors of other makers than Intel. There oneDNN's product of a packed
# weight costs about 12 us to call where addmm costs 2 us, but it shares a weight among rows better and reads it from
# memory faster. It wins from about this many multiplications, and for a single row from about this many weights
# (measured on an AMD EPYC for 1 to 320 rows with weights in and out of the cache; docs/log.md). On an Intel Xeon addmm
# is the faster one at nearly all sizes.
PACKED_FROM_PRODUCTS = 600_000
PACKED_FROM_WEIGHTS = 300_000

# A convolution reads the rows as they lie, where the product has to copy every window of a dilated one: 5 to 25% faster
# over this many rows and channels (docs/log.md).
CONVOLVED_FROM_ROWS = 256
CONVOLVED_FROM_CHANNELS = 64

# Where a convolution has few outputs, multiplying every row by all taps first and adding shifted products up writes
# less than copying windows does: half the time from about this many values of input (docs/log.md).
SPREAD_FROM_VALUES = 32_768


@cache
def _is_intel() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return "GenuineIntel" in (cpuinfo.read_text() if cpuinfo.exists() else platform.processor())


def _on_cpu(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _packs(weight: Tensor) -> bool:
    """Whether a packed product may be the faster one for `weight`."""
    return _on_cpu(weight) and not (torch.backends.mkl.is_available() and _is_intel())


def _packed(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """oneDNN's product of rows [M, K], M > 1, with a packed `weight` [K, N].

    Torch's public way to it gives the same bits, and costs more to call: it serves where the other one is missing.
    """
    transposed = weight.t().contiguous()
    if hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        linear, packed = torch.ops.mkldnn._linear_pointwise, torch.ops.mkldnn._reorder_linear_weight(transposed, None)
        return lambda rows: linear(rows, packed, bias, "none", [], "")
    from torch.utils.mkldnn import to_mkldnn  # not before: its import warns

    layer = nn.Linear(weight.shape[0], weight.shape[1], bias is not None)
    layer.weight = nn.Parameter(transposed, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    module = to_mkldnn(layer)
    return lambda rows: module(rows.to_mkldnn()).to_dense()


class Matrix:
    """A matrix [K, N] with a bias [N] or None, ready to be multiplied from the left by rows [M, K]."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self._product: Callable[[Tensor], Tensor] | None = None
        least = 1 if weight.numel() >= PACKED_FROM_WEIGHTS else -(-PACKED_FROM_PRODUCTS // weight.numel())
        self._packed_from = least if _packs(weight) else None

    def product(self, rows: Tensor, out: Tensor) -> Call:
        """The call that writes `rows` [M, K] times the matrix to `out` [M, N]; both keep their places in memory."""
        if self._packed_from is not None and rows.shape[0] >= self._packed_from:
            return self._packed_product(rows, out)
        if self.bias is None:
            return partial(torch.mm, rows, self.weight, out=out)
        return partial(torch.addmm, self.bias, rows, self.weight, out=out)

    def _packed_product(self, rows: Tensor, out: Tensor) -> Call:
        if self._product is None:
            self._product = _packed(self.weight, self.bias)
        product = self._product
        if rows.shape[0] > 1:
            return lambda: out.copy_(product(rows))
        # Twice the same row: a single one is computed in another order by the public way than by the other.
        twice = rows.expand(2, -1)
        return lambda: out.copy_(product(twice.contiguous())[:1])

    def convolution(self, z: Tensor, taps: int, dilation: int, out: Tensor) -> Call | None:
        """The call that writes a convolution of stride 1 of z [B, R, C] to `out` [B, R - (taps - 1) * dilation, N].

        None where the product of its windows is the faster way.
        """
        outputs = self.weight.shape[1]
        if taps == 1 or not _on_cpu(self.weight):
            return None
        if out.shape[1] >= CONVOLVED_FROM_ROWS and min(z.shape[2], outputs) >= CONVOLVED_FROM_CHANNELS:
            return self._convolve(z, taps, dilation, out)
        if taps * outputs <= z.shape[2] and z.numel() >= SPREAD_FROM_VALUES and z.is_contiguous():
            return self._spread(z, taps, dilation, out)
        return None

    def _convolve(self, z: Tensor, taps: int, dilation: int, out: Tensor) -> Call:
        """By torch's convolution of images: rows of channels are one of height 1 with channels last."""
        weight = self.weight.view(taps, z.shape[2], -1).permute(2, 1, 0).unsqueeze(2)
        weight = weight.contiguous(memory_format=torch.channels_last)
        image, target = z.transpose(1, 2).unsqueeze(2), out.transpose(1, 2).unsqueeze(2)
        return lambda: target.copy_(F.conv2d(image, weight, self.bias, dilation=(1, dilation)))

    def _spread(self, z: Tensor, taps: int, dilation: int, out: Tensor) -> Call:
        """For few outputs N: each row times all taps, and what belongs together added up."""
        batch, rows, channels = z.shape
        outputs = self.weight.shape[1]
        wide = self.weight.view(taps, channels, outputs).permute(1, 0, 2).reshape(channels, taps * outputs)
        products = wide.new_empty(batch * rows, taps * outputs)
        multiply = Matrix(wide, None).product(z.view(-1, channels), products)
        # Row t, tap k of the result is row t + k * dilation of the product, in its tap k.
        width = taps * outputs
        terms = products.as_strided(
            (batch, out.shape[1], taps, outputs), (rows * width, width, dilation * width + outputs, 1)
        )

        def run() -> None:
            multiply()
            torch.sum(terms, 2, out=out)
            if self.bias is not None:
                out.add_(self.bias)

        return run
