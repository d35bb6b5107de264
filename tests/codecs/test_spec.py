"""What a codec says of itself: the numbers of the published models, and how samples, frames and codebooks relate."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import KINDS, small_codec

from streamcodec import CodecSpec
from streamcodec.codecs.encodec import EncodecCodec, EncodecConfig
from streamcodec.errors import BandwidthError, InputError

# The published configurations but for their width, on which none of these numbers depends.
NARROW = {"num_filters": 1, "hidden_size": 2, "compress": 1}
PUBLISHED = {
    "24khz": EncodecConfig(**NARROW),
    "32khz": EncodecConfig(
        **NARROW,
        sampling_rate=32_000,
        upsampling_ratios=(8, 5, 4, 4),
        target_bandwidths=(2.2,),
        codebook_size=2048,
        use_causal_conv=False,
        use_conv_shortcut=False,
    ),
    "48khz": EncodecConfig(
        **NARROW,
        sampling_rate=48_000,
        audio_channels=2,
        normalize=True,
        chunk_length_s=1.0,
        overlap=0.01,
        norm_type="time_group_norm",
        use_causal_conv=False,
        target_bandwidths=(3.0, 6.0, 12.0, 24.0),
    ),
}


def published(kind: str) -> CodecSpec:
    return EncodecCodec(PUBLISHED[kind], name=kind).spec


def test_encodec_24khz():
    spec = published("24khz")
    assert (spec.hop_length, spec.frame_rate, spec.num_codebooks) == (320, 75.0, 32)
    assert (spec.encoder_delay, spec.decoder_delay, spec.prefill_frames) == (0, 0, 7)
    assert (spec.encoder_prefill, spec.decoder_prefill) == (7, 7)
    assert spec.delay == 320
    assert [spec.codebooks(kbps) for kbps in spec.bandwidths] == [2, 4, 8, 16, 32]


def test_encodec_32khz_has_the_least_delay():
    """Known from NaN propagation through the published model."""
    codec = EncodecCodec(PUBLISHED["32khz"])
    spec = codec.spec
    assert (spec.hop_length, spec.frame_rate, spec.num_codebooks) == (640, 50.0, 4)
    assert (spec.encoder_delay, spec.decoder_delay) == (2386, 2402)
    assert codec.framing.encoder.at.rows(spec.encoder_prefill) == 3026  # samples before the first frame


def test_encodec_48khz_works_on_seconds():
    spec = published("48khz")
    assert (spec.segment_length, spec.segment_stride, spec.segment_frames) == (48_000, 47_520, 150)
    assert (spec.encoder_delay, spec.decoder_delay, spec.prefill_frames) == (47_680, 480, 0)
    assert [spec.codebooks(kbps) for kbps in spec.bandwidths] == [2, 4, 8, 16]


@pytest.mark.parametrize("kind", KINDS)
@given(frames=st.integers(0, 500), more=st.integers(0, 50))
def test_samples_grow_with_frames(kind, frames, more):
    spec = small_codec(kind).spec
    assert 0 <= spec.samples(frames + more) - spec.samples(frames) <= more * spec.hop_length
    if spec.segment_frames is None:
        assert spec.samples(frames) == frames * spec.hop_length
    else:
        assert spec.samples(frames * spec.segment_frames) == frames * spec.segment_stride


@given(
    kbps=st.lists(st.floats(0.3, 30), min_size=1, max_size=5, unique=True),
    size=st.sampled_from([2, 16, 300, 1024]),
    rate=st.sampled_from([50.0, 75.0, 86.1328125]),
    limit=st.integers(1, 40),
)
def test_a_bandwidth_buys_whole_codebooks(kbps, size, rate, limit):
    spec = dataclasses.replace(
        small_codec().spec, bandwidths=tuple(sorted(kbps)), codebook_size=size, frame_rate=rate, num_codebooks=limit
    )
    counts = [spec.codebooks(value) for value in spec.bandwidths]
    assert counts == sorted(counts)
    for value, count in zip(spec.bandwidths, counts, strict=True):
        assert 1 <= count <= limit
        cost = math.log2(size) * math.ceil(rate) / 1000
        assert count == 1 or count * cost <= value * (1 + 1e-12)
        assert count == limit or (count + 1) * cost > value * (1 - 1e-12)


def test_a_bandwidth_not_on_offer_is_named():
    with pytest.raises(BandwidthError, match=r"5\.0 kbps is not offered by 24khz; choose one of 1\.5, 3, 6, 12, 24"):
        published("24khz").codebooks(5.0)


def test_the_defaults():
    assert published("24khz").default_bandwidth == 1.5  # upstream's own
    config = EncodecConfig.from_dict({**EncodecConfig(**NARROW).to_dict(), "streamcodec_default_bandwidth": 6.0})
    codec = EncodecCodec(config)
    assert codec.spec.default_bandwidth == 6.0
    assert EncodecConfig.from_dict(codec.config) == config
    assert codec.encode(torch.zeros(1, 1, 320)).data.shape[1] == 8


@pytest.mark.parametrize("kind", PUBLISHED)
def test_codebooks_and_bandwidths_name_each_other(kind):
    spec = published(kind)
    for bandwidth in spec.bandwidths:
        assert spec.bandwidth(spec.codebooks(bandwidth)) == bandwidth
        assert spec.resolve(bandwidth) == spec.resolve(num_codebooks=spec.codebooks(bandwidth)) == bandwidth
    assert spec.resolve() == spec.default_bandwidth
    with pytest.raises(BandwidthError, match=r"num_codebooks is 3, .*choose one of "):
        spec.bandwidth(3)
    with pytest.raises(InputError, match="give one"):
        spec.resolve(spec.default_bandwidth, 2)


@pytest.mark.parametrize("six", [6, np.float32(6), np.int64(6), torch.tensor(6.0), torch.tensor(6), np.array(6.0)])
def test_numbers_of_numpy_and_torch_are_bandwidths(six):
    spec = published("24khz")
    assert spec.codebooks(six) == 8
    assert (type(spec.resolve(six)), spec.resolve(six)) == (float, 6.0)
    assert spec.bandwidth(np.int16(8)) == spec.bandwidth(torch.tensor(8)) == 6.0


@given(st.integers(1, 32), st.sampled_from([16_000, 24_000, 44_100]), st.sampled_from([320, 512]), st.integers(1, 12))
def test_a_bandwidth_is_taken_as_it_is_stated_and_as_it_is(stages, rate, hop, bits):
    """DAC's are stated to the bit per second: 0.312 for one codebook of 10 bits at 31.25 frames a second."""
    exact = [count * bits * rate / hop / 1000 for count in range(1, stages + 1)]
    stated = tuple(round(kbps * 1000) / 1000 for kbps in exact)
    fields = {"bandwidths": stated, "bandwidth_codebooks": tuple(range(1, stages + 1)), "default_bandwidth": stated[-1]}
    spec = dataclasses.replace(published("24khz"), **fields)
    for count, (one, other) in enumerate(zip(exact, stated, strict=True), 1):
        for value in (one, other, np.float32(one), np.float32(other)):
            assert spec.offered(value) == other
            assert spec.codebooks(value) == count
        with pytest.raises(BandwidthError, match="choose one of"):
            spec.offered(other + 0.002)


def test_a_bandwidth_between_two_on_offer_means_neither():
    spec = dataclasses.replace(published("24khz"), bandwidths=(1.0, 1.001), bandwidth_codebooks=(1, 2))
    assert (spec.offered(1.0), spec.offered(1.001)) == (1.0, 1.001)
    with pytest.raises(BandwidthError, match="choose one of"):
        spec.offered(1.0005)
