"""`evaluate --loss`: the same packets are lost for all, and what is done about it is measured."""

import json

import numpy as np
import oracles
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import streamcodec
from streamcodec.cli import main
from streamcodec.errors import InputError
from streamcodec.evaluate.libopus import LossyOpus, missing_library
from streamcodec.evaluate.loss import Loss, lost_packets
from streamcodec.evaluate.lossy_codec import LossyCodec
from streamcodec.evaluate.recording import Recording


def runs(lost):
    """Lengths of the stretches that are lost."""
    return [len(run) for run in "".join("x" if one else " " for one in lost).split()]


@given(st.integers(2, 3000), st.floats(0.01, 0.5), st.floats(1, 8))
def test_as_many_are_lost_as_are_asked(count, share, burst):
    lost = lost_packets(count, Loss(share, burst), "a")
    assert lost.sum() == round(share * count)
    assert not lost[0]
    assert np.array_equal(lost, lost_packets(count, Loss(share, burst), "a"))


def test_single_losses_stand_alone_and_bursts_are_as_long_as_asked():
    assert set(runs(lost_packets(5000, Loss(0.2), "a"))) == {1}
    lengths = runs(lost_packets(50_000, Loss(0.1, 4.0), "a"))
    assert 3.6 < np.mean(lengths) < 4.4
    assert max(lengths) > 10
    assert not np.array_equal(lost_packets(500, Loss(0.1), "a"), lost_packets(500, Loss(0.1), "b"))


@pytest.mark.parametrize("wrong", [(0, 1), (0.6, 1), (0.1, 0.5), (float("nan"), 1)])
def test_a_loss_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match="loss of"):
        Loss(*wrong)


def speech(rate, seconds=2.0):
    time = np.arange(round(seconds * rate)) / rate
    wav = sum(np.sin(2 * np.pi * 150 * n * time) / n for n in range(1, 9)) * (0.55 + 0.45 * np.sin(7 * time))
    return Recording("speech", "a", rate, (0.2 * wav).astype(np.float32), True)


def test_each_answer_is_the_codec_s_own_audio_where_nothing_was_lost():
    codec = streamcodec.load()
    system = LossyCodec(codec, [Loss(0.1)], 6.0, [(1, 12), (1, 2)])
    recording = speech(24000, 1.0)
    whole, *answers = system(recording)
    names = [one.system for one in answers]
    answers_to = ["silence", "last frame again", "concealed"]
    assert names[:3] == [f"codec 6, 10%, {answer}" for answer in answers_to]
    by_name = {one.system.split(", ", 2)[2]: one for one in answers}
    lost = lost_packets(-(-len(recording.audio) // 480) + 1, Loss(0.1), "a")
    first = 480 * int(np.flatnonzero(lost)[0])
    for one in answers:
        assert len(one.audio) == len(recording.audio)
        assert np.abs(one.audio[: first - 480] - whole.audio[: first - 480]).max() < 1e-5
    # All codebooks of the frame before: nothing is lost but for the last packet, which nothing follows.
    everything = by_name["with 1 x 12 again"]
    assert np.abs(everything.audio[: -2 * 480] - whole.audio[: -2 * 480]).max() < 1e-5
    assert whole.bits == by_name["silence"].bits == 51 * 120
    assert everything.bits == whole.bits + 50 * 120
    assert by_name["with 1 x 2 again"].bits == whole.bits + 50 * 20

    def error(one):
        return float(np.square(one.audio - whole.audio).sum())

    assert error(everything) < error(by_name["with 1 x 2 again"]) < error(by_name["silence"])


def test_a_codec_of_segments_is_refused():
    with pytest.raises(InputError, match="segments"):
        LossyCodec(oracles.small_codec("48khz", torch.float32), [Loss(0.1)], None, [])


@pytest.mark.skipif(missing_library() != "", reason="libopus is not installed")
def test_opus_conceals_what_is_lost_and_pays_for_its_fec():
    recording = speech(24000)
    ten, half = LossyOpus([24.0], [Loss(0.1), Loss(0.5)])(recording)
    assert [ten.system, half.system] == ["Opus 24, 10%", "Opus 24, 50%"]

    def error(one):
        return float(np.square(one.audio - recording.audio).mean() / np.square(recording.audio).mean())

    assert error(ten) < error(half)
    assert error(ten) < 0.6
    assert 12_000 < ten.bits / recording.seconds < 36_000
    with pytest.raises(InputError, match="6 to 256"):
        LossyOpus([3.0], [])


def test_the_command_tells_all_of_it(tmp_path, capsys):
    pytest.importorskip("pystoi", reason="the extra `evaluate` is not installed")
    (tmp_path / "speech").mkdir()
    recording = speech(24000, 1.5)
    soundfile.write(tmp_path / "speech" / "a.wav", recording.audio, 24000)
    words = ["evaluate", str(tmp_path), "--loss", "10", "--opus", "12", "--redundancy", "2x2", "--bandwidth", "3"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    systems = {score["system"]: score for score in found["scores"]}
    for pattern in ("10%", "10% in bursts"):
        for answer in ("silence", "last frame again", "with 2 x 2 again"):
            assert 0 < systems[f"codec 3, {pattern}, {answer}"]["stoi"] <= 1
        if not missing_library():
            assert systems[f"Opus 12, {pattern}"]["bits"] > 0
    assert systems["codec 3"]["stoi"] >= systems["codec 3, 10%, silence"]["stoi"]
    assert main([*words, "--anchor", f"a={tmp_path}"]) == 2
    assert main(["evaluate", str(tmp_path), "--loss", "80"]) == 2
    assert main(["evaluate", str(tmp_path), "--loss", "5", "--redundancy", "2"]) == 2
