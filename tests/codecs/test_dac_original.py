"""The original DAC files: their names, their metadata, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dac_models import KWARGS, noise, original_model
from safetensors.torch import save_file
from torch.nn.utils import parametrize

from streamcodec.checkpoint import load
from streamcodec.codecs import Codec, Original
from streamcodec.codecs.dac_original import convert
from streamcodec.errors import CheckpointError, ConfigError

FEW = dict.fromkeys(("encoder.block.0.weight", "encoder.block.3.alpha", "decoder.model.0.weight"), torch.zeros(1))


def write(path: Path, state: Any, **metadata: Any) -> Path:
    torch.save({"state_dict": state, "metadata": metadata}, path)
    return path


@torch.no_grad()
def test_an_original_file_is_the_model_that_it_was_saved_from(tmp_path):
    model = original_model()
    codec = load(write(tmp_path / "weights.pth", model.state_dict(), kwargs=KWARGS), dtype=torch.float64)
    spec = codec.spec
    assert (spec.name, spec.sample_rate, spec.hop_length, spec.num_codebooks) == ("weights", 1000, 6, 3)
    assert codec.config["hidden_size"] == 10
    for module in model.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")  # merged in float32, as the file was
    model.double()
    wav = noise(2, 61)
    latents = codec.encoder(wav.transpose(1, 2))
    torch.testing.assert_close(latents.transpose(1, 2), model.encoder(wav), rtol=0, atol=1e-10)
    audio = codec.decoder(latents).transpose(1, 2)
    torch.testing.assert_close(audio, model.decoder(latents.transpose(1, 2)), rtol=0, atol=1e-10)
    codes = codec.encode(wav)
    summed = sum(
        stage.out_proj(stage.codebook(codes.data[:, i]).transpose(1, 2))
        for i, stage in enumerate(model.quantizer.quantizers)
    )
    torch.testing.assert_close(codec.latents(codes).transpose(1, 2), summed, rtol=0, atol=1e-10)


def test_latents_are_as_wide_as_the_encoder_unless_the_file_says_otherwise(tmp_path):
    kwargs = {name: value for name, value in KWARGS.items() if name != "latent_dim"}
    found = convert(Original(FEW, "f", inside={"metadata": {"kwargs": kwargs}}.get))
    assert found is not None
    assert "hidden_size" not in found[0]
    with pytest.raises(CheckpointError, match=r"conv2\.weight has shape .*needs \[16, 16, 3\]"):
        load(write(tmp_path / "narrow.pth", original_model().state_dict(), kwargs=kwargs))


def test_a_file_of_which_nothing_tells_the_sample_rate_is_refused(tmp_path):
    state = original_model().state_dict()
    torch.save(state, tmp_path / "bare.pth")
    message = r"bare\.pth.*without metadata.*3 codebooks, strides \[2, 3\].*sample rate cannot be told.*config\.json"
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="sample rate cannot be told"):
        load(write(tmp_path / "w.pth", state, other=1))
    (tmp_path / "folder").mkdir()
    torch.save(state, tmp_path / "folder" / "pytorch_model.bin")
    for config in ({"model_type": "dac"}, {"model_type": "encodec", "sampling_rate": 1000}):
        (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=f"config.json says model_type '{config['model_type']}'.*'dac'"):
            load(tmp_path / "folder")
    kwargs = {name: value for name, value in KWARGS.items() if name != "sample_rate"}
    with pytest.raises(CheckpointError, match="lack sample_rate"):
        load(write(tmp_path / "w.pth", state, kwargs=kwargs))


@pytest.mark.parametrize(
    "change",
    [{"encoder_rates": 6}, {"codebook_dim": [4, 4, 4]}, {"decoder_rates": [2, 3]}, {"sample_rate": "1000"}],
)
def test_arguments_that_make_no_model_are_refused(tmp_path, change):
    with pytest.raises((ConfigError, CheckpointError), match=r"w\.pth"):
        load(write(tmp_path / "w.pth", original_model().state_dict(), kwargs=KWARGS | change))


@pytest.mark.parametrize(
    "extra",
    [
        "encoder.block.5.weight",
        "encoder.block.1.block.2.weight",
        "encoder.block.1.block.3.block.0.alpha",
        "decoder.model.1.block.1.block.0.alpha",
        "decoder.model.1.block.5.block.4.weight",
        "discriminator.weight",
        "quantizer.quantizers.0.codebook.gain",
    ],
)
def test_an_unknown_entry_is_named(tmp_path, extra):
    state = original_model().state_dict() | {extra: torch.zeros(1)}
    with pytest.raises(CheckpointError, match=f"unknown entry '{extra}'"):
        load(write(tmp_path / "w.pth", state, kwargs=KWARGS))


def test_another_familys_state_dict_is_not_recognised():
    assert convert(Original({}, "f", inside={"metadata": {"kwargs": KWARGS}}.get)) is None
    assert convert(Original({"encoder.block.0.weight": torch.zeros(1)}, "f")) is None


def test_code_in_the_metadata_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    with pytest.raises(CheckpointError, match="refused"):
        load(write(tmp_path / "w.pth", original_model().state_dict(), kwargs=KWARGS, trap=Trap()))
    assert not (tmp_path / "executed").exists()


def same(codec: Codec, plain: Codec) -> bool:
    """Whether the two give the same codes of the same audio, and the same audio of them."""
    wav = noise(1, 61)
    codes = plain.encode(wav)
    return torch.equal(codec.encode(wav).data, codes.data) and torch.equal(codec.decode(codes), plain.decode(codes))


@pytest.mark.parametrize("model_type", ["dac", "dac_on_the_hub"])
def test_parlers_folder_is_the_model_that_it_wraps(tmp_path, model_type):
    """Parler-TTS publishes DAC's weights, weight-normed and under "model.", with a configuration of its own class."""
    state = original_model().state_dict()
    plain = load(write(tmp_path / "weights.pth", state, kwargs=KWARGS), dtype=torch.float64)
    config = {"model_type": model_type, "num_codebooks": 9, "latent_dim": 1024, "frame_rate": 86, "sampling_rate": 1000}
    (tmp_path / "config.json").write_text(json.dumps(config | {"codebook_size": 1024, "model_bitrate": 8}))
    save_file({f"model.{name}": tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
    codec = load(tmp_path, dtype=torch.float64)
    assert codec.config == plain.config  # the sizes are the weights' own, whatever the configuration says of them
    assert same(codec, plain)


@pytest.mark.parametrize(
    ("rate", "strides", "books"),
    [(16_000, (2, 4, 5, 8), 12), (24_000, (2, 4, 5, 8), 32), (44_100, (2, 4, 8, 8), 9), (44_100, (2, 4, 8, 8), 18)],
)
def test_a_bare_state_dict_of_published_sizes_has_the_published_sample_rate(rate, strides, books):
    shapes = {
        "encoder.block.0.weight": (64, 1, 7),
        **{f"encoder.block.{i + 1}.block.4.weight": (1, 1, 2 * stride) for i, stride in enumerate(strides)},
        "encoder.block.5.alpha": (1, 1024, 1),
        "encoder.block.6.weight": (1024, 1, 3),
        "decoder.model.0.weight": (1536, 1, 7),
        **{f"decoder.model.{i + 1}.block.1.weight": (1, 1, 2 * stride) for i, stride in enumerate(strides[::-1])},
        **{f"quantizer.quantizers.{i}.codebook.weight": (1024, 8) for i in range(books)},
    }
    tensors = {name: torch.zeros(shape, device="meta") for name, shape in shapes.items()}
    found = convert(Original(tensors, "f"))
    assert found is not None
    assert found[0]["sampling_rate"] == rate
    assert found[0]["downsampling_ratios"] == list(strides)
    assert found[0]["upsampling_ratios"] == list(strides[::-1])
    del tensors["encoder.block.6.weight"]
    with pytest.raises(CheckpointError, match=r"without 'encoder\.block\.6\.weight'"):
        convert(Original(tensors, "f"))


def test_sizes_are_told_from_the_weights_alone(tmp_path):
    state = original_model().state_dict()
    told = load(write(tmp_path / "told.pth", state, kwargs=KWARGS), dtype=torch.float64)
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dac", "sampling_rate": 1000}))
    codec = load(tmp_path, dtype=torch.float64)
    assert codec.config == told.config
    assert same(codec, told)
