"""``streamcodec roundtrip``: its figures, its file, and streaming beside offline."""

import json
import re

import numpy as np
import pytest
import soundfile
from commands import RATE

from streamcodec.cli.running import CodecRun
from streamcodec.metrics import mel_distance, si_sdr


def test_roundtrip_measures_the_file_that_it_writes(result, tiny, voice):
    got = result("roundtrip", voice, "out.flac", "--codec", tiny)
    (original, _), (decoded, rate) = soundfile.read(voice), soundfile.read("out.flac")
    assert rate == RATE
    assert len(decoded) == len(original) == got["samples"]
    assert got["si_sdr_db"] == pytest.approx(si_sdr(original, decoded), abs=0.1)
    assert got["mel_distance"] == pytest.approx(mel_distance(original, decoded, RATE), abs=0.05)
    assert (got["frames"], got["codebooks"]) == (93, 2)
    assert got["bitrate_kbps"] == pytest.approx(93 * 2 * 6 / len(original) * RATE / 1000)
    assert got["algorithmic_delay_ms"] == pytest.approx(1000 * got["algorithmic_delay_samples"] / RATE)
    assert got["algorithmic_delay_samples"] == 320  # causal: one frame
    assert got["real_time_factor"] == pytest.approx(got["codec_seconds"] * RATE / len(original))
    assert (got["start"], got["step_frames"], got["changes"]) == ("exact", 75, [])


def test_roundtrip_prints_a_line_of_figures_last(cli, tiny, voice):
    code, out, err = cli("roundtrip", voice, "--codec", tiny, "--step-frames", 10)
    assert code == 0
    assert err == "streamcodec: wrote out.wav\n"
    figures = (
        r"0\.91 kbps \| algorithmic delay 13\.3 ms \| real-time factor \d+\.\d{4} \| SI-SDR -?[\d.]+ dB"
        r" \| mel distance \d\.\d{4} \| steps of 10 frames\n"
    )
    assert re.fullmatch(figures, out)


@pytest.mark.parametrize("options", [["--step-frames", 1], ["--step-frames", 13], []])
def test_streaming_is_offline(result, tiny, voice, options):
    streamed = result("roundtrip", voice, "a.wav", "--codec", tiny, *options)
    offline = result("roundtrip", voice, "b.wav", "--codec", tiny, "--offline")
    assert streamed["step_frames"] == (options[1] if options else 75)
    assert offline["step_frames"] is None
    (first, _), (second, _) = soundfile.read("a.wav"), soundfile.read("b.wav")
    assert first.shape == second.shape
    assert np.mean(np.abs(first - second) > 1e-3) < 0.02  # near ties may flip a code


def test_a_primed_start_gives_as_many_samples_in_place(result, tiny, voice):
    exact = result("roundtrip", voice, "a.wav", "--codec", tiny, "--step-frames", 2)
    primed = result("roundtrip", voice, "b.wav", "--codec", tiny, "--start", "primed", "--step-frames", 2)
    assert primed["start"] == "primed"
    assert primed["samples"] == exact["samples"]
    (first, _), (second, _) = soundfile.read("a.wav"), soundfile.read("b.wav")
    assert len(first) == len(second)
    assert not np.array_equal(first[:2240], second[:2240])
    # Apart from what the beginnings leave in the recurrent layers the two are the same signal at the same place.
    assert si_sdr(first[12000:], second[12000:]) > 10


@pytest.mark.parametrize(("bandwidth", "codebooks"), [(0.9, 2), (1.8, 4)])
def test_bandwidth_is_the_number_of_codebooks(result, tiny, voice, bandwidth, codebooks):
    got = result("roundtrip", voice, "--codec", tiny, "--bandwidth", bandwidth)
    assert (got["bandwidth_kbps"], got["codebooks"]) == (bandwidth, codebooks)


@pytest.mark.parametrize("command", [["roundtrip", "in.ogg", "out.ogg"], ["encode", "in.ogg", "codes.safetensors"]])
def test_what_is_changed_about_a_recording_is_said(cli, tiny, command):
    pcm = np.random.default_rng(0).uniform(-0.1, 0.1, (44100, 2))
    soundfile.write("in.ogg", pcm, 44100)
    code, out, err = cli(*command, "--codec", tiny, "--json")
    assert code == 0
    assert "streamcodec: in.ogg: averaged 2 channels to 1\n" in err
    assert "streamcodec: in.ogg: resampled 44100 -> 24000 Hz\n" in err
    assert json.loads(out)["changes"] == ["averaged 2 channels to 1", "resampled 44100 -> 24000 Hz"]
    assert json.loads(out)["samples"] == 24000


def test_silence_has_no_si_sdr(cli, result, tiny):
    soundfile.write("silence.wav", np.zeros(3000), RATE)
    assert result("roundtrip", "silence.wav", "--codec", tiny)["si_sdr_db"] is None
    _, out, err = cli("roundtrip", "silence.wav", "--codec", tiny)
    assert "SI-SDR" not in out
    assert "nan" not in out
    assert "mel distance" in out
    assert "silence.wav: silent, and so without an SI-SDR" in err


@pytest.mark.parametrize("samples", [1, 100, 320, 321, 2239, 2240, 2241])
def test_short_recordings_keep_their_length(result, tiny, samples):
    soundfile.write("short.wav", np.random.default_rng(0).uniform(-0.5, 0.5, samples), RATE)
    assert result("roundtrip", "short.wav", "--codec", tiny)["samples"] == samples
    assert soundfile.info("out.wav").frames == samples


def test_clipping_is_said(cli, tiny, voice, monkeypatch):
    decode = CodecRun.decode
    monkeypatch.setattr(CodecRun, "decode", lambda self, parts: (1000 * pcm for pcm in decode(self, parts)))
    _, out, err = cli("roundtrip", voice, "--codec", tiny, "--json")
    count = json.loads(out)["clipped_samples"]
    assert count > 0
    assert f"out.wav: {count} samples were outside ±1 and were clipped" in err
