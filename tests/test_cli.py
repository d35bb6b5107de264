"""The command line, in process where that shows enough."""

import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from streamcodec.cli import main
from streamcodec.cli.roundtrip import RECORDING
from streamcodec.cli.running import Run
from streamcodec.codes import Codes
from streamcodec.codesfile import CodesReader, DacFile
from streamcodec.codesfile.ecdc import MODELS, EcdcWriter
from streamcodec.metrics import mel_distance, si_sdr

RATE = 24000
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def save_random_codec(path: Path, seed: int, **config) -> Path:
    """A small EnCodec with random weights, as transformers writes it."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(seed)
    small = {
        "num_filters": 4,
        "hidden_size": 16,
        "codebook_size": 64,
        "num_lstm_layers": 1,
        "target_bandwidths": [0.9, 1.8],
    }
    model = EncodecModel(EncodecConfig(**{**small, **config}))
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_()
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return str(save_random_codec(tmp_path_factory.mktemp("codec") / "tiny", seed=0))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> str:
    """Of the same name and sizes, with other weights."""
    return str(save_random_codec(tmp_path_factory.mktemp("codec") / "tiny", seed=1))


@pytest.fixture(scope="module")
def stereo(tmp_path_factory) -> str:
    """Whole segments, normalised, as EnCodec 48 kHz has them; 4 kHz to be quick."""
    return str(
        save_random_codec(
            tmp_path_factory.mktemp("codec") / "stereo",
            seed=2,
            sampling_rate=4000,
            audio_channels=2,
            normalize=True,
            norm_type="time_group_norm",
            use_causal_conv=False,
            chunk_length_s=1.0,
            overlap=0.01,
            target_bandwidths=[0.078, 0.156],
        )
    )


@pytest.fixture
def voice(tmp_path) -> Path:
    """1.23 s of something with harmonics and noise, 24 kHz mono, not a whole number of frames."""
    rng = np.random.default_rng(0)
    time = np.arange(29517) / RATE
    pcm = sum(np.sin(2 * np.pi * 140 * n * time * (1 + 0.1 * time)) / n for n in range(1, 12))
    path = tmp_path / "voice.wav"
    soundfile.write(path, 0.15 * pcm + 0.02 * rng.standard_normal(len(time)), RATE)
    return path


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Run a command in `tmp_path`; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def result(cli):
    """Run a command that must succeed, with --json; what it prints."""

    def run(*arguments: object) -> dict:
        code, out, err = cli(*arguments, "--json")
        assert code == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    return run


def assert_fails(cli, *arguments: object, match: str) -> None:
    """Exit code 2, one line on stderr, nothing on stdout, no file made."""
    before = sorted(Path().rglob("*"))
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"streamcodec: error: .+\n", err)
    assert re.search(match, err)
    assert sorted(Path().rglob("*")) == before


# -- roundtrip -----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("command", [["roundtrip", "in.ogg", "out.ogg"], ["encode", "in.ogg", "codes"]])
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
    assert "SI-SDR nan dB" in cli("roundtrip", "silence.wav", "--codec", tiny)[1]


@pytest.mark.parametrize("samples", [1, 100, 320, 321, 2239, 2240, 2241])
def test_short_recordings_keep_their_length(result, tiny, samples):
    soundfile.write("short.wav", np.random.default_rng(0).uniform(-0.5, 0.5, samples), RATE)
    assert result("roundtrip", "short.wav", "--codec", tiny)["samples"] == samples
    assert soundfile.info("out.wav").frames == samples


def test_clipping_is_said(cli, tiny, voice, monkeypatch):
    decode = Run.decode
    monkeypatch.setattr(Run, "decode", lambda self, parts: (1000 * pcm for pcm in decode(self, parts)))
    _, out, err = cli("roundtrip", voice, "--codec", tiny, "--json")
    count = json.loads(out)["clipped_samples"]
    assert count > 0
    assert f"out.wav: {count} samples were outside ±1 and were clipped" in err


# -- encode and decode ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--offline"], ["--start", "primed"], ["--step-frames", 3]])
def test_encode_then_decode_is_roundtrip(result, tiny, voice, options):
    whole = result("roundtrip", voice, "whole.wav", "--codec", tiny, "--bandwidth", 1.8, *options)
    encoded = result("encode", voice, "codes.safetensors", "--codec", tiny, "--bandwidth", 1.8, *options)
    with CodesReader("codes.safetensors") as reader:
        header = reader.header
        assert (reader.frames, reader.codebooks, header.length) == (93, 4, whole["samples"])
        assert (header.codec, header.source, header.bandwidth) == ("tiny", tiny, 1.8)
        assert header.start == ("primed" if "primed" in options else "exact")
    decoded = result(
        "decode", "codes.safetensors", "parts.wav", *(o for o in options if o not in ("--start", "primed"))
    )
    first, second = soundfile.read("whole.wav")[0], soundfile.read("parts.wav")[0]
    assert len(first) == len(second)
    np.testing.assert_allclose(first, second, atol=1e-4)
    for key in ("frames", "codebooks", "samples", "bitrate_kbps", "bandwidth_kbps", "start", "step_frames"):
        assert encoded[key] == decoded[key] == whole[key], key


def test_a_codec_of_segments_keeps_scale_and_length(result, stereo):
    pcm = np.random.default_rng(0).uniform(-0.5, 0.5, (10321, 2)) * np.linspace(0.05, 1, 10321)[:, None]
    soundfile.write("in.wav", pcm, 4000)
    whole = result("roundtrip", "in.wav", "whole.wav", "--codec", stereo)
    result("encode", "in.wav", "codes.safetensors", "--codec", stereo)
    with CodesReader("codes.safetensors") as reader:
        scales = torch.cat([codes.scale for codes in reader.blocks(7)], 1)
        assert scales.shape == (1, reader.frames)
        assert len(scales.unique()) == 3
        assert reader.header.length == 10321
    decoded = result("decode", "codes.safetensors", "parts.wav", "--step-frames", 5)
    assert decoded["samples"] == whole["samples"] == 10321
    first, second = soundfile.read("whole.wav")[0], soundfile.read("parts.wav")[0]
    assert first.shape == second.shape == (10321, 2)
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_decode_names_the_codec_that_it_needs(cli, result, tiny, other, stereo, voice, tmp_path):
    result("encode", voice, "codes", "--codec", tiny)
    assert_fails(cli, "decode", "codes", "out.wav", "--codec", stereo, match="'tiny', not 'stereo'")
    code, _, err = cli("decode", "codes", "out.wav", "--codec", other)
    assert code == 0
    assert "other weights" in err
    renamed = shutil.copytree(tiny, tmp_path / "renamed")
    code, _, err = cli("decode", "codes", "out.wav", "--codec", renamed)
    assert (code, err) == (0, "streamcodec: wrote out.wav\n")


def test_decode_says_where_a_lost_codec_was(cli, result, tiny, voice, tmp_path):
    moved = shutil.copytree(tiny, tmp_path / "moved")
    result("encode", voice, "codes", "--codec", moved)
    shutil.rmtree(moved)
    assert_fails(cli, "decode", "codes", "out.wav", match=r"made with 'moved'; say where that is with --codec")
    assert result("decode", "codes", "out.wav", "--codec", tiny)["samples"] == 29517


# -- upstream's formats (their contents: tests/codesfile) ------------------------------------------------------------


def test_upstreams_formats_take_their_own_codecs(cli, tiny, voice):
    assert_fails(cli, "encode", voice, "a.ecdc", "--codec", tiny, match="holds codes of encodec_24khz or encodec_48khz")
    assert_fails(cli, "encode", voice, "a.dac", "--codec", tiny, match=r"\.dac file holds codes of DAC; tiny is")
    for name in ("a.ecdc", "a.DAC"):
        assert_fails(cli, "encode", voice, name, "--codec", tiny, "--start", "primed", match="--start primed")
    with EcdcWriter("codes", MODELS["encodec_24khz"]) as writer:
        writer.append(Codes(torch.zeros(1, 2, 1, dtype=torch.int64), None, 320))
    assert_fails(cli, "decode", "codes", "out.wav", "--codec", tiny, match="tiny is another codec")
    Path("codes").write_bytes(Path("codes").read_bytes().replace(b"false", b"true "))
    assert_fails(cli, "decode", "codes", "out.wav", "--codec", tiny, match="language model")


def test_a_dac_file_does_not_name_its_codec(cli, tiny):
    file = DacFile(np.zeros((1, 2, 9), np.uint16), 9, 2000, -20.0, 1, RATE, True)
    Path("codes").write_bytes(file.dump())
    assert_fails(cli, "decode", "codes", "out.wav", match="name it with --codec, such as dac_44khz")
    assert_fails(cli, "decode", "codes", "out.wav", "--codec", tiny, match="tiny is another kind of codec")
    Path("codes").write_bytes(file.dump()[:-1])
    assert_fails(cli, "decode", "codes", "out.wav", "--codec", tiny, match="cut short")


# -- info ----------------------------------------------------------------------------------------------------------


def test_info_is_the_specification(cli, result, tiny):
    facts = result("info", tiny)
    assert (facts["name"], facts["sample_rate"], facts["channels"], facts["hop_length"]) == ("tiny", RATE, 1, 320)
    assert facts["codebooks"] == {"0.9": 2, "1.8": 4}
    assert (facts["bits_per_code"], facts["algorithmic_delay"]) == (6, 320)
    assert facts["prefill_ms"] == pytest.approx(facts["prefill_frames"] * 320 / 24)
    assert facts["bytes_per_stream"] == facts["encoder_bytes"] + facts["decoder_bytes"] > 0
    code, out, err = cli("info", tiny)
    assert (code, err) == (0, "")
    assert re.search(r"^algorithmic delay +320 samples, 13\.3 ms", out, re.MULTILINE)
    assert re.search(r"^1\.8 kbps +codebooks: 4$", out, re.MULTILINE)
    assert re.search(r"^0\.9 kbps +codebooks: 2 \(default\)$", out, re.MULTILINE)
    assert re.search(rf"^memory per stream +{facts['bytes_per_stream'] / 1024:.1f} KiB", out, re.MULTILINE)


def test_info_has_the_segments_of_a_codec_that_has_them(cli, stereo):
    assert re.search(
        r"^segment +4000 samples, 1000\.0 ms, every 3960 samples, 990\.0 ms$", cli("info", stereo)[1], re.M
    )


# -- failures ------------------------------------------------------------------------------------------------------


def test_failures_are_one_line_and_leave_no_file(cli, tiny, voice):
    good = ["--codec", tiny]
    assert_fails(cli, "roundtrip", "missing.wav", *good, match=r"missing\.wav does not exist")
    assert_fails(cli, "roundtrip", voice, "out.aac", *good, match=r"'\.aac'.*\.wav, \.flac")
    assert_fails(cli, "roundtrip", voice, "no/out.wav", *good, match="does not exist")
    assert_fails(cli, "roundtrip", voice, "--codec", "no_such_codec", match="no_such_codec")
    assert_fails(cli, "roundtrip", voice, *good, "--bandwidth", 7, match=r"7.0 kbps .* 0\.9, 1\.8")
    assert_fails(cli, "roundtrip", voice, *good, "--device", "abacus", match="'abacus' cannot be used")
    assert_fails(cli, "roundtrip", voice, *good, "--offline", "--start", "primed", match="--offline")
    assert_fails(cli, "encode", voice, "no/codes", *good, match="does not exist")
    assert_fails(cli, "decode", voice, "out.wav", match="is not a codes file")
    assert_fails(cli, "info", "no_such_codec", match="no_such_codec")


def test_a_recording_that_ends_early_leaves_no_output(cli, tiny):
    soundfile.write("cut.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 200_000), RATE)
    Path("cut.flac").write_bytes(Path("cut.flac").read_bytes()[:-1000])
    assert_fails(cli, "roundtrip", "cut.flac", "--codec", tiny, match="cut short")
    assert_fails(cli, "encode", "cut.flac", "codes", "--codec", tiny, match="cut short")


def test_samples_that_are_no_numbers_are_refused(cli, tiny):
    soundfile.write("nan.wav", np.array([0.0, np.nan, 0.0]), RATE, subtype="FLOAT")
    assert_fails(cli, "roundtrip", "nan.wav", "--codec", tiny, match="NaN")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["play"],
        ["encode", "in.wav"],
        ["roundtrip", "--step-frames", "0"],
        ["roundtrip", "--step-frames", "two"],
        ["roundtrip", "--step-frames", "2", "--offline"],
        ["roundtrip", "--start", "late"],
    ],
)
def test_wrong_options_are_argparses(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: streamcodec" in capsys.readouterr().err


def test_ctrl_c_is_quiet_and_leaves_no_file(cli, tiny, voice, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("streamcodec.audio.AudioWriter.write", interrupt)
    before = sorted(Path().iterdir())
    code, out, err = cli("roundtrip", voice, "--codec", tiny)
    assert (code, out, err.strip()) == (130, "", "")
    assert sorted(Path().iterdir()) == before


def test_a_broken_pipe_is_quiet(tiny):
    command = [sys.executable, "-m", "streamcodec", "info", tiny]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


# -- around ---------------------------------------------------------------------------------------------------------


def test_help_does_not_wait_for_torch():
    script = (
        "import sys\n"
        "from streamcodec.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as leaving:\n    assert leaving.code == 0\n"
        "assert not {'torch', 'numpy', 'soundfile'} & sys.modules.keys()\n"
    )
    for arguments in (["--help"], ["roundtrip", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "usage: streamcodec" in done.stdout


def test_bench_brings_its_own_options_and_only_when_it_runs(monkeypatch, capsys):
    bench = types.ModuleType("streamcodec.bench")
    bench.add_arguments = lambda parser: parser.add_argument("--sessions", type=int)
    bench.run = lambda args: args.sessions
    monkeypatch.setitem(sys.modules, "streamcodec.bench", bench)
    assert main(["bench", "--sessions", "5"]) == 5
    monkeypatch.setitem(sys.modules, "streamcodec.bench", None)  # importing it now fails
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "bench" in capsys.readouterr().out


def test_roundtrip_without_files_takes_the_packaged_recording(tiny, tmp_path):
    command = [sys.executable, "-m", "streamcodec", "roundtrip", "--codec", tiny, "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == soundfile.info(RECORDING).frames == 11 * RATE
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_file_has_a_progress_bar_on_a_terminal(cli, tiny, terminal, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    code, out, err = cli("encode", RECORDING, "codes", "--codec", tiny, "--json")
    assert code == 0
    assert ("11/11 s of audio" in err) == terminal
    json.loads(out)


def peak_memory(*arguments: str) -> int:
    """Peak resident bytes of a command in a process of its own.

    Not from getrusage: there a child begins with the peak of the process that it was forked from.
    """
    script = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from streamcodec.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return 1024 * int(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_depend_on_the_length(tiny, tmp_path):
    peaks: dict[str, list[int]] = {}
    for seconds in (30, 300):
        source, codes, out = (str(tmp_path / name) for name in ("in.wav", "codes", "out.wav"))
        rng = np.random.default_rng(0)
        with soundfile.SoundFile(source, "w", RATE, 1) as file:
            for _ in range(seconds):
                file.write(rng.uniform(-0.5, 0.5, RATE))
        for command in (["roundtrip", source, out], ["encode", source, codes], ["decode", codes, out]):
            # On a loaded machine a process's threads may leave it some megabytes higher than it needs; never lower.
            peak = min(peak_memory(*command, "--codec", tiny) for _ in range(2))
            peaks.setdefault(command[0], []).append(peak)
    # 270 s more are 26 MB as float32 and 13 MB as int16.
    for command, (short, long) in peaks.items():
        assert long - short < 8e6, (command, short, long)
