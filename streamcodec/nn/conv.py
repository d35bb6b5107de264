"""Convolution and transposed convolution over consecutive rows.

Both are one matrix product over windows of rows (`program.Product`): a strided convolution takes a window of `kernel`
rows to one row, a transposed one takes a window of ``ceil(kernel / stride)`` rows to `stride` rows. The state of either
is the rows that the next window still needs. That also keeps the bias out of the transposed convolution's overlap.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, NotStreamableError
from ..program import (
    Depthwise,
    DepthwiseTransposed,
    GroupedProduct,
    Op,
    Padding,
    Product,
    Program,
    Schedule,
    Value,
    Window,
)
from .layer import Layer
from .padding import rows_outside

__all__ = [
    "Conv1d",
    "ConvTranspose1d",
    "DepthwiseConv1d",
    "DepthwiseConvTranspose1d",
    "GroupedConv1d",
    "GroupedConvTranspose1d",
]


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


class _Convolution(Layer):
    """What the two convolutions share: a weight, a bias and a norm over time."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, in_channels: int, out_channels: int, bias: bool, norm: nn.Module | None):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.norm = norm
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def _initialise(self, shape: tuple[int, ...], fan_in: float) -> None:
        """He et al. 2015 for the weight; the bias starts uniform in 1 / sqrt(fan in), as torch's own layers do."""
        # In one call: where a file's weights are to come here, none are drawn, and the memory is not touched before.
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(shape), std=math.sqrt(2.0 / fan_in)))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def _normalise(self, y: Tensor) -> Tensor:
        """`y` [B, C, T], channels first as torch's convolutions give it."""
        return y if self.norm is None else self.norm(y)


