"""The audio of a .scx file from any place on is that of the whole file, and so is that of a part that was cut out."""

import itertools

import numpy as np
import oracles
import pytest
import spectral_models
import torch

from streamcodec.codesfile import CodesBlock
from streamcodec.codesfile.scx import Follow, ScxReader, ScxWriter, cut, decode, header_of, join
from streamcodec.errors import AudioError, InputError

CODECS = {
    "spectral": spectral_models.small_codec,
    "mirrored": lambda: oracles.small_codec("24khz", num_lstm_layers=0),
    "lstm": lambda: oracles.small_codec("24khz"),
    "segments": lambda: oracles.small_codec("48khz"),
}


def codes_of(codec, frames, codebooks, seed=0):
    random, spec = np.random.default_rng(seed), codec.spec
    scale = None
    if codec.framing.scaled:  # a scale is a segment's
        segments = random.uniform(0.1, 1, -(-frames // spec.segment_frames))
        scale = np.repeat(segments, spec.segment_frames)[None, :frames].astype(np.float32)
    return CodesBlock(random.integers(0, spec.codebook_size, (1, codebooks, frames)), scale, spec.samples(frames))


def recording(codec, path, frames, start="primed", short=0):
    """A file of two bandwidths; and its audio as the codec's stream gives it."""
    header = header_of(codec, bandwidth=codec.spec.bandwidths[-1], start=start)
    most, half = codec.spec.num_codebooks, frames // 2 // (codec.spec.segment_frames or 1)
    half *= codec.spec.segment_frames or 1
    with ScxWriter(path, header, block_seconds=7.3 / codec.spec.frame_rate) as writer:
        writer.write(codes_of(codec, half, most, 1))
        rest = codes_of(codec, frames - half, max(1, most // 2), 2)
        last = codec.covered(codec.spec.samples(frames), frames) - codec.spec.samples(half) - short
        writer.write(rest._replace(length=last))
    stream = codec.open_decoder(start=start, bandwidth=codec.spec.bandwidths[-1] if start == "primed" else None)
    with ScxReader(path) as reader:
        audio = [stream.push(piece.codes()) for piece in reader.pieces()]
    return torch.cat([*audio, stream.flush()], 2)[0].float()


def heard(path, codec, *span, **options):
    with ScxReader(path) as reader:
        parts = list(decode(reader, codec, *span, **options))
    return torch.cat([torch.zeros(codec.spec.channels, 0), *parts], 1)


def same(got, expected, exact=True):
    assert got.shape == expected.shape
    bound = 1e-6 if exact else 1e-3
    assert not got.numel() or (got - expected).abs().max() < bound * expected.abs().max()


@pytest.mark.parametrize(
    ("kind", "start"), [*((kind, "primed") for kind in CODECS), ("mirrored", "exact"), ("segments", "exact")]
)
def test_any_part_is_that_of_the_whole(tmp_path, kind, start):
    codec = CODECS[kind]()
    frames = 2 * codec.pre_roll.frames + 40 if codec.pre_roll.exact else codec.pre_roll.frames + 200
    whole = recording(codec, tmp_path / "a.scx", frames, start, short=3)
    rate, length = codec.spec.sample_rate, whole.shape[1]
    same(heard(tmp_path / "a.scx", codec), whole)
    for first, last in ((0, 1), (1, length), (length // 3, length // 2), (length - 9, length), (length // 2, length)):
        got = heard(tmp_path / "a.scx", codec, first / rate, last / rate, step_frames=5)
        same(got, whole[:, first:last], codec.pre_roll.exact)
    assert heard(tmp_path / "a.scx", codec, length / rate).shape[1] == 0


@pytest.mark.parametrize("kind", ["spectral", "mirrored", "segments"])
def test_a_part_that_is_cut_out_sounds_as_it_did(tmp_path, kind):
    codec = CODECS[kind]()
    whole = recording(codec, tmp_path / "a.scx", 2 * codec.pre_roll.frames + 40)
    rate, length = codec.spec.sample_rate, whole.shape[1]
    for number, (first, last) in enumerate(
        ((5, length - 9), (length // 2 - 70, length // 2 + 5), (length - 50, length))
    ):
        path = tmp_path / f"{number}.scx"
        with ScxReader(tmp_path / "a.scx") as reader:
            writer = cut(reader, path, first / rate, None if last == length else last / rate)
        assert writer.place == last - first
        same(heard(path, codec), whole[:, first:last])
        same(heard(path, codec, 20 / rate, 40 / rate), whole[:, first + 20 : first + 40])
        with ScxReader(path) as reader:
            assert reader.closed
            assert reader.end()[0] == last - first
            again = cut(reader, tmp_path / "again.scx", 10 / rate, 45 / rate)  # a part of a part
        same(heard(again.path, codec), whole[:, first + 10 : first + 45])
        again.path.unlink()


def test_files_one_after_the_other_sound_so(tmp_path):
    codec = CODECS["spectral"]()
    paths = [tmp_path / name for name in ("a.scx", "b.scx", "c.scx")]
    first = recording(codec, paths[0], 60, short=5)
    rate = codec.spec.sample_rate
    with ScxReader(paths[0]) as reader:
        cut(reader, paths[1], 100 / rate, 300 / rate)
    with ScxReader(paths[0]) as one, ScxReader(paths[1]) as two, ScxReader(paths[0]) as three:
        assert join([one, two, three], paths[2]).place == 2 * first.shape[1] + 200
    whole = torch.cat([first, first[:, 100:300], first], 1)
    same(heard(paths[2], codec), whole)
    for start, end in itertools.pairwise(range(0, whole.shape[1], 77)):
        same(heard(paths[2], codec, start / rate, end / rate), whole[:, start:end])
    with ScxReader(paths[2]) as reader:  # a part with an end of a section in it
        begin = first.shape[1] - 33
        cut(reader, tmp_path / "d.scx", begin / rate, (begin + 255) / rate)
    same(heard(tmp_path / "d.scx", codec), whole[:, begin : begin + 255])


def test_a_short_gap_is_concealed_and_time_stands_where_it_was(tmp_path):
    codec = CODECS["spectral"]()
    spec, header = codec.spec, header_of(codec, bandwidth=codec.spec.bandwidths[-1], start="primed")
    codes = [codes_of(codec, 30, spec.num_codebooks, seed) for seed in (1, 2)]
    with ScxWriter(tmp_path / "a.scx", header) as writer:
        writer.write(codes[0])
        writer.missing(10)
        writer.write(codes[1]._replace(length=spec.samples(29)))
    stream = codec.open_decoder(start="primed", bandwidth=spec.bandwidths[-1])
    data = [torch.from_numpy(one.data) for one in codes]
    parts = [stream.push(data[0]), stream.conceal(10), stream.push(data[1]), stream.flush()]
    same(heard(tmp_path / "a.scx", codec), torch.cat(parts, 2)[0, :, : spec.samples(69)].float())


def test_a_long_gap_is_silence_and_time_stands_where_it_was(tmp_path):
    codec = CODECS["spectral"]()
    spec, header = codec.spec, header_of(codec, bandwidth=codec.spec.bandwidths[-1], start="primed")
    codes = [codes_of(codec, 30, spec.num_codebooks, seed) for seed in (1, 2)]
    with ScxWriter(tmp_path / "a.scx", header) as writer:
        writer.write(codes[0])
        writer.missing(110)  # 1.1 s
        writer.write(codes[1]._replace(length=spec.samples(29)))  # its decoder needs a frame more than it gives
    got = heard(tmp_path / "a.scx", codec)
    assert got.shape[1] == spec.samples(169)
    assert not got[:, spec.samples(30) : spec.samples(140)].any()
    assert got[:, spec.samples(140) :].any()
    begin = spec.samples(33)
    same(heard(tmp_path / "a.scx", codec, begin / spec.sample_rate), got[:, begin:])
    with ScxReader(tmp_path / "a.scx") as reader:
        cut(reader, tmp_path / "b.scx", begin / spec.sample_rate)
    assert heard(tmp_path / "b.scx", codec).shape[1] == got.shape[1] - begin


def test_a_growing_file_is_heard_as_it_grows(tmp_path):
    codec = CODECS["spectral"]()
    whole = recording(codec, tmp_path / "a.scx", 60)
    data = (tmp_path / "a.scx").read_bytes()
    (tmp_path / "b.scx").write_bytes(data[: len(data) // 2])
    with ScxReader(tmp_path / "b.scx") as reader:
        audio = decode(reader, codec, follow=Follow(poll=0.01, idle=5))
        parts = [next(audio)]
        (tmp_path / "b.scx").write_bytes(data)
        same(torch.cat([*parts, *audio], 1), whole)


def test_what_cannot_be_cut_is_said(tmp_path):
    codec = CODECS["spectral"]()
    recording(codec, tmp_path / "a.scx", 20)
    with ScxReader(tmp_path / "a.scx") as reader:
        with pytest.raises(InputError, match="nothing between"):
            cut(reader, tmp_path / "b.scx", 1000.0)
        object.__setattr__(reader.header, "pre_roll", None)
        with pytest.raises(InputError, match="give the codec"):
            cut(reader, tmp_path / "b.scx", 0.1)
    assert not (tmp_path / "b.scx").exists()


def test_an_hour_of_nothing_is_damage(tmp_path):
    """A few bytes must not become silence without end."""
    codec = CODECS["spectral"]()
    recording(codec, tmp_path / "a.scx", 20)
    with ScxReader(tmp_path / "a.scx") as reader, ScxReader(tmp_path / "a.scx") as later:
        pieces = list(reader.pieces())
        far = pieces[-1]._replace(header=header_of(codec, bandwidth=1.0, start="primed"), at=2**60)
        later.pieces = lambda *_: iter([*pieces, far])
        with pytest.raises(AudioError, match="more than an hour"):
            list(decode(later, codec))
