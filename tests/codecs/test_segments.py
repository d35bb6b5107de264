"""Signals in segments: cut, scaled, overlapped."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts, free_frames, signal
from torch import Tensor

from streamcodec.codecs.segments import SegmentDecoder, SegmentEncoder, Segments
from streamcodec.errors import ConfigError
from streamcodec.nn.layer import Layer
from streamcodec.nn.piece import Piece

HOP = 4


class Frames(Layer):
    """An encoder and its inverse: a frame is `HOP` samples of both channels, zeros completing the last one."""

    def __init__(self, decode: bool):
        super().__init__()
        self.decode = decode

    def forward(self, x: Tensor) -> Tensor:
        if self.decode:
            return x.reshape(x.shape[0], -1, 2)
        padded = torch.nn.functional.pad(x, (0, 0, 0, -x.shape[1] % HOP))
        return padded.reshape(x.shape[0], -1, 2 * HOP)


ENCODER, DECODER = Frames(False), Frames(True)


@st.composite
def segmentations(draw: st.DrawFn, unit: int = 1) -> Segments:
    length = unit * draw(st.integers(1, 40 // unit))
    return Segments(HOP, length, draw(st.integers(1, length)), draw(st.booleans()))


def rows_of(samples: int) -> Tensor:
    return signal(2, 2, samples, seed=samples).double().transpose(1, 2) + 0.1


@settings(max_examples=100)
@given(segmentations(HOP), st.integers(0, 150), st.lists(st.integers(0, 30), max_size=8))
def test_a_lossless_codec_gives_the_signal_back(segments, samples, sizes):
    """Whatever the overlap, cut into whatever pieces: weights, scales and the short segments at the end cancel out.

    Segments are whole frames here: else the zeros that complete a segment overlap with the next one, upstream too.
    """
    x = rows_of(samples)
    encoder = SegmentEncoder(segments, ENCODER, x[:, :0])
    pieces = [encoder.push(Piece(x[:, a:b])) for a, b in cuts(samples, sizes)] + [encoder.flush()]
    latents = torch.cat([piece.rows for piece in pieces], 1)
    whole = segments.encode(x, ENCODER)
    assert torch.equal(latents, whole.rows)
    assert latents.shape[1] == sum(segments.cut(samples))
    assert (whole.scale is not None) == segments.normalize
    back = segments.decode(whole.rows, whole.scale, samples, DECODER)
    torch.testing.assert_close(back[:, :samples], x, rtol=0, atol=1e-12)


@settings(max_examples=100)
@given(segmentations(), st.integers(0, 150), st.lists(st.integers(0, 9), max_size=8))
def test_a_decoder_fed_in_pieces_equals_one_fed_at_once(segments, samples, sizes):
    x = rows_of(samples)
    whole = segments.encode(x, ENCODER)
    expected = segments.decode(whole.rows, whole.scale, samples, DECODER)
    decoder = SegmentDecoder(segments, DECODER, whole.rows[:, :0])
    frames, out, said = whole.rows.shape[1], [], 0
    free = free_frames(segments, samples)
    for start, stop in cuts(frames, sizes):
        last = stop == frames or stop > free
        stop = frames if last else stop
        full, rest = divmod(stop, segments.frames)
        length = samples if last else full * segments.stride + min(rest * HOP, segments.stride)
        scale = None if whole.scale is None else whole.scale[:, start:stop]
        out.append(decoder.push(Piece(whole.rows[:, start:stop], scale, length - said)).rows)
        said = length
        if last:
            break
    out.append(decoder.flush().rows)
    torch.testing.assert_close(torch.cat(out, 1)[:, :samples], expected[:, :samples], rtol=0, atol=1e-12)


@given(segmentations(), st.integers(0, 300))
def test_the_length_tells_how_a_signal_was_cut(segments, samples):
    """A length is above what so many frames of whole segments stand for only where short segments end the signal."""
    counts = segments.cut(samples)
    assert len(counts) == math.ceil(samples / segments.stride)
    full, rest = divmod(sum(counts), segments.frames)
    room = full * segments.stride + min(rest * HOP, segments.stride)
    short = [count for count in counts if count < segments.frames]
    assert counts == [segments.frames] * (len(counts) - len(short)) + short
    assert (samples > room) == (len(short) > 1)


def test_each_segment_is_scaled_by_the_level_of_its_mono_mix():
    segments = Segments(HOP, 8, 8, True)
    x = torch.ones(1, 16, 2, dtype=torch.float64)
    x[:, :8] *= 3.0
    x[:, 8:, 1] = -1.0  # the mono mix is silent
    piece = segments.encode(x, ENCODER)
    torch.testing.assert_close(piece.scale, torch.tensor([[3.0, 3.0, 0.0, 0.0]]).double() + 1e-8)
    torch.testing.assert_close(piece.rows[:, :2], torch.ones(1, 2, 8).double())
    torch.testing.assert_close(segments.decode(piece.rows, piece.scale, 16, DECODER), x)


def test_overlapping_segments_are_weighted_by_triangles():
    """At the middle of the overlap both weigh the same; towards its ends the nearer segment wins."""
    segments = Segments(1, 5, 4, False)
    decoder = Layer()  # the identity
    x = torch.cat([torch.zeros(1, 5, 1), torch.ones(1, 5, 1)], 1).double()
    pcm = segments.decode(x, None, 9, decoder)[0, :, 0]
    assert torch.equal(pcm, torch.tensor([0, 0, 0, 0, 0.5, 1, 1, 1, 1]).double())


@pytest.mark.parametrize(("length", "stride", "message"), [(8, None, "overlap"), (8, 9, "9"), (8, 0, "0")])
def test_segments_that_leave_gaps_are_refused(length, stride, message):
    with pytest.raises(ConfigError, match=message):
        Segments(HOP, length, stride, False)
