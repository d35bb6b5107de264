"""The torch side of the dense operations: matrix products over windows of rows, and the LSTM written out.

They serve steps of a few rows, where torch's own convolution and LSTM spend most of their time outside the arithmetic.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from .vector_math import tanh

__all__ = ["Matrix", "Packs", "Stamp", "conv1d", "conv_transpose1d", "count_write", "lstm", "sample", "stamp"]

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

SAMPLED = 32  # values of a tensor, at least, where it has as many

Stamp = tuple[int, tuple[tuple[int, int], ...]]

_writes = 0


def count_write(*_: Any) -> None:
    """Change every stamp: weights were written in a way that torch does not count."""
    global _writes
    _writes += 1


# An optimizer with fused=True writes to its parameters without their versions changing.
register_optimizer_step_post_hook(count_write)


def stamp(tensors: Iterable[Tensor]) -> Stamp:
    """What changes when the tensors do: by `copy_`, `load_state_dict`, `tensor.data =` or an optimizer's step.

    Torch counts neither writes to tensors made in inference mode nor writes through `.data`: `count_write` after those.
    """
    written = tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
    return _writes, written


def sample(tensors: Iterable[Tensor]) -> Tensor:
    """Some values of each tensor, as bytes: what changes with any write that goes through a tensor's length."""
    flat = (tensor.detach().reshape(-1) for tensor in tensors)
    return torch.cat([values[:: max(1, values.numel() // SAMPLED)].contiguous().view(torch.uint8) for values in flat])


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
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()
        self._packed: Tensor | None = None
        self._convolution: Tensor | None = None
        self._spread: Tensor | None = None
        self._packed_from = 1 if weight.numel() >= PACKED_FROM_WEIGHTS else -(-PACKED_FROM_PRODUCTS // weight.numel())
        if _can_pack(weight):
            with torch.inference_mode(False), torch.no_grad():
                self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.t().contiguous(), None)

    def __call__(self, rows: Tensor) -> Tensor:
        """[M, K] to [M, N]."""
        if self._packed is not None and rows.shape[0] >= self._packed_from:
            return torch.ops.mkldnn._linear_pointwise(rows, self._packed, self.bias, "none", [], "")
        if self.bias is None:
            return torch.mm(rows, self.weight)
        return torch.addmm(self.bias, rows, self.weight)

    def convolves(self, rows: int, channels: int) -> bool:
        """Whether `convolve` is the faster way to `rows` rows from windows of `channels` channels."""
        return (
            self._packed is not None
            and rows >= CONVOLVED_FROM_ROWS
            and min(channels, self.weight.shape[1]) >= CONVOLVED_FROM_CHANNELS
        )

    def convolve(self, z: Tensor, kernel: int, dilation: int) -> Tensor:
        """`conv1d` at stride 1 by oneDNN's convolution: [B, R, C] to [B, R - (kernel - 1) * dilation, N].

        A matrix belongs to one layer: kernel and dilation are the same in every call.
        """
        if self._convolution is None:
            with torch.inference_mode(False), torch.no_grad():
                taps = self.weight.view(kernel, z.shape[2], -1).permute(2, 1, 0).unsqueeze(2)
                self._convolution = torch.ops.mkldnn._reorder_convolution_weight(
                    taps.contiguous(memory_format=torch.channels_last),
                    [0, 0],
                    [1, 1],
                    [1, dilation],
                    1,
                    [1, z.shape[2], 1, PACKED_FOR_ROWS],
                )
        # Rows of channels are an image of height 1 with channels last: nothing is moved.
        image = z.transpose(1, 2).unsqueeze(2)
        y = torch.ops.mkldnn._convolution_pointwise(
            image, self._convolution, self.bias, [0, 0], [1, 1], [1, dilation], 1, "none", [], ""
        )
        return y.squeeze(2).transpose(1, 2)

    def spreads(self, z: Tensor, kernel: int) -> bool:
        """Whether `spread` is the faster way to the convolution of `z`."""
        narrow = kernel * self.weight.shape[1] <= z.shape[2]
        return self._packed is not None and narrow and z.numel() >= SPREAD_FROM_VALUES and z.is_contiguous()

    def spread(self, z: Tensor, kernel: int, dilation: int) -> Tensor:
        """`conv1d` at stride 1 for few outputs N: each row times all taps, and what belongs together added up."""
        batch, rows, channels = z.shape
        outputs = self.weight.shape[1]
        if self._spread is None:
            with torch.inference_mode(False), torch.no_grad():
                taps = self.weight.view(kernel, channels, outputs).transpose(1, 2).reshape(kernel * outputs, channels)
                self._spread = torch.ops.mkldnn._reorder_linear_weight(taps.contiguous(), None)
        product = torch.ops.mkldnn._linear_pointwise(z.view(-1, channels), self._spread, None, "none", [], "")
        # Row t, tap k of the result is row t + k * dilation of the product, in its tap k.
        width, count = kernel * outputs, rows - (kernel - 1) * dilation
        terms = product.as_strided(
            (batch, count, kernel, outputs), (rows * width, width, dilation * width + outputs, 1)
        )
        y = terms.sum(2)
        return y if self.bias is None else y.add_(self.bias)


class Packs:
    """Matrices made from a layer's parameters when first asked for, and kept until `refresh` finds those changed.

    A step does not look whether they changed: it would cost more than many a product. Opening a stream does.
    """

    def __init__(self) -> None:
        self._made: dict[str, Matrix] = {}
        self._stamp: Stamp | None = None

    def get(self, name: str, make: Callable[[], Matrix]) -> Matrix:
        """The matrix `name`, made by `make` unless it is at hand."""
        matrix = self._made.get(name)
        if matrix is None:
            matrix = self._made[name] = make()
        return matrix

    def refresh(self, sources: Iterable[Tensor]) -> None:
        """Forget what was made if `sources`, the parameters it is made from, changed since the last call."""
        now = stamp(sources)
        if now != self._stamp:
            self._stamp = now
            self._made.clear()

    def __deepcopy__(self, memo: object) -> "Packs":
        return Packs()  # packed memory is opaque; a copy of the layer packs its own

    def __reduce__(self) -> tuple[type["Packs"], tuple[()]]:
        return Packs, ()


def _windows(z: Tensor, kernel: int, stride: int, dilation: int) -> Tensor:
    """Windows of `kernel` rows of `z` [B, R, C], `stride` rows apart, as rows [B * count, kernel * C]."""
    batch, rows, channels = z.shape
    if kernel == 1 and stride == 1:
        return z.reshape(batch * rows, channels)
    count = (rows - (kernel - 1) * dilation - 1) // stride + 1
    if rows == kernel and z.is_contiguous():  # one window: the rows as they lie
        return z.view(batch, kernel * channels)
    b, r, c = z.stride()
    windows = z.as_strided((batch, count, kernel, channels), (b, r * stride, r * dilation, c), z.storage_offset())
    return windows.reshape(batch * count, kernel * channels)


def conv1d(z: Tensor, matrix: Matrix, kernel: int, stride: int, dilation: int) -> Tensor:
    """Every window of `kernel` rows of `z` [B, R, C] times `matrix` [kernel * C, N]: [B, count, N]."""
    count = (z.shape[1] - (kernel - 1) * dilation - 1) // stride + 1
    if stride == 1 < kernel and matrix.convolves(count, z.shape[2]):
        return matrix.convolve(z, kernel, dilation)
    if stride == 1 < kernel and matrix.spreads(z, kernel):
        return matrix.spread(z, kernel, dilation)
    return matrix(_windows(z, kernel, stride, dilation)).view(z.shape[0], count, matrix.weight.shape[1])


def conv_transpose1d(z: Tensor, matrix: Matrix, taps: int, stride: int) -> Tensor:
    """Every window of `taps` rows of `z` [B, R, C] times `matrix` [taps * C, stride * N]: [B, count * stride, N]."""
    count = z.shape[1] - taps + 1
    outputs = matrix.weight.shape[1] // stride
    return matrix(_windows(z, taps, 1, 1)).view(z.shape[0], count * stride, outputs)


def lstm(x: Tensor, gates_of: Callable[[str], Matrix], hidden: Tensor, cell: Tensor, hold: Tensor | None) -> Tensor:
    """One LSTM layer over the rows of `x` [B, T, C]; returns [B, T, H] and moves `hidden` and `cell` [B, H] in place.

    gates_of: "input" [C, 4H] with the bias, "recurrent" [H, 4H], and "both" [C + H, 4H], the two stacked; the gates
    are in the order input, forget, output, candidate. hold: [B, T], rows that leave the state as it is, or None.
    """
    batch, rows, width = x.shape
    if rows == 1:  # one product that reads each weight once
        gates = gates_of("both")(torch.cat([x[:, 0], hidden], 1))
        _lstm_cell(gates, hidden, cell, None if hold is None else hold[:, 0, None])
        return hidden[:, None].clone()
    inputs = gates_of("input")(x.reshape(batch * rows, width)).view(batch, rows, -1)
    recurrent = gates_of("recurrent")
    out = torch.empty(batch, rows, hidden.shape[1], dtype=x.dtype, device=x.device)
    for t in range(rows):
        _lstm_cell(recurrent(hidden).add_(inputs[:, t]), hidden, cell, None if hold is None else hold[:, t, None])
        out[:, t] = hidden
    return out


def _lstm_cell(gates: Tensor, hidden: Tensor, cell: Tensor, hold: Tensor | None) -> None:
    candidate = tanh(gates[:, -hidden.shape[1] :])
    i, f, o, _ = gates.sigmoid_().chunk(4, 1)  # one call for all four: a call costs more than the sigmoids of one
    if hold is None:
        cell.mul_(f).addcmul_(i, candidate)
        torch.mul(tanh(cell), o, out=hidden)
        return
    new_cell = cell * f + i * candidate
    torch.where(hold, hidden, tanh(new_cell) * o, out=hidden)
    torch.where(hold, cell, new_cell, out=cell)
