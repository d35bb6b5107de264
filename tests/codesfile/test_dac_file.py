"""DAC's .dac files against descript-audio-codec."""

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from dac_package import AudioSignal, import_dac, loudness, small_model
from hypothesis import given
from hypothesis import strategies as st

from streamcodec import codecs, load
from streamcodec.checkpoint import weights
from streamcodec.cli import main
from streamcodec.codecs.dac_chunked import unpadded_decode, unpadded_length
from streamcodec.codes import Codes
from streamcodec.codesfile import DacFile, DacReader, DacWriter, npy_dict
from streamcodec.errors import AudioError, CodesError, ShapeError

upstream = import_dac()
RATE = 16000
CODES = np.random.default_rng(0).integers(0, 16, (2, 3, 50)).astype(np.uint16)
FILE = DacFile(CODES, 50, 15000, -23.5, 2, RATE, True)


@pytest.fixture
def model() -> Any:
    """A new one for each test: upstream forgets a layer's padding when it is switched off twice."""
    return small_model(rate=RATE)


@pytest.fixture(scope="module")
def codec() -> Any:
    """Ours with the same weights, float64."""
    return codec_of(small_model(rate=RATE))


def codec_of(model: Any) -> Any:
    state = weights.plain(model.saved, "upstream")
    original = codecs.Original(state, "upstream", inside={"metadata": {"kwargs": model.kwargs}}.get)
    converted = codecs.convert_original(original)
    assert converted is not None
    config, tensors = converted
    return codecs.build(config, tensors, name="small").double()


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory) -> str:
    model = small_model(rate=RATE)
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save({"state_dict": model.saved, "metadata": {"kwargs": model.kwargs}}, path)
    return str(path)


def recording(channels: int, seconds: float, rate: int = RATE, seed: int = 1) -> torch.Tensor:
    """Noise whose level moves, the second channel quieter, [1, C, N]."""
    generator = torch.Generator().manual_seed(seed)
    samples = int(seconds * rate)
    wave = torch.randn(1, channels, samples, generator=generator, dtype=torch.float64)
    return 0.05 * wave * torch.linspace(0.2, 1, samples) * torch.tensor([1.0, 0.5])[:channels, None]


def compressed(model: Any, signal: torch.Tensor, rate: int, window: float, path: Path) -> Any:
    """A file that upstream writes; its content. A random encoder uses few codes: others are put in their place."""
    file = model.compress(AudioSignal(signal, rate), win_duration=window)
    file.codes = torch.randint(0, 16, file.codes.shape, generator=torch.Generator().manual_seed(2))
    file.input_db = file.input_db.float()
    file.save(path)
    return file


def decoded(path: Path, weights_file: str, *options: str) -> tuple[np.ndarray, int]:
    out = path.with_suffix(".wav")
    assert main(["decode", "-f", str(path), str(out), "--codec", weights_file, *options]) == 0
    return soundfile.read(out, always_2d=True)


# -- the layout ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [(2, 4, 5, 8), (2, 4, 8, 8), (3, 5)])
@pytest.mark.parametrize("frames", [20, 33, 64])
def test_a_chunk_without_padding_is_upstreams(rates, frames):
    model = small_model(rates, RATE)
    codec = codec_of(model)
    codes = torch.randint(0, 16, (2, 3, frames), generator=torch.Generator().manual_seed(frames))
    if unpadded_length(codec.decoder, frames) < 1:
        with pytest.raises(CodesError, match="shorter than what small's decoder looks at"):
            unpadded_decode(codec, codes)
        return
    model.padding = False
    with torch.no_grad():
        expected = model.decode(model.quantizer.from_codes(codes)[0])
    found = unpadded_decode(codec, codes)
    assert found.shape == (2, 1, unpadded_length(codec.decoder, frames))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    # And not what one pass with padding gives.
    middle = (frames * codec.spec.hop_length - found.shape[2]) // 2
    padded = codec.decode(codes)[:, :, max(0, middle) :][:, :, : found.shape[2]]
    assert padded.shape != found.shape or (padded - found).abs().max() > 1e-3


