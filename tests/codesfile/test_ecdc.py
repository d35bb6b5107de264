"""EnCodec's .ecdc files against the encodec package."""

import importlib
import io
import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from encodec_package import import_encodec
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec import load
from streamcodec.bits import BitPacker, unpack_bits
from streamcodec.cli import main
from streamcodec.codes import Codes
from streamcodec.codesfile import EcdcReader, EcdcWriter
from streamcodec.codesfile.ecdc import MODELS, EcdcModel, model_of
from streamcodec.errors import AudioError, CodesError, ShapeError

import_encodec()
upstream = importlib.import_module("encodec.compress")
binary = importlib.import_module("encodec.binary")
NAMES = list(MODELS)


def random_codes(model: EcdcModel, length: int, codebooks: int, seed: int = 0) -> Codes:
    """Codes of a signal of `length` samples, one scale for each segment."""
    generator = torch.Generator().manual_seed(seed)
    frames = model.segments.cut(length)
    data = torch.randint(0, 1024, (1, codebooks, sum(frames)), generator=generator)
    scale = torch.rand(len(frames), generator=generator).repeat_interleave(torch.tensor(frames))[None]
    return Codes(data, scale if model.config.normalize else None, length)


def by_upstream(model: EcdcModel, codes: Codes) -> bytes:
    """What the package's compress_to_file writes for these codes."""
    frames, start = [], 0
    for count in model.segments.cut(codes.length):
        scale = None if codes.scale is None else codes.scale[:, start]
        frames.append((codes.data[:, :, start : start + count], scale))
        start += count
    encoder = SimpleNamespace(name=model.name, bits_per_codebook=10, encode=lambda wav: frames)
    file = io.BytesIO()
    upstream.compress_to_file(encoder, torch.zeros(model.config.audio_channels, codes.length), file, use_lm=False)
    return file.getvalue()


def parts_of(model: EcdcModel, codes: Codes, places: list[int]) -> list[Codes]:
    """Cut at frames, with the lengths that a stream gives."""
    frames, parts, before = codes.data.shape[2], [], 0
    places = sorted(min(place, frames) for place in places)
    for start, end in zip([0, *places], [*places, frames], strict=True):
        after = codes.length if end == frames else min(model.samples(end), codes.length)
        scale = None if codes.scale is None else codes.scale[:, start:end]
        parts.append(Codes(codes.data[:, :, start:end], scale, after - before))
        before = after
    return parts


def save(path: Path, model: EcdcModel, parts: list[Codes]) -> Path:
    with EcdcWriter(path, model) as writer:
        for part in parts:
            writer.append(part)
    return path


# Around whole frames and segments, at both ends of their overlap.
lengths = st.one_of(
    st.integers(1, 200_000),
    st.sampled_from([320, 6720, 47_520, 47_600, 47_841, 48_000, 48_001, 95_040, 95_400, 95_520]),
)


@settings(max_examples=60)
@given(
    st.sampled_from(NAMES), lengths, st.integers(1, 16), st.lists(st.integers(0, 700), max_size=6), st.integers(1, 400)
)
def test_bytes_are_upstreams_and_are_read_in_any_blocks(tmp_path_factory, name, length, codebooks, places, block):
    model, path = MODELS[name], tmp_path_factory.mktemp("codes") / "codes.ecdc"
    codes = random_codes(model, length, codebooks)
    data = save(path, model, parts_of(model, codes, places)).read_bytes()
    assert data == by_upstream(model, codes)
    with EcdcReader(path) as reader:
        assert (reader.codebooks, reader.frames, reader.header.length) == (codebooks, codes.data.shape[2], length)
        assert reader.header.bandwidth == pytest.approx(codebooks * (0.75 if name == NAMES[0] else 1.5))
        blocks = list(reader.blocks(block))
    assert [part.data.shape[2] for part in blocks[:-1]] == [block] * (len(blocks) - 1)
    again = Codes.cat(blocks)
    assert torch.equal(again.data, codes.data)
    assert again.length == length
    assert (again.scale is None) == (codes.scale is None)
    assert codes.scale is None or torch.equal(again.scale, codes.scale)


@given(st.lists(st.integers(0, 1023), max_size=50), st.lists(st.integers(0, 50), max_size=4), st.integers(0, 50))
def test_bits_are_packed_as_upstream_packs_them(numbers, cuts, skip):
    file = io.BytesIO()
    packer = binary.BitPacker(10, file)
    for number in numbers:
        packer.push(number)
    packer.flush()
    ours, data = BitPacker(10), b""
    for part in np.split(np.array(numbers, dtype=np.int64), sorted(min(cut, len(numbers)) for cut in cuts)):
        data += ours.push(part)
    assert data + ours.flush() == file.getvalue()
    skip = min(skip, len(numbers))
    assert unpack_bits(file.getvalue(), 10, len(numbers) - skip, 10 * skip).tolist() == numbers[skip:]


