"""Random layers, each beside the same computation written plainly in torch.

A `Pair` holds a streaming layer and a reference: a function over a whole signal [B, T, C] made of torch.nn.functional
alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from streamcodec.nn.attention import Gated, NormalisedRows, SelfAttention
from streamcodec.nn.conv import (
    Conv1d,
    ConvTranspose1d,
    DepthwiseConv1d,
    DepthwiseConvTranspose1d,
    GroupedConv1d,
    GroupedConvTranspose1d,
)
from streamcodec.nn.layer import Elementwise, Layer, Sequential
from streamcodec.nn.lstm import LSTM
from streamcodec.nn.residual import Residual
from streamcodec.nn.rms_norm import RMSNorm
from streamcodec.nn.scaled import Scaled
from streamcodec.nn.transducer import UNKNOWN, Network, Transducer
from streamcodec.program import Edges, Padding
from streamcodec.state import Lent, State
from streamcodec.vector_math import LEAK

CHANNELS = 3
# Activations by name, as torch has them.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardtanh": F.hardtanh,
    "leaky_relu": lambda x: F.leaky_relu(x, LEAK),
    "silu": F.silu,
    "tanh": torch.tanh,
}
Reference = Callable[[Tensor], Tensor]


class Pair(NamedTuple):
    """down, up: what the layer divides and multiplies the rate of rows by."""

    layer: Layer
    reference: Reference
    down: int = 1
    up: int = 1


def padded(x: Tensor, pad: Padding, stride: int) -> Tensor:
    """x [B, C, T] with EnCodec's padding, after `pad1d` and `pad_for_conv1d` of its paper's code."""
    length = x.shape[2]
    right = pad.right + (math.ceil(length / stride) * stride - length if pad.extend else 0)
    if pad.mode != "reflect":
        return F.pad(x, (pad.left, right), "constant" if pad.mode == "constant" else "replicate")
    short = max(0, max(pad.left, right) - length + 1)
    mirrored = F.pad(F.pad(x, (0, short)), (pad.left, right), "reflect")
    return mirrored[:, :, : mirrored.shape[2] - short]


def conv(
    kernel: int, stride: int, dilation: int, padding: Padding, bias: bool = True, channels: int = CHANNELS
) -> Pair:
    layer = Conv1d(channels, channels, kernel, stride=stride, dilation=dilation, padding=padding, bias=bias).double()
    weight = torch.randn(channels, channels, kernel).double() / math.sqrt(channels * kernel)
    offset = torch.randn(channels).double() if bias else None
    layer.set_weight(weight, offset)
    span = (kernel - 1) * dilation + 1

    def reference(x: Tensor) -> Tensor:
        signal = padded(x.transpose(1, 2), padding, stride) if x.shape[1] else x.transpose(1, 2)
        if x.shape[1] == 0 or signal.shape[2] < span:
            return x[:, :0]
        return F.conv1d(signal, weight, offset, stride, 0, dilation).transpose(1, 2)

    return Pair(layer, reference, down=stride)


def depthwise(kernel: int, dilation: int, padding: Padding, bias: bool = True) -> Pair:
    layer = DepthwiseConv1d(CHANNELS, kernel, dilation=dilation, padding=padding, bias=bias).double()
    weight = torch.randn(CHANNELS, 1, kernel).double() / math.sqrt(kernel)
    offset = torch.randn(CHANNELS).double() if bias else None
    layer.set_weight(weight, offset)
    span = (kernel - 1) * dilation + 1

    def reference(x: Tensor) -> Tensor:
        signal = padded(x.transpose(1, 2), padding, 1) if x.shape[1] else x.transpose(1, 2)
        if x.shape[1] == 0 or signal.shape[2] < span:
            return x[:, :0]
        return F.conv1d(signal, weight, offset, 1, 0, dilation, CHANNELS).transpose(1, 2)

    return Pair(layer, reference)


def grouped(kernel: int, stride: int, dilation: int, padding: Padding, bias: bool = True, groups: int = 2) -> Pair:
    """Of twice the channels: they come from a product, and go back to those of the others by another."""
    wide = 2 * CHANNELS
    settings = {"stride": stride, "dilation": dilation, "padding": padding, "bias": bias}
    layer = GroupedConv1d(wide, wide, kernel, groups=groups, **settings).double()
    weight = torch.randn(wide, wide // groups, kernel).double() / math.sqrt(kernel * wide / groups)
    offset = torch.randn(wide).double() if bias else None
    layer.set_weight(weight, offset)
    span = (kernel - 1) * dilation + 1

    def reference(x: Tensor) -> Tensor:
        signal = padded(x.transpose(1, 2), padding, stride) if x.shape[1] else x.transpose(1, 2)
        if x.shape[1] == 0 or signal.shape[2] < span:
            return x[:, :0]
        return F.conv1d(signal, weight, offset, stride, 0, dilation, groups).transpose(1, 2)

    return widened(Pair(layer, reference, down=stride))


def grouped_transposed(
    kernel: int, stride: int, trim_left: int, trim_right: int, bias: bool = True, groups: int = 2
) -> Pair:
    wide, trims = 2 * CHANNELS, {"trim_left": trim_left, "trim_right": trim_right}
    layer = GroupedConvTranspose1d(wide, wide, kernel, groups=groups, stride=stride, bias=bias, **trims).double()
    weight = torch.randn(wide, wide // groups, kernel).double() / math.sqrt(kernel * wide / groups / stride)
    offset = torch.randn(wide).double() if bias else None
    layer.set_weight(weight, offset)

    def reference(x: Tensor) -> Tensor:
        if x.shape[1] == 0:
            return x
        signal, more = x.transpose(1, 2), max(0, -trim_right)
        y = F.conv_transpose1d(signal, weight, offset, stride, output_padding=more, groups=groups)
        return y[:, :, trim_left : y.shape[2] - max(0, trim_right)].transpose(1, 2)

    return widened(Pair(layer, reference, up=stride))


def widened(inner: Pair) -> Pair:
    there, back = Conv1d(CHANNELS, 2 * CHANNELS, 1).double(), Conv1d(2 * CHANNELS, CHANNELS, 1).double()
    weights = [torch.randn(2 * CHANNELS, CHANNELS).double(), torch.randn(CHANNELS, 2 * CHANNELS).double()]
    for layer, weight in zip((there, back), weights, strict=True):
        layer.set_weight(weight[:, :, None], torch.zeros(len(weight)).double())

    def reference(x: Tensor) -> Tensor:
        return inner.reference(x @ weights[0].T) @ weights[1].T

    return Pair(Sequential([there, inner.layer, back]), reference, inner.down, inner.up)


def scaled(inner: Pair) -> Pair:
    layer = Scaled(inner.layer, 1.0).double()
    scale = torch.randn(CHANNELS).double()
    with torch.no_grad():
        layer.scale.copy_(scale)
    return Pair(layer, lambda x: scale * inner.reference(x), inner.down, inner.up)


def rms_norm() -> Pair:
    layer = RMSNorm(CHANNELS).double()
    weight = torch.randn(CHANNELS).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
    return Pair(layer, lambda x: F.rms_norm(x, (CHANNELS,), weight, 1e-6))


class Cosine(Layer):
    """A map of single rows that makes something of silence."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x + x.mean(2, keepdim=True))


