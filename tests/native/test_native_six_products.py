"""Codecs of the published sizes in float32, some of whose products are made of six of bfloat16: as exact as without."""

import copy
import math

import pytest
import torch
from sets import HERE
from streamcodec_kernels.native import library

from streamcodec import Codec, native_weights
from streamcodec.bench import presets, random_weights
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codecs.xcodec import XcodecCodec
from streamcodec.native_weights import EXACT, is_split, terms_of
from streamcodec.nn.transducer import Network, Transducer
from streamcodec.program import Product

tiled = pytest.mark.skipif(not HERE or not library.chosen().tiles, reason="this processor has no AMX, or no compiler")
CODECS = {name: presets.PRESETS[name] for name in ("encodec_24khz", "dac_44khz", "snac_24khz")}
# With one layer of its speech model, which runs in torch in any case.
CODECS["xcodec"] = presets.Preset(XcodecCodec, {"semantic_model_config": {"num_hidden_layers": 1}})


def layers(codec: Codec, precision: str = "float32") -> list[tuple[int, ...]]:
    """Rows a frame, values of a window, and columns of those that are made of six products."""
    found = []
    for network in codec.framing.networks:
        for op, value in zip(network.program.ops, network.program.values, strict=True):
            if isinstance(op, Product) and terms_of(op, value, precision) == EXACT:
                found.append((value.at.rate // op.spread, *op.matrix.shape))
    return found


@tiled
def test_layers_of_many_rows_a_frame_are_made_of_six_products_and_no_others(
    monkeypatch,
):
    codec = EncodecCodec({}).eval()
    encoder = [(160, 128, 64), (160, 192, 32), (40, 512, 128), (40, 384, 64), (40, 192, 128)]
    assert layers(codec) == [*encoder, (40, 384, 64), (40, 192, 128), (40, 256, 256), (160, 192, 32), (160, 128, 64)]
    assert layers(codec) == layers(codec, "int8")
    assert layers(codec, "bfloat16x3") == layers(codec, "bfloat16") == []
    monkeypatch.setenv(library.CHOICE, "avx2")
    assert layers(codec) == []


@tiled
def test_tall_layers_of_fewer_rows_are_too_and_their_weights_stay_floats():
    preset = CODECS["xcodec"]
    codec = preset.build(preset.config).eval()
    program = codec.framing.networks[1].program
    each = list(zip(program.ops, program.values, strict=True))
    split = [op.matrix.shape for op, value in each if is_split(op, value, terms_of(op, value, "float32"))]
    assert split == [(7 * 512, 512)] * 3
    assert [layer for layer in layers(codec) if layer[0] < native_weights.FEWEST_ROWS] == [(8, *split[0])] * 3


def streamed(network: Network, frames: int = 6) -> torch.Tensor:
    """Of noise, or of what noise becomes in an encoder."""
    x = 0.1 * torch.randn(1, frames * network.at.rate, network.channels, generator=torch.Generator().manual_seed(1))
    dtype = torch.float64 if network.program.dtype == torch.float64 else torch.float32
    stream = Transducer(network, 1, x.device, dtype, frames)
    return torch.cat([stream.push(x.to(dtype)), stream.flush()], 1)


@tiled
@pytest.mark.slow
@pytest.mark.parametrize("name", CODECS)
def test_whole_codecs_are_no_less_exact_and_have_no_fewer_of_the_exact_codes(name, monkeypatch):
    codec = random_weights.make(CODECS[name], frames=32)
    assert layers(codec)
    exact = [streamed(network) for network in copy.deepcopy(codec).double().on("torch").framing.networks]
    six = [streamed(network) for network in codec.on("native").framing.networks]
    monkeypatch.setattr(native_weights, "FEWEST_ROWS", math.inf)
    monkeypatch.setattr(native_weights, "FEWEST_TALL", math.inf)
    assert not layers(codec)
    own = [streamed(network) for network in codec.on("native").framing.networks]
    assert not all(map(torch.equal, six, own))
    for in_six, in_own, in_exact in zip(six, own, exact, strict=True):
        errors = [float((y.double() - in_exact).square().mean()) for y in (in_six, in_own)]
        assert errors[0] <= errors[1]
    if name != "xcodec":  # which encodes in windows
        quantizer, count = codec.quantizer, codec.spec.num_codebooks
        codes = [quantizer.encode(latents.float(), count) for latents in (exact[0], six[0], own[0])]
        agree = [float((each == codes[0]).float().mean()) for each in codes[1:]]
        assert agree[0] >= agree[1] - 0.002
        assert agree[0] > 0.99
