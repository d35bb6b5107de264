"""The semantic branch on any acoustic codec: it trains, streams as X-Codec does, and comes back from files."""

import math
from functools import cache
from typing import Any

import pytest
import spectral_models
import torch
import torch.nn.functional as F
from dac_models import NARROW as SMALL_DAC
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import SMALL, cuts
from oracles import small_codec as small_encodec

pytest.importorskip("transformers", reason="the speech model comes from transformers")

from xcodec_models import KINDS, TINY_SPEECH, noise

from streamcodec import Codes, codecs
from streamcodec.checkpoint import load, save, weights
from streamcodec.codecs import Codec, SemanticWindow
from streamcodec.codecs.dac import DacCodec
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codecs.semantic_codec import SemanticCodec
from streamcodec.codecs.semantic_layers import SemanticConfig
from streamcodec.codecs.semantic_model import SpeechModel, resample
from streamcodec.errors import CheckpointError, ConfigError

# A row every 12 samples at 600 Hz, 50 a second; the acoustic codecs make 100 frames of 6, 50 of 12 (at 800 Hz: 66.7).
ACOUSTIC: dict[str, Any] = {
    "encodec": lambda: EncodecCodec(SMALL),
    "dac": lambda: DacCodec(SMALL_DAC | {"downsampling_ratios": [3, 4], "n_codebooks": 2, "sampling_rate": 800}),
    "spectral": lambda: spectral_models.SpectralCodec(spectral_models.SMALL),
}
WINDOW = SemanticWindow(7, 3, 4)


def speech(kind: str = "hubert", rate: int = 600) -> SpeechModel:
    return SpeechModel.from_config(TINY_SPEECH | {"model_type": kind}, rate)


@cache
def semantic_codec(acoustic: str, kind: str = "hubert", dtype: torch.dtype = torch.float64) -> SemanticCodec:
    """A random codec, its codebooks residuals of latents."""
    torch.manual_seed(11)
    codec = SemanticCodec(ACOUSTIC[acoustic](), speech(kind), num_codebooks=3, codebook_size=16, window=WINDOW)
    fit(codec)
    return codec.to(dtype).eval()


@torch.no_grad()
def fit(codec: SemanticCodec) -> None:
    residual = codec.analyse(noise(2, 900).float().transpose(1, 2)).rows.flatten(0, 1)
    books = []
    for _ in range(codec.spec.num_codebooks):
        chosen = residual[torch.randint(len(residual), (codec.spec.codebook_size,))]
        books.append(chosen + 0.3 * residual.std() * torch.randn_like(chosen))
        residual = residual - books[-1][torch.cdist(residual, books[-1]).argmin(1)]
    codec.quantizer.set_codebooks(torch.stack(books))


def loss_of(codec: SemanticCodec, wav: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found = codec(wav)
    total = F.l1_loss(found.audio, wav[:, :, : found.audio.shape[2]]) + found.semantic_loss
    return total + 0.1 * found.commitment_loss, found.semantic_loss


# -- training ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("acoustic", ACOUSTIC)
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_lower_the_losses_and_leave_the_speech_model_alone(acoustic, kind):
    torch.manual_seed(0)
    codec = SemanticCodec(ACOUSTIC[acoustic](), speech(kind), num_codebooks=3, codebook_size=16)
    fit(codec)
    codec.train()
    assert not codec.speech.training
    assert not any(module.training for module in codec.speech.modules())
    frozen = {name: tensor.clone() for name, tensor in codec.speech.state_dict().items()}
    groups = codec.parameter_groups()
    optimiser = torch.optim.Adam([{"params": groups["acoustic"], "lr": 1e-3}, {"params": groups["semantic"]}], lr=3e-3)
    wav, losses = noise(4, 300).float(), []
    for _ in range(20):
        total, semantic = loss_of(codec, wav)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append((total.item(), semantic.item()))
    assert losses[-1][0] < 0.9 * losses[0][0]
    assert losses[-1][1] < 0.9 * losses[0][1]
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in codec.speech.state_dict().items())


