"""The demo of a language model's conversations: each is heard as it should be, however it is over."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import mimi_models
import pytest
import soundfile
import torch

DEMO = Path(__file__).parent.parent.parent / "demos" / "conversations.py"


@pytest.fixture
def demo() -> Any:
    spec = importlib.util.spec_from_file_location("conversations", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conversations"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["conversations"]


def test_each_conversation_is_that_of_a_stream_alone(demo: Any) -> None:
    codec, people = mimi_models.small_codec(), demo.eight()
    codes = torch.from_numpy(demo.converse(codec, people))
    fade, rate = round(demo.FADE * codec.spec.sample_rate), codec.spec.frame_rate
    assert [one.fate for one in people].count("is interrupted") == 3
    for one in people:
        first, stop = (round(second * rate) for second in one.says)
        whole, wave = codec.decode(codes[None, :, first:stop])[0, 0], one.wave
        if one.fate == "ends":
            torch.testing.assert_close(wave, whole, rtol=0, atol=1e-9)
            continue
        heard = len(wave) - (fade if one.fate == "is interrupted" else (codes.shape[0] - 1) * codec.spec.hop_length)
        steps = round(one.after * rate) - codes.shape[0]  # those of which every codebook came
        assert heard == steps * codec.spec.hop_length
        torch.testing.assert_close(wave[:heard], whole[:heard], rtol=0, atol=1e-9)
        if one.fate == "is interrupted":
            assert wave[-1].abs() < 0.02 * wave.abs().max()


@pytest.mark.slow
def test_the_demo_writes_what_is_heard_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pip install '.[plots]'")
    files = ["heard.wav", "seen.png"]
    run = subprocess.run([sys.executable, DEMO, *files], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("differs from the offline result") == 4
    wav, rate = soundfile.read(tmp_path / "heard.wav")
    assert wav.shape[1] == 2
    assert 5 < len(wav) / rate < 6
    assert (tmp_path / "seen.png").read_bytes()[:4] == b"\x89PNG"
