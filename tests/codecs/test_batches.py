"""Batches of unequal lengths, and long signals a piece at a time: the results of each signal alone and whole."""

import copy

import dac_models
import numpy as np
import oracles
import pytest
import spectral_models
import torch
import xcodec_models
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec import Codec, Codes
from streamcodec.codecs import batches
from streamcodec.errors import CodesError, DtypeError, InputError, NonFiniteError, ShapeError
from streamcodec.nn.transducer import Network

FAMILIES = {
    "encodec 24 kHz": oracles.small_codec,
    "encodec 32 kHz": lambda: oracles.small_codec("32khz"),
    "encodec 48 kHz": lambda: oracles.small_codec("48khz"),
    "encodec that normalises over all": lambda: oracles.small_codec("48khz", chunk_length_s=None, overlap=None),
    "dac": lambda: dac_models.small_codec((2, 3)),
    "dac with odd strides": lambda: dac_models.small_codec((2, 4, 5)),
    "bare dac": lambda: dac_models.bare(dac_models.small_codec((2, 3))),
    "spectral": spectral_models.small_codec,
    "xcodec": lambda: xcodec_models.small_codec("hubert"),
}
SAMPLES = (0, 5, 47, 240, 241, 611)


@pytest.fixture(params=FAMILIES)
def codec(request: pytest.FixtureRequest) -> Codec:
    if request.param == "xcodec":
        pytest.importorskip("transformers", reason="X-Codec's speech model is one of transformers")
    return FAMILIES[request.param]()


