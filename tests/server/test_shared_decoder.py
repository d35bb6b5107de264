"""What a decoder must have heard to begin in mid-stream: as much as it remembers, of every kind of codec."""

import dac_models
import numpy as np
import oracles
import pytest
import spectral_models
import torch

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

import streamcodec
from streamcodec.codes import Codes
from streamcodec.server.conversion import part
from streamcodec.server.shared_decoder import History
from streamcodec.server.voice import Frames

CODECS = {
    "lstm": lambda: oracles.small_codec("24khz"),
    "lstm, zeros": lambda: oracles.small_codec("24khz", pad_mode="constant"),
    "lstm, later": lambda: oracles.small_codec("32khz"),
    "spectral": spectral_models.small_codec,
    "spectral, a longer memory": lambda: spectral_models.small_codec(decoder_blocks=9, kernel_size=15),
    "bundled": lambda: streamcodec.load(dtype=torch.float64),
    "segments": lambda: oracles.small_codec("48khz"),
    "dac 44.1 kHz": lambda: dac_models.codec_of(dac_models.transformers_model(**dac_models.PUBLISHED["44khz"])),
}


def random_frames(codec, count, seed=0):
    rng = np.random.default_rng(seed)
    spec = codec.spec
    codes = rng.integers(0, spec.codebook_size, (spec.num_codebooks, count)).astype(np.uint16)
    scaled = codec.framing.scaled
    if not scaled:
        return Frames(codes)
    # A scale is a segment's.
    scale = np.repeat(rng.uniform(0.1, 1, -(-count // spec.segment_frames)), spec.segment_frames)[:count]
    return Frames(codes, scale.astype(np.float32))


def decode(codec, pieces):
    """All audio of the codec's own stream, [C, n]."""
    stream = codec.open_decoder(1, start="primed")
    parts = []
    for frames in pieces:
        scale = None if frames.scale is None else torch.from_numpy(frames.scale.copy())[None]
        parts.append(stream.push(Codes(torch.from_numpy(frames.codes.astype(np.int64))[None], scale, None)))
    return torch.cat([*parts, stream.flush()], 2)[0].numpy()


def compare(codec, frames, at):
    """The greatest difference from `at` on, as a part of the greatest sample, to a decoder that heard everything."""
    history = History(codec)
    for start in range(0, at, 7):
        history.hear(part(frames, start, min(start + 7, at)))
    assert history.end == at
    count = frames.codes.shape[1]
    rest = part(frames, at, count)
    whole = decode(codec, [frames])[:, codec.spec.samples(at) :]
    heard = decode(codec, [*history.frames(), rest])
    late = heard[:, codec.spec.samples(at) - codec.spec.samples(history.first) :]
    assert late.shape == whole.shape
    return np.abs(late - whole).max() / np.abs(whole).max()


@pytest.mark.parametrize("kind", CODECS)
def test_a_decoder_that_heard_the_history_gives_what_one_gives_that_heard_all(kind):
    codec = CODECS[kind]()
    memory, segment = codec.pre_roll.frames, codec.spec.segment_frames or 1
    for at in (1, memory // 3, 2 * memory + segment // 2 + 1):
        difference = compare(codec, random_frames(codec, at + 2 * segment + 40), at)
        assert difference < (1e-6 if "lstm" in kind else 1e-12), (at, difference)


@pytest.mark.parametrize("kind", ["dac 44.1 kHz", "segments", "lstm", "bundled"])
def test_without_it_the_decoder_gives_something_else(kind):
    """So the test above can fail."""
    codec = CODECS[kind]()
    frames = random_frames(codec, 80)
    whole = decode(codec, [frames])[:, codec.spec.samples(41) :]
    late = decode(codec, [part(frames, 41, 80)])[:, : whole.shape[1]]
    assert np.abs(late - whole[:, : late.shape[1]]).max() > 0.01 * np.abs(whole).max()


def test_how_much_of_the_past_is_kept():
    """docs/server.md says it."""
    assert streamcodec.load().pre_roll.frames == 8 * 6 + 1  # its blocks', and a frame that the sound waits for
    assert CODECS["dac 44.1 kHz"]().pre_roll.frames == 25
    assert CODECS["lstm"]().pre_roll.frames == 10 * 100


def test_frames_of_several_bandwidths_are_held_as_they_came():
    codec = oracles.small_codec("48khz")
    spec = codec.spec
    history, said = History(codec), []
    for seed, (depth, count) in enumerate([(spec.num_codebooks, 5), (1, 3), (2, 30), (1, 4)]):
        frames = random_frames(codec, count, seed)
        piece = Frames(frames.codes[:depth], frames.scale)
        said += [(list(column), scale) for column, scale in zip(piece.codes.T, piece.scale, strict=True)]
        history.hear(piece)
    held = [
        (list(column), scale)
        for piece in history.frames()
        for column, scale in zip(piece.codes.T, piece.scale, strict=True)
    ]
    assert history.end == 42
    assert history.first % spec.segment_frames == 0
    assert 42 - codec.pre_roll.frames <= history.first < 42 - spec.segment_frames
    assert held == said[history.first :]
    history.forget()
    assert (history.first, history.end, list(history.frames())) == (42, 42, [])
    history.restart()
    assert (history.first, history.end) == (0, 0)
