"""A spectral codec in training: it learns in seconds, and what is exported is what was trained."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from train_small import run_of, small

from streamcodec.checkpoint import load
from streamcodec.codecs.spectral import SpectralCodec
from streamcodec.errors import ConfigError
from streamcodec.train.build import export_run
from streamcodec.train.config import Settings, parse_settings, to_toml
from streamcodec.train.loop import Run
from streamcodec.train.model import Networks

SIZES = {"encoder_width": 32, "encoder_blocks": 1, "decoder_width": 32, "decoder_blocks": 1, "bands": 16}
LOSS = {"mel": 2.5, "wave": 1.0, "adversarial": 0.0, "feature": 0.0}


def spectral_run(source: Path, folder: Path, **sections: dict[str, Any]) -> Run:
    codec = {"architecture": "spectral", "codebook_size": 64, "target_bandwidths": [0.9, 1.8], "default_bandwidth": 1.8}
    return run_of(source, folder, codec=codec, spectral=SIZES, loss=LOSS, **sections)


def test_it_learns_in_seconds(recordings: Path, tmp_path: Path) -> None:
    run = spectral_run(recordings, tmp_path, run={"steps": 60}, optimizer={"learning_rate": 4e-3})
    assert isinstance(run.trainer.networks.codec, SpectralCodec)
    heard = [figures["mel"] for figures in run.updates()]
    assert run.trainer.quantised
    assert sum(heard[-10:]) / 10 < 0.5 * heard[0]


def test_what_is_exported_is_what_was_trained(recordings: Path, tmp_path: Path) -> None:
    run = spectral_run(recordings, tmp_path / "run", run={"steps": 4})
    list(run.updates())
    codec, trainer = load(export_run(tmp_path / "run", tmp_path / "codec")), run.trainer
    assert isinstance(codec, SpectralCodec)
    assert codec.spec.bandwidths == (0.9, 1.8)
    stored = load_file(tmp_path / "codec" / "model.safetensors")
    for name, value in (*trainer.averages.items(), ("quantizer.codebooks", trainer.learner.codebooks)):
        kept = stored.pop(name)
        if kept.dtype is torch.int8:  # a product: at most half a step away, the largest of an output 127 steps
            scale = stored.pop(name + "_scale").float()
            assert ((kept * scale - value).abs() <= 0.57 * scale).all(), name  # half, and what rounding the scale adds
            assert (kept.abs().amax((0, 1)) == 127).all(), name
        else:
            assert torch.equal(kept, value.half()), name
    assert not stored
    again = load(export_run(tmp_path / "run", tmp_path / "again"))
    wav = 0.1 * torch.randn(1, 1, 6400, generator=torch.Generator().manual_seed(0))
    codes = codec.encode(wav)
    assert torch.equal(again.encode(wav).data, codes.data)
    assert torch.equal(again.decode(codes), codec.decode(codes))
    # The next training goes on from it, and at once with codes.
    more = run_of(recordings, tmp_path / "more", codec={"init_from": str(tmp_path / "codec")}, run={"steps": 1})
    assert more.trainer.quantised
    assert all(math.isfinite(value) for figures in more.updates() for value in figures.values())


def test_training_sees_what_the_codec_computes() -> None:
    torch.manual_seed(0)
    codec = SpectralCodec(parse_settings({"spectral": SIZES, "codec": {"architecture": "spectral"}}).codec_config())
    trained = Networks(codec, torch.device("cpu"), bfloat16=False)
    audio = 0.1 * torch.randn(2, 3200, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = trained.encode(audio).values
        assert torch.equal(latents, codec.encoder(audio[..., None]))
        assert torch.equal(trained.decode(latents), codec.decoder(latents)[..., 0])
    assert trained.decode(latents).shape == (2, 2880)
    assert len(trained.parameters) == len(list(codec.parameters()))


def test_it_trains_in_bfloat16(recordings: Path, tmp_path: Path) -> None:
    run = spectral_run(recordings, tmp_path, run={"steps": 3, "precision": "bfloat16"})
    assert run.trainer.warning is None
    assert all(math.isfinite(value) for figures in run.updates() for value in figures.values())


def test_all_sizes_are_settings() -> None:
    changed = {
        "codec": {"architecture": "spectral", "sampling_rate": 16_000, "hidden_size": 32, "codebook_size": 256},
        "spectral": {"hop_length": 256, "kernel_size": 5, "expansion": 2, "bands": 20},
    }
    changed["codec"] |= {"target_bandwidths": [1.0, 2.0], "default_bandwidth": 2.0}
    settings = parse_settings(changed)
    codec = SpectralCodec(settings.codec_config())
    assert (codec.spec.sample_rate, codec.spec.hop_length, codec.spec.num_codebooks) == (16_000, 256, 4)
    assert all(codec.config[name] == value for name, value in changed["spectral"].items())
    assert "[spectral]" in to_toml(settings)
    assert SpectralCodec(parse_settings({"codec": {"architecture": "spectral"}}).codec_config()).spec.delay == 640
    assert "spectral" not in Settings().codec_config().values()


def test_mistakes_are_told(recordings: Path, tmp_path: Path) -> None:
    for sections, message in (
        ({"data": {"crop_samples": 640}}, "of which spectral gives back 320, since its decoder lags"),
        ({"codec": {"architecture": "spectral", "target_bandwidths": [1.5, 2.9], "default_bandwidth": 1.5}}, "0.75 kb"),
    ):
        codec = {"architecture": "spectral"} | sections.pop("codec", {})
        with pytest.raises(ConfigError, match=message):
            run_of(recordings, tmp_path, codec=codec, spectral=SIZES, loss=LOSS, **sections)
    with pytest.raises(ConfigError, match=r"codec\.architecture 'wavenet' is not known; encodec, dac and spectral are"):
        small(codec={"architecture": "wavenet"})
    with pytest.raises(ConfigError, match="a spectral codec begins with a transform anyway"):
        small(codec={"architecture": "spectral", "start": "transform"})
