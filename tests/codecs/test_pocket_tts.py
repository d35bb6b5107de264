"""Pocket TTS's tokenizer: latents equal to transformers', streams of them equal to offline, and no codes at all."""

import json
from pathlib import Path
from typing import Any

import pocket_tts_models
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts, signal
from pocket_tts_models import SMALL, codec_of, small_codec
from safetensors.torch import save_file
from torch import Tensor

import streamcodec
from streamcodec import Engine
from streamcodec.checkpoint import load, save
from streamcodec.codecs.pocket_tts import PocketTtsCodec, PocketTtsConfig
from streamcodec.errors import CheckpointError, ConfigError, InputError

VARIANTS: list[dict[str, Any]] = [
    {},
    {"sliding_window": 300, "latent_stride": 5, "latent_dim": 16},
    {"sliding_window": 2, "latent_stride": 3, "num_residual_layers": 2, "use_conv_shortcut": True, "head_dim": 4},
]
sizes = st.lists(st.integers(0, 90) | st.integers(0, 7), max_size=12)


def transformers_model(codec: PocketTtsCodec) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers is the oracle")
    if not hasattr(transformers, "PocketTTSAudioTokenizerModel"):
        pytest.skip("this transformers has no PocketTTSAudioTokenizerModel")
    return pocket_tts_models.transformers_model(codec)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_gives_what_transformers_gives(variant: dict[str, Any]) -> None:
    codec = small_codec(torch.float32, **variant)
    model, hop = transformers_model(codec), codec.spec.hop_length
    bare = load_bare(codec)
    for samples in (1, hop - 1, hop, hop + 1, 40 * hop + 5):
        wav = signal(2, 1, samples)
        padded = torch.nn.functional.pad(wav, (0, -samples % hop))  # as the feature extractor does
        with torch.no_grad():
            for ours, audio in ((codec, padded), (bare, wav)):
                latents = model.encode(audio).latents.transpose(1, 2)
                torch.testing.assert_close(ours.encode_latents(wav), latents, rtol=0, atol=1e-5)
            theirs = model.decode(latents.transpose(1, 2)).audio_values
            torch.testing.assert_close(codec.decode_latents(latents), theirs, rtol=0, atol=1e-5)
    assert theirs.std() > 0.05


def load_bare(codec: PocketTtsCodec) -> PocketTtsCodec:
    bare = codec.twin()
    bare.pad = False
    return bare


def test_a_folder_that_transformers_wrote_is_read() -> None:
    theirs = transformers_model(small_codec(torch.float32))
    codec, wav = codec_of(theirs), signal(1, 1, 240)
    assert codec.fingerprint == small_codec(torch.float32).fingerprint
    with torch.no_grad():
        latents = theirs.encode(wav).latents.transpose(1, 2)
        torch.testing.assert_close(codec.encode_latents(wav), latents, rtol=0, atol=1e-5)


@settings(max_examples=25)
@given(st.sampled_from(VARIANTS), st.integers(0, 20) | st.integers(0, 500), st.integers(1, 2), st.booleans(), sizes)
def test_streams_of_latents_equal_the_offline_calls(
    variant: dict[str, Any], samples: int, batch: int, pad: bool, pieces: list[int]
) -> None:
    codec = small_codec(**variant) if pad else load_bare(small_codec(**variant))
    wav = signal(batch, 1, samples, samples)
    encoder, decoder = codec.open_latent_encoder(batch), codec.open_latent_decoder(batch)
    parts = [*(encoder.push(wav[:, :, first:stop]) for first, stop in cuts(samples, pieces)), encoder.flush()]
    latents, expected = torch.cat(parts, 2), codec.encode_latents(wav).detach()
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-10)
    pcm = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    assert pcm.shape[2] == codec.spec.samples(latents.shape[2])
    torch.testing.assert_close(pcm, codec.decode_latents(expected).detach(), rtol=0, atol=1e-10)


def test_a_frame_comes_when_its_last_sample_is_in() -> None:
    codec = small_codec()
    assert codec.spec.encoder_delay == codec.spec.decoder_delay == codec.spec.prefill_frames == 0
    wav, stream = signal(1, 1, 24), codec.open_latent_encoder()
    assert [stream.push(wav[..., i : i + 1]).shape[2] for i in range(24)] == ([0] * 11 + [1]) * 2


