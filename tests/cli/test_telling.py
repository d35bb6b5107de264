"""What is said on stderr."""

import json
import sys

import pytest

from streamcodec.cli.roundtrip import RECORDING


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_file_has_a_progress_bar_on_a_terminal(cli, tiny, terminal, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    code, out, err = cli("encode", RECORDING, "codes.safetensors", "--codec", tiny, "--json")
    assert code == 0
    assert ("11/11 s of audio" in err) == terminal
    json.loads(out)
