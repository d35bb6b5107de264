"""Convolution and transposed convolution over consecutive rows, with their history as explicit state.

Both are one matrix product over windows of rows (see `ops.conv1d`): a strided convolution takes a window of `kernel`
rows to one row, a transposed one takes a window of ``ceil(kernel / stride)`` rows to `stride` rows. The state of either
is the rows that the next window still needs. That also keeps the bias out of the transposed convolution's overlap.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..errors import ConfigError, NotStreamableError
from ..state import Spec, State, TensorSpec
from .layer import Edges, Layer, Schedule
from .padding import Padding, rows_after, rows_before

__all__ = ["Conv1d", "ConvState", "ConvTranspose1d"]


class ConvState(NamedTuple):
    """history: [B, rows, C_in], the input rows that the next outputs still need, oldest first."""

    history: State


def _in_low_precision(x: Tensor) -> bool:
    """Whether a convolution of `x` would run in bfloat16 or float16 on a CPU: by its own type, or by autocast.

    oneDNN's strided convolutions of bfloat16 give another signal altogether on processors with AMX, for some sizes
    (torch 2.13: relative errors about 1). A transposed convolution's gradient is such a one. Products are right there,
    and so are convolutions of stride 1.
    """
    if x.device.type != "cpu":
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return dtype in (torch.bfloat16, torch.float16)


def _refuse_norm(norm: nn.Module | None) -> None:
    if norm is not None:
        raise NotStreamableError(
            "a layer normalised over time (time_group_norm) needs its whole segment at once; run it with forward"
        )


def _windows_times(x: Tensor, weight: Tensor, bias: Tensor | None, taps: int) -> Tensor:
    """Every window of `taps` rows of `x` [B, R, C] times `weight` [taps * C, N]: [B, R - taps + 1, N]."""
    count = x.shape[1] - taps + 1
    windows = torch.cat([x[:, tap : tap + count] for tap in range(taps)], 2)
    return F.linear(windows, weight.T, bias)


class _Windowed(Layer):
    """What the two convolutions share: a weight, a bias, a norm over time and rows of history."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    history: int = 0

    def __init__(self, in_channels: int, out_channels: int, bias: bool, norm: nn.Module | None):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.norm = norm
        self._packs = ops.Packs()
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def _initialise(self, shape: tuple[int, ...], fan_in: float) -> None:
        """He et al. 2015 for the weight; the bias starts uniform in 1 / sqrt(fan in), as torch's own layers do."""
        self.weight = nn.Parameter(torch.randn(shape) * math.sqrt(2.0 / fan_in))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def state_spec(self) -> Spec:
        _refuse_norm(self.norm)
        return ConvState(TensorSpec((self.history, self.in_channels), self.weight.dtype)) if self.history else ()

    def warmup_frames(self) -> int:
        return self.at.frames(0)

    def refresh(self) -> None:
        self._packs.refresh([self.weight] if self.bias is None else [self.weight, self.bias])

    def _normalise(self, y: Tensor) -> Tensor:
        """`y` [B, C, T], channels first as torch's convolutions give it."""
        return y if self.norm is None else self.norm(y)

    def _remember(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """`x` with its history before it, and the state after it (written in place: the old one is consumed)."""
        if not self.history:
            return x, state
        window = torch.cat([state.history, x], 1)
        state.history.copy_(window[:, x.shape[1] :])
        return window, state


class Conv1d(_Windowed):
    """Convolution, [B, T, C_in] to [B, T', C_out], T' = output_length(T).

    weight: [kernel, C_in, C_out], a matrix of ``kernel * C_in`` rows; see `set_weight` for torch's layout.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding | None = None,
        bias: bool = True,
        norm: nn.Module | None = None,
    ):
        super().__init__(in_channels, out_channels, bias, norm)
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.padding = padding or Padding()
        self.span = (kernel - 1) * dilation + 1
        if self.span < stride:
            raise ConfigError(
                f"a convolution of extent {self.span} skips rows at stride {stride}; use extent >= stride"
            )
        if self.padding.mode != "constant" and not self.padding.left and (self.padding.right or stride > 1):
            raise ConfigError(
                f"{self.padding.mode} padding on the right alone cannot be streamed; use left padding too"
            )
        self._initialise((kernel, in_channels, out_channels), kernel * in_channels)
        self.schedule(self.at)

    def set_weight(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take torch's layout, [C_out, C_in, kernel]."""
        with torch.no_grad():
            self.weight.copy_(weight.permute(2, 1, 0))
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    def torch_weight(self) -> Tensor:
        """The weight in torch's layout, [C_out, C_in, kernel]."""
        return self.weight.permute(2, 1, 0)

    def schedule(self, at: Schedule) -> Schedule:
        """Lag of the output: the fewest whole rows late at which every window is complete (docs/design.md)."""
        self.at = at
        pad, stride = self.padding, self.stride
        lag = max(0, -(-(at.lag + self.span - pad.left - stride) // stride))
        # The window of the next output starts this many rows before the next input row.
        self.lookback = lag * stride + pad.left - at.lag
        # A mirrored right end may need more rows than the next window does.
        mirror = pad.right + stride if pad.mode != "constant" and (pad.right or (pad.extend and stride > 1)) else 0
        self.history = max(self.lookback, mirror)
        self.out = Schedule(at.rate // stride, lag)
        return self.out

    def output_length(self, length: int) -> int:
        if length == 0:
            return 0
        padded = length + self.padding.left + self.padding.right_total(length, self.stride)
        return max(0, (padded - self.span) // self.stride + 1)

    def output_edges(self, edges: Edges) -> Edges:
        length, stride = edges.length, self.stride
        extra = -length % stride if self.padding.extend else 0
        padded = length + self.padding.left + self.padding.right + extra
        rows = torch.div(padded - self.span, stride, rounding_mode="floor") + 1
        return edges._replace(length=torch.where(length > 0, rows.clamp_min(0), length))

    def last_input(self, row: int) -> int:
        return row * self.stride - self.padding.left + self.span - 1

    def prefill_frames(self) -> int:
        if not self.padding.mirrored:
            return 0
        return max(self.at.frames(self.padding.rows_needed()), self.out.frames(0))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        pad, right = self.padding, self.padding.right_total(x.shape[1], self.stride)
        if length == 0 or length + pad.left + right < self.span:
            return x.new_zeros(x.shape[0], 0, self.out_channels)
        if pad.mode == "constant":
            padded = F.pad(x.transpose(1, 2), (pad.left, right))
        else:
            rows = [rows_before(x, pad, length, right), x, rows_after(x, pad, length, right)]
            # Joined with channels first, the layout that torch's convolutions leave behind: nothing is transposed.
            padded = torch.cat([part.transpose(1, 2) for part in rows], 2)
        if self.stride > 1 and self.dilation == 1 and _in_low_precision(x):
            y = self._product(padded.transpose(1, 2)).transpose(1, 2)
        else:
            y = F.conv1d(padded, self.torch_weight(), self.bias, self.stride, 0, self.dilation)
        return self._normalise(y).transpose(1, 2)

    def _product(self, x: Tensor) -> Tensor:
        """The strided convolution of `x` [B, R, C_in], padding included, as one product: [B, count, C_out]."""
        stride, taps = self.stride, -(-self.kernel // self.stride)
        count = (x.shape[1] - self.kernel) // stride + 1
        rows = (count + taps - 1) * stride  # a window is `taps` whole strides; the weight has zeros beyond the kernel
        x = F.pad(x, (0, 0, 0, rows - x.shape[1])).reshape(x.shape[0], -1, stride * self.in_channels)
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, taps * stride - self.kernel)).flatten(0, 1)
        return _windows_times(x, weight, self.bias, taps)

    def _windows(self, z: Tensor) -> Tensor:
        return ops.conv1d(z, self.matrix(), self.kernel, self.stride, self.dilation)

    def matrix(self) -> ops.Matrix:
        """[kernel * C_in, C_out] with the bias, ready to be multiplied."""
        return self._packs.get("conv", lambda: ops.Matrix(self.weight.flatten(0, 1), self.bias))

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        if edges is not None:
            x = edges.mask(x, self.at)
        rows = x.shape[1]
        window, state = self._remember(x, state)
        start, used = self.history - self.lookback, self.span + rows - self.stride
        if window.shape[1] != used:
            window = window[:, start : start + used]
        return self._windows(window), state

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        pad, length = self.padding, x.shape[1]
        rows = length + self.at.lag
        outputs = rows // self.stride - self.out.lag
        # The signal goes on, so it is never too short: its length is given as one that no padding reaches.
        window = torch.cat([rows_before(x, pad, length + pad.left + pad.right + 1, 0), x], 1)
        y = self._windows(window[:, : (outputs - 1) * self.stride + self.span])
        if not self.history:
            return y, ()
        return y, ConvState(
            F.pad(window, (0, 0, max(0, self.history - window.shape[1]), 0))[:, -self.history :].clone()
        )

    def finish(self, x: Tensor, state: State, length: int) -> Tensor:
        pad, right = self.padding, self.padding.right_total(length, self.stride)
        window = torch.cat([state.history, x], 1) if self.history else x
        after = rows_after(window[:, -length:], pad, length, right)
        window = torch.cat([window[:, self.history - self.lookback :], after], 1)
        if window.shape[1] < self.span:
            return x.new_zeros(x.shape[0], 0, self.out_channels)
        return self._windows(window)


class ConvTranspose1d(_Windowed):
    """Transposed convolution, [B, T, C_in] to [B, T * stride + kernel - stride - trims, C_out].

    trim_left, trim_right: rows cut from the ends of the full output (torch's `padding` and `padding - output_padding`).
    weight: [taps, C_in, stride, C_out], oldest tap first; taps = ceil(kernel / stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int,
        trim_left: int = 0,
        trim_right: int = 0,
        bias: bool = True,
        norm: nn.Module | None = None,
    ):
        super().__init__(in_channels, out_channels, bias, norm)
        if kernel < stride:
            raise ConfigError(f"a transposed convolution of kernel {kernel} leaves gaps at stride {stride}")
        if trim_right > kernel - stride:  # a stream would have to take back what it gave before the end was known
            raise ConfigError(
                f"trim_right is {trim_right}; kernel {kernel} at stride {stride} allows {kernel - stride}"
            )
        self.kernel, self.stride = kernel, stride
        self.trim_left, self.trim_right = trim_left, trim_right
        self.taps = -(-kernel // stride)
        self.history = self.taps - 1
        self._initialise((self.taps, in_channels, stride, out_channels), in_channels * kernel / stride)

    def set_weight(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take torch's layout, [C_in, C_out, kernel]."""
        with torch.no_grad():
            full = F.pad(weight, (0, self.taps * self.stride - self.kernel))
            full = full.reshape(self.in_channels, self.out_channels, self.taps, self.stride)
            self.weight.copy_(full.permute(2, 0, 3, 1).flip(0))
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    def torch_weight(self) -> Tensor:
        """The weight in torch's layout, [C_in, C_out, kernel]."""
        full = self.weight.flip(0).permute(1, 3, 0, 2)
        return full.reshape(self.in_channels, self.out_channels, self.taps * self.stride)[:, :, : self.kernel]

    def schedule(self, at: Schedule) -> Schedule:
        self.at = at
        return Schedule(at.rate * self.stride, at.lag * self.stride + self.trim_left)

    def output_length(self, length: int) -> int:
        if length == 0:
            return 0
        return (length - 1) * self.stride + self.kernel - self.trim_left - self.trim_right

    def output_edges(self, edges: Edges) -> Edges:
        length = (edges.length - 1) * self.stride + self.kernel - self.trim_left - self.trim_right
        return edges._replace(length=torch.where(edges.length > 0, length, edges.length))

    def last_input(self, row: int) -> int:
        return (row + self.trim_left) // self.stride

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 0:
            return x.new_zeros(x.shape[0], 0, self.out_channels)
        extra = max(0, -self.trim_right)  # a negative trim is torch's output_padding
        if self.stride > 1 and _in_low_precision(x):
            y = self._product(x)[:, : (x.shape[1] - 1) * self.stride + self.kernel + extra].transpose(1, 2)
        else:
            y = F.conv_transpose1d(x.transpose(1, 2), self.torch_weight(), self.bias, self.stride, output_padding=extra)
        y = self._normalise(y)  # upstream normalises before it trims
        return y[:, :, self.trim_left : y.shape[2] - max(0, self.trim_right)].transpose(1, 2)

    def _product(self, x: Tensor) -> Tensor:
        """The convolution of `x` [B, T, C_in] as one product, [B, (T + taps) * stride, C_out], nothing trimmed."""
        y = _windows_times(F.pad(x, (0, 0, self.taps - 1, self.taps)), *self._matrix_parts(), self.taps)
        return y.reshape(x.shape[0], -1, self.out_channels)

    def _windows(self, z: Tensor) -> Tensor:
        return ops.conv_transpose1d(z, self.matrix(), self.taps, self.stride)

    def matrix(self) -> ops.Matrix:
        """[taps * C_in, stride * C_out] with the bias repeated, ready to be multiplied."""
        return self._packs.get("conv", self._make_matrix)

    def _make_matrix(self) -> ops.Matrix:
        return ops.Matrix(*self._matrix_parts())

    def _matrix_parts(self) -> tuple[Tensor, Tensor | None]:
        weight: Tensor = self.weight
        beyond = self.taps * self.stride - self.kernel
        if beyond:  # the oldest tap has room for more than the kernel
            weight = torch.cat([F.pad(weight[:1, :, : self.stride - beyond], (0, 0, 0, beyond)), weight[1:]])
        bias = None if self.bias is None else self.bias.repeat(self.stride)
        return weight.reshape(self.taps * self.in_channels, -1), bias

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        if edges is not None:
            x = edges.mask(x, self.at)
        window, state = self._remember(x, state)
        return self._windows(window), state

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        window = F.pad(x, (0, 0, self.history, 0))
        state = ConvState(window[:, -self.history :].clone()) if self.history else ()
        return self._windows(window)[:, self.trim_left :], state

    def finish(self, x: Tensor, state: State, length: int) -> Tensor:
        emitted = (length - x.shape[1]) * self.stride - self.trim_left
        remaining = self.output_length(length) - emitted
        window = torch.cat([state.history, x], 1) if self.history else x
        zeros = max(0, -(-(remaining - x.shape[1] * self.stride) // self.stride))
        return self._windows(F.pad(window, (0, 0, 0, zeros)))[:, :remaining]
