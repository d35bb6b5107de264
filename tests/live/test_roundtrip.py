"""The audio path on a clock of its own: what is played is the codec's streams run on what was heard, to the bit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import signal, small_codec

from streamcodec.codes import Codes
from streamcodec.errors import BandwidthError, InputError
from streamcodec.live.line import Line
from streamcodec.live.playout import FADE_SECONDS
from streamcodec.live.roundtrip import RoundTrip
from streamcodec.resample import Resampler


def streamed(codec, heard: np.ndarray, frames: int, bandwidths=((0, None),)) -> np.ndarray:
    """The codec's streams on [n, C], in whole steps of `frames` frames."""
    encoder = codec.open_encoder(bandwidth=bandwidths[0][1], start="primed")
    decoder = codec.open_decoder(start="primed", bandwidth=encoder.bandwidth)
    step, parts = frames * codec.spec.hop_length, [np.zeros((0, codec.spec.channels), np.float32)]
    changes = dict(bandwidths)
    for i in range(len(heard) // step):
        encoder.bandwidth = changes.get(i) or encoder.bandwidth
        codes = encoder.push(torch.from_numpy(heard[i * step : (i + 1) * step].T.copy())[None])
        assert isinstance(codes, Codes)
        parts.append(decoder.push(codes)[0].float().numpy().T)
    return np.concatenate(parts)


def source(channels: int, count: int, seed: int = 0) -> np.ndarray:
    return signal(1, channels, count, seed)[0].T.numpy()


def cut(rows: np.ndarray, sizes) -> list[np.ndarray]:
    return [part for part in np.split(rows, np.cumsum(sizes)) if len(part)]


@given(
    kind=st.sampled_from(["24khz", "32khz", "48khz"]),
    frames=st.integers(1, 4),
    sizes=st.lists(st.integers(0, 70), min_size=1, max_size=12),
    seed=st.integers(0, 9),
)
def test_the_line_is_the_codec_however_the_audio_was_cut(kind, frames, sizes, seed):
    codec = small_codec(kind)
    rows = source(codec.spec.channels, sum(sizes) + 100, seed)
    line, heard = Line(codec, frames=frames), []
    line.heard = heard.append
    played = np.concatenate([line.push(part) for part in cut(rows, sizes)])
    np.testing.assert_array_equal(np.concatenate(heard), rows[: line.steps * line.step])
    np.testing.assert_array_equal(played, streamed(codec, rows, frames))


def test_a_change_of_bandwidth_takes_effect_with_the_next_step():
    codec = small_codec("24khz")
    rows, line = source(1, 600), Line(small_codec("24khz"), frames=2, bandwidth=0.4)
    played = [line.push(rows[:120])]
    line.bandwidth = 1.6
    played.append(line.push(rows[120:]))
    assert line.bandwidths == [(0, 0.4), (10, 1.6)]
    np.testing.assert_array_equal(np.concatenate(played), streamed(codec, rows, 2, line.bandwidths))
    with pytest.raises(BandwidthError, match=r"choose one of 0\.4, 0\.8, 1\.6"):
        line.bandwidth = 5.0
    assert line.bandwidth == 1.6


def test_other_rates_and_channels_are_converted():
    codec = small_codec("24khz")
    stereo = source(2, 3000)
    line, heard = Line(codec, input_rate=1600, output_rate=1200, input_channels=2, output_channels=2), []
    line.heard = heard.append
    played = np.concatenate([line.push(part) for part in cut(stereo, [100] * 29)])
    mono = Resampler(1600, 600, 1).push(stereo.mean(axis=1)[None]).T
    np.testing.assert_allclose(np.concatenate(heard), mono[: line.steps * line.step], atol=1e-6)
    said = streamed(codec, np.concatenate(heard), 1)
    np.testing.assert_array_equal(played, np.repeat(Resampler(600, 1200, 1).push(said.T).T, 2, axis=1))
    assert line.resampling == Resampler(1600, 600, 1).delay / 1600 + Resampler(600, 1200, 1).delay / 600


def test_what_is_not_finite_is_silence():
    codec = small_codec("24khz")
    rows = source(1, 120)
    bad, zeroed = rows.copy(), rows.copy()
    bad[[3, 50, 51], 0], zeroed[[3, 50, 51], 0] = (np.nan, np.inf, -np.inf), 0
    np.testing.assert_array_equal(Line(codec).push(bad), streamed(codec, zeroed, 1))


def test_a_step_has_at_least_one_frame():
    with pytest.raises(InputError, match="at least 1"):
        Line(small_codec("24khz"), frames=0)


class Clock:
    """Two devices and a codec thread on one clock: samples met and heard at the times that their numbers say."""

    def __init__(self, trip: RoundTrip, rows: np.ndarray, block: int, late) -> None:
        self.trip, self.rows, self.block, self.late = trip, rows, block, late
        self.played: list[np.ndarray] = []

    def run(self, start: float = 1000.0, before: float = 0.003, after: float = 0.004) -> np.ndarray:
        rate, trip = self.trip.line.input_rate, self.trip
        waiting = 0
        for i in range(len(self.rows) // self.block):
            at = i * self.block
            trip.on_input(self.rows[at : at + self.block], start + at / rate)
            waiting = self.late(i) if waiting == 0 else waiting - 1
            if waiting == 0:
                trip.work()
            out = np.full((self.block, trip.line.output_channels), np.nan, np.float32)
            # The callback comes `before` after the block's last sample was met; what it gives is heard `after` later.
            trip.on_output(out, start + (at + self.block) / rate + before + after)
            trip.tick()
            self.played.append(out)
        return np.concatenate(self.played)


def compare(trip: RoundTrip, played: np.ndarray, said: np.ndarray) -> int:
    """Samples that were compared, between the events."""
    fade, events = round(FADE_SECONDS * trip.line.output_rate), trip.playout.events
    ends, compared = [event.position for event in events[1:]] + [len(played)], 0
    for event, end in zip(events, ends, strict=True):
        begin = min(event.position + fade, end)
        count = end - begin
        wanted = np.zeros((count, 1)) if event.kind == "stop" else said[event.source + fade :][:count]
        np.testing.assert_array_equal(played[begin:end], wanted)
        compared += 0 if event.kind == "stop" else count
    return compared


def test_on_a_calm_computer_nothing_is_lost_and_the_delay_is_that_of_the_samples():
    codec = small_codec("24khz")
    rows = source(1, 6000)
    trip = RoundTrip(Line(codec), input_block=3, output_block=3)
    played = Clock(trip, rows, 3, lambda i: 0).run()
    (start,) = trip.playout.events
    assert compare(trip, played, streamed(codec, rows, 1)) == len(played) - start.position - 3
    assert (trip.playout.underruns, trip.input.overruns, trip.output.overruns) == (0, 0, 0)
    # Sample 0 is met at 0 and begins the block at start.position; a block is played once it is in.
    wanted = 1000 * ((start.position + 3) / 600 + 0.003 + 0.004)
    delay = trip.mean_delay()
    assert delay is not None
    assert delay.total == pytest.approx(wanted, abs=1e-6)
    assert delay.codec == pytest.approx(10.0)
    parts = (delay.input, delay.resampling, delay.codec, delay.computing, delay.cushion, delay.output, delay.waiting)
    assert sum(parts) == pytest.approx(delay.total)


@pytest.mark.parametrize("seed", range(5))
def test_a_codec_thread_that_is_late_leaves_gaps_and_nothing_wrong(seed):
    codec, rng = small_codec("24khz"), np.random.default_rng(seed)
    rows = source(1, 9000, seed)
    trip = RoundTrip(Line(codec, frames=2), input_block=6, output_block=6)
    played = Clock(trip, rows, 6, lambda i: int(rng.choice([0] * 6 + [12 + i // 50]))).run()  # to 0.42 s
    assert trip.playout.underruns > 0
    assert compare(trip, played, streamed(codec, rows, 2)) > 0.5 * len(played)
    figures = trip.figures()
    assert figures["underruns"] == trip.playout.underruns
    assert figures["lost_input"] == 0


def test_input_that_no_one_fetches_is_lost_and_counted():
    trip = RoundTrip(Line(small_codec("24khz")), input_block=6, output_block=6)
    for i in range(200):
        trip.on_input(np.zeros((6, 1), np.float32), i * 0.01, trouble=i == 7)
    room = math.ceil((0.5 + 2 * 0.01) * 600)
    assert trip.input.lost == 1200 - room // 6 * 6
    figures = trip.figures()
    assert (figures["lost_input"], figures["device_overflows"]) == (trip.input.lost, 1)
    assert trip.mean_delay() is None
    assert figures["delay_ms"] is None


def test_levels_are_those_since_the_last_look():
    trip = RoundTrip(Line(small_codec("24khz")))
    trip.on_input(np.array([[0.2], [-0.7]], np.float32), 0.0)
    trip.on_input(np.array([[0.1]], np.float32), 0.0)
    assert trip.take_levels() == (pytest.approx(0.7), 0.0)
    assert trip.take_levels() == (0.0, 0.0)