def cosine() -> Pair:
    return Pair(Cosine(), lambda x: torch.cos(x + x.mean(2, keepdim=True)))


def conv_transpose(kernel: int, stride: int, trim_left: int, trim_right: int, bias: bool = True) -> Pair:
    layer = ConvTranspose1d(
        CHANNELS, CHANNELS, kernel, stride=stride, trim_left=trim_left, trim_right=trim_right, bias=bias
    ).double()
    weight = torch.randn(CHANNELS, CHANNELS, kernel).double() / math.sqrt(CHANNELS * kernel / stride)
    offset = torch.randn(CHANNELS).double() if bias else None
    layer.set_weight(weight, offset)

    def reference(x: Tensor) -> Tensor:
        if x.shape[1] == 0:
            return x
        y = F.conv_transpose1d(x.transpose(1, 2), weight, offset, stride, output_padding=max(0, -trim_right))
        return y[:, :, trim_left : y.shape[2] - max(0, trim_right)].transpose(1, 2)

    return Pair(layer, reference, up=stride)


def depthwise_transposed(kernel: int, stride: int, trim_left: int, trim_right: int, bias: bool = True) -> Pair:
    trims = {"trim_left": trim_left, "trim_right": trim_right}
    layer = DepthwiseConvTranspose1d(CHANNELS, kernel, stride=stride, bias=bias, **trims).double()
    weight = torch.randn(CHANNELS, 1, kernel).double() / math.sqrt(kernel / stride)
    offset = torch.randn(CHANNELS).double() if bias else None
    layer.set_weight(weight, offset)

    def reference(x: Tensor) -> Tensor:
        if x.shape[1] == 0:
            return x
        signal, more = x.transpose(1, 2), max(0, -trim_right)
        y = F.conv_transpose1d(signal, weight, offset, stride, output_padding=more, groups=CHANNELS)
        return y[:, :, trim_left : y.shape[2] - max(0, trim_right)].transpose(1, 2)

    return Pair(layer, reference, up=stride)