@pytest.mark.parametrize("acoustic", ACOUSTIC)
def test_every_parameter_is_in_one_group_and_gets_a_gradient(acoustic):
    codec = SemanticCodec(ACOUSTIC[acoustic](), speech(), num_codebooks=3, codebook_size=16)
    groups = codec.parameter_groups()
    named = [parameter for group in groups.values() for parameter in group]
    trained = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in named} == {id(parameter) for parameter in trained}
    assert len(named) == len(trained)
    loss_of(codec, noise(2, 300).float())[0].backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
    assert all(parameter.grad is None for parameter in codec.speech.parameters())


def test_the_forward_pass_is_encode_and_decode_and_takes_another_quantizer():
    codec, wav = semantic_codec("encodec"), noise(2, 300)
    with torch.no_grad():
        found = codec(wav, num_codebooks=2)
        codes = codec.encode(wav, codec.spec.bandwidths[1])
        assert torch.equal(found.codes, codes.data)
        torch.testing.assert_close(found.audio, codec.decode(codes), rtol=0, atol=1e-10)
        heard = []

        def quantize(latents, count):
            heard.append((latents, count))
            return latents, torch.zeros(*latents.shape[:2], count, dtype=torch.int64)

        plain = codec(wav, quantize=quantize)
    assert plain.commitment_loss == 0
    assert not plain.codes.any()
    assert heard[0][1] == 3
    assert torch.equal(heard[0][0], found.latents)


# -- rates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [(24_000, 16_000), (44_100, 16_000), (16_000, 24_000), (800, 600)])
def test_resampling_keeps_what_both_rates_can_hold_and_nothing_else(old, new):
    low, high = 0.3 * min(old, new), 0.56 * new
    seconds = 4000 / min(old, new)
    times = [torch.arange(round(seconds * rate), dtype=torch.float64) / rate for rate in (old, new)]
    edge = 60 * new // min(old, new)
    tone = resample(torch.sin(2 * math.pi * low * times[0])[None], old, new)[0]
    assert abs(len(tone) - len(times[1])) <= 1
    middle = slice(edge, min(len(tone), len(times[1])) - edge)
    assert (tone - torch.sin(2 * math.pi * low * times[1])[: len(tone)])[middle].abs().max() < 1e-4
    if high < old / 2:  # above the new rate's half: nothing of it may fold back
        folded = resample(torch.sin(2 * math.pi * high * times[0])[None], old, new)[0]
        assert folded[middle].abs().max() < 1e-2


@pytest.mark.parametrize("acoustic", ACOUSTIC)
def test_there_are_as_many_features_as_frames(acoustic):
    codec = semantic_codec(acoustic)
    hop = codec.spec.hop_length
    for frames in (0, 1, 2, 3, 50):
        rows = noise(1, frames * hop).transpose(1, 2)
        assert codec.features(rows).shape == (1, frames, 16)


def test_where_the_rates_agree_nothing_is_interpolated():
    acoustic = DacCodec(SMALL_DAC | {"downsampling_ratios": [3, 4], "n_codebooks": 2, "sampling_rate": 600})
    codec = SemanticCodec(acoustic, speech(), num_codebooks=2, codebook_size=16).double()
    rows = noise(1, 240).transpose(1, 2)
    plain = codec.speech(F.pad(rows[:, :, 0], codec.hearing.padding))
    assert plain.shape[1] == 20
    assert torch.equal(codec.features(rows), plain)


# -- streams -------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    st.sampled_from(sorted(ACOUSTIC)),
    st.sampled_from(KINDS),
    st.integers(0, 30) | st.integers(0, 400),
    st.lists(st.integers(0, 90), max_size=8),
)
def test_streams_equal_offline(acoustic, kind, samples, pieces):
    codec = semantic_codec(acoustic, kind)
    wav = noise(2, samples, samples)
    encoder, decoder = codec.open_encoder(batch=2), codec.open_decoder(2)
    parts = [*(encoder.push(wav[:, :, start:stop]) for start, stop in cuts(samples, pieces)), encoder.flush()]
    expected = codec.encode_windowed(wav)
    assert torch.equal(Codes.cat(parts).data, expected.data)
    assert sum(part.length for part in parts) == expected.length
    audio = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    torch.testing.assert_close(audio, codec.decode(expected), rtol=0, atol=1e-10)


