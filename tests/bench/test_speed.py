"""``streamcodec bench speed`` on codecs of a few channels: what it reports, and what it refuses."""

import json
from functools import cache

import pytest
import torch
from safetensors.torch import load_file, save_file

from streamcodec.bench import presets, speed
from streamcodec.bench.presets import PRESETS
from streamcodec.checkpoint import load, save
from streamcodec.checkpoint.sources import locate
from streamcodec.cli import main
from streamcodec.codes import Codes

pytest.importorskip("transformers", reason="bench speed compares with transformers")

SMALL = {
    "encodec_24khz": {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 64},
    "dac_16khz": {"encoder_hidden_size": 4, "decoder_hidden_size": 64, "codebook_size": 64, "n_codebooks": 3},
}
QUICK = ["--seconds", "0.5", "--repeats", "1", "--steps", "2,5"]
SIDES = ["transformers, offline", "streamcodec, offline", "streamcodec, 2-frame steps", "streamcodec, 5-frame steps"]


@cache
def small(name):
    preset = PRESETS[name]
    return presets.make(preset._replace(config=preset.config | SMALL[name]))


@pytest.fixture(params=sorted(SMALL))
def directory(request, tmp_path):
    return save(small(request.param), tmp_path / "codec")


def test_the_table_has_every_side_and_direction(directory, capsys):
    assert main(["bench", "speed", "--codec", str(directory), *QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "checked against transformers: " in err
    result = json.loads(out)
    assert list(result["sides"]) == SIDES
    for row in result["sides"].values():
        assert row["encode_ms_per_frame"] > 0
        assert row["decode_ms_per_frame"] > 0
        assert row["real_time_factor"] > 0
    assert {result["sides"][SIDES[0]][key] for key in ("encode_ratio", "decode_ratio", "ratio")} == {1.0}


def test_one_direction_alone(directory, capsys):
    assert main(["bench", "speed", "--codec", str(directory), *QUICK, "--only", "decode"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| medians | decode, ms a frame | decode / offline |"
    assert [line.split("|")[1].strip() for line in table[2:]] == SIDES


def test_sides_that_differ_are_not_timed(directory, capsys, monkeypatch):
    """transformers is given another decoder, then other codebooks, than this package reads."""
    monkeypatch.setattr(speed, "_measure", lambda *_: pytest.fail("measured two different things"))
    weights = directory / "model.safetensors"
    whole = load_file(weights)
    for part, message in (("decoder", "decoded audio differs"), ("codebook", "of the codes equal")):
        other = {name: -2 * value if part in name else value for name, value in whole.items()}
        codec = codec_of(directory, other)
        monkeypatch.setattr("streamcodec.bench.pairs.load", lambda _, backend, codec=codec: codec)
        assert main(["bench", "speed", "--codec", str(directory), *QUICK]) == 2
        out, err = capsys.readouterr()
        assert not out
        assert message in err


def codec_of(directory, tensors):
    """The codec of `directory` with other weights."""
    target = directory.parent / f"other{len(list(directory.parent.iterdir()))}"
    target.mkdir()
    (target / "config.json").write_bytes((directory / "config.json").read_bytes())
    save_file({name: value.contiguous() for name, value in tensors.items()}, target / "model.safetensors")
    return load(target)


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("frames", [1, 3, 7, 100])
def test_parts_are_the_codes_and_their_length(name, frames):
    codec = small(name)
    codes = codec.encode(0.1 * torch.randn(1, 1, 20 * codec.spec.hop_length - 3))
    parts = speed._parts(codec, codes, frames)
    assert torch.equal(torch.cat([part.data for part in parts], 2), codes.data)
    stream = codec.open_decoder()
    streamed = torch.cat([*(stream.push(part) for part in parts), stream.flush()], 2)
    torch.testing.assert_close(streamed, codec.decode(codes), rtol=0, atol=1e-4)
    assert Codes.cat(parts[:-1]).length is None if len(parts) > 1 else parts[0].length == codes.length


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codec", "dac_45khz"], "dac_44khz"),
        (["--codec", "pyproject.toml"], "Hugging Face"),
        (["--codec", str(locate(None, None).weights.parent)], "no model for a SpectralCodec to compare with"),
        (["--repeats", "0"], "must be positive"),
        (["--seconds", "nan"], "must be positive"),
        (["--threads", "-1"], "must be positive"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message, capsys):
    assert main(["bench", "speed", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench"], "SUBCOMMAND"),
        (["bench", "speed", "--steps", "0,1"], "list of positive whole numbers"),
        (["bench", "speed", "--only", "both"], "encode"),
        (["bench", "drift", "--windows", "1/2"], "left/right/hop"),
        (["bench", "drift", "--windows", "1/2/0"], "hop is 0"),
    ],
)
def test_wrong_options_are_explained(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
