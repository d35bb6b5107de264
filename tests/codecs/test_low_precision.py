"""Every convolution of the families at their published sizes, in bfloat16 and float16, against float32.

oneDNN's own is another signal for some of these sizes on processors with AMX (see `nn.conv`).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import streamcodec
from streamcodec.codecs.base import Codec
from streamcodec.codecs.dac import DacCodec, DacConfig, dac_encoder, xcodec_decoder
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codecs.semantic_layers import SemanticConfig, semantic_decoder, semantic_encoder
from streamcodec.codecs.spectral import SpectralCodec
from streamcodec.nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d
from streamcodec.train.config import read_settings

ROOT = Path(__file__).parents[2]
BOUND = 0.02  # a rounding of bfloat16 is 0.4% at most, of float16 0.05%

FAMILIES = ["bundled", "train_cpu.toml", "encodec 24 kHz", "encodec 48 kHz", "dac 44 kHz", "dac 16 kHz", "xcodec"]
GRADIENTS_UP_TO = 128  # channels; beyond it only outputs are compared, or the larger sizes take minutes
STEREO = {
    "audio_channels": 2,
    "normalize": True,
    "chunk_length_s": 1.0,
    "overlap": 0.01,
    "norm_type": "time_group_norm",
}


def networks(name: str) -> nn.Module:
    """The networks of a family without their weights' memory."""
    bundled: Codec = streamcodec.load()
    with torch.device("meta"):
        if name == "bundled":
            return SpectralCodec(bundled.config)
        if name == "train_cpu.toml":
            return EncodecCodec(read_settings(ROOT / "docs" / name).codec_config())
        if name == "encodec 24 kHz":
            return EncodecCodec({})
        if name == "encodec 48 kHz":
            return EncodecCodec({"sampling_rate": 48_000, "target_bandwidths": (3.0, 6.0, 12.0, 24.0), **STEREO})
        if name == "dac 44 kHz":
            return DacCodec({"sampling_rate": 44_100})
        if name == "dac 16 kHz":
            return DacCodec({"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12})
        acoustic = DacConfig(downsampling_ratios=(8, 5, 4, 2), decoder_hidden_size=1024, hidden_size=256)
        semantic = SemanticConfig()
        parts = dac_encoder(acoustic), xcodec_decoder(acoustic, (8, 5, 4, 2))
        return nn.ModuleList([*parts, semantic_encoder(semantic, 768), semantic_decoder(semantic, 768)])


def convolutions(network: nn.Module) -> Iterator[Conv1d | ConvTranspose1d]:
    """One of each size, of those that learn: transforms at the ends carry audio, and run in float32."""
    seen = set()
    for module in network.modules():
        if isinstance(module, (Conv1d, ConvTranspose1d)) and next(module.parameters(), None) is not None:
            sizes = (type(module), module.in_channels, module.out_channels, module.kernel, module.stride)
            if (*sizes, getattr(module, "dilation", 1)) not in seen:
                seen.add((*sizes, getattr(module, "dilation", 1)))
                yield module


def results(layer: Conv1d | ConvTranspose1d, x: Tensor) -> tuple[Tensor, ...]:
    """Output, and the gradients of input and weights."""
    if max(layer.in_channels, layer.out_channels) > GRADIENTS_UP_TO:
        with torch.no_grad():
            return (layer(x),)
    x = x.clone().requires_grad_()
    y = layer(x)
    back = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], back)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_is_right_in_low_precision(name: str) -> None:
    torch.manual_seed(0)
    wrong = []
    for module in convolutions(networks(name)):
        layer = module.to_empty(device="cpu")
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=(layer.kernel * layer.in_channels) ** -0.5)
        heard = layer.out_channels if isinstance(layer, DepthwiseConv1d) else layer.in_channels
        x = torch.randn(1, 24 if heard > 64 else 200, heard)
        exact = results(layer, x)
        large = max(layer.in_channels, layer.out_channels) > 512
        for dtype in (torch.bfloat16,) if large else (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                found = results(layer, x)
            errors = [float((a.float() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
            if not all(error < BOUND for error in errors):
                wrong.append((layer, dtype, errors))
    assert not wrong