def test_a_chunk_too_short_for_the_decoder_is_refused(codec):
    least = next(frames for frames in range(1, 100) if unpadded_length(codec.decoder, frames) > 0)
    assert least > 1
    assert unpadded_decode(codec, torch.zeros(1, 3, least, dtype=torch.int64)).shape[2] > 0
    with pytest.raises(CodesError, match=f"chunk of {least - 1} frames"):
        unpadded_decode(codec, torch.zeros(1, 3, least - 1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("channels", "seconds", "window"), [(1, 0.7, 1.0), (2, 0.7, 1.0), (1, 2.3, 1.0), (2, 2.3, 1.0)]
)
def test_files_of_upstream_are_read(model, tmp_path, channels, seconds, window):
    path = tmp_path / "a.dac"
    file = compressed(model, recording(channels, seconds), RATE, window, path)
    found = DacReader(path).file
    np.testing.assert_array_equal(found.codes, file.codes.numpy())
    for name in ("chunk_length", "original_length", "channels", "sample_rate", "padding"):
        assert getattr(found, name) == getattr(file, name)
    assert found.input_db == pytest.approx(float(file.input_db))
    assert file.padding == (seconds < window)


def test_upstream_reads_files_of_ours(tmp_path):
    path = tmp_path / "a.dac"
    path.write_bytes(FILE.dump())
    found = upstream.DACFile.load(path)
    np.testing.assert_array_equal(found.codes.numpy(), CODES)
    for name in ("chunk_length", "original_length", "channels", "sample_rate", "padding"):
        assert getattr(found, name) == getattr(FILE, name)
    assert (found.input_db.shape, found.input_db.dtype, found.dac_version) == ((1,), np.float32, "1.0.0")


@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 30), st.booleans(), st.integers(1, 2**40), st.floats(-70, 60)
)
def test_what_is_written_is_read(channels, codebooks, frames, padding, length, level):
    codes = np.random.default_rng(frames).integers(0, 2**16, (channels, codebooks, frames)).astype(np.uint16)
    file = DacFile(codes, frames, length, level, channels, 44100, padding)
    found = DacFile.parse(file.dump())
    np.testing.assert_array_equal(found.codes, codes)
    assert found.input_db == pytest.approx(level, rel=1e-6, abs=1e-6)
    again = dataclasses.replace(found, codes=codes, input_db=level)
    assert dataclasses.astuple(again)[1:] == dataclasses.astuple(file)[1:]


# -- sound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--offline"], ["--step-frames", "3"]])
@pytest.mark.parametrize(
    ("channels", "seconds", "window"), [(1, 0.7, 1.0), (2, 0.7, 1.0), (1, 2.3, 1.0), (2, 2.3, 1.0)]
)
def test_our_audio_is_upstreams(model, weights_file, tmp_path, channels, seconds, window, options):
    path = tmp_path / "a.dac"
    file = compressed(model, recording(channels, seconds), RATE, window, path)
    if file.padding:  # upstream fails where a length is none that its decoder reaches: this one's ends 8 samples early
        file.original_length = file.codes.shape[-1] * 320 - 8
        file.save(path)
    expected = model.decompress(file).audio_data[0]
    assert expected.abs().max() < 1
    found, rate = decoded(path, weights_file, *options)
    assert (rate, found.shape) == (RATE, (file.original_length, channels))
    # 16 bits, and float32 in a network of 30 layers.
    np.testing.assert_allclose(found, expected.T.numpy(), atol=2e-4)
    levels = [loudness(found[:, [channel]].T, RATE) for channel in range(channels)]
    assert levels == pytest.approx([float(file.input_db)] * channels, abs=0.1)


@pytest.mark.parametrize("rate", [22050, 8000])
def test_the_recordings_rate_comes_back(model, weights_file, tmp_path, capsys, rate):
    path = tmp_path / "a.dac"
    file = compressed(model, recording(2, 2.3, rate), rate, 1.0, path)
    expected = model.decompress(file).audio_data[0]
    found, found_rate = decoded(path, weights_file, "--json")
    assert (found_rate, found.shape) == (rate, (file.original_length, 2))
    np.testing.assert_allclose(found, expected.T.numpy(), atol=5e-4)
    out, err = capsys.readouterr()
    assert f"resampled 16000 -> {rate} Hz" in err
    result = json.loads(out)
    assert (result["samples"], result["channels"], result["sample_rate"]) == (file.original_length, 2, rate)


def test_padded_chunks_are_decoded_each_by_itself(model, weights_file, tmp_path):
    path = tmp_path / "a.dac"
    path.write_bytes(dataclasses.replace(FILE, chunk_length=20, original_length=50 * 320 - 24).dump())
    file = upstream.DACFile.load(path)
    expected = model.decompress(file).audio_data[0]
    found, _ = decoded(path, weights_file)
    np.testing.assert_allclose(found, expected.clamp(-1, 1).T.numpy(), atol=2e-4)


