"""What is said on stderr."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import RATE

from streamcodec.cli.roundtrip import RECORDING


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_file_has_a_progress_bar_on_a_terminal(cli, tiny, terminal, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    code, out, err = cli("encode", RECORDING, "codes.safetensors", "--codec", tiny, "--json")
    assert code == 0
    assert ("11/11 s of audio" in err) == terminal
    json.loads(out)


def test_a_recording_of_unknown_length_has_a_bar_without_an_end(cli, tiny, monkeypatch):
    soundfile.write("unknown.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE), RATE)
    data = bytearray(Path("unknown.flac").read_bytes())
    data[21], data[22:26] = data[21] & 0xF0, bytes(4)
    Path("unknown.flac").write_bytes(data)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, _, err = cli("roundtrip", "unknown.flac", "--codec", tiny)
    assert code == 0
    assert "2 s of audio [" in err
