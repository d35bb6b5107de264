"""Qwen3-TTS's tokenizer: equal to the package's, streams equal to offline past the reach of attention, refusals."""

import copy
import json
from pathlib import Path
from typing import Any

import mimi_models
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts, signal
from qwen_tts_models import SMALL, blank_decoder, config, package_of, small_codec
from safetensors.torch import save_file

from streamcodec import Codes
from streamcodec.checkpoint import load, save
from streamcodec.codecs.qwen_tts import QwenTtsCodec
from streamcodec.errors import CheckpointError, ConfigError

MIMIS_OWN = ("decoder", "upsample")  # what of Mimi is not in the package's encoder
VARIANTS: list[dict[str, Any]] = [
    {},
    {"sliding_window": 2, "upsampling_ratios": (2, 3), "upsample_rates": (2,), "head_dim": 4},
    {"sliding_window": 90, "upsampling_ratios": (), "upsample_rates": (4, 3), "num_hidden_layers": 1},
]
small_codecs = st.sampled_from(VARIANTS).map(lambda variant: small_codec(**variant))
sizes = st.lists(st.integers(0, 90) | st.integers(0, 7), max_size=12)


# -- offline ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_gives_what_the_package_gives(variant: dict[str, Any]) -> None:
    codec = small_codec(torch.float32, **variant)
    theirs = package_of(codec)
    for samples in (1, 11, 12, 13, 500):
        wav = signal(2, 1, samples)
        with torch.no_grad():
            codes = theirs.encode(wav)
            audio = theirs.decoder(codes)
        assert torch.equal(codec.encode(wav).data, codes)
        torch.testing.assert_close(codec.decode(codes), audio, rtol=0, atol=1e-5)
        assert audio.shape[2] == codec.spec.samples(codes.shape[2])
        assert samples < 500 or audio.std() > 0.05