@pytest.mark.parametrize("level", [math.nan, -math.inf])
def test_a_level_that_cannot_be_used_is_left_and_said(codec, weights_file, tmp_path, capsys, level):
    path = tmp_path / "a.dac"
    path.write_bytes(dataclasses.replace(FILE, input_db=level).dump())
    found, _ = decoded(path, weights_file)
    assert "no usable input_db" in capsys.readouterr().err
    expected = codec.decode(torch.from_numpy(CODES.astype(np.int64)))[:, 0, :15000]
    np.testing.assert_allclose(found, expected.clamp(-1, 1).T.numpy(), atol=2e-4)


def test_upstream_decodes_our_files_at_their_level(model, weights_file, tmp_path):
    signal = recording(1, 2.1)[0].float()
    soundfile.write(tmp_path / "in.wav", signal.T.numpy(), RATE, subtype="FLOAT")
    path = tmp_path / "a.dac"
    for options in ([], ["--offline"], ["--step-frames", "2"]):
        assert main(["encode", "-f", str(tmp_path / "in.wav"), str(path), "--codec", weights_file, *options]) == 0
        file = upstream.DACFile.load(path)
        assert (file.padding, file.chunk_length, file.channels) == (True, file.codes.shape[-1], 1)
        assert float(file.input_db[0]) == pytest.approx(loudness(signal.double().numpy(), RATE), abs=1e-4)
        assert file.original_length == signal.shape[1]
        heard = model.decompress(file).audio_data[0]
        assert heard.shape == signal.shape
        assert loudness(heard.numpy(), RATE) == pytest.approx(float(file.input_db[0]), abs=0.1)
        found, _ = decoded(path, weights_file, *options)
        np.testing.assert_allclose(found, heard.T.numpy(), atol=2e-4)


@pytest.mark.parametrize("samples", [1, 100, 312, 313, 320, 1000])
def test_a_recording_comes_back_whole_through_every_command(weights_file, tmp_path, samples):
    """Also one shorter than a frame, and whole frames, of which the decoder gives 8 samples too few."""
    wave = recording(1, 0.1)[0, :, :samples].float()
    soundfile.write(tmp_path / "in.wav", wave.T.numpy(), RATE, subtype="FLOAT")
    for options in ([], ["--offline"]):
        for name in ("codes.dac", "codes.safetensors"):
            assert (
                main(["encode", str(tmp_path / "in.wav"), str(tmp_path / name), "--codec", weights_file, *options]) == 0
            )
            assert decoded(tmp_path / name, weights_file, *options)[0].shape == (samples, 1)
            (tmp_path / name).unlink()
    assert main(["roundtrip", str(tmp_path / "in.wav"), str(tmp_path / "out.wav"), "--codec", weights_file]) == 0
    assert soundfile.info(tmp_path / "out.wav").frames == samples


# -- refused -------------------------------------------------------------------------------------------------------


def changed(**metadata: Any) -> bytes:
    content = npy_dict.load(FILE.dump())
    content["metadata"] |= metadata
    content["metadata"] = {name: value for name, value in content["metadata"].items() if value != "gone"}
    return npy_dict.dump(content)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin"),
        (npy_dict.dump({"codes": CODES}), "no 'codes' and 'metadata'"),
        (npy_dict.dump({"codes": 3, "metadata": {}}), "no 'codes' and 'metadata'"),
        (changed(dac_version="2.0.0"), "dac_version '2.0.0'"),
        (changed(dac_version="gone"), "dac_version 'None'"),
        (changed(chunk_length=0), "chunk_length = 0"),
        (changed(chunk_length=-5), "chunk_length = -5"),
        (changed(chunk_length=True), "chunk_length = True"),
        (changed(chunk_length="gone"), "chunk_length = None"),
        (changed(original_length=2**41), "original_length = 2199023255552"),
        (changed(channels=33), "channels = 33"),
        (changed(channels=1), r"shape \[2, 3, 50\]"),
        (changed(sample_rate=1), "sample_rate = 1 "),
        (changed(sample_rate=10**9), "sample_rate = 1000000000"),
        (changed(padding=1), "padding"),
        (npy_dict.dump(npy_dict.load(changed()) | {"codes": CODES.astype(np.float32)}), "float32"),
        (npy_dict.dump(npy_dict.load(changed()) | {"codes": CODES[0]}), r"\[3, 50\]"),
        (npy_dict.dump(npy_dict.load(changed()) | {"codes": CODES[:, :, :0]}), r"\[2, 3, 0\]"),
        (FILE.dump()[:128] + b"\x80\x04cos\nsystem\n\x8c\x02id\x85R.", "asks for os.system"),
    ],
)
def test_wrong_files_are_refused(tmp_path, data, message):
    path = tmp_path / "a.dac"
    path.write_bytes(data)
    with pytest.raises(AudioError, match=message) as caught:
        DacReader(path)
    assert str(path) in str(caught.value)


