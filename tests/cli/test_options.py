"""Options, help, and what the program does without running a command."""

import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commands import ENVIRONMENT, assert_fails

import streamcodec
from streamcodec.cli import main
from streamcodec.cli.parser import SHELLS


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
        ["roundtrip", "--threads", "0"],
    ],
)
def test_wrong_options_are_argparses(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: streamcodec" in capsys.readouterr().err


def test_the_work_is_shared_among_as_many_threads_as_asked_for(monkeypatch, tmp_path):
    asked = list[int]()
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    wav, codes, out = (str(tmp_path / name) for name in ("in.wav", "codes.safetensors", "out.wav"))
    soundfile.write(wav, np.zeros(2400, np.float32), 24_000)
    assert main(["encode", wav, codes, "--threads", "3"]) == 0
    assert main(["decode", codes, out, "--threads", "2"]) == 0
    assert main(["roundtrip", wav, out, "--force", "--threads", "5"]) == 0
    assert asked == [3, 2, 5]
    assert main(["roundtrip", wav, out, "--force"]) == 0
    assert asked == [3, 2, 5]


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


def test_subcommands_and_options_of_bench_are_imported_only_when_it_runs(monkeypatch, capsys):
    serve = types.ModuleType("streamcodec.bench.serve")
    serve.run = lambda args: args.engines
    monkeypatch.setitem(sys.modules, "streamcodec.bench.serve", serve)
    for other in ("speed", "live", "drift", "entropy"):
        monkeypatch.setitem(sys.modules, f"streamcodec.bench.{other}", None)  # importing it now fails
    assert main(["bench", "serve", "--engines", "5"]) == 5
    monkeypatch.setitem(sys.modules, "streamcodec.bench.options", None)
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "bench" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["encode", "a.wav", "b.safetensors", "--bandwith", "3"], "encode"),
        (["encode", "a.wav", "b.wav", "c.safetensors"], "encode"),
        (["train", "pack", "--data", "a", "--out", "b", "--no-such-option"], "train pack"),
        (["bench", "speed", "--no-such-option"], "bench speed"),
        (["connect", "ws://127.0.0.1:1", "--no-such-option"], "connect"),
    ],
)
def test_a_wrong_option_shows_the_usage_of_its_own_command(arguments, command, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"usage: streamcodec {command} ")
    assert f"streamcodec {command}: error: unrecognized arguments: " in err
    assert err.endswith(f"streamcodec {command} --help explains the options\n")


def test_version_is_known_without_torch():
    script = (
        "import sys\nfrom streamcodec.cli import main\n"
        "try: main(['--version'])\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"streamcodec {streamcodec.__version__}, torch {torch.__version__.split('+')[0]}")


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_says_nothing_but_errors(cli, tiny, voice, place):
    options = {"before": (["-q"], []), "after": ([], ["--quiet"])}
    first, last = options[place]
    code, out, err = cli(*first, "roundtrip", voice, "--codec", tiny, *last)
    assert (code, err) == (0, "")
    assert "kbps" in out
    assert_fails(cli, *first, "roundtrip", "missing.wav", *last, match="does not exist")


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(cli, tiny, voice, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("no such number")

    monkeypatch.setattr("streamcodec.cli.running.load", fail)
    with pytest.raises(ZeroDivisionError):
        cli("encode", voice, "a.safetensors")
    monkeypatch.delenv("STREAMCODEC_TRACEBACK")
    code, out, err = cli("encode", voice, "a.safetensors")
    assert (code, out) == (1, "")
    assert err.startswith(
        "streamcodec: error: ZeroDivisionError: no such number (unexpected: set STREAMCODEC_TRACEBACK=1"
    )
    assert err.count("\n") == 1


def test_whatever_the_system_refuses_is_a_sentence(cli, voice, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "/some/cache")

    monkeypatch.setattr("streamcodec.cli.running.load", fail)
    assert_fails(cli, "encode", voice, "a.safetensors", match="/some/cache: Permission denied")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_result_that_cannot_be_printed_is_an_error(cli, tiny, monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code, _, err = cli("info", tiny)
        assert (code, err) == (2, "streamcodec: error: No space left on device\n")
    # Closing it has failed no more: as little as the interpreter's end would.


# -- completion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_has_every_command_and_its_options(cli, shell):
    pytest.importorskip("shtab", reason="completion is written by the package shtab")
    code, out, err = cli("completion", shell)
    assert (code, err) == (0, "")
    for word in ("roundtrip", "step-frames", "serve", "key-file", "bench", "drift", "frames-per-packet"):
        assert word in out


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["streamcodec", "round"], ["roundtrip"]),
        (["streamcodec", "encode", "--off"], ["--offline"]),
        (["streamcodec", "train", "re"], ["resume"]),
        (["streamcodec", "decode", "--format", "fl"], ["flac"]),
        (["streamcodec", "encode", "voi"], ["voice.wav"]),
    ],
)
def test_bash_completes_commands_options_and_files(cli, voice, words, expected):
    pytest.importorskip("shtab", reason="completion is written by the package shtab")
    Path("complete.sh").write_text(cli("completion", "bash")[1])
    script = (
        "source complete.sh; "
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        "$(complete -p streamcodec | sed 's/.*-F \\([^ ]*\\).*/\\1/') streamcodec ${COMP_WORDS[COMP_CWORD]} x; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def test_completion_without_its_package_says_what_to_install(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_fails(cli, "completion", "bash", match="pip install shtab")
