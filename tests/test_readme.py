"""The README's promises: its commands are CI's, its Python runs, its table of delays is what the specs say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

import streamcodec
from streamcodec.cli.roundtrip import RECORDING
from streamcodec.codecs.dac import DacCodec
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codecs.xcodec import XcodecCodec

ROOT = Path(__file__).parent.parent
SMALL_DAC = {"encoder_hidden_size": 1, "decoder_hidden_size": 16}
SMALL_SPEECH = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) >= 6
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "<!-- tests -->" in script
    block = re.search(r"<!-- tests -->\n```sh\n(.*?)\n```", README, re.S)
    assert block is not None
    assert "pytest" in block[1]


def test_the_first_python_example_runs_as_it_stands_and_equals_the_offline_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = re.findall(r"```python\n(.*?)```", README, re.S)[0]
    exec(compile(source, "README.md", "exec"), {"__name__": "__main__"})
    result, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    wav, wanted_rate = soundfile.read(RECORDING, dtype="float32")
    codec = streamcodec.load()
    offline = codec.decode(codec.encode(wav[None, None], 6.0))[0, 0].clamp(-1, 1)
    assert rate == wanted_rate
    torch.testing.assert_close(torch.from_numpy(result), offline, rtol=0, atol=1e-5 + 1 / 32768)  # written as int16


@pytest.mark.parametrize(
    ("row", "config"),
    [
        ("bundled, 24 kHz", {}),
        ("EnCodec 24 kHz", {"num_filters": 2}),
        (
            "EnCodec 32 kHz",
            {
                "num_filters": 2,
                "sampling_rate": 32000,
                "upsampling_ratios": [8, 5, 4, 4],
                "use_causal_conv": False,
                "use_conv_shortcut": False,
                "codebook_size": 2048,
                "target_bandwidths": [2.2],
            },
        ),
        ("DAC 16 kHz", SMALL_DAC | {"downsampling_ratios": [2, 4, 5, 8], "sampling_rate": 16000}),
        ("DAC 24 kHz", SMALL_DAC | {"downsampling_ratios": [2, 4, 5, 8], "sampling_rate": 24000}),
        ("X-Codec", {"acoustic_model_config": SMALL_DAC, "semantic_model_config": SMALL_SPEECH}),
        ("DAC 44.1 kHz", SMALL_DAC | {"downsampling_ratios": [2, 4, 8, 8], "sampling_rate": 44100}),
    ],
)
def test_the_table_of_delays_is_the_specs(row: str, config: dict[str, object]) -> None:
    if row == "X-Codec":
        pytest.importorskip("transformers", reason="X-Codec's speech model comes from transformers")
    family = {"DAC": DacCodec, "X-C": XcodecCodec}.get(row[:3], EncodecCodec)
    spec = family(config | {"hidden_size": 4}).spec if config else streamcodec.load().spec
    cells = next(line for line in README.splitlines() if line.startswith(f"| {row} ")).split("|")[2:5]
    stated = [float(found[0]) if (found := re.findall(r"[\d.]+", cell)) else 0.0 for cell in cells]
    wait = spec.encoder_wait / spec.sample_rate * 1000
    ms = [spec.encoder_delay / spec.sample_rate * 1000, spec.decoder_delay / spec.sample_rate * 1000, wait]
    assert stated == [pytest.approx(value, abs=0.06) for value in ms]


def test_the_demo_runs(tmp_path: Path) -> None:
    demo = ROOT / "demos" / "frame_by_frame.py"
    done = subprocess.run([sys.executable, demo], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=True)
    assert "codes equal to the offline run" in done.stdout
    assert (tmp_path / "frames.wav").exists()
