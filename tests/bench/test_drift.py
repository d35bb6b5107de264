"""``streamcodec bench drift`` on an X-Codec of a few channels."""

import json

import numpy as np
import pytest
import soundfile

pytest.importorskip("transformers", reason="X-Codec's speech model is transformers'")

from streamcodec.bench import random_weights
from streamcodec.bench.presets import PRESETS, Preset
from streamcodec.checkpoint import save
from streamcodec.cli import main
from streamcodec.codecs.xcodec import XcodecCodec

RATE = 16_000
CONFIG = {
    "codebook_size": 16,
    "target_bandwidths": [0.2, 0.4],
    "acoustic_model_config": {"encoder_hidden_size": 2, "decoder_hidden_size": 32, "hidden_size": 8},
    "semantic_model_config": {
        "model_type": "hubert",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": [8] * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    },
}


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return str(save(random_weights.make(Preset(XcodecCodec, CONFIG)), tmp_path_factory.mktemp("x") / "codec"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "in.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(RATE + 123), RATE)
    return str(path)


def test_the_table_has_every_window(codec, recording, capsys):
    windows = ["5/11/10", "100/100/7"]
    command = ["bench", "drift", recording, "--codec", codec, "--windows", ",".join(windows)]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seconds"] == 1.0  # whole frames of 320 samples
    short, whole = result["windows"]
    assert [f"{row['left']}/{row['right']}/{row['hop']}" for row in result["windows"]] == windows
    assert short["delay_ms"] == pytest.approx(8734 / 16)  # the acoustic encoder's, which the window hides behind
    assert whole["delay_ms"] == pytest.approx((7 + 7 + 100 - 1) * 20)
    # A window that holds the whole recording is the offline run; a short one is not.
    assert whole["equal"] > 0.99
    assert short["equal"] < whole["equal"]
    for row in result["windows"]:
        assert np.mean(row["equal_by_codebook"]) == pytest.approx(row["equal"])
        assert row["real_time_factor"] > 0
    assert main(command) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(windows)
    assert table[0].count("codebook ") == 2


def test_a_codec_without_a_speech_model_does_not_drift(tmp_path, recording, capsys):
    preset = PRESETS["dac_16khz"]
    small = preset._replace(config=preset.config | {"encoder_hidden_size": 2, "decoder_hidden_size": 32})
    directory = save(random_weights.make(small), tmp_path / "dac")
    assert main(["bench", "drift", recording, "--codec", str(directory)]) == 2
    assert "codecs with a speech model" in capsys.readouterr().err


def test_a_recording_without_a_frame_is_refused(codec, tmp_path, capsys):
    soundfile.write(tmp_path / "short.wav", np.zeros(300), RATE)
    assert main(["bench", "drift", str(tmp_path / "short.wav"), "--codec", codec]) == 2
    assert "shorter than a frame of 320 samples" in capsys.readouterr().err


def test_speed_measures_decoding_alone(codec, capsys):
    quick = ["--codec", codec, "--seconds", "0.4", "--repeats", "1", "--steps", "4"]
    assert main(["bench", "speed", *quick]) == 0
    table = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert {cells[2].strip() for cells in table[2:]} == {"decode"}  # below the head and its line
    assert main(["bench", "speed", *quick, "--only", "encode"]) == 2
    assert "bench drift" in capsys.readouterr().err