def layer_norm() -> Pair:
    layer = NormalisedRows(CHANNELS, 1e-5).double()
    weight, bias = torch.randn(2, CHANNELS).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return Pair(layer, lambda x: F.layer_norm(x, (CHANNELS,), weight, bias))


def attention(heads: int, half: int, reach: int, base: float = 3.0) -> Pair:
    """With a product behind it, back to the channels of the others."""
    width = 2 * heads * half
    layer, out = SelfAttention(CHANNELS, heads, 2 * half, reach, base).double(), Conv1d(width, CHANNELS, 1).double()
    inputs, back = torch.randn(3, heads, 2 * half, CHANNELS).double(), torch.randn(CHANNELS, width, 1).double()
    layer.inputs.set_weight(inputs.reshape(3 * width, CHANNELS, 1), None)
    out.set_weight(back, torch.zeros(CHANNELS).double())

    def turn(x: Tensor, place: int) -> Tensor:  # as complex numbers
        angle = place * base ** (-torch.arange(half, dtype=torch.float64) / half)
        turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones(half).double(), angle)
        return torch.cat([turned.real, turned.imag], -1)

    def reference(x: Tensor) -> Tensor:
        query, key, value = torch.einsum("phdc,btc->pbthd", inputs, x)
        rows = []
        for t in range(x.shape[1]):
            seen = range(max(0, t - reach + 1), t + 1)
            keys = torch.stack([turn(key[:, s], s) for s in seen], 2)
            weights = torch.einsum("bhd,bhsd->bhs", turn(query[:, t], t), keys).div(math.sqrt(2 * half)).softmax(2)
            rows.append(torch.einsum("bhs,bshd->bhd", weights, value[:, seen[0] : t + 1]).flatten(1))
        return torch.stack(rows, 1) @ back[:, :, 0].T if rows else x

    return Pair(Sequential([layer, out]), reference)


def lstm(layers: int) -> Pair:
    layer = LSTM(CHANNELS, layers).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    weights = [[tensor.detach().clone() for tensor in one] for one in layer.lstm.all_weights]

    def reference(x: Tensor) -> Tensor:
        y = x
        for w_ih, w_hh, b_ih, b_hh in weights:
            hidden = cell = torch.zeros_like(x[:, 0]) if x.shape[1] else None
            rows = []
            for t in range(x.shape[1]):
                i, f, g, o = (y[:, t] @ w_ih.T + b_ih + hidden @ w_hh.T + b_hh).chunk(4, 1)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
                hidden = torch.sigmoid(o) * torch.tanh(cell)
                rows.append(hidden)
            y = torch.stack(rows, 1) if rows else y
        return x + y if x.shape[1] else x

    return Pair(layer, reference)


def activation(kind: str) -> Pair:
    layer = Elementwise(kind)
    layer.register_buffer("like", torch.zeros(0, dtype=torch.float64))  # a stack may have no weight that says its type
    return Pair(
        layer,
        {
            "elu": F.elu,
            "gelu": F.gelu,
            "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
            "hardtanh": lambda x: x.clamp(-1, 1),
            "leaky_relu": lambda x: F.leaky_relu(x, 0.3),
            "silu": F.silu,
            "tanh": torch.tanh,
        }[kind],
    )


