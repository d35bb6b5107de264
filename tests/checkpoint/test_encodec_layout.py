"""A checkpoint of ours in EnCodec's layout is transformers': the same files, codes and audio."""

from pathlib import Path

import oracles
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from streamcodec.checkpoint import load
from streamcodec.cli.roundtrip import RECORDING
from streamcodec.train.build import write_small
from streamcodec.train.config import read_settings

SIZES = Path(__file__).parents[2] / "docs" / "train_cpu.toml"


def test_a_file_of_trained_sizes_gives_the_same_codes_and_audio_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra [test])")
    config = read_settings(SIZES).codec_config()
    default = config.pop("streamcodec_default_bandwidth")
    codec = oracles.codec_of(oracles.random_transformers_model(**config))
    codec.config["streamcodec_default_bandwidth"] = default
    folder = write_small(codec, tmp_path / "codec")
    kept = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in kept.values() if tensor.is_floating_point()} == {torch.float16}
    model = transformers.EncodecModel.from_pretrained(folder).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    model, ours = model.double(), load(folder, dtype=torch.float64)
    assert (ours.spec.bandwidths, ours.spec.default_bandwidth) == ((1.5, 3.0, 6.0), 6.0)
    samples, _ = soundfile.read(RECORDING, frames=72_123)
    wav = torch.from_numpy(samples)[None, None]
    for bandwidth in ours.spec.bandwidths:
        with torch.no_grad():
            theirs = model.encode(wav, bandwidth=bandwidth)
            audio = model.decode(theirs.audio_codes, theirs.audio_scales)[0]
        codes = ours.encode(wav, bandwidth)
        assert codes.data.unique().numel() > 100
        assert torch.equal(codes.data, theirs.audio_codes[0])
        # Weight norm is merged in float32 here and in float64 there: the weights differ by a rounding.
        torch.testing.assert_close(ours.decode(codes), audio[..., : wav.shape[-1]], rtol=0, atol=1e-6)