def test_it_has_no_codes_and_says_what_to_use() -> None:
    codec = small_codec()
    wav = signal(1, 1, 24)
    calls = [
        lambda: codec.encode(wav),
        lambda: codec.encode([wav[0]]),
        lambda: codec.decode(torch.zeros(1, 1, 4, dtype=torch.long)),
        lambda: codec.quantize(codec.encode_latents(wav)),
        lambda: codec.dequantize(torch.zeros(1, 1, 4, dtype=torch.long)),
        lambda: codec.straight_through(codec.encode_latents(wav)),
        lambda: codec.open_encoder(),
        lambda: codec.open_decoder().push(torch.zeros(1, 1, 4, dtype=torch.long)),
        lambda: codec.silence(2),
        lambda: Engine(codec),
    ]
    for call in calls:
        with pytest.raises(InputError, match="small pocket has continuous latents and no codes: use encode_latents"):
            call()
    codec.warm_up()


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    codec = small_codec(torch.float32)
    save(codec, tmp_path)
    again = load(tmp_path)
    assert isinstance(again, PocketTtsCodec)
    assert (again.config, again.fingerprint, again.backend) == (codec.config, codec.fingerprint, "auto")
    assert codec.on("torch").served_by() == {"encoder": "torch", "decoder": "torch"}
    assert streamcodec.load(tmp_path, backend="torch").spec.latent_channels == 5


def test_the_published_sizes_are_those_of_its_report() -> None:
    config = PocketTtsConfig()
    assert (config.hop_length, config.sampling_rate / config.hop_length, config.latent_dim) == (1920, 12.5, 32)


# -- the package's own files -------------------------------------------------------------------------------------------


def test_a_file_of_the_package_gives_what_the_package_gives(tmp_path: Path) -> None:
    model, path = pocket_tts_models.package_model(), tmp_path / "model.safetensors"
    tensors = {f"mimi.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors | {"flow_lm.out.weight": torch.zeros(2)}, path)
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    codec, wav = load(path), signal(1, 1, 250)
    with torch.no_grad():
        latents = model.encode_to_latent(wav).transpose(1, 2)
        ours = codec.encode_latents(wav)
        torch.testing.assert_close(ours, latents, rtol=0, atol=1e-5 * max(1.0, float(latents.abs().max())))
        hidden = model.decoder_transformer(stateless(model.upsample.convtr, model.quantizer(latents)), None)[0]
        audio = hidden
        for layer in model.decoder.model:
            audio = decoded(layer, audio)
        scale = max(1.0, float(audio.abs().max()))
        torch.testing.assert_close(codec.decode_latents(latents), audio, rtol=0, atol=1e-5 * scale)


def stateless(module: Any, x: Tensor) -> Tensor:
    """A transposed convolution of the package over a whole signal; it has a way for streams alone."""
    conv = module.convtr
    return conv(x)[..., : x.shape[2] * conv.stride[0]]


def decoded(layer: Any, x: Tensor) -> Tensor:
    if hasattr(layer, "convtr"):
        return stateless(layer, x)
    return layer(x) if isinstance(layer, torch.nn.ELU) else layer(x, None)


def test_files_of_the_package_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.safetensors"
    tensors = {
        "downsample.conv.conv.weight": torch.zeros(5, 16, 4),
        "quantizer.output_proj.weight": torch.zeros(16, 5, 1),
        "encoder.model.0.conv.weight": torch.zeros(4, 1, 7),
    }
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"has hidden_size 16, latent_dim 5, latent_stride 2, num_filters 4"):
        load(path)
    save_file(tensors | {"quantizer.output_proj.weight": torch.zeros(16, 3, 1)}, path)
    with pytest.raises(CheckpointError, match=r"its encoder gives 5 channels and its decoder takes 3"):
        load(path)
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    save_file(tensors | {"quantizer.more": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"unknown entry 'quantizer\.more'"):
        load(path)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; Pocket TTS's tokenizer is supported with 'gelu_pytorch_tanh'"),
        ({"encoder_config": None}, "encoder_config is null: this checkpoint has one half only"),
        ({"upsample_groups": 1}, "upsample_groups is 1; with the other sizes of this Pocket TTS's tokenizer"),
        ({"latent_dim": 0}, "latent_dim is 0; it must be positive"),
        ({"latent_stride": "2"}, "latent_stride is '2'; it must be a whole number"),
    ],
)
def test_what_cannot_be_run_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        PocketTtsCodec(SMALL | change)