def test_lengths_that_upstream_misreads_are_read(tmp_path):
    """6,720 samples are 21 frames; 6720 / 24000 * 75 is a little more in floating point."""
    model = MODELS["encodec_24khz"]
    path = save(tmp_path / "codes.ecdc", model, [random_codes(model, 6720, 4)])
    with path.open("rb") as file, pytest.MonkeyPatch.context() as patch:
        fake = SimpleNamespace(
            to=lambda device: fake, segment_length=None, segment_stride=None, sample_rate=24000, frame_rate=75,
            normalize=False, bits_per_codebook=10, decode=lambda frames: torch.zeros(1, 1, 6720),
        )  # fmt: skip
        patch.setitem(upstream.MODELS, model.name, lambda: fake)
        with pytest.raises(EOFError):
            upstream.decompress_from_file(file)
    with EcdcReader(path) as reader:
        assert reader.frames == 21


# -- with models ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=NAMES)
def pair(request, tmp_path_factory) -> tuple[Any, str]:
    """An upstream model of the published architecture with random weights, and its file."""
    torch.manual_seed(0)
    encodec = import_encodec().EncodecModel
    model = getattr(encodec, request.param.replace("encodec_", "encodec_model_"))(pretrained=False).eval()
    model.name = request.param  # upstream names only what it downloads
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("embed"):
                buffer.copy_(0.3 * torch.randn_like(buffer))
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.th"
    torch.save(model.state_dict(), path)
    return model, str(path)


