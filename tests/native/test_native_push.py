"""Pushes of whole frames in one call of the library: the bits, the counts and the errors of the general way."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from int16_edges import EDGES, expected
from sets import HERE, compiled, each_set, on
from torch import Tensor

import streamcodec
from streamcodec import Codec, Codes, DecoderStream, EncoderStream
from streamcodec.errors import CodesError, NonFiniteError, ShapeError, StreamClosedError, StreamError
from streamcodec.nn.conv import Conv1d
from streamcodec.nn.quantize import ResidualVectorQuantizer
from streamcodec.nn.transducer import Network
from streamcodec.state import State

pytestmark = compiled

HOP = streamcodec.load().spec.hop_length


def native() -> Codec:
    return streamcodec.load(backend="native")


def voice(frames: int) -> Tensor:
    return 0.2 * torch.randn(1, 1, frames * HOP, generator=torch.Generator().manual_seed(frames))


def without_whole(codec: Codec) -> Codec:
    codec = codec.on("native")
    codec.whole_audio = codec.whole_codes = lambda *_: None  # type: ignore[method-assign]
    return codec


@cache
def pair(name: str) -> tuple[Codec, Codec]:
    """For one instruction set, with and without."""
    codec = native()
    return codec, without_whole(codec)


def quick(push: Callable[[], object], stream: EncoderStream | DecoderStream) -> object:
    """What `push` gives, where the general way had no part in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(stream), "_push", lambda *_: pytest.fail("the general way"))
        return push()


def warm(stream: EncoderStream, frames: int = 1) -> list[Codes]:
    """Pushes after which one of as many frames is quick."""
    return [stream.push(torch.zeros(1, 1, frames * HOP)) for _ in range(4)]


