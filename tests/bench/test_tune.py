"""``streamcodec tune``: the search by a clock that the tests move, and what the command says."""

import json
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import hypothesis.strategies as st
import oracles
import pytest
import torch
from hypothesis import given

from streamcodec.bench import tune
from streamcodec.bench.steps import exceptions, p99
from streamcodec.bench.tune import Measured, delay, measured, search
from streamcodec.cli import main

FOREVER = 1e9


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def of(frames: int, cost: float, limit: float = 1.0) -> Measured:
    return Measured(frames, frames * limit, frames * limit, (cost,) * 10)


@given(st.integers(1, 200), st.integers(1, 200))
def test_the_search_finds_the_fewest_frames_that_keep_up(least, most):
    result = search(lambda frames: of(frames, 0 if frames >= least else FOREVER), most, FOREVER, Clock())
    assert result.complete
    assert (result.found and result.found.frames) == (least if least <= most else None)
    frames = [each.frames for each in result.tried]
    assert frames == sorted(set(frames))
    assert len(frames) <= 2 * most.bit_length() + 1
    assert max(frames) <= most


@given(st.integers(1, 200), st.floats(0.5, 30))
def test_no_size_is_begun_when_time_is_over(least, seconds):
    clock, begun = Clock(), []

    def measure(frames: int) -> Measured:
        begun.append(clock.now)
        clock.now += 1
        return of(frames, 0 if frames >= least else FOREVER)

    result = search(measure, 1000, seconds, clock)
    assert all(at < seconds for at in begun)
    if result.complete:
        assert result.found is not None
        assert result.found.frames == least
    elif result.found is not None:
        assert result.found.frames >= least


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400))
def test_at_most_one_time_in_a_hundred_is_above_the_percentile(times):
    bound = p99(times)
    assert bound in times
    assert sum(time > bound for time in times) <= exceptions(len(times))
    assert len(times) >= 100 or bound == max(times)


@cache
def small():
    return oracles.small_codec("24khz", torch.float32)


def stepped(monkeypatch, cost):
    """`measured` of two-frame steps, where step i takes cost(i) seconds of the clock."""
    clock, codec = Clock(), small()
    count = iter(range(10_000))

    def step() -> None:
        clock.now += cost(next(count) - tune.WARM)

    monkeypatch.setattr(tune, "_step", lambda *_: step)
    options = {"direction": "both", "bandwidth": codec.spec.default_bandwidth, "margin": 0.2, "clock": clock}
    return measured(codec, 2, seconds=FOREVER, **options)


def test_a_margin_is_left_and_the_first_steps_do_not_count(monkeypatch):
    audio = 2 / small().spec.frame_rate
    for part, keeps_up in ((0.79, True), (0.81, False)):
        result = stepped(monkeypatch, lambda i, part=part: 9 if i < 0 else part * audio)
        assert result.audio == audio
        assert result.limit == pytest.approx(0.8 * audio)
        assert result.keeps_up is keeps_up


def test_one_late_step_in_a_hundred_is_none_and_more_end_the_measuring(monkeypatch):
    audio = 2 / small().spec.frame_rate
    few = stepped(monkeypatch, lambda i: 9 * audio if i % 100 == 50 else 0.1 * audio)
    assert few.keeps_up
    assert len(few.times) == tune.STEPS
    more = stepped(monkeypatch, lambda i: 9 * audio if i % 10 == 0 else 0.1 * audio)
    assert not more.keeps_up
    assert len(more.times) == 10 * exceptions(tune.STEPS) + 1


def test_measuring_ends_with_its_time(monkeypatch):
    clock = Clock()

    def step() -> None:
        clock.now += 1.0

    monkeypatch.setattr(tune, "_step", lambda *_: step)
    options = {"direction": "both", "bandwidth": 1.0, "margin": -1000.0}
    assert len(measured(small(), 2, seconds=20, clock=clock, **options).times) == 20


def test_the_delay_is_the_codecs_the_steps_and_the_computings():
    codec = small()
    spec, steps = codec.spec, of(3, 0.25)
    for direction, own in (
        ("encode", spec.encoder_delay + spec.hop_length),
        ("decode", spec.decoder_delay),
        ("both", spec.encoder_delay + spec.decoder_delay + spec.hop_length),
    ):
        late = delay(codec, direction, steps)
        assert late.codec == pytest.approx(1000 * own / spec.sample_rate)
        assert late.waiting == pytest.approx(1000 * 2 * spec.hop_length / spec.sample_rate)
        assert late.computing == 250
        assert late.total == pytest.approx(late.codec + late.waiting + late.computing)


@pytest.mark.parametrize("direction", tune.DIRECTIONS)
def test_a_step_is_the_frames_that_it_says(direction, monkeypatch):
    codec, pushed = small(), []
    for side in ("EncoderStream", "DecoderStream"):
        kind = getattr(__import__("streamcodec"), side)
        real = kind.push
        monkeypatch.setattr(kind, "push", lambda *args, real=real: pushed.append(real(*args)) or pushed[-1])
    step = tune._step(codec, 3, direction, codec.spec.default_bandwidth)
    step()
    sizes = [each.shape[2] if isinstance(each, torch.Tensor) else each.data.shape[2] for each in pushed]
    assert (
        sizes
        == {"encode": [3], "decode": [3 * codec.spec.hop_length], "both": [3, 3 * codec.spec.hop_length]}[direction]
    )


def test_the_command_tells_what_it_tried_and_found(capsys, monkeypatch):
    monkeypatch.setattr("streamcodec.cli.tune.measured", lambda codec, frames, **_: of(frames, 1.0, limit=0.4))
    assert main(["tune", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(each["frames"], each["keeps_up"]) for each in result["tried"]] == [
        (1, False),
        (2, False),
        (3, True),
        (4, True),
    ]
    found = result["found"]
    assert (found["frames"], found["waiting_ms"], found["computing_ms"]) == (3, 40.0, 1000.0)
    assert found["delay_ms"] == pytest.approx(found["codec_ms"] + found["waiting_ms"] + found["computing_ms"])
    assert main(["tune"]) == 0
    out = capsys.readouterr().out
    assert "| 3 | 1200.00 | 10 | 1000.00 | 1000.00 | 1200.00 | yes |" in out
    assert out.splitlines()[-1].startswith("frames a step: 3. Total delay: 1080.0 ms (the codec 40.0, ")


def test_the_command_says_when_its_time_was_too_short(capsys, monkeypatch):
    monkeypatch.setattr("streamcodec.cli.tune.measured", lambda codec, frames, **_: of(frames, 1.0, limit=0.4))
    assert main(["tune", "--seconds", "1e-9"]) == 1
    assert "give it more --seconds" in capsys.readouterr().out


def test_the_command_says_that_nothing_keeps_up(capsys):
    assert main(["tune", "--seconds", "20", "--margin", "0.999999", "--most", "41", "--direction", "decode"]) == 1
    assert "no step of up to 41 ms keeps up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "0"], "--seconds is 0"),
        (["--most", "nan"], "--most is nan"),
        (["--margin", "1"], "--margin is 1"),
        (["--bandwidth", "7"], "7"),
        (["--backend", "abacus"], "abacus"),
        (["--precision", "bfloat16"], "native"),
    ],
)
def test_wrong_options_are_explained(arguments, message, capsys):
    assert main(["tune", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_codec_of_segments_is_refused():
    codec = SimpleNamespace(spec=replace(small().spec, segment_length=24_000))
    with pytest.raises(tune.InputError, match="works on segments of"):
        tune._step(codec, 1, "encode", 6.0)
