"""Samples that pass as they came are the samples that would have been computed."""

import numpy as np
import pytest

from streamcodec.continuing import Gaps
from streamcodec.int16 import rounded
from streamcodec.protocol import PcmFormat, codec_facts
from streamcodec.protocol.samples import to_float, to_wire
from streamcodec.server.conversion import Inlet, Outlet

RATE = 24_000


def facts(channels=1):
    return codec_facts(
        name="any", sample_rate=RATE, channels=channels, hop_length=480, num_codebooks=8, codebook_size=1024,
        bandwidths=(6.0,), bandwidth_codebooks=(8,), default_bandwidth=6.0, encoder_delay=0, decoder_delay=0,
    )  # fmt: skip


def speech(samples, channels=1):
    rng = np.random.default_rng(0)
    tone = np.sin(2 * np.pi * 150 / RATE * np.arange(samples))[:, None]
    return (8000 * tone + 500 * rng.standard_normal((samples, channels))).astype(np.int16)


@pytest.mark.parametrize("kind", ["int16", "float32"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_gap_after_samples_that_passed_is_filled_from_them_for_any_cut(kind, channels):
    rng = np.random.default_rng(channels)
    pcm = PcmFormat(format="s16le" if kind == "int16" else "f32le", sample_rate=RATE, channels=channels)
    inlet, gaps, rows = Inlet(pcm, facts(channels)), Gaps(RATE, channels), speech(20_000, channels)
    got, expected, place = [], [], 0
    while place < len(rows):
        piece = rows[place : place + rng.choice([1, 7, 100, 606, 607, 960, 2000])]
        piece = piece if kind == "int16" else to_float(piece)
        got.append(to_float(inlet.push(piece)))
        expected.append(gaps.push(to_float(piece)).T)
        place += len(piece)
        if rng.random() < 0.3:
            count = int(rng.integers(1, 2500))
            got.append(inlet.missing(count))
            expected.append(gaps.gap(count).T)
    np.testing.assert_array_equal(np.concatenate(got, 1), np.concatenate(expected, 1))
    assert inlet.concealed == gaps.concealed > 0


def test_after_the_end_of_a_stream_nothing_of_it_is_heard_in_a_gap():
    pcm = PcmFormat(format="s16le", sample_rate=RATE, channels=1)
    inlet = Inlet(pcm, facts())
    inlet.push(speech(2000))
    assert inlet.finish().shape == (1, 0)
    assert not inlet.missing(500).any()


@pytest.mark.parametrize("length", [None, 4000, 5000])
def test_a_stream_that_an_engine_rounds_is_the_one_that_is_rounded_here(length):
    pcm = PcmFormat(format="s16le", sample_rate=RATE, channels=1)
    rng = np.random.default_rng(1)
    whole, rounding = Outlet(pcm, facts(), 960), Outlet(pcm, facts(), 960)
    assert whole.takes_int16
    got, expected = [], []
    for _ in range(10):
        audio = rng.normal(0, 0.6, (1, 480)).astype(np.float32)
        got += whole.push(rounded(audio))
        expected += rounding.push(audio)
    got += whole.finish(length)
    expected += rounding.finish(length)
    assert [one.shape for one in got] == [one.shape for one in expected]
    for left, right in zip(got, expected, strict=True):
        np.testing.assert_array_equal(to_wire(left, pcm), to_wire(right, pcm))
    assert whole.index == rounding.index


def test_only_a_client_that_gets_the_codecs_samples_as_they_are_is_given_int16():
    def takes(format="s16le", sample_rate=RATE, channels=1):
        return Outlet(PcmFormat(format=format, sample_rate=sample_rate, channels=channels), facts(), 960).takes_int16

    assert takes()
    assert not takes(format="f32le")
    assert not takes(sample_rate=48_000)
    assert not takes(channels=2)


def test_the_end_of_a_stream_with_one_packet_waiting_is_whole():
    pcm = PcmFormat(format="s16le", sample_rate=RATE, channels=1)
    outlet, audio = Outlet(pcm, facts(), 960), speech(480).T
    assert outlet.push(audio) == []
    (rest,) = outlet.finish()
    np.testing.assert_array_equal(to_wire(rest, pcm), audio.T)