@settings(max_examples=15)
@given(st.integers(0, 200), st.integers(0, 100))
def test_a_primed_start_equals_silence_and_then_the_signal(samples, cut):
    """EnCodec's encoder mirrors its start: an exact stream waits for that, a primed one has heard silence."""
    codec = semantic_codec("encodec")
    silent = codec.spec.encoder_prefill
    assert silent > 0
    wav = noise(1, samples, samples)
    encoder = codec.open_encoder(start="primed")
    first = encoder.push(wav[:, :, :cut])
    encoder = codec.open_encoder(state=encoder.save())
    codes = Codes.cat([first, encoder.push(wav[:, :, cut:]), encoder.flush()])
    whole = F.pad(wav, (silent * codec.spec.hop_length, 0))
    assert torch.equal(codes.data, codec.encode_windowed(whole).data[:, :, silent:])
    assert codes.length == samples


# -- files and refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("acoustic", ACOUSTIC)
def test_directories_go_round(tmp_path, acoustic):
    codec = semantic_codec(acoustic, "wavlm", torch.float32)
    again = load(save(codec, tmp_path))
    assert isinstance(again, SemanticCodec)
    assert again.config == codec.config
    wav = noise(1, 300)
    assert torch.equal(again.encode(wav).data, codec.encode(wav).data)
    assert again.fingerprint == codec.fingerprint
    config, tensors = codec.to_huggingface()
    for name in ("fc2.bias", "semantic_model.encoder.layer_norm.weight"):
        rest = weights.plain({key: value for key, value in tensors.items() if key != name}, "test")
        with pytest.raises(CheckpointError, match=f"missing .*{name}"):
            codecs.build(config, rest, name="bad")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"acoustic_model_config": None}, "acoustic_model_config is None"),
        ({"semantic_model_config": 3}, "semantic_model_config is 3"),
        ({"acoustic_model_config": {"model_type": "streamcodec_semantic"}}, "is another streamcodec_semantic"),
        ({"num_codebooks": 0}, "num_codebooks is 0"),
        ({"codebook_size": 20}, "power of 2"),
        ({"semantic_sample_rate": "600"}, "semantic_sample_rate is '600'"),
        ({"strides": 1}, "strides is 1"),
        ({"kernel_size": [3]}, r"kernel_size is \[3\]"),
    ],
)
def test_configurations_that_cannot_be_run_are_refused(change, message):
    config, tensors = semantic_codec("dac").to_huggingface()
    with pytest.raises(ConfigError, match=message):
        codecs.build(config | change, tensors, name="bad")


def test_codecs_without_frames_or_with_a_branch_are_refused():
    refused: list[Codec] = [small_encodec("48khz"), semantic_codec("dac")]
    for acoustic in refused:
        with pytest.raises(ConfigError, match="cannot be given a semantic branch"):
            SemanticCodec(acoustic, speech())


def test_a_model_of_another_kind_is_refused():
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=8)
    with pytest.raises(ConfigError, match="the speech model is 'bert'; supported are"):
        SpeechModel(BertModel(config))


def test_wider_and_strided_semantic_blocks(tmp_path):
    """Two rows of features per frame, taken to one by the second block."""
    torch.manual_seed(1)
    acoustic = DacCodec(SMALL_DAC | {"downsampling_ratios": [4, 6], "n_codebooks": 2, "sampling_rate": 600})
    shape = SemanticConfig(channel_ratios=(1.5, 1), strides=(1, 2))
    codec = SemanticCodec(acoustic, speech(), num_codebooks=2, codebook_size=16, semantic=shape, window=WINDOW)
    fit(codec)
    total, semantic = loss_of(codec, noise(2, 300).float())
    assert total.isfinite()
    assert semantic > 0
    codec.double()
    wav = noise(1, 500)
    encoder = codec.open_encoder()
    codes = Codes.cat([*(encoder.push(wav[:, :, start : start + 37]) for start in range(0, 500, 37)), encoder.flush()])
    assert torch.equal(codes.data, codec.encode_windowed(wav).data)
    wide = SemanticWindow(30, 30)
    assert torch.equal(codec.encode_windowed(wav, window=wide).data, codec.encode(wav).data)
    assert load(save(codec.float(), tmp_path)).config == codec.config