@pytest.fixture(params=["alone", "together"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on a CPU, and as on a GPU: in batches of steps."""
    if request.param == "together":
        monkeypatch.setattr(batches, "batching", lambda device: batches.Batching(4, 0.05))
    return request.param


def signals(codec: Codec, samples: tuple[int, ...] = SAMPLES) -> list[torch.Tensor]:
    return [oracles.signal(1, codec.spec.channels, n, seed=n)[0] for n in samples]


def same(ours: list, theirs: list) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        if isinstance(one, Codes):
            assert torch.equal(one.data, other.data)
            assert one.length == other.length
            assert (one.scale is None) == (other.scale is None)
            one, other = (torch.zeros(0) if each.scale is None else each.scale for each in (one, other))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_every_item_of_a_list_has_the_result_of_the_item_alone(codec, way):
    waves = signals(codec)
    alone = [codec.encode(wave[None]) for wave in waves]
    coded = codec.encode(waves)
    same(coded, alone)
    same(codec.encode([wave.numpy() for wave in waves]), alone)
    same(codec.decode(coded), [codec.decode(codes) for codes in alone])
    bare = [codes.data[0] for codes in alone]
    if alone[0].scale is None:
        same(codec.decode(bare), [codec.decode(codes.data) for codes in alone])
    if way == "alone":  # each is computed as it always is: not one bit differs
        assert coded == alone
    assert codec.encode([]) == codec.decode([]) == []


def test_codes_of_several_bandwidths_are_decoded_together(codec, way):
    waves = signals(codec)
    coded = [codec.encode(wave[None], codec.spec.bandwidths[i % 2]) for i, wave in enumerate(waves)]
    same(codec.decode(coded), [codec.decode(codes) for codes in coded])


def test_a_padded_batch_with_lengths_or_a_mask_is_the_list(codec, way):
    waves = signals(codec)
    alone = codec.encode(waves)
    size = max(SAMPLES) + 30
    padded = torch.stack([torch.nn.functional.pad(wave, (0, size - wave.shape[1]), value=0.7) for wave in waves])
    left = torch.stack([torch.nn.functional.pad(wave, (size - wave.shape[1], 0), value=0.7) for wave in waves])
    lengths = torch.tensor(SAMPLES)
    mask = torch.arange(size) < lengths[:, None]
    for wav, given_ in (
        (padded, {"lengths": SAMPLES}),
        (padded.numpy(), {"lengths": lengths.numpy()}),
        (padded, {"lengths": lengths}),
        (padded, {"padding_mask": mask}),
        (padded, {"padding_mask": mask.int().numpy()}),
        (padded, {"padding_mask": mask[:, None].expand(-1, codec.spec.channels, -1)}),
        (left, {"padding_mask": mask.flip(1)}),
    ):
        same(codec.encode(wav, **given_), alone)
    frames = [codes.shape[2] for codes in alone]
    data = torch.stack(
        [torch.nn.functional.pad(codes.data[0], (0, 9 + max(frames) - codes.shape[2])) for codes in alone]
    )
    scale = None
    if alone[-1].scale is not None:
        scale = torch.stack(
            [torch.nn.functional.pad(codes.scale[0], (0, data.shape[2] - codes.shape[2])) for codes in alone]
        )
    expected = [codec.decode(Codes(codes.data, codes.scale)) for codes in alone]
    same(codec.decode(Codes(data, scale), lengths=frames), expected)
    mask = torch.arange(data.shape[2]) < torch.tensor(frames)[:, None]
    same(codec.decode(Codes(data, scale), padding_mask=mask), expected)


@pytest.mark.parametrize("family", ["encodec 24 kHz", "encodec 48 kHz", "dac"])
def test_what_a_feature_extractor_of_transformers_gives_is_taken_as_it_is(family):
    transformers = pytest.importorskip("transformers", reason="the feature extractors are those of transformers")
    codec = FAMILIES[family]()
    rate, channels = codec.spec.sample_rate, codec.spec.channels
    if family == "dac":
        extractor = transformers.DacFeatureExtractor(sampling_rate=rate, hop_length=codec.spec.hop_length)
    else:
        extractor = transformers.EncodecFeatureExtractor(channels, rate)
    waves = [wave.float() for wave in signals(codec, (611, 47, 240))]
    raw = [(wave[0] if channels == 1 else wave).numpy() for wave in waves]
    for side in ("right", "left"):
        extractor.padding_side = side
        inputs = extractor(raw_audio=raw, sampling_rate=rate, return_tensors="pt", padding=True)
        found = codec.encode(inputs["input_values"], padding_mask=inputs["padding_mask"])
        assert [codes.length for codes in found] == [611, 47, 240]
        same(found, codec.encode(waves))


@pytest.mark.parametrize("seconds", [0.01, 0.31, 100])
def test_a_long_signal_in_pieces_has_the_same_codes(codec, seconds):
    wav = oracles.signal(2, codec.spec.channels, 700)
    whole = codec.encode(wav)
    if codec.framing.analyse_each is not None:
        same([codec.encode(wav, chunk_seconds=seconds)], [whole])
        waves = signals(codec, (5, 241))
        same(codec.encode(waves, chunk_seconds=seconds), codec.encode(waves))
    else:
        with pytest.raises(InputError, match=r"chunk_seconds is .*as a whole.*leave chunk_seconds out"):
            codec.encode(wav, chunk_seconds=seconds)
    if codec.framing.synthesise_each is not None:
        same([codec.decode(whole, chunk_seconds=seconds)], [codec.decode(whole)])


@pytest.mark.parametrize("family", ["encodec 24 kHz", "encodec 48 kHz", "dac"])
def test_nothing_larger_than_a_chunk_goes_through_a_network(family, monkeypatch):
    codec = FAMILIES[family]()
    most, chunk = [], 0.5

    def seen(layer, inputs):
        most.append(inputs[0].shape[1])

    def step(self, x, state, edges=None):
        most.append(x.shape[0] * x.shape[1])
        return run(self, x, state, edges)

    run = Network.step
    monkeypatch.setattr(Network, "step", step)
    handles = [half.register_forward_pre_hook(seen) for half in (codec.encoder, codec.decoder)]
    try:
        codes = codec.encode(oracles.signal(1, codec.spec.channels, 20_000), chunk_seconds=chunk)
        codec.decode(codes, chunk_seconds=chunk)
    finally:
        for handle in handles:
            handle.remove()
    assert len(most) > 2 * 20_000 / codec.spec.sample_rate / chunk
    assert max(most) <= chunk * codec.spec.sample_rate


@settings(max_examples=25)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(1, 40), st.sampled_from(["24khz", "32khz"]))
def test_any_lengths_in_any_steps_give_what_each_gives_alone(lengths, frames, kind):
    codec = oracles.small_codec(kind)
    waves = [wave.T.double() for wave in signals(codec, tuple(lengths))]
    assert codec.framing.analyse_each is not None
    pieces = codec.framing.analyse_each(waves, lengths, frames, lambda rows: rows)
    for wave, piece in zip(waves, pieces, strict=True):
        expected = codec.analyse(wave[None]).rows[0].detach()
        torch.testing.assert_close(piece.rows, expected, rtol=0, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_list_on_a_gpu_has_the_codes_of_each_item_alone():
    codec = copy.deepcopy(oracles.small_codec()).to("cuda")
    waves = signals(codec)
    same(codec.encode(waves), [codec.encode(wave[None]) for wave in waves])


def test_results_can_be_trained_on():
    codec = oracles.small_codec()
    for codes in codec.encode(signals(codec), chunk_seconds=0.05):
        assert not codes.data.is_inference()
    (audio,) = codec.decode([codec.encode(signals(codec)[-1][None])], chunk_seconds=0.05)
    assert not audio.is_inference()


def test_what_is_no_batch_of_unequal_lengths_is_refused():
    codec = oracles.small_codec()
    wav, codes = oracles.signal(2, 1, 100), torch.zeros(2, 1, 10, dtype=torch.int64)
    mask = torch.ones(2, 100)
    hole = mask.clone()
    hole[1, 50] = 0
    for message, kind, call in (
        ("each from 0 to 100", ShapeError, lambda: codec.encode(wav, lengths=[100, 101])),
        ("takes 2 of them", ShapeError, lambda: codec.encode(wav, lengths=[100])),
        ("whole number", InputError, lambda: codec.encode(wav, lengths=[1.5, 2.0])),
        ("whole number", InputError, lambda: codec.encode(wav, lengths=7)),
        ("at least 0", InputError, lambda: codec.encode(wav, lengths=[-1, 3])),
        (r"\[2, 99\]; .* \[2, 100\]", ShapeError, lambda: codec.encode(wav, padding_mask=mask[:, :99])),
        ("hole in row 1", InputError, lambda: codec.encode(wav, padding_mask=hole)),
        ("give one", InputError, lambda: codec.encode(wav, lengths=[1, 2], padding_mask=mask)),
        ("leave it out", InputError, lambda: codec.encode(list(wav), lengths=[1, 2])),
        ("audio 1 of the list is a str", DtypeError, lambda: codec.encode([wav[0], "a.wav"])),
        (r"audio 0 of the list .*\[2, 1, 100\]", ShapeError, lambda: codec.encode([wav])),
        ("codes 0 of the list have batch 2", ShapeError, lambda: codec.decode([Codes(codes)])),
        (r"codes 0 of the list has the shape \[10\]", ShapeError, lambda: codec.decode([codes[0, 0]])),
        ("stand for 60 samples", CodesError, lambda: codec.decode([Codes(codes[:1], None, 61)])),
        ("positive number of seconds", InputError, lambda: codec.encode(wav, chunk_seconds=0)),
        ("one number", InputError, lambda: codec.encode(wav, chunk_seconds="1")),
        ("NaN", NonFiniteError, lambda: codec.encode([wav[0], np.full((1, 5), np.nan, np.float32)])),
    ):
        with pytest.raises(kind, match=message):
            call()
