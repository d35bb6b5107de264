"""DAC's decoder without padding, over one chunk of codes.

DAC's own command encodes recordings longer than its window in chunks with all padding switched off, and decodes them in
the same way (descript-audio-codec 1.0.0, `CodecMixin.padding`, `compress`, `decompress`). The chunks' edges are part of
the sound: what a transposed convolution would trim stays, and what it would add from a neighbour is missing. That is
another signal than that of one pass over all codes, so such files need this way of decoding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CodesError
from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.layer import Layer, Sequential
from ..nn.residual import Residual
from .base import Codec

__all__ = ["unpadded_decode", "unpadded_length"]


def unpadded_length(layer: Layer, rows: int) -> int:
    """Rows that `layer` gives without padding for `rows` rows; 0 or less where they are too few."""
    if isinstance(layer, Sequential):
        for inner in layer.chain:
            rows = unpadded_length(inner, rows)
            if rows < 1:
                return 0
        return rows
    if isinstance(layer, Residual):
        return unpadded_length(layer.branch, rows)
    if isinstance(layer, Conv1d):
        return (rows - layer.span) // layer.stride + 1
    if isinstance(layer, ConvTranspose1d):
        return (rows - 1) * layer.stride + layer.kernel
    return rows


def unpadded_decode(codec: Codec, codes: Tensor) -> Tensor:
    """One chunk of codes [B, K, T] to audio [B, 1, n], n = `unpadded_length` of the decoder for T frames.

    codec: a DAC model. Raises CodesError for fewer frames than the decoder looks at, and what `Codec.checked` does.
    """
    checked = codec.checked(codes)
    frames = checked.data.shape[2]
    if unpadded_length(codec.decoder, frames) < 1:
        raise CodesError(f"a chunk of {frames} frames is shorter than what {codec.spec.name}'s decoder looks at")
    with torch.no_grad():
        rows = _run(codec.decoder, codec.latents(checked))
    return rows.transpose(1, 2).contiguous()


def _run(layer: Layer, x: Tensor) -> Tensor:
    """`layer.forward` with every padding and trim at 0, [B, T, C] to [B, T', C']."""
    if isinstance(layer, Sequential):
        for inner in layer.chain:
            x = _run(inner, x)
        return x
    if isinstance(layer, Residual):
        y = _run(layer.branch, x)
        crop = (x.shape[1] - y.shape[1]) // 2
        return x[:, crop : crop + y.shape[1]] + y
    if isinstance(layer, Conv1d):
        y = F.conv1d(x.transpose(1, 2), layer.torch_weight(), layer.bias, layer.stride, 0, layer.dilation)
        return y.transpose(1, 2)
    if isinstance(layer, ConvTranspose1d):
        y = F.conv_transpose1d(x.transpose(1, 2), layer.torch_weight(), layer.bias, layer.stride)
        return y.transpose(1, 2)
    return layer(x)