def gated() -> Pair:
    """Behind a norm, without which squares of squares would overflow, and a product to twice the channels."""
    norm, double = rms_norm(), Conv1d(CHANNELS, 2 * CHANNELS, 1).double()
    weight = torch.randn(2 * CHANNELS, CHANNELS).double()
    double.set_weight(weight[:, :, None], torch.zeros(2 * CHANNELS).double())
    gate, value = weight.chunk(2)

    def reference(x: Tensor) -> Tensor:
        rows = norm.reference(x)
        return F.silu(rows @ gate.T) * (rows @ value.T)

    return Pair(Sequential([norm.layer, double, Gated()]), reference)


def elu() -> Pair:
    return activation("elu")


def sequence(pairs: list[Pair]) -> Pair:
    def reference(x: Tensor) -> Tensor:
        for pair in pairs:
            x = pair.reference(x)
        return x

    return Pair(
        Sequential([pair.layer for pair in pairs]),
        reference,
        math.prod(pair.down for pair in pairs),
        math.prod(pair.up for pair in pairs),
    )


def residual(branch: Pair, shortcut: Pair | None) -> Pair:
    layer = Residual(branch.layer, None if shortcut is None else shortcut.layer)
    skip = (lambda x: x) if shortcut is None else shortcut.reference
    return Pair(layer, lambda x: branch.reference(x) + skip(x))


MODES = st.sampled_from(["constant", "reflect", "replicate"])


@st.composite
def convs(draw: Any, modes: Any = MODES, kind: Any = conv) -> Pair:
    """Any kernel, stride, dilation and padding whose output is not shorter than nothing."""
    stride = draw(st.integers(1, 4))
    kernel = draw(st.integers(1, 7))
    dilation = draw(st.integers(1, 3))
    span = (kernel - 1) * dilation + 1
    if span < stride:
        kernel, dilation, span = stride, 1, stride
    mode = draw(modes)
    left, right = draw(st.integers(mode != "constant", span)), draw(st.integers(0, span))
    return kind(kernel, stride, dilation, Padding(left, right, mode, draw(st.booleans())), draw(st.booleans()))


@st.composite
def same_length_convs(draw: Any, modes: Any = MODES) -> Pair:
    kernel, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    total, mode = (kernel - 1) * dilation, draw(modes)
    left = draw(st.integers(min(total, mode != "constant"), total))
    return conv(kernel, 1, dilation, Padding(left, total - left, mode, draw(st.booleans())), draw(st.booleans()))


@st.composite
def depthwise_convs(draw: Any, modes: Any = MODES) -> Pair:
    kernel, dilation, mode = draw(st.integers(1, 7)), draw(st.integers(1, 3)), draw(modes)
    span = (kernel - 1) * dilation + 1
    left, right = draw(st.integers(mode != "constant", span)), draw(st.integers(0, span))
    return depthwise(kernel, dilation, Padding(left, right, mode), draw(st.booleans()))


@st.composite
def conv_transposes(draw: Any, kinds: Sequence[Any] = (conv_transpose, depthwise_transposed)) -> Pair:
    stride = draw(st.integers(1, 4))
    kernel = stride + draw(st.integers(0, 2 * stride + 1))
    left = draw(st.integers(0, kernel - 1))
    right = draw(st.integers(1 - stride, min(kernel - stride, kernel - 1 - left)))
    kind = draw(st.sampled_from(kinds))
    return kind(kernel, stride, left, right, draw(st.booleans()))


def memoryless() -> Any:
    """Layers that take single rows to single rows."""
    kinds = st.sampled_from(["elu", "gelu", "gelu_tanh", "hardtanh", "leaky_relu", "silu", "tanh"])
    return (
        st.builds(activation, kinds)
        | st.builds(gated)
        | st.builds(rms_norm)
        | st.builds(layer_norm)
        | st.builds(cosine)
    )


def attentions() -> Any:
    return st.builds(attention, st.integers(1, 2), st.integers(1, 2), st.integers(2, 9))


