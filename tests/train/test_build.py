import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_small import SETTINGS, SMALL
from transformers import EncodecModel

from streamcodec.checkpoint import load
from streamcodec.errors import CheckpointError, ConfigError
from streamcodec.train.__main__ import main
from streamcodec.train.build import DEFAULT_CONFIG, build_trainer, export_run, write_half


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.fixture
def run(recordings: Path, tmp_path: Path, config: Path) -> Path:
    """The folder of a finished training."""
    list(build_trainer(recordings, tmp_path / "run", SETTINGS, config).run(tmp_path / "run"))
    return tmp_path / "run"


def test_the_export_gives_the_same_codes_here_and_in_transformers(run: Path, tmp_path: Path) -> None:
    folder = export_run(run, tmp_path / "codec")
    assert {value.dtype for value in load_file(folder / "model.safetensors").values() if value.is_floating_point()} == {
        torch.float16
    }
    ours, theirs = load(folder), EncodecModel.from_pretrained(folder).eval()
    assert {parameter.dtype for parameter in theirs.parameters()} == {torch.float32} == {ours.dtype}
    wav = 0.1 * torch.randn(1, 1, 6400, generator=torch.Generator().manual_seed(0))
    codes = ours.encode(wav, 3.0)
    with torch.no_grad():
        expected = theirs.encode(wav, bandwidth=3.0)
        audio = theirs.decode(expected.audio_codes, expected.audio_scales).audio_values
    assert torch.equal(codes.data, expected.audio_codes[0])
    torch.testing.assert_close(ours.decode(codes), audio, rtol=1e-4, atol=1e-5)


def test_training_goes_on_from_a_codec(run: Path, tmp_path: Path, recordings: Path) -> None:
    folder = export_run(run, tmp_path / "codec")
    before = load(folder)
    trainer = build_trainer(recordings, tmp_path / "more", SETTINGS | {"steps": 2}, start=str(folder))
    assert trainer.quantised
    assert torch.equal(trainer.learner.codebooks, before.quantizer.codebooks)
    list(trainer.run(tmp_path / "more"))
    after = load(export_run(tmp_path / "more", tmp_path / "better"))
    assert not torch.equal(after.quantizer.codebooks, before.quantizer.codebooks)


def test_weights_beyond_float16_are_refused(run: Path, tmp_path: Path) -> None:
    codec = load(export_run(run, tmp_path / "codec"))
    codec.quantizer.set_codebooks(1e6 * codec.quantizer.codebooks)
    with pytest.raises(CheckpointError, match="float16"):
        write_half(codec, tmp_path / "large")


def test_the_default_configuration_fits_the_package() -> None:
    from streamcodec.codecs.encodec import EncodecCodec

    codec = EncodecCodec(DEFAULT_CONFIG)
    assert codec.spec.bandwidths == (1.5, 3.0, 6.0)
    assert codec.spec.num_codebooks == 8
    assert codec.spec.prefill_frames == 0
    stored = sum(tensor.numel() for tensor in codec.to_huggingface()[1].values())
    assert 2 * stored < 8e6


def test_commands(recordings: Path, tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cli"
    common = ["--data", str(recordings), "--out", str(out), "--config", str(config), "--settings"]
    settings = json.dumps({name: value for name, value in SETTINGS.items() if name != "steps"})
    assert main(["run", *common, settings, "--steps", "4"]) == 0
    assert main(["export", str(out), str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "codec" / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["evaluate", str(out / "codec"), str(recordings)]) == 0
    shown = capsys.readouterr().out
    assert "| speech | 1 | 1.5 |" in shown
    assert "| music | 1 | 3 | - |" in shown
    assert "Perplexity" in shown


def test_mistakes_are_told(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["run", "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "out"), "--steps", "1"]) == 1
    assert "holds no audio" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        export_run(tmp_path / "out", tmp_path / "codec")
    with pytest.raises(ConfigError, match=r"config\.json"):
        build_trainer(recordings, tmp_path / "out", {"steps": 1}, tmp_path / "missing.json")
