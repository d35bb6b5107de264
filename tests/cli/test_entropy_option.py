"""``streamcodec encode --entropy`` and `decode` of what it wrote, and the same in Python."""

import numpy as np
import pytest
import soundfile
import torch
from entropy_models import random_model

import streamcodec
from streamcodec.checkpoint import save
from streamcodec.cli import main
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.entropy import EntropyModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small codec with a model beside it, and a recording."""
    torch.manual_seed(0)
    sizes = {"num_filters": 2, "hidden_size": 4, "upsampling_ratios": [2, 2], "codebook_size": 16}
    codec = EncodecCodec({**sizes, "sampling_rate": 400, "target_bandwidths": [0.4, 1.2]})
    folder = tmp_path_factory.mktemp("entropy")
    save(codec, folder / "codec")
    random_model(codec.fingerprint, codebooks=3, size=16, most=20).write(folder / "codec" / "entropy.safetensors")
    random_model(codec.fingerprint, codebooks=3, size=16, most=20, seed=1).write(folder / "other.safetensors")
    soundfile.write(folder / "in.wav", np.random.default_rng(0).normal(0, 0.1, 4000), 400)
    return folder


def run(folder, monkeypatch, *words):
    monkeypatch.chdir(folder)
    return main([*words, "--force"])


def test_coded_files_decode_as_others_do(folder, monkeypatch):
    encode = ("encode", "in.wav", "--codec", "codec", "--bandwidth", "1.2")
    assert run(folder, monkeypatch, *encode[:2], "plain.safetensors", *encode[2:]) == 0
    assert run(folder, monkeypatch, *encode[:2], "coded.safetensors", *encode[2:], "--entropy") == 0
    for name in ("plain", "coded"):
        assert run(folder, monkeypatch, "decode", f"{name}.safetensors", f"{name}.wav") == 0
    assert (folder / "plain.wav").read_bytes() == (folder / "coded.wav").read_bytes()
    plain, coded = (streamcodec.load_codes(folder / f"{name}.safetensors") for name in ("plain", "coded"))
    assert plain == coded


def test_a_model_that_is_named_is_needed_again(folder, monkeypatch, capsys):
    words = ("encode", "in.wav", "named.safetensors", "--codec", "codec", "--entropy", "other.safetensors")
    assert run(folder, monkeypatch, *words) == 0
    assert run(folder, monkeypatch, "decode", "named.safetensors", "out.wav") == 2
    assert "name its file (--entropy)" in capsys.readouterr().err
    assert run(folder, monkeypatch, "decode", "named.safetensors", "out.wav", "--entropy", "other.safetensors") == 0


def test_what_cannot_be_coded_is_said(folder, monkeypatch, capsys):
    assert run(folder, monkeypatch, "encode", "in.wav", "c.ecdc", "--codec", "codec", "--entropy") == 2
    assert "--entropy is for our own formats" in capsys.readouterr().err
    save(streamcodec.load(folder / "codec"), folder / "bare")
    assert run(folder, monkeypatch, "encode", "in.wav", "c.safetensors", "--codec", "bare", "--entropy") == 2
    assert "train it with `streamcodec train entropy`" in capsys.readouterr().err


def test_in_python_too(folder):
    codec, model = streamcodec.load(folder / "codec"), EntropyModel.read(folder / "other.safetensors")
    codes = codec.encode(torch.randn(1, 1, 800) * 0.1)
    streamcodec.save_codes(folder / "p.safetensors", codes, codec, overwrite=True, entropy=model)
    assert streamcodec.load_codes(folder / "p.safetensors", model) == codes