@st.composite
def residuals(draw: Any, modes: Any = MODES) -> Pair:
    one = same_length_convs(modes) | memoryless() | same_length_convs(modes).map(scaled)
    inner = draw(st.lists(one, min_size=1, max_size=3))
    if not any(isinstance(pair.layer, Conv1d) for pair in inner):
        inner.append(draw(same_length_convs(modes)))
    ends_pointwise = draw(st.booleans())
    if ends_pointwise:
        inner.append(conv(1, 1, 1, Padding()))
    shortcut = draw(st.none() | st.builds(lambda bias: conv(1, 1, 1, Padding(), bias), st.booleans()))
    return residual(sequence(inner), shortcut)


@st.composite
def stacks(draw: Any, modes: Any = MODES, max_layers: int = 5) -> Pair:
    torch.manual_seed(draw(st.integers(0, 1000)))
    one = convs(modes) | depthwise_convs(modes) | conv_transposes() | residuals(modes) | convs(modes).map(scaled)
    one |= convs(modes, grouped) | conv_transposes((grouped_transposed,))
    one |= st.builds(lstm, st.integers(1, 2)) | attentions() | memoryless()
    return sequence(draw(st.lists(one, min_size=1, max_size=max_layers)))


def network(pair: Pair, frame: int = 1, look_ahead: int = 0) -> Network:
    """The pair's layer at the head of a stream, in frames of `frame` times the rows that all strides divide."""
    return Network(pair.layer, CHANNELS, CHANNELS, pair.down * frame, look_ahead)


def rows(batch: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, CHANNELS, generator=generator, dtype=torch.float64)


def stream(net: Network, x: Tensor, pieces: list[tuple[int, int]], max_frames: int = 4) -> Tensor:
    """`x` pushed in `pieces` and flushed."""
    transducer = Transducer(net, x.shape[0], x.device, x.dtype, max_frames)
    outputs = [transducer.push(x[:, start:stop]) for start, stop in pieces]
    return torch.cat([*outputs, transducer.flush()], 1)


class Row:
    """One stream of a ragged batch: what it is fed, step by step, and what it gave.

    Rows outside the signal are NaN: no output may depend on them.
    """

    def __init__(self, net: Network, signal: Tensor, end_known: bool):
        rate = net.at.rate
        self.net, self.length, self.end_known, self.frames = net, signal.shape[1], end_known, 0
        self.total = net.output_length(self.length)
        self.steps = 0
        while net.out.rows(self.steps) < self.total:
            self.steps += 1
        before = torch.full((1, net.at.lag, CHANNELS), math.nan).to(signal)
        after = torch.full((1, max(0, self.steps * rate - net.at.lag - self.length), CHANNELS), math.nan).to(signal)
        self.input = torch.cat([before, signal, after], 1)
        self.outputs: list[Tensor] = []

    @property
    def done(self) -> bool:
        return self.frames >= self.steps

    def next_input(self, frames: int) -> Tensor:
        rate = self.net.at.rate
        piece = self.input[:, self.frames * rate : (self.frames + frames) * rate]
        return F.pad(piece, (0, 0, 0, frames * rate - piece.shape[1]), value=math.nan)

    def edge(self, frames: int) -> tuple[int, int]:
        ends_here = self.net.at.rows(self.frames + frames) >= self.length
        return self.frames, self.length if self.end_known or ends_here else UNKNOWN

    def result(self) -> Tensor:
        lag = self.net.out.lag
        return torch.cat([self.input[:, :0], *self.outputs], 1)[:, lag : lag + self.total]


def step_together(net: Network, active: list[Row], state: State, slots: list[int], frames: int) -> None:
    """One step of `frames` frames for the streams in `slots` of a batched state, each at its own place."""
    lent, before = Lent(state, slots), state.bytes.clone()
    x = torch.cat([row.next_input(frames) for row in active])
    numbers = zip(*(row.edge(frames) for row in active), strict=True)
    edges = Edges(*(torch.tensor(values, device=x.device) for values in numbers))
    y = net.step(x, lent, edges)
    assert torch.equal(state.bytes, before), "nothing has changed"
    lent.write(slice(len(slots)), slots)
    for row, output in zip(active, y.split(1), strict=True):
        row.outputs.append(output.clone())
        row.frames += frames