def test_a_file_of_the_package_is_read_with_more_codebooks_than_are_used(tmp_path: Path) -> None:
    mimi, decoder = mimi_models.small_codec(torch.float32, num_quantizers=6), blank_decoder(SMALL["decoder_config"])
    with torch.no_grad():
        for name, tensor in decoder.named_parameters():
            if name.endswith("embedding_sum"):
                tensor.copy_(torch.rand_like(tensor))
            elif name.endswith("cluster_usage"):
                tensor.copy_(0.5 + torch.rand_like(tensor))
    theirs = {name: tensor for name, tensor in mimi.to_huggingface()[1].items() if not name.startswith(MIMIS_OWN)}
    tensors = {f"encoder.{name}": tensor for name, tensor in theirs.items()}
    tensors |= {f"decoder.{name}": tensor for name, tensor in decoder.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    codec, wav = load(tmp_path), signal(1, 1, 240)
    assert (codec.spec.num_codebooks, codec.spec.codebooks(codec.spec.default_bandwidth)) == (4, 4)
    codes = mimi.encode(wav, num_codebooks=4).data
    assert torch.equal(codec.encode(wav).data, codes)
    with torch.no_grad():
        torch.testing.assert_close(codec.decode(codes), decoder(codes), rtol=0, atol=1e-6)


# -- streams ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(small_codecs, st.integers(0, 20) | st.integers(0, 400), st.integers(1, 2), st.data(), sizes)
def test_streams_equal_the_offline_calls(
    codec: QwenTtsCodec, samples: int, batch: int, data: Any, pieces: list[int]
) -> None:
    wav, bandwidth = signal(batch, 1, samples, samples), data.draw(st.sampled_from(codec.spec.bandwidths))
    encoder = codec.open_encoder(bandwidth, batch)
    parts = [*(encoder.push(wav[:, :, first:stop]) for first, stop in cuts(samples, pieces)), encoder.flush()]
    codes, expected = Codes.cat(parts), codec.encode(wav, bandwidth)
    assert torch.equal(codes.data, expected.data)
    assert codes.length == expected.length == samples
    decoder = codec.open_decoder(batch)
    pcm = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    assert pcm.shape == wav.shape
    torch.testing.assert_close(pcm, codec.decode(expected), rtol=0, atol=1e-10)


@settings(max_examples=15)
@given(small_codecs, st.integers(1, 300), st.integers(0, 299))
def test_streams_that_are_copied_or_saved_go_on_to_the_bit(codec: QwenTtsCodec, samples: int, at: int) -> None:
    wav = signal(1, 1, samples, samples)
    codes, decoder = codec.encode(wav), codec.open_decoder()
    frames = codes.data.shape[2]
    cut = min(at, frames)
    head = decoder.push(Codes(codes.data[:, :, :cut]))
    rest = Codes(codes.data[:, :, cut:], length=samples - codec.spec.samples(cut)) if cut < frames else None
    tails = []
    for stream in (codec.open_decoder(state=decoder.save()), copy.copy(decoder), decoder):
        parts = [] if rest is None else [stream.push(rest)]
        tails.append(torch.cat([*parts, stream.flush()], 2))
    assert torch.equal(tails[0], tails[2])
    assert torch.equal(tails[1], tails[2])
    whole = codec.decode(codes)
    torch.testing.assert_close(torch.cat([head, tails[2]], 2)[..., :samples], whole, rtol=0, atol=1e-10)


def test_rows_of_a_batch_and_of_a_ragged_one_give_what_each_gives_alone() -> None:
    codec = small_codec()
    wavs = [signal(1, 1, samples, samples)[0].double() for samples in (300, 5, 0, 121)]
    alone = [codec.encode(wav[None]) for wav in wavs]
    for together in (codec.encode(wavs), codec.encode(wavs, chunk_seconds=0.1)):
        assert all(torch.equal(one.data, other.data) for one, other in zip(together, alone, strict=True))
    for one, other in zip(codec.decode(alone), alone, strict=True):
        torch.testing.assert_close(one, codec.decode(other), rtol=0, atol=1e-10)
    stream, codes = codec.open_decoder(batch=2), torch.cat([codec.encode(signal(1, 1, 240, i)).data for i in (1, 2)])
    pcm = torch.cat([stream.push(codes[:, :, :7]), stream.push(codes[:, :, 7:]), stream.flush()], 2)
    for row in range(2):
        torch.testing.assert_close(pcm[row], codec.decode(codes[row : row + 1])[0], rtol=0, atol=1e-10)


def test_each_frame_is_decoded_as_soon_as_it_is_there() -> None:
    codec = small_codec()
    assert codec.spec.encoder_delay == codec.spec.decoder_delay == codec.spec.prefill_frames == 0
    codes, stream = codec.encode(signal(1, 1, 60)), codec.open_decoder()
    assert [stream.push(Codes(codes.data[:, :, i : i + 1])).shape[2] for i in range(5)] == [12] * 5


def test_frames_that_are_missing_are_the_last_one_and_then_silence() -> None:
    """Nothing between: what its codes stand for does not lead back to codes."""
    codec = small_codec()
    last, silent = codec.encode(signal(1, 1, 120)).data[:, :, -1:], codec.silent_frame().data
    made = codec.conceal(Codes(last), 0, 12).data
    held = (made == last).all(1)[0]
    assert held.tolist() == [True] * 4 + [False] * 8
    assert torch.equal(made[:, :, 4:], silent.expand(-1, -1, 8))


def test_audio_is_limited_to_full_scale() -> None:
    codec = small_codec()
    codes = codec.encode(signal(1, 1, 240))
    louder = load_louder(codec)
    audio = louder.decode(codes)
    assert audio.abs().max() == 1
    stream = louder.open_decoder()
    torch.testing.assert_close(stream.push(codes), audio, rtol=0, atol=1e-10)


def load_louder(codec: QwenTtsCodec) -> QwenTtsCodec:
    fields, tensors = codec.to_huggingface()
    last = max(name for name in tensors if name.startswith("decoder.decoder.") and name.endswith(".conv.weight"))
    return QwenTtsCodec(fields, tensors | {last: tensors[last] * 100}).eval().double()


# -- files -----------------------------------------------------------------------------------------------------------


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    codec = small_codec(torch.float32)
    save(codec, tmp_path)
    again = load(tmp_path)
    assert isinstance(again, QwenTtsCodec)
    assert (again.config, again.fingerprint) == (codec.config, codec.fingerprint)


def test_an_unknown_entry_and_a_missing_one_are_named() -> None:
    fields, tensors = small_codec(torch.float32).to_huggingface()
    with pytest.raises(CheckpointError, match=r"unexpected decoder\.more"):
        QwenTtsCodec(fields, tensors | {"decoder.more": torch.zeros(1)})
    del tensors["decoder.upsample.0.1.gamma"]
    with pytest.raises(CheckpointError, match=r"missing decoder\.upsample\.0\.1\.gamma"):
        QwenTtsCodec(fields, tensors)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"attention_bias": True}, "decoder_config: attention_bias is True"),
        ({"hidden_act": "gelu"}, "decoder_config: hidden_act is 'gelu'"),
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1; it is supported as num_attention_heads, 2"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling is"),
        ({"codebook_dim": 8}, "hidden_size of the encoder and codebook_dim of the decoder: 16 in encoder_config and 8"),
        ({"codebook_dim": 7}, "codebook_dim is 7; entries have half of it"),
        ({"codebook_size": 8}, "codebook_size: 16 in encoder_config and 8 in decoder_config"),
        ({"num_quantizers": 3}, "num_quantizers: 4 in encoder_config and 3"),
        ({"upsample_rates": [3]}, "samples per frame: 12 in encoder_config and 6"),
        ({"upsample_rates": "32"}, "upsample_rates is '32'; it must be a list of numbers"),
        ({"decoder_dim": 6}, "decoder_dim is 6; each of upsample_rates halves it"),
        ({"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None}, "3 heads must divide it"),
    ],
)
def test_what_cannot_be_run_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        QwenTtsCodec(config(**change))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoder_valid_num_quantizers": 7}, "encoder_valid_num_quantizers is 7; it must be a whole number of 2 to 6"),
        (
            {"decode_upsample_rate": 1920},
            "decode_upsample_rate is 1920; with the other sizes of this codec it must be 12",
        ),
        ({"output_sample_rate": 16_000}, "output_sample_rate is 16000"),
        ({"decoder_config": 3}, "decoder_config is 3; it must be an object"),
    ],
)
def test_rates_that_do_not_fit_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        QwenTtsCodec(SMALL | change)


# -- the quantizer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_codes_mean_other_entries_than_those_that_found_them(count: int) -> None:
    codec = small_codec()
    quantizer = codec.quantizer
    latents = codec.encode_latents(signal(2, 1, 120)).transpose(1, 2).detach().requires_grad_()
    made, codes = quantizer.straight_through(latents, count), quantizer.encode(latents, count)
    assert torch.equal(made.codes, codes)
    torch.testing.assert_close(made.latents, quantizer.decode(codes))
    torch.testing.assert_close(quantizer.stages(codes).sum(2), quantizer.decode(codes))
    part = quantizer.meanings[0][codes[..., 0]] @ quantizer.up[0]
    torch.testing.assert_close(quantizer.stages(codes)[:, :, 0], part)
    made.latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))