@each_set
@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 3) | st.just(0.4), min_size=1, max_size=8), repeats=st.integers(1, 4))
def test_any_partition_gives_the_bits_of_the_general_way(name: str, sizes: list[float], repeats: int) -> None:
    with on(name):
        codec, other = pair(name)
        steps = [round(size * HOP) for size in sizes for _ in range(repeats)]
        wav = voice(-(-sum(steps) // HOP))
        streams = [(each.open_encoder(), each.open_decoder()) for each in (codec, other)]
        for piece in wav[..., : sum(steps)].split(steps, 2):
            (codes, audio), (same, again) = (
                ((codes := encoder.push(piece)), decoder.push(codes)) for encoder, decoder in streams
            )
            assert codes == same
            assert torch.equal(audio, again)
        for of in zip(*streams, strict=True):
            assert of[0].save() == of[1].save()
        assert streams[0][0].flush() == streams[1][0].flush()
        assert torch.equal(streams[0][1].flush(), streams[1][1].flush())


@pytest.mark.parametrize("frames", [1, 4])
def test_the_library_does_a_push_like_the_ones_before(frames: int) -> None:
    codec = native()
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    wav, made = voice(12 * frames), []
    for i, piece in enumerate(wav.split(frames * HOP, 2)):
        if i < 2:
            made.append(decoder.push(encoder.push(piece)))
        else:
            codes = quick(lambda piece=piece: encoder.push(piece), encoder)
            made.append(quick(lambda codes=codes: decoder.push(codes), decoder))
    made.append(decoder.push(encoder.flush()))
    made.append(decoder.flush())
    assert torch.equal(torch.cat(made, 2), _decoded_in_one_push(codec, wav))


def _decoded_in_one_push(codec: Codec, wav: Tensor) -> Tensor:
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    parts = [decoder.push(encoder.push(wav)), decoder.push(encoder.flush()), decoder.flush()]
    return torch.cat(parts, 2)


@pytest.mark.parametrize("name", ["bundled", "encodec"])
@pytest.mark.parametrize("start", ["exact", "primed"])
def test_the_library_does_every_push_after_the_first_output(name: str, start: streamcodec.Start) -> None:
    codec = native() if name == "bundled" else oracles.small_codec("24khz", torch.float32).on("native")
    other = without_whole(codec)
    encoder, decoder = codec.open_encoder(start=start), codec.open_decoder(start=start)
    general, same = other.open_encoder(start=start), other.open_decoder(start=start)
    wav = oracles.signal(1, 1, 12 * codec.spec.hop_length).float()
    outputs, slow = list[int](), list[int]()
    for stream in (encoder, decoder):
        push = stream._core.push
        stream._core.push = lambda piece, push=push: (slow.append(i), push(piece))[1]  # type: ignore[method-assign]
    for i, piece in enumerate(wav.split(codec.spec.hop_length, 2)):
        audio = decoder.push(codes := encoder.push(piece))
        assert codes == general.push(piece)
        assert torch.equal(audio, same.push(codes))
        if audio.shape[2]:
            outputs.append(i)
    assert len(outputs) >= 5
    assert all(i <= outputs[0] for i in slow)


def test_what_cannot_be_pushed_is_named_and_nothing_is_lost() -> None:
    codec = native()
    encoder, other = codec.open_encoder(), without_whole(codec).open_encoder()
    decoder, same = codec.open_decoder(), without_whole(codec).open_decoder()
    for codes in [*warm(encoder), *warm(other)][:4]:
        decoder.push(codes)
        same.push(codes)
    bad = voice(1)
    for value in (float("nan"), float("inf")):
        bad[0, 0, -1] = value
        with pytest.raises(NonFiniteError):
            encoder.push(bad)
    with pytest.raises(ShapeError):
        encoder.push(torch.zeros(2, 1, HOP))
    huge = torch.full((1, 1, HOP), 3e38)  # their sum is infinite
    assert encoder.push(huge) == other.push(huge)
    codes = encoder.push(voice(1))
    assert codes == other.push(voice(1))
    assert torch.equal(decoder.push(codes), same.push(codes))


@pytest.mark.parametrize("frames", [1, 3])
def test_codes_that_have_no_entry_leave_the_decoder_as_it_was(frames: int) -> None:
    codec = native()
    decoder, same = codec.open_decoder(), without_whole(codec).open_decoder()
    data = torch.randint(0, 1024, (1, 12, 4 * frames), generator=torch.Generator().manual_seed(4))
    for codes in data.split(frames, 2):
        assert torch.equal(decoder.push(codes), same.push(codes))
    before = decoder.save()
    for value in (-1, codec.spec.codebook_size):
        for frame in range(frames):
            bad = data[:, :, :frames].clone()
            bad[0, 5, frame] = value
            with pytest.raises(CodesError):
                decoder.push(bad)
            assert decoder.save() == before
    assert torch.equal(decoder.conceal(2), same.conceal(2))
    assert torch.equal(decoder.push(data), same.push(data))


def test_samples_are_taken_as_they_are() -> None:
    codec = native()
    other = without_whole(codec).open_encoder()
    encoder = codec.open_encoder()
    warm(encoder)
    warm(other)
    wav = voice(2)
    spaced, array = voice(2)[..., ::2], wav[..., :HOP].numpy()
    array.flags.writeable = False
    for given_ in (wav[..., :HOP], array, spaced, spaced.numpy(), array.astype(np.float64), (array * 9e3).astype("i2")):
        assert encoder.push(given_) == other.push(given_)
    warm(encoder)
    warm(other)
    for given_ in (wav[..., :HOP], array):
        assert quick(lambda given_=given_: encoder.push(given_), encoder) == other.push(given_)
    given_ = wav[..., HOP:].clone()
    codes = encoder.push(given_)
    given_.zero_()
    assert codes == other.push(wav[..., HOP:])


def test_codes_are_taken_as_they_lie() -> None:
    codec = native()
    decoder, other = codec.open_decoder(), without_whole(codec).open_decoder()
    data = torch.randint(0, 1024, (1, 12, 8), generator=torch.Generator().manual_seed(2))
    for frame in data.split(1, 2)[:4]:
        assert torch.equal(decoder.push(frame), other.push(frame))
    for frame in (data[:, :, 4:5], Codes(data[:, :, 5:6], length=HOP)):
        assert torch.equal(quick(lambda frame=frame: decoder.push(frame), decoder), other.push(frame))
    two = data.mT.contiguous().mT[:, :, ::3][:, :, :2]  # frames further apart than stages
    for _ in range(4):
        assert torch.equal(decoder.push(two), other.push(two))
    assert torch.equal(quick(lambda: decoder.push(two), decoder), other.push(two))


def test_what_comes_out_is_the_callers_own() -> None:
    codec = native()
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    made = [encoder.push(piece) for piece in voice(6).split(HOP, 2)]
    before = [codes.data.clone() for codes in made]
    audio = [decoder.push(codes) for codes in made]
    kept = [each.clone() for each in audio]
    encoder.push(voice(1))
    decoder.push(torch.zeros(1, 12, 1, dtype=torch.int64))
    assert all(torch.equal(codes.data, data) for codes, data in zip(made, before, strict=True))
    assert all(map(torch.equal, audio, kept))
    assert len({each.data_ptr() for each in audio}) == len(audio)


def test_another_bandwidth_other_shapes_and_lost_frames() -> None:
    codec = native()
    streams = [(each.open_encoder(), each.open_decoder()) for each in (codec, without_whole(codec))]
    results: list[list[Tensor]] = [[], []]
    for i, piece in enumerate(voice(40).split(HOP, 2)):
        for (encoder, decoder), made in zip(streams, results, strict=True):
            encoder.bandwidth = (6.0, 1.5)[i // 7 % 2]
            codes = encoder.push(piece)
            made += [codes.data, decoder.conceal(1) if i % 11 == 9 else decoder.push(codes)]
    assert all(map(torch.equal, *results))
    (_, decoder), (_, other) = streams
    assert decoder.received == other.received
    assert torch.equal(decoder.cut(700), other.cut(700))
    with pytest.raises(StreamClosedError):
        decoder.push(torch.zeros(1, 3, 1, dtype=torch.int64))


def test_codes_that_say_where_the_audio_ends() -> None:
    codec = native()
    decoder, other = codec.open_decoder(), without_whole(codec).open_decoder()
    data = torch.randint(0, 1024, (1, 12, 1), generator=torch.Generator().manual_seed(1))
    for codes in (data, data, data, Codes(data, length=HOP), Codes(data, length=HOP - 1)):
        assert torch.equal(decoder.push(codes), other.push(codes))
    with pytest.raises(StreamError, match="after the last ones"):
        decoder.push(data)
    assert torch.equal(decoder.flush(), other.flush())


def test_new_entries_are_noticed_at_once() -> None:
    codec = native()
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    for codes in warm(encoder):
        decoder.push(codes)
    wav, entries = voice(1), codec.quantizer.codebooks.flip(1).clone()
    codec.quantizer.set_codebooks(entries)
    flipped = encoder.push(wav)
    fresh = native().open_encoder()
    warm(fresh)
    assert torch.equal(flipped.data, codec.spec.codebook_size - 1 - fresh.push(wav).data)


def test_a_codec_that_moved_is_refused() -> None:
    codec = native()
    encoder = codec.open_encoder()
    warm(encoder)
    codec.double()
    with pytest.raises(StreamError, match="move it back"):
        encoder.push(voice(1))
    codec.float()
    assert encoder.push(voice(1)).shape == (1, 12, 1)


def test_other_threads_have_their_own_memory() -> None:
    codec = native()
    encoder, other = codec.open_encoder(), without_whole(codec).open_encoder()
    warm(encoder)
    warm(other)
    with ThreadPoolExecutor(1) as pool:
        for i, piece in enumerate(voice(8).split(HOP, 2)):
            codes = pool.submit(encoder.push, piece).result() if i // 2 % 2 else encoder.push(piece)
            assert codes == other.push(piece)


@pytest.mark.skipif(len(HERE) < 2, reason="this processor has one instruction set")
def test_a_codec_searches_on_the_instruction_set_that_it_was_made_for():
    """Tables of another one lie otherwise: in one call with its steps they would be read beyond their end."""
    codec, searches = streamcodec.load(), []
    for name in HERE[:2]:
        with on(name):
            other = codec.on("native")
            searches.append(other.quantizer.bound_search(slice(1)).run)
            network = other._networks()["encoder"]
            executor = network.executor
    assert [search.instruction_set.name for search in searches] == HERE[:2]
    pushes = [executor.push(1, 2, State(network.spec, 1), search, 1) for search in searches]
    assert pushes[0] is None
    assert pushes[1] is not None


@each_set
def test_samples_are_rounded_to_int16_as_in_numpy_and_torch(name: str) -> None:
    with on(name):
        layer, quantizer, frames = Conv1d(1, 1, 1), ResidualVectorQuantizer(1, len(EDGES), 1), len(EDGES)
        with torch.no_grad():
            layer.weight.fill_(1)
            layer.bias.zero_()
        quantizer.set_codebooks(torch.from_numpy(EDGES)[None, :, None])
        quantizer.backend = "native"
        network = Network(layer, 1, 1, 1, backend="native")
        push = network.executor.push(1, frames, State(network.spec, 1), quantizer.bound_lookup().run, 1)
        codes, made = torch.arange(frames), torch.zeros(frames, dtype=torch.int16)
        assert push is not None
        assert push([codes.data_ptr(), 0, frames, 1, 1, 1], [made.data_ptr(), 1], [0])
        np.testing.assert_array_equal(made.numpy(), expected(EDGES))
