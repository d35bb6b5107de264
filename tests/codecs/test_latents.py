"""The steps inside `encode` and `decode` under names of their own, and the gradients that pass through them."""

import copy
import math

import dac_models
import numpy as np
import oracles
import pytest
import spectral_models
import torch
import xcodec_models
from torch import Tensor

from streamcodec import Codec
from streamcodec.errors import BandwidthError, CodesError, DtypeError, InputError, NonFiniteError, ShapeError

FAMILIES = {
    "encodec": oracles.small_codec,
    "dac": lambda: dac_models.small_codec((2, 3)),
    "spectral": spectral_models.small_codec,
    "xcodec": lambda: xcodec_models.small_codec("hubert"),
}


@pytest.fixture(params=FAMILIES)
def codec(request: pytest.FixtureRequest) -> Codec:
    if request.param == "xcodec":
        pytest.importorskip("transformers", reason="X-Codec's speech model is one of transformers")
    return FAMILIES[request.param]()


def wave(codec: Codec, batch: int = 2, frames: int = 40) -> Tensor:
    return oracles.signal(batch, codec.spec.channels, frames * codec.spec.hop_length)


def test_the_steps_make_up_encode_and_decode(codec):
    wav = wave(codec)
    for bandwidth in codec.spec.bandwidths:
        codes = codec.encode(wav, bandwidth)
        latents = codec.encode_latents(wav)
        assert latents.shape == (2, codec.quantizer.dimension, codes.shape[2])
        assert torch.equal(codec.quantize(latents, bandwidth).data, codes.data)
        assert torch.equal(codec.quantize(latents, num_codebooks=codes.shape[1]).data, codes.data)
        quantized = codec.dequantize(codes)
        assert quantized.shape == latents.shape
        assert torch.equal(codec.decode_latents(quantized, length=codes.length), codec.decode(codes))
        assert torch.equal(codec.decode_latents(quantized), codec.decode(codes.data))


def test_gradients_reach_the_signal_and_the_weights_of_both_halves(codec):
    codec = copy.deepcopy(codec)
    wav = wave(codec).double().requires_grad_()
    latents = codec.encode_latents(wav)
    assert latents.requires_grad
    quantized = codec.dequantize(codec.quantize(latents))
    audio = codec.decode_latents(latents + (quantized - latents).detach(), length=wav.shape[2])
    audio.square().mean().backward()
    assert wav.grad is not None
    assert float(wav.grad.abs().sum()) > 0
    for half in (codec.encoder, codec.decoder):
        gradients = [parameter.grad for parameter in half.parameters() if parameter.requires_grad]
        assert gradients
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        assert any(float(gradient.abs().max()) > 0 for gradient in gradients)


def test_a_codec_learns_by_the_straight_through_recipe():
    codec = copy.deepcopy(oracles.small_codec())
    wav, losses = wave(codec), []
    optimizer = torch.optim.Adam(codec.parameters(), 3e-3)
    for _ in range(25):
        latents = codec.encode_latents(wav)
        quantized = codec.dequantize(codec.quantize(latents))
        audio = codec.decode_latents(latents + (quantized - latents).detach(), length=wav.shape[-1])
        loss = (audio - wav).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses


def test_no_gradient_is_kept_where_none_is_wanted(codec):
    with torch.no_grad():
        assert not codec.encode_latents(wave(codec)).requires_grad
    codes = codec.encode(wave(codec).requires_grad_())
    assert not codec.decode(codes).requires_grad


def equal(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)


def test_encodec_latents_are_those_of_transformers():
    pytest.importorskip("transformers", reason="transformers is the oracle")
    model = oracles.random_transformers_model()
    codec, model = oracles.codec_of(model, torch.float64), xcodec_models.double(model)
    ours, theirs = (wave(codec).double().requires_grad_() for _ in range(2))
    latents, expected = codec.encode_latents(ours), model.encoder(theirs)
    equal(latents, expected)
    latents.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)  # ours are rounded to float32
    codes = codec.encode(ours)
    quantized = model.quantizer.decode(codes.data.transpose(0, 1))
    equal(codec.dequantize(codes), quantized)
    equal(codec.decode_latents(quantized), model.decoder(quantized))


def test_dac_latents_are_those_of_transformers():
    pytest.importorskip("transformers", reason="transformers is the oracle")
    model = dac_models.transformers_model().double()
    codec = dac_models.codec_of(model)
    wav = wave(codec).double()
    equal(codec.encode_latents(wav), model.encoder(wav))
    codes = codec.encode(wav)
    quantized = model.quantizer.from_codes(codes.data)[0]
    equal(codec.dequantize(codes), quantized)
    equal(codec.decode_latents(quantized), model.decoder(quantized))


def test_xcodec_latents_are_those_of_transformers():
    pytest.importorskip("transformers", reason="transformers is the oracle")
    model = xcodec_models.double(xcodec_models.transformers_model("hubert"))
    codec = xcodec_models.codec_of(model)
    wav, given = wave(codec, 1).double(), {}
    handle = model.fc.register_forward_hook(lambda *call: given.update(latents=call[2].transpose(1, 2)))
    model.encode(wav)
    handle.remove()
    equal(codec.encode_latents(wav), given["latents"])
    codes = codec.encode(wav)
    equal(codec.dequantize(codes), model.quantizer.decode(codes.data.transpose(0, 1)))


def test_what_is_no_latents_is_refused(codec):
    width = codec.quantizer.dimension
    bad = {
        r"\[2, 3, 4\].*\[B, \d+, T\]": (torch.zeros(2, 3, 4), ShapeError),
        r"\[0, .*channels before frames": (torch.zeros(0, width, 4), ShapeError),
        "int64.*floating": (torch.zeros(2, width, 4, dtype=torch.int64), DtypeError),
        "ndarray": (np.zeros((2, width, 4)), DtypeError),
        "NaN": (torch.full((2, width, 4), math.nan), NonFiniteError),
    }
    for message, (latents, kind) in bad.items():
        for call in (codec.quantize, codec.decode_latents):
            with pytest.raises(kind, match=message):
                call(latents)
    good = torch.zeros(2, width, 4)
    with pytest.raises(BandwidthError, match="choose one of"):
        codec.quantize(good, 7.77)
    with pytest.raises(InputError, match="give one"):
        codec.quantize(good, codec.spec.bandwidths[0], num_codebooks=1)
    with pytest.raises(CodesError, match="4 frames"):
        codec.decode_latents(good, length=5 * codec.spec.hop_length)
    with pytest.raises(CodesError, match="range over"):
        codec.dequantize(torch.full((1, 1, 4), codec.spec.codebook_size))


def test_latents_that_mean_nothing_without_a_scale_are_refused():
    codec = oracles.small_codec("48khz")
    wav = wave(codec)
    with pytest.raises(InputError, match=r"encode_latents.*each segment.*use encode"):
        codec.encode_latents(wav)
    latents = codec.dequantize(codec.encode(wav))  # the table's entries are what they are in any codec
    with pytest.raises(InputError, match=r"decode_latents.*each segment"):
        codec.decode_latents(latents)
