"""docs/speed.py, which writes the figures of docs/speed.md: its commands are there, and it writes where it should."""

import importlib.util
import json
import shlex
import sys

import pytest
from pages import ROOT

from streamcodec.cli.parser import build_parser

PAGE = ROOT / "docs" / "speed.md"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The module, which writes to a copy of the page."""
    spec = importlib.util.spec_from_file_location("speed_page", ROOT / "docs" / "speed.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "speed_page", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAGE", tmp_path / "speed.md")
    monkeypatch.setattr(module, "PLOT", tmp_path / "speed.png")
    monkeypatch.setattr(module, "opus", lambda: (100.4, 300.0))
    module.PAGE.write_text(PAGE.read_text("utf-8"), "utf-8")
    return module


ROW = {"seconds": 1.0, "ms_per_frame": 2.0, "times_real_time": 3.0, "gflops": 40.0, "of_gemm": 0.5}
LIVE = {
    "processes": 1, "conversations": 10, "frames": 1, "precision": "bfloat16x3", "steps": 900, "lasts_ms": 13.333,
    "median_ms": 3.0, "p99_ms": 4.0, "late_percent": 0.5, "loop_median_ms": 0.4, "loop_p99_ms": 0.5,
}  # fmt: skip
STEPS = {"step_median_ms": 3.0, "step_p99_ms": 4.0, "gb_per_s": 5.0, "of_bandwidth": 0.25}


def result(options):
    """As `bench speed --json` prints it."""
    return {
        "codec": "x", "batch": int(options[options.index("--batch") + 1]) if "--batch" in options else 1,
        "encoder_bytes_per_stream": 1000, "decoder_bytes_per_stream": 2000, "processor": "Abacus 3", "torch": "9.9",
        "float32_gemm_gflops": 80.0, "encode_bandwidth_gb": 20.0, "native_bfloat16_db_7_frames": 36.4,
        "triton_tf32_codes_1_frames": 0.98765,
        "rows": [
            {"side": "theirs, offline", "direction": "encode", "ratio": 1.0, **ROW},
            {"side": "streamcodec native, 1-frame steps", "direction": "encode", "ratio": 0.75, **ROW, **STEPS},
        ],
        "both": {
            "theirs, offline": 1.0, "streamcodec native, 1-frame steps": 0.75,
            "streamcodec native bfloat16x3, 1-frame steps": 0.5,
        },
    }  # fmt: skip


def test_all_its_commands_are_ones_that_there_are(script):
    for part in script.PARTS + script.ON_GPU:
        args = build_parser(["bench"]).parse_args(["bench", "speed", *shlex.split(part.command)])
        assert args.module == "streamcodec.bench.speed"
    live = ["bench", "live", "--conversations", "10", "--processes", "2", "--backend", "native", "--json"]
    live += ["--precision", "int8"]
    assert build_parser(["bench"]).parse_args(live).module == "streamcodec.bench.live"
    titles = [part.title for part in script.PARTS]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_writes_between_its_marks_and_leaves_the_rest(script, monkeypatch, device):
    pytest.importorskip("matplotlib", reason="matplotlib draws the figures: pip install matplotlib")
    found = {"frames": 3, "delay_ms": 60.0, "codec_ms": 40.0, "waiting_ms": 15.0, "computing_ms": 5.0}

    def called(arguments, environment=None):
        if "speed" in arguments:
            return None if "xcodec" in arguments else json.dumps(result(arguments))
        if "live" in arguments:
            return json.dumps(LIVE)
        return json.dumps({"codec": "x", "found": found if "streamcodec_24khz" in arguments else None})

    monkeypatch.setattr(script, "called", called)
    before = script.PAGE.read_text("utf-8")
    name = "figures" if device == "cpu" else "figures of a GPU"
    for _ in range(2):  # it finds its marks again
        assert script.main(["--device", device, "--lyra", "/some/folder"]) == 0
    text = script.PAGE.read_text("utf-8")
    begin, end = f"<!-- {name}: by docs/speed.py -->", f"<!-- end of {name} -->"
    assert text.partition(begin)[0] == before.partition(begin)[0]
    assert text.partition(end)[2] == before.partition(end)[2]
    made = text.partition(begin)[2].partition(end)[0]
    assert "Abacus 3" in made
    assert "torch 9.9" in made
    assert "| streamcodec native, 1-frame steps | encode | 2.000 | 0.75 | 3.00 | 4.00 | 40 | 50% | 5.0 | 25% |" in made
    assert "Float32 is 36.4 dB above what bfloat16 changes (native, 7-frame steps)." in " ".join(made.split())
    assert "Encoding by triton in tf32 keeps 98.77% of the codes (1-frame steps)." in " ".join(made.split())
    assert "X-Codec" not in made
    assert (device == "cuda") is ("--device cuda\n```" in made)
    if device == "cpu":
        assert "| EnCodec 24 kHz in one-frame steps, over transformers offline | 0.75 |" in made
        assert "| EnCodec 24 kHz in one-frame steps, over transformers offline, in bfloat16x3 | 0.50 |" in made
        assert "on 1 core(s), in bfloat16x3, a one-frame step" in made
        assert "p99, in ms (13.33 are there) | 4.0 |" in made
        assert "| 10 | 1 | bfloat16x3 | 13.33 | 900 | 3.00 | 4.00 | 0.50% | 0.40 | 0.50 |" in made
        assert "100 times real time to encode" in " ".join(made.split())
        assert "### Lyra v2" in made
        assert "speed --codec DIR --backend torch,native" in made
        assert "/some/folder" not in made
        assert "| x | 3 | 60.0 | 40.0 | 15.0 | 5.0 |" in made
        assert "| x | none |" in made
        assert "| `streamcodec --help` | 0.00 |" in made
        assert script.PLOT.stat().st_size > 1000


def test_a_trial_prints_and_writes_nothing(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "called", lambda arguments, environment=None: json.dumps(result(arguments)))
    before = script.PAGE.read_text("utf-8")
    assert script.main(["--only", "Mimi"]) == 0
    assert script.PAGE.read_text("utf-8") == before
    out = capsys.readouterr().out
    assert "### Mimi" in out
    assert "### EnCodec" not in out


def test_a_command_that_fails_is_told_and_left_out(script, capsys):
    assert script.called(["-c", "import sys; sys.exit('no such thing: 7' if 0 else 2)"]) is None
    assert script.called(["-c", "print(7)"]) == "7\n"
    assert "left out" in capsys.readouterr().err
