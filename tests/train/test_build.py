import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_small import run_of, small
from transformers import EncodecModel

from streamcodec.checkpoint import load
from streamcodec.cli import main
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import CheckpointError, ConfigError
from streamcodec.train.build import build_run, export_run, write_small
from streamcodec.train.config import Settings, to_toml


@pytest.fixture
def run(recordings: Path, tmp_path: Path) -> Path:
    """The folder of a finished training."""
    list(run_of(recordings, tmp_path / "run").updates())
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


@pytest.mark.slow
def test_training_goes_on_from_a_codec(run: Path, tmp_path: Path, recordings: Path) -> None:
    folder = export_run(run, tmp_path / "codec")
    before = load(folder)
    more = run_of(recordings, tmp_path / "more", codec={"init_from": str(folder)}, run={"steps": 2})
    assert more.trainer.quantised
    assert torch.equal(more.trainer.learner.codebooks, before.quantizer.codebooks)
    list(more.updates())
    after = load(export_run(tmp_path / "more", tmp_path / "better"))
    assert not torch.equal(after.quantizer.codebooks, before.quantizer.codebooks)


def test_training_goes_on_from_the_bundled_codec(recordings: Path, tmp_path: Path) -> None:
    """Its frames are of 480 samples and its decoder lags by one: crops must be whole frames, one more than is heard."""
    sections = {
        "codec": {"init_from": "bundled"},
        "quantizer": {"start_batches": 1, "books": [2, 12]},
        "data": {"crop_samples": 3360},
    }
    run = run_of(recordings, tmp_path / "run", **sections, run={"steps": 1})
    assert len(list(run.updates())) == 1
    sizes = [path.stat().st_size for path in (tmp_path / "run" / "checkpoints").rglob("*") if path.is_file()]
    assert max(sizes) < 16 * 2**20
    # Weights, their averages and two moments, four bytes each: more than one file holds.
    trained = sum(parameter.numel() for parameter in run.trainer.parameters.values())
    assert sum(sizes) > 4 * 4 * trained > 16 * 2**20
    codec = load(export_run(tmp_path / "run", tmp_path / "codec"))
    assert codec.spec.bandwidths == load().spec.bandwidths


def test_weights_beyond_float16_are_refused(run: Path, tmp_path: Path) -> None:
    codec = load(export_run(run, tmp_path / "codec"))
    codec.quantizer.set_codebooks(1e6 * codec.quantizer.codebooks)
    with pytest.raises(CheckpointError, match="float16"):
        write_small(codec, tmp_path / "large")


def test_the_default_codec_fits_the_package() -> None:
    codec = EncodecCodec(Settings().codec.to_huggingface())
    assert codec.spec.bandwidths == (1.5, 3.0, 6.0)
    assert codec.spec.num_codebooks == 8
    assert codec.spec.prefill_frames == 0
    stored = sum(tensor.numel() for tensor in codec.to_huggingface()[1].values())
    assert 2 * stored < 8e6


def test_a_training_is_run_resumed_and_exported_by_commands(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, config = tmp_path / "cli", tmp_path / "small.toml"
    config.write_text(to_toml(small()))
    assert main(["train", "--print-config", "--config", str(config)]) == 0
    assert capsys.readouterr().out == config.read_text()
    common = ["--data", str(recordings), "--out", str(out), "--config", str(config)]
    assert main(["train", "run", *common, "--set", "run.steps=4", "--stop-after", "1e-6"]) == 0
    assert f"streamcodec train resume {out}" in capsys.readouterr().err
    assert main(["train", "resume", str(out), "--set", "run.steps=3"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "codec")
    assert main(["train", "export", str(out), str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "codec" / "model.safetensors").read_bytes()


def test_a_pack_trains_what_its_folder_trains(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "pack", "--data", str(recordings), "--out", str(tmp_path / "pack")]) == 0
    assert "2 recordings" in capsys.readouterr().out
    one, two = (run_of(data, tmp_path / name).trainer for data, name in ((recordings, "a"), (tmp_path / "pack", "b")))
    assert one.step() == two.step()
    assert main(["train", "pack", "--data", str(recordings), "--out", str(tmp_path / "none"), "--limit", "0"]) == 2


def test_mistakes_are_told(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["train", "run", "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert "holds no audio" in capsys.readouterr().err
    assert main(["train", "resume", str(tmp_path / "empty")]) == 2
    with pytest.raises(SystemExit):
        main(["train"])
    assert "run, resume, export, blend, pack or entropy" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="no checkpoint"):
        export_run(tmp_path / "out", tmp_path / "codec")
    for sections, message in (
        ({"data": {"crop_samples": 3201}}, "hop length"),
        ({"quantizer": {"books": [2, 40]}}, "codebooks"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_run(recordings, tmp_path / "out", small(**sections))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "config.json").write_text("{")
    list(run_of(recordings, tmp_path / "cut", run={"steps": 1}).updates())
    (tmp_path / "cut" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        export_run(tmp_path / "cut", tmp_path / "codec")


def test_unreadable_files_are_named_and_skipped_by_the_command(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    good = recordings / "speech" / "tone.wav"
    (tmp_path / "list.txt").write_text(f"# two files\n{good}\nbad.wav\n")
    config = tmp_path / "small.toml"
    config.write_text(to_toml(small(run={"steps": 1})))
    common = ["--out", str(tmp_path / "out"), "--config", str(config)]
    assert main(["train", "run", "--data", str(tmp_path / "list.txt"), *common]) == 0
    assert "bad.wav" in capsys.readouterr().err
    index = next((tmp_path / "out" / "cache").glob("*.json"))
    assert [Path(entry["path"]).name for entry in json.loads(index.read_text())] == ["tone.wav"]
