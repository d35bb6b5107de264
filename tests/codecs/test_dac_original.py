"""The original DAC files: their names, their metadata, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from dac_models import KWARGS, noise, original_model
from torch.nn.utils import parametrize

from streamcodec.checkpoint import load
from streamcodec.codecs.dac_original import convert
from streamcodec.errors import CheckpointError, ConfigError

FEW = {"encoder.block.0.weight": torch.zeros(1), "decoder.model.0.weight": torch.zeros(1)}


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
    found = convert(FEW, "f", {"kwargs": kwargs})
    assert found is not None
    assert "hidden_size" not in found[0]
    with pytest.raises(CheckpointError, match=r"conv2\.weight has shape .*needs \[16, 16, 3\]"):
        load(write(tmp_path / "narrow.pth", original_model().state_dict(), kwargs=kwargs))


def test_a_file_without_the_arguments_of_its_model_is_refused(tmp_path):
    state = original_model().state_dict()
    torch.save(state, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare\.pth.*without its metadata"):
        load(tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="without its metadata"):
        load(write(tmp_path / "w.pth", state, other=1))
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
    assert convert({}, "f", {"kwargs": KWARGS}) is None
    assert convert({"encoder.block.0.weight": torch.zeros(1)}, "f", None) is None


def test_code_in_the_metadata_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    with pytest.raises(CheckpointError, match="refused"):
        load(write(tmp_path / "w.pth", original_model().state_dict(), kwargs=KWARGS, trap=Trap()))
    assert not (tmp_path / "executed").exists()
