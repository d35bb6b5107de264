"""Codes files in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import signal, small_codec

import streamcodec
from streamcodec import Codec, Codes, load_codes, save_codes
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codesfile import CodesReader, DacFile, EcdcWriter
from streamcodec.codesfile.ecdc import MODELS
from streamcodec.errors import AudioError, CodesError, InputError, ShapeError


def encoded(codec: Codec, samples: int = 307) -> Codes:
    return codec.encode(signal(1, codec.spec.channels, samples))


@pytest.mark.parametrize("kind", ["24khz", "48khz"])
def test_what_is_saved_is_loaded(tmp_path, kind):
    codec = small_codec(kind, torch.float32)
    codes, path = encoded(codec), tmp_path / "codes.safetensors"
    save_codes(path, codes, codec)
    assert load_codes(path) == codes
    assert load_codes(str(path)) == codes
    assert torch.equal(codec.decode(load_codes(path)), codec.decode(codes))
    assert list(tmp_path.iterdir()) == [path]


def test_bare_codes_of_any_type_are_saved_with_the_length_of_their_frames(tmp_path):
    codec, path = small_codec(), tmp_path / "codes.safetensors"
    codes = encoded(codec)
    for data in (codes.data, codes.data.to(torch.int16), codes.data.numpy().astype(np.uint8)):
        save_codes(path, data, codec, overwrite=True)
        assert load_codes(path) == Codes(codes.data, None, codec.spec.samples(codes.shape[2]))


def test_a_file_says_whose_codes_it_has(tmp_path):
    codec, path = small_codec(), tmp_path / "codes.safetensors"
    save_codes(path, codec.encode(signal(1, 1, 300), num_codebooks=2), codec, start="primed", source="somewhere")
    with CodesReader(path) as reader:
        header = reader.header
    assert (header.codec, header.fingerprint) == (codec.spec.name, codec.fingerprint)
    assert (header.bandwidth, header.start, header.source, header.length) == (0.8, "primed", "somewhere", 300)
    save_codes(path, encoded(codec).data[:, :1], codec, overwrite=True)
    save_codes(path, codec.encode(signal(1, 1, 300), 1.6).data[:, :3], codec, overwrite=True)  # three are not on offer
    with CodesReader(path) as reader:
        assert reader.header.bandwidth == pytest.approx(1.2)
        assert reader.codebooks == 3


def test_no_frames_are_codes_too(tmp_path):
    codec, path = small_codec(), tmp_path / "codes.safetensors"
    empty = Codes(torch.zeros(1, 2, 0, dtype=torch.int64), None, 0)
    save_codes(path, empty, codec)
    assert load_codes(path) == empty


def test_a_file_that_is_there_is_kept_unless_it_may_go(tmp_path):
    codec, path = small_codec(), tmp_path / "codes.safetensors"
    first, second = encoded(codec, 300), encoded(codec, 200)
    save_codes(path, first, codec)
    with pytest.raises(AudioError, match=r"is there already.*overwrite=True"):
        save_codes(path, second, codec)
    assert load_codes(path) == first
    save_codes(path, second, codec, overwrite=True)
    assert load_codes(path) == second


def test_what_cannot_be_saved_leaves_no_file(tmp_path):
    codec = small_codec()
    codes, path = encoded(codec), tmp_path / "codes.safetensors"
    with pytest.raises(ShapeError, match=r"\[2, "):
        save_codes(path, codes.data.expand(2, -1, -1), codec)
    with pytest.raises(CodesError, match="range over"):
        save_codes(path, codes.data + 16, codec)
    with pytest.raises(CodesError, match="frames"):
        save_codes(path, Codes(codes.data, None, 10_000), codec)
    with pytest.raises(InputError, match="list"):
        save_codes(path, codes.data.tolist(), codec)
    for name in ("codes.ecdc", "codes.dac", "codes", "codes.wav"):
        with pytest.raises(AudioError, match=r"save_codes writes .safetensors"):
            save_codes(tmp_path / name, codes, codec)
    with pytest.raises(AudioError, match="does not exist"):
        save_codes(tmp_path / "nowhere" / path.name, codes, codec)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MODELS)
def test_encodecs_own_files_are_loaded_with_scale_and_length(tmp_path, name):
    model = MODELS[name]
    torch.manual_seed(0)
    codec = EncodecCodec(model.config, name=name).eval()
    codes = codec.encode(signal(1, codec.spec.channels, model.config.sampling_rate // 4 + 7))
    with EcdcWriter(tmp_path / "any.name", model) as writer:
        writer.append(codes)
    assert load_codes(tmp_path / "any.name") == codes


@pytest.mark.parametrize("channels", [1, 2])
def test_dacs_own_files_are_loaded_as_a_signal_for_each_channel(tmp_path, channels):
    codes = np.random.default_rng(0).integers(0, 1024, (channels, 3, 20)).astype(np.uint16)
    file = DacFile(codes, chunk_length=20, original_length=6000, input_db=-20.0, channels=channels, sample_rate=16000,
                   padding=True)  # fmt: skip
    path = tmp_path / "codes.dac"
    path.write_bytes(file.dump())
    assert load_codes(path) == Codes(codes)


def test_what_the_command_writes_is_loaded(tmp_path, capsys):
    from streamcodec.cli import main

    path = tmp_path / "jfk.safetensors"
    recording = Path(streamcodec.__file__).parent / "bundled" / "jfk.flac"
    assert main(["encode", str(recording), str(path), "--codebooks", "3"]) == 0
    codes = load_codes(path)
    assert codes.shape[:2] == (1, 3)
    assert streamcodec.load().decode(codes).shape == (1, 1, codes.length)


def test_what_is_no_codes_file_is_refused(tmp_path):
    path = tmp_path / "codes.safetensors"
    with pytest.raises(AudioError, match="does not exist"):
        load_codes(path)
    path.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(AudioError, match="is not a codes file"):
        load_codes(path)