def wav_of(model: Any, samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.2 * torch.randn(model.channels, samples, generator=generator)


def test_upstream_decodes_our_files_and_we_decode_upstreams(pair, tmp_path, monkeypatch, capsys):
    model, weights = pair
    monkeypatch.setitem(upstream.MODELS, model.name, lambda: model)
    wav = wav_of(model, 53_000)  # 48 kHz: a whole segment and a short one
    soundfile.write(tmp_path / "in.wav", wav.T.numpy(), model.sample_rate, subtype="FLOAT")
    ours, theirs = tmp_path / "ours.ecdc", tmp_path / "theirs.ecdc"
    assert main(["encode", str(tmp_path / "in.wav"), str(ours), "--codec", weights, "--bandwidth", "6"]) == 0
    model.set_target_bandwidth(6.0)
    theirs.write_bytes(upstream.compress(model, wav, use_lm=False))
    assert len(ours.read_bytes()) == len(theirs.read_bytes())
    for path in (ours, theirs):
        with path.open("rb") as file:
            expected, rate = upstream.decompress_from_file(file)
        assert main(["decode", "--force", str(path), str(tmp_path / "out.wav"), "--codec", weights]) == 0
        found, found_rate = soundfile.read(tmp_path / "out.wav", always_2d=True)
        assert (found_rate, found.shape) == (rate, (53_000, model.channels))
        # 16 bits: half a step, and a little for another order of arithmetic.
        np.testing.assert_allclose(found, expected.clamp(-1, 1).T.numpy(), atol=1e-4)
    with EcdcReader(ours) as first, EcdcReader(theirs) as second:
        codes = [Codes.cat(reader.blocks(100)).data for reader in (first, second)]
    assert (codes[0] != codes[1]).float().mean() < 0.02  # near ties, and what follows from them in a frame
    assert "streamcodec: wrote" in capsys.readouterr().err


def test_a_codec_of_another_architecture_is_refused(tmp_path):
    with pytest.raises(AudioError, match=r"holds codes of encodec_24khz or encodec_48khz; streamcodec_24khz"):
        model_of(load(), tmp_path / "codes.ecdc")


# -- refused -------------------------------------------------------------------------------------------------------


def file_with(header: Any, rest: bytes = b"\0" * 5000, *, magic: bytes = b"ECDC", version: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("!4sBI", magic, version, len(text)) + text + rest


GOOD = {"m": "encodec_24khz", "al": 320, "nc": 2, "lm": False}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an .ecdc file"),
        (b"ECDC", "not an .ecdc file"),
        (file_with(GOOD, magic=b"RIFF"), "not an .ecdc file"),
        (file_with(GOOD, version=1), "version 1; this streamcodec reads 0"),
        (struct.pack("!4sBI", b"ECDC", 0, 2**32 - 1), "header of 4294967295 bytes"),
        (struct.pack("!4sBI", b"ECDC", 0, 100) + b"{}", "within its header"),
        (file_with(b"{{{{"), "not JSON"),
        (file_with(b"\xff\xfe"), "not JSON"),
        (file_with(b"[" * 4000), "not JSON"),
        (file_with([]), "no object"),
        (file_with({"m": 1}), "no object"),
        (file_with(GOOD | {"m": "encodec_32khz"}), "encodec_32khz"),
        (file_with(GOOD | {"m": ["encodec_24khz"]}), "was made with the model"),
        (file_with(GOOD | {"lm": True}), "give its checkpoint"),
        (file_with(GOOD | {"lm": 1}), "must be true or false"),
        (file_with(GOOD | {"nc": 0}), r"1\.\.32 codebooks"),
        (file_with(GOOD | {"nc": 33}), r"1\.\.32 codebooks"),
        (file_with(GOOD | {"m": "encodec_48khz", "nc": 17}), r"1\.\.16 codebooks"),
        (file_with(GOOD | {"nc": True}), r"1\.\.32 codebooks"),
        (file_with(GOOD | {"al": 0}), "al = 0"),
        (file_with(GOOD | {"al": -1}), "al = -1"),
        (file_with(GOOD | {"al": 1.5}), "al = 1.5"),
        (file_with(GOOD | {"al": 10**30}), "al = 1000"),
        (file_with(GOOD | {"al": 2**48}), "is cut short"),
        (file_with(GOOD | {"m": "encodec_48khz", "al": 2**48}), "is cut short"),
        (file_with(b'{"m": "encodec_24khz", "al": NaN, "nc": 1, "lm": false}'), "al = nan"),
    ],
)
def test_wrong_headers_are_refused(tmp_path, data, message):
    path = tmp_path / "codes.ecdc"
    path.write_bytes(data)
    with pytest.raises(AudioError, match=message) as caught:
        EcdcReader(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_prefix_is_refused(tmp_path, name):
    model = MODELS[name]
    data = save(tmp_path / "codes.ecdc", model, [random_codes(model, 2000, 3)]).read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut.ecdc").write_bytes(data[:length])
        with pytest.raises(AudioError, match=r"cut short|not an .ecdc file"):
            EcdcReader(tmp_path / "cut.ecdc")


@given(st.binary(min_size=1, max_size=8), st.integers(0, 100))
def test_damage_anywhere_is_an_error_of_ours_or_other_codes(tmp_path_factory, noise, place):
    model, path = MODELS["encodec_48khz"], tmp_path_factory.mktemp("codes") / "codes.ecdc"
    data = bytearray(save(path, model, [random_codes(model, 5000, 2)]).read_bytes())
    place %= len(data)
    data[place : place + len(noise)] = noise
    path.write_bytes(data)
    try:
        with EcdcReader(path) as reader:
            assert sum(codes.data.shape[2] for codes in reader.blocks(7)) == reader.frames
    except (AudioError, CodesError):
        pass


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(tmp_path, scale):
    model = MODELS["encodec_48khz"]
    path = save(tmp_path / "codes.ecdc", model, [random_codes(model, 5000, 2)])
    data = path.read_bytes()
    start = data.index(b"}") + 1
    path.write_bytes(data[:start] + struct.pack("!f", scale) + data[start + 4 :])
    with EcdcReader(path) as reader, pytest.raises(CodesError, match="finite"):
        next(reader.blocks(5))


def test_the_writer_refuses_what_the_file_cannot_hold(tmp_path):
    with pytest.raises(AudioError, match="does not exist"):
        EcdcWriter(tmp_path / "missing" / "codes.ecdc", MODELS[NAMES[0]])
    with EcdcWriter(tmp_path / "codes.ecdc", MODELS[NAMES[1]]) as writer:
        good = random_codes(MODELS[NAMES[1]], 3200, 2)
        with pytest.raises(ShapeError, match="scale"):
            writer.append(Codes(good.data, None, 3200))
        with pytest.raises(CodesError, match="length"):
            writer.append(Codes(good.data, good.scale))
        with pytest.raises(ShapeError, match=r"1\.\.16"):
            writer.append(Codes(torch.zeros(1, 17, 10, dtype=torch.int64), good.scale, 3200))
        with pytest.raises(CodesError, match=r"0\.\.1023"):
            writer.append(Codes(good.data + 1024, good.scale, 3200))
        writer.append(good)
        with pytest.raises(ShapeError, match=r"\[1, 2, T\]"):
            writer.append(random_codes(MODELS[NAMES[1]], 3200, 3))
    with EcdcReader(tmp_path / "codes.ecdc") as reader:
        assert reader.frames == 10


def test_a_failed_write_leaves_nothing(tmp_path):
    model = MODELS[NAMES[0]]
    with pytest.raises(AudioError, match="no codes"):
        save(tmp_path / "codes.ecdc", model, [])
    codes = random_codes(model, 3200, 2)
    with pytest.raises(AudioError, match="10 frames were given for 9 samples"):
        save(tmp_path / "codes.ecdc", model, [Codes(codes.data, None, 9)])
    assert list(tmp_path.iterdir()) == []


def test_missing_files_and_shrinking_ones_are_noticed(tmp_path):
    with pytest.raises(AudioError, match="does not exist"):
        EcdcReader(tmp_path / "codes.ecdc")
    model = MODELS[NAMES[0]]
    path = save(tmp_path / "codes.ecdc", model, [random_codes(model, 24000 * 60, 32)])
    with EcdcReader(path) as reader:
        with path.open("r+b") as file:
            file.truncate(1000)
        with pytest.raises(AudioError, match="became shorter"):
            list(reader.blocks(2000))
