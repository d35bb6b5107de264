"""The torch side of the dense operations: matrix products over windows of rows, and the LSTM written out.

They serve steps of a few rows, where torch's own convolution and LSTM spend most of their time outside the arithmetic.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

__all__ = ["Matrix", "Packs", "conv1d", "conv_transpose1d", "lstm"]

# oneDNN's packed product costs about 12 us to call where addmm costs 2 us, but it shares a weight among rows better and
# reads it from memory faster. It wins from about this many multiplications, and for a single row from about this many
# weights (measured for 1 to 320 rows with weights in and out of the cache; docs/log.md).
PACKED_FROM_PRODUCTS = 600_000
PACKED_FROM_WEIGHTS = 300_000


def _can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class Matrix:
    """A matrix [K, N] with a bias [N] or None, ready to be multiplied from the left by rows [M, K]."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()
        self._packed: Tensor | None = None
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


class Packs:
    """Matrices made from a layer's parameters when first asked for, and kept until `refresh` finds those changed.

    A step does not look whether they changed: it would cost more than many a product. Opening a stream does.
    """

    def __init__(self) -> None:
        self._made: dict[str, Matrix] = {}
        self._stamp: tuple[tuple[int, int], ...] = ()

    def get(self, name: str, make: Callable[[], Matrix]) -> Matrix:
        """The matrix `name`, made by `make` unless it is at hand."""
        matrix = self._made.get(name)
        if matrix is None:
            matrix = self._made[name] = make()
        return matrix

    def refresh(self, sources: Iterable[Tensor]) -> None:
        """Forget what was made if `sources`, the parameters it is made from, changed since the last call."""
        stamp = tuple((source.data_ptr(), 0 if source.is_inference() else source._version) for source in sources)
        if stamp != self._stamp:
            self._stamp = stamp
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
    candidate = gates[:, -hidden.shape[1] :].tanh()
    i, f, o, _ = gates.sigmoid_().chunk(4, 1)  # one call for all four: a call costs more than the sigmoids of one
    if hold is None:
        cell.mul_(f).addcmul_(i, candidate)
        torch.mul(torch.tanh(cell), o, out=hidden)
        return
    new_cell = cell * f + i * candidate
    torch.where(hold, hidden, torch.tanh(new_cell) * o, out=hidden)
    torch.where(hold, cell, new_cell, out=cell)
