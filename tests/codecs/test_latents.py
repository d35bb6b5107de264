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
    audio = codec.decode_latents(codec.straight_through(latents).latents, length=wav.shape[2])
    audio.square().mean().backward()
    assert wav.grad is not None
    assert float(wav.grad.abs().sum()) > 0
    for half in (codec.encoder, codec.decoder):
        gradients = [parameter.grad for parameter in half.parameters() if parameter.requires_grad]
        assert gradients
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        assert any(float(gradient.abs().max()) > 0 for gradient in gradients)


def test_what_each_stage_adds_makes_up_the_latents(codec):
    codes = codec.encode(wave(codec), codec.spec.bandwidths[-1])
    stages = codec.dequantize(codes, per_stage=True)
    assert stages.shape == (2, codes.shape[1], codec.quantizer.dimension, codes.shape[2])
    equal(stages.sum(1), codec.dequantize(codes))
    for count in range(1, codes.shape[1]):
        equal(stages[:, :count].sum(1), codec.dequantize(codes.data[:, :count]))


def test_straight_through_is_quantize_and_dequantize_and_passes_gradients(codec):
    latents = codec.encode_latents(wave(codec)).detach().double().requires_grad_()
    for bandwidth in codec.spec.bandwidths:
        found, codes = codec.straight_through(latents, bandwidth), codec.quantize(latents, bandwidth)
        assert torch.equal(found.codes.data, codes.data)
        equal(found.latents, codec.dequantize(codes))
        assert found.looked_up.shape == found.entries.shape
        assert found.entries.shape[1::2] == codes.shape[1:]
        found.latents.square().sum().backward()
        assert latents.grad is not None
        assert float(latents.grad.abs().min(1).values.max()) > 0
        latents.grad = None


def test_a_euclidean_quantizer_looks_up_what_is_left_over_and_its_gradient_is_that_of_the_result():
    codec = oracles.small_codec()
    latents = codec.encode_latents(wave(codec)).detach().requires_grad_()
    found = codec.straight_through(latents, num_codebooks=4)
    equal(found.looked_up + found.entries.cumsum(1) - found.entries, latents[:, None].expand_as(found.looked_up))
    weights = torch.randn(latents.shape, dtype=latents.dtype)
    (found.latents * weights).sum().backward()
    assert torch.equal(latents.grad, weights)


def test_straight_through_of_dac_is_that_of_transformers_to_its_gradients():
    pytest.importorskip("transformers", reason="transformers is the oracle")
    model = dac_models.transformers_model().double()
    codec = copy.deepcopy(dac_models.codec_of(model))
    ours, theirs = (model.encoder(wave(codec).double()).detach().requires_grad_() for _ in range(2))
    count = model.config.n_codebooks
    found = codec.straight_through(ours, num_codebooks=count)
    quantized, codes, projected, commitment, _ = model.quantizer(theirs)
    assert torch.equal(found.codes.data, codes)
    equal(found.latents, quantized)
    equal(found.looked_up.flatten(1, 2), projected)
    loss = (found.looked_up - found.entries.detach()).square().mean((0, 2, 3)).sum()
    equal(loss, commitment.mean())
    (found.latents.square().sum() + loss).backward()
    (quantized.square().sum() + commitment.mean()).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-8)
    stage = model.quantizer.quantizers[1]
    assert codec.quantizer.in_weight.grad is not None
    gradient = codec.quantizer.in_weight.grad[1].T
    torch.testing.assert_close(gradient, stage.in_proj.weight.grad[:, :, 0], rtol=1e-6, atol=1e-8)


def test_a_codec_learns_by_the_straight_through_recipe():
    codec = copy.deepcopy(oracles.small_codec())
    wav, losses = wave(codec), []
    optimizer = torch.optim.Adam(codec.parameters(), 3e-3)
    for _ in range(25):
        found = codec.straight_through(codec.encode_latents(wav))
        audio = codec.decode_latents(found.latents, length=wav.shape[-1])
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
        for call in (codec.quantize, codec.straight_through, codec.decode_latents):
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