class Conv1d(_Convolution):
    """Convolution, [B, T, C_in] to [B, T', C_out].

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

    def set_weight(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take torch's layout, [C_out, C_in, kernel]."""
        with torch.no_grad():
            self.weight.copy_(self.from_torch(weight))
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    def from_torch(self, weight: Tensor) -> Tensor:
        """Torch's layout, [C_out, C_in, kernel], in ours."""
        return weight.permute(2, 1, 0)

    def torch_weight(self) -> Tensor:
        """The weight in torch's layout, [C_out, C_in, kernel]."""
        return self.weight.permute(2, 1, 0)

    @property
    def is_pointwise(self) -> bool:
        """Whether it takes single rows to single rows."""
        pads = self.padding.left or self.padding.right  # with stride 1, extending adds nothing
        return self.span == self.stride == 1 and not pads and self.norm is None

    def lower(self, program: Program, x: Value, path: str) -> Value:
        """The output is the fewest whole rows late at which every window is complete (docs/design.md)."""
        _refuse_norm(self.norm)
        pad, stride = self.padding, self.stride
        lag = max(0, -(-(x.at.lag + self.span - pad.left - stride) // stride))
        # The window of the next output starts this many rows before the next input row.
        lookback = lag * stride + pad.left - x.at.lag
        history = max(lookback, pad.memory(stride))
        buffer = program.buffer(x, history, f"{path}history", pad, stride)
        window = Window(buffer, history - lookback, stride, self.kernel, self.dilation)
        length = program.length(x.length, 1, pad.left + pad.right - self.span + stride, stride, pad.extend)
        return program.emit(self._operation(window), self.out_channels, Schedule(x.at.rate // stride, lag), length)

    def _operation(self, window: Window) -> Op:
        bias = None if self.bias is None else self.bias.detach()
        return Product((window,), self.weight.detach().flatten(0, 1), bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.is_pointwise and x.is_contiguous():  # a third of the time of a convolution, forward and back
            return F.linear(x, self.weight[0].T, self.bias)
        length = x.shape[1]
        pad, right = self.padding, self.padding.right_total(x.shape[1], self.stride)
        if length == 0 or length + pad.left + right < self.span:
            return x.new_zeros(x.shape[0], 0, self.out_channels)
        if pad.mode == "constant":
            padded = F.pad(x.transpose(1, 2), (pad.left, right))
        else:
            before, after = rows_outside(x, pad, self.stride)
            # Joined with channels first, the layout that torch's convolutions leave behind: nothing is transposed.
            padded = torch.cat([part.transpose(1, 2) for part in (before, x, after)], 2)
        if self.stride > 1 and self.dilation == 1 and _in_low_precision(x):
            y = self._product(padded.transpose(1, 2)).transpose(1, 2)
        else:
            y = self._convolve(padded)
        return self._normalise(y).transpose(1, 2)

    def _convolve(self, x: Tensor) -> Tensor:
        """`x` [B, C_in, R], padding included, to [B, C_out, count]."""
        return F.conv1d(x, self.torch_weight(), self.bias, self.stride, 0, self.dilation)

    def _product(self, x: Tensor) -> Tensor:
        """The strided convolution of `x` [B, R, C_in], padding included, as one product: [B, count, C_out]."""
        stride, taps = self.stride, -(-self.kernel // self.stride)
        count = (x.shape[1] - self.kernel) // stride + 1
        rows = (count + taps - 1) * stride  # a window is `taps` whole strides; the weight has zeros beyond the kernel
        x = F.pad(x, (0, 0, 0, rows - x.shape[1])).reshape(x.shape[0], -1, stride * self.in_channels)
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, taps * stride - self.kernel)).flatten(0, 1)
        return _windows_times(x, weight, self.bias, taps)


class GroupedConv1d(Conv1d):
    """Convolution of groups of channels, each by itself, [B, T, C_in] to [B, T', C_out].

    weight: [kernel, C_in / groups, C_out].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        groups: int,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding | None = None,
        bias: bool = True,
    ):
        if in_channels % groups or out_channels % groups:
            raise ConfigError(f"{groups} groups do not divide {in_channels} channels and {out_channels}")
        width = in_channels // groups
        super().__init__(width, out_channels, kernel, stride=stride, dilation=dilation, padding=padding, bias=bias)
        self.groups = groups

    @property
    def is_pointwise(self) -> bool:
        """Never: the shortcut of a residual is joined by a matrix, which this has not."""
        return False

    def _operation(self, window: Window) -> Op:
        matrix = self.weight.detach().unflatten(2, (self.groups, -1)).permute(2, 0, 1, 3).flatten(1, 2)
        return GroupedProduct(window, matrix.contiguous(), None if self.bias is None else self.bias.detach())

    def _convolve(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.torch_weight(), self.bias, self.stride, 0, self.dilation, self.groups)

    def _product(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.torch_weight().float(), None if self.bias is None else self.bias.float()
            y = F.conv1d(x.float().transpose(1, 2), weight, bias, self.stride, 0, self.dilation, self.groups)
        return y.transpose(1, 2).to(x.dtype)


class DepthwiseConv1d(GroupedConv1d):
    """Convolution of every channel by itself, of stride 1, [B, T, C] to [B, T', C]. weight: [kernel, 1, C]."""

    def __init__(
        self, channels: int, kernel: int, *, dilation: int = 1, padding: Padding | None = None, bias: bool = True
    ):
        super().__init__(channels, channels, kernel, groups=channels, dilation=dilation, padding=padding, bias=bias)

    def _operation(self, window: Window) -> Op:
        bias = None if self.bias is None else self.bias.detach()
        return Depthwise(window, self.weight.detach()[:, 0], bias)

    def _convolve(self, x: Tensor) -> Tensor:
        # As images of height 1 with channels last, and never in bfloat16: both are the faster way on a CPU, twice that
        # of torch's convolution of signals, forward and back.
        with torch.autocast(x.device.type, enabled=False):
            image = x.to(self.weight.dtype).unsqueeze(2).contiguous(memory_format=torch.channels_last)
            weight = self.torch_weight().unsqueeze(2)
            return F.conv2d(image, weight, self.bias, dilation=(1, self.dilation), groups=self.out_channels).squeeze(2)


class ConvTranspose1d(_Convolution):
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
        self._initialise((self.taps, in_channels, stride, out_channels), in_channels * kernel / stride)

    def set_weight(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take torch's layout, [C_in, C_out, kernel]."""
        with torch.no_grad():
            self.weight.copy_(self.from_torch(weight))
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    def from_torch(self, weight: Tensor) -> Tensor:
        """Torch's layout, [C_in, C_out, kernel], in ours."""
        full = F.pad(weight, (0, self.taps * self.stride - self.kernel))
        full = full.reshape(self.in_channels, self.out_channels, self.taps, self.stride)
        return full.permute(2, 0, 3, 1).flip(0)

    def torch_weight(self) -> Tensor:
        """The weight in torch's layout, [C_in, C_out, kernel]."""
        full = self.weight.flip(0).permute(1, 3, 0, 2)
        return full.reshape(self.in_channels, self.out_channels, self.taps * self.stride)[:, :, : self.kernel]

    def lower(self, program: Program, x: Value, path: str) -> Value:
        _refuse_norm(self.norm)
        stride, history = self.stride, self.taps - 1
        buffer = program.buffer(x, history, f"{path}history")
        operation = self._operation(Window(buffer, taps=self.taps))
        trimmed = self.kernel - stride - self.trim_left - self.trim_right
        length = program.length(x.length, stride, trimmed, 1)
        at = Schedule(x.at.rate * stride, x.at.lag * stride + self.trim_left)
        return program.emit(operation, self.out_channels, at, length)

    def _operation(self, window: Window) -> Op:
        return Product((window,), *self._matrix_parts(), spread=self.stride)

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

    def _matrix_parts(self) -> tuple[Tensor, Tensor | None]:
        """[taps * C_in, stride * C_out], and the bias repeated."""
        bias = None if self.bias is None else self.bias.repeat(self.stride)
        return self._whole_taps().reshape(self.taps * self.in_channels, -1), bias

    def _whole_taps(self) -> Tensor:
        """The weight, zero where the oldest tap has room for more than the kernel."""
        weight: Tensor = self.weight
        beyond = self.taps * self.stride - self.kernel
        if not beyond:
            return weight
        return torch.cat([F.pad(weight[:1, :, : self.stride - beyond], (0, 0, 0, beyond)), weight[1:]])


class GroupedConvTranspose1d(ConvTranspose1d):
    """Transposed convolution of groups of channels, each by itself, [B, T, C_in] to [B, T', C_out].

    weight: [taps, C_in / groups, stride, C_out].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        groups: int,
        stride: int,
        trim_left: int = 0,
        trim_right: int = 0,
        bias: bool = True,
    ):
        if in_channels % groups or out_channels % groups:
            raise ConfigError(f"{groups} groups do not divide {in_channels} channels and {out_channels}")
        super().__init__(
            in_channels // groups, out_channels, kernel, stride=stride, trim_left=trim_left, trim_right=trim_right,
            bias=bias,
        )  # fmt: skip
        self.groups = groups

    def from_torch(self, weight: Tensor) -> Tensor:
        """Torch's layout, [C_in, C_out / groups, kernel], in ours."""
        return super().from_torch(weight.unflatten(0, (self.groups, -1)).transpose(0, 1).flatten(1, 2))

    def torch_weight(self) -> Tensor:
        """The weight in torch's layout, [C_in, C_out / groups, kernel]."""
        return super().torch_weight().unflatten(1, (self.groups, -1)).transpose(0, 1).flatten(0, 1)

    def _operation(self, window: Window) -> Op:
        weight = self._whole_taps().detach().unflatten(3, (self.groups, -1)).permute(3, 0, 1, 2, 4)
        bias = None if self.bias is None else self.bias.detach()
        return GroupedProduct(window, weight.flatten(3, 4).flatten(1, 2).contiguous(), bias, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 0:
            return x.new_zeros(x.shape[0], 0, self.out_channels)
        extra = max(0, -self.trim_right)
        with torch.autocast(x.device.type, enabled=False):  # as the convolution of every channel by itself
            signal, weight = x.to(self.weight.dtype).transpose(1, 2), self.torch_weight()
            y = F.conv_transpose1d(signal, weight, self.bias, self.stride, output_padding=extra, groups=self.groups)
        return y[:, :, self.trim_left : y.shape[2] - max(0, self.trim_right)].transpose(1, 2)


class DepthwiseConvTranspose1d(GroupedConvTranspose1d):
    """Transposed convolution of every channel by itself, [B, T, C] to [B, T', C]. weight: [taps, 1, stride, C]."""

    def __init__(
        self, channels: int, kernel: int, *, stride: int, trim_left: int = 0, trim_right: int = 0, bias: bool = True
    ):
        super().__init__(
            channels, channels, kernel, groups=channels, stride=stride, trim_left=trim_left, trim_right=trim_right,
            bias=bias,
        )  # fmt: skip

    def _operation(self, window: Window) -> Op:
        bias = None if self.bias is None else self.bias.detach()
        return DepthwiseTransposed(window, self._whole_taps().detach()[:, 0], bias, self.stride)
