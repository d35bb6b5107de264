"""``streamcodec encode`` and ``decode``."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commands import RATE, assert_fails

from streamcodec.codes import Codes
from streamcodec.codesfile import CodesReader, DacFile
from streamcodec.codesfile.ecdc import MODELS, EcdcWriter


@pytest.mark.parametrize("options", [[], ["--offline"], ["--start", "primed"], ["--step-frames", 3]])
def test_encode_then_decode_is_roundtrip(result, tiny, voice, options):
    whole = result("roundtrip", voice, "whole.wav", "--codec", tiny, "--bandwidth", 1.8, *options)
    encoded = result("encode", voice, "codes.safetensors", "--codec", tiny, "--bandwidth", 1.8, *options)
    with CodesReader("codes.safetensors") as reader:
        header = reader.header
        assert (reader.frames, reader.codebooks, header.length) == (93, 4, whole["samples"])
        assert (header.codec, header.source, header.bandwidth) == ("tiny", tiny, 1.8)
        assert header.start == ("primed" if "primed" in options else "exact")
    decoded = result(
        "decode", "codes.safetensors", "parts.wav", *(o for o in options if o not in ("--start", "primed"))
    )
    first, second = soundfile.read("whole.wav")[0], soundfile.read("parts.wav")[0]
    assert len(first) == len(second)
    np.testing.assert_allclose(first, second, atol=1e-4)
    for key in ("frames", "codebooks", "samples", "bitrate_kbps", "bandwidth_kbps", "start", "step_frames"):
        assert encoded[key] == decoded[key] == whole[key], key


def test_a_codec_of_segments_keeps_scale_and_length(result, stereo):
    pcm = np.random.default_rng(0).uniform(-0.5, 0.5, (10321, 2)) * np.linspace(0.05, 1, 10321)[:, None]
    soundfile.write("in.wav", pcm, 4000)
    whole = result("roundtrip", "in.wav", "whole.wav", "--codec", stereo)
    result("encode", "in.wav", "codes.safetensors", "--codec", stereo)
    with CodesReader("codes.safetensors") as reader:
        scales = torch.cat([codes.scale for codes in reader.blocks(7)], 1)
        assert scales.shape == (1, reader.frames)
        assert len(scales.unique()) == 3
        assert reader.header.length == 10321
    decoded = result("decode", "codes.safetensors", "parts.wav", "--step-frames", 5)
    assert decoded["samples"] == whole["samples"] == 10321
    first, second = soundfile.read("whole.wav")[0], soundfile.read("parts.wav")[0]
    assert first.shape == second.shape == (10321, 2)
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_decode_names_the_codec_that_it_needs(cli, result, tiny, other, stereo, voice, tmp_path):
    result("encode", voice, "codes.safetensors", "--codec", tiny)
    assert_fails(cli, "decode", "codes.safetensors", "out.wav", "--codec", stereo, match="'tiny', not 'stereo'")
    code, _, err = cli("decode", "codes.safetensors", "out.wav", "--codec", other)
    assert code == 0
    assert "other weights" in err
    renamed = shutil.copytree(tiny, tmp_path / "renamed")
    code, _, err = cli("decode", "codes.safetensors", "again.wav", "--codec", renamed)
    assert (code, err) == (0, "streamcodec: wrote again.wav\n")


def test_decode_says_where_a_lost_codec_was(cli, result, tiny, voice, tmp_path):
    moved = shutil.copytree(tiny, tmp_path / "moved")
    result("encode", voice, "codes.safetensors", "--codec", moved)
    shutil.rmtree(moved)
    assert_fails(
        cli, "decode", "codes.safetensors", "out.wav", match=r"made with 'moved'; say where that is with --codec"
    )
    assert result("decode", "codes.safetensors", "out.wav", "--codec", tiny)["samples"] == 29517


def test_upstreams_formats_take_their_own_codecs(cli, tiny, voice):
    assert_fails(cli, "encode", voice, "a.ecdc", "--codec", tiny, match="holds codes of encodec_24khz or encodec_48khz")
    assert_fails(cli, "encode", voice, "a.dac", "--codec", tiny, match=r"\.dac file holds codes of DAC; tiny is")
    for name in ("a.ecdc", "a.DAC"):
        assert_fails(cli, "encode", voice, name, "--codec", tiny, "--start", "primed", match="--start primed")
    with EcdcWriter("codes.safetensors", MODELS["encodec_24khz"]) as writer:
        writer.append(Codes(torch.zeros(1, 2, 1, dtype=torch.int64), None, 320))
    assert_fails(cli, "decode", "codes.safetensors", "out.wav", "--codec", tiny, match="tiny is another codec")
    Path("codes.safetensors").write_bytes(Path("codes.safetensors").read_bytes().replace(b"false", b"true "))
    assert_fails(cli, "decode", "codes.safetensors", "out.wav", "--codec", tiny, match="language model")


def test_a_dac_file_does_not_name_its_codec(cli, tiny):
    file = DacFile(np.zeros((1, 2, 9), np.uint16), 9, 2000, -20.0, 1, RATE, True)
    Path("codes.safetensors").write_bytes(file.dump())
    assert_fails(cli, "decode", "codes.safetensors", "out.wav", match="name it with --codec, such as dac_44khz")
    assert_fails(cli, "decode", "codes.safetensors", "out.wav", "--codec", tiny, match="tiny is another kind of codec")
    Path("codes.safetensors").write_bytes(file.dump()[:-1])
    assert_fails(cli, "decode", "codes.safetensors", "out.wav", "--codec", tiny, match="cut short")