def test_every_prefix_is_refused(tmp_path):
    data = DacFile(CODES[:, :2, :4], 4, 100, -20.0, 2, RATE, True).dump()
    for length in range(len(data)):
        (tmp_path / "a.dac").write_bytes(data[:length])
        with pytest.raises(AudioError, match=r"a\.dac"):
            DacReader(tmp_path / "a.dac")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "a.dac"
    with path.open("wb") as file:
        file.truncate(npy_dict.MAX_BYTES + 1)  # takes no place on the disk
    with pytest.raises(AudioError, match="at most 268435456 is read"):
        DacReader(path)
    with pytest.raises(AudioError, match="does not exist"):
        DacReader(tmp_path / "b.dac")


def reader(tmp_path: Path, file: DacFile) -> DacReader:
    path = tmp_path / "a.dac"
    path.write_bytes(file.dump())
    return DacReader(path)


def test_a_codec_that_cannot_decode_a_file_is_refused(codec, tmp_path):
    reader(tmp_path, FILE).check(codec)
    with pytest.raises(AudioError, match="streamcodec_24khz is another kind"):
        reader(tmp_path, FILE).check(load())
    with pytest.raises(AudioError, match=r"codes 0\.\.16; small has 3 with 0\.\.15"):
        reader(tmp_path, dataclasses.replace(FILE, codes=np.where(CODES == 15, 16, CODES))).check(codec)
    more = np.concatenate([CODES, CODES], 1)
    with pytest.raises(AudioError, match="has 6 codebooks"):
        reader(tmp_path, dataclasses.replace(FILE, codes=more)).check(codec)
    long = np.zeros((1, 1, 50 * 130), np.uint16)
    one = dataclasses.replace(FILE, codes=long, channels=1, chunk_length=len(long[0, 0]))
    reader(tmp_path, one).check(codec)
    with pytest.raises(AudioError, match="at most 120 s"):
        reader(tmp_path, dataclasses.replace(one, padding=False)).check(codec)
    endless = np.zeros((1, 1, 50 * 3600 * 15 + 1), np.uint16)
    with pytest.raises(AudioError, match="more than 15 hours"):
        reader(tmp_path, dataclasses.replace(one, codes=endless)).check(codec)


def test_the_writer_refuses_what_the_file_cannot_hold(codec, tmp_path, monkeypatch):
    path = tmp_path / "a.dac"
    with pytest.raises(AudioError, match="holds codes of DAC"):
        DacWriter(path, load())
    good = Codes(torch.from_numpy(CODES[:1].astype(np.int64)), None, 15992)
    with pytest.raises(AudioError, match="no codes"), DacWriter(path, codec):
        pass
    with pytest.raises(AudioError, match=r"listen\(\)"), DacWriter(path, codec) as writer:
        writer.append(good)
    assert list(tmp_path.iterdir()) == []
    with DacWriter(path, codec) as writer:
        assert sum(block.shape[1] for block in writer.listen([np.full((1, 400), 0.1, np.float32)] * 3)) == 1200
        with pytest.raises(CodesError, match="length"):
            writer.append(Codes(good.data))
        with pytest.raises(CodesError, match=r"0\.\.15"):
            writer.append(Codes(good.data + 16, None, 15992))
        with pytest.raises(ShapeError, match=r"\[1, 3, T\]"):
            writer.append(Codes(torch.zeros(2, 3, 5, dtype=torch.int64), None, 1600))
        writer.append(good)
        with pytest.raises(ShapeError, match=r"\[1, 3, T\]"):
            writer.append(Codes(good.data[:, :2], None, 15992))
        monkeypatch.setattr(npy_dict, "MAX_BYTES", 4096 + 2 * 3 * 60)
        with pytest.raises(AudioError, match="would pass"):
            writer.append(good)
    assert DacReader(path).frames == 50


@given(st.binary(min_size=1, max_size=6), st.integers(0, 10**4))
def test_damage_anywhere_is_an_error_of_ours_or_other_values(noise, place):
    data = bytearray(FILE.dump())
    place %= len(data)
    data[place : place + len(noise)] = noise
    with contextlib.suppress(ValueError):
        assert DacFile.parse(bytes(data)).codes.ndim == 3
