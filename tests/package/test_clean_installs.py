"""The wheel in clean environments outside the checkout: the client without torch, and the codecs with it."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from environments import Environment
from safetensors.numpy import load_file

pytest.importorskip("websockets", reason="the extra `server` is not installed, and the client has nobody to talk to")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")
from talk import RATE, decoded, encoded, served, small_codec, wave

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

# Every command that computes: what it says without torch.
COMPUTING = [
    ["roundtrip"], ["encode", "in.wav", "x.safetensors"], ["decode", "in.safetensors", "x.wav"], ["info"], ["mic"],
    ["bench", "speed"], ["evaluate", "x", "--codec", "x"], ["train", "run", "--data", "x", "--out", "y"],
]  # fmt: skip


@pytest.fixture
def recording(tmp_path: Path) -> np.ndarray:
    """1 s at the small codec's rate, 16 bits, in tmp_path/in.wav; as float32 [1, n]."""
    samples = np.rint(wave(1.0)[0] * 32767).astype(np.int16)
    soundfile.write(tmp_path / "in.wav", samples, RATE, subtype="PCM_16")
    return (samples / np.float32(32768))[None]


def against_a_server(thin: Environment, cwd: Path, *rounds: list[list[object]]) -> list[tuple[int, str, str]]:
    """The commands of a round together, round by round; (exit code, stdout, stderr) of each."""

    async def run() -> list[tuple[int, str, str]]:
        results = []
        async with served(messages_per_second=5000.0, burst=5000) as server:
            for commands in rounds:
                words = [[str(word).replace("PORT", str(server.port)) for word in command] for command in commands]
                done = await asyncio.gather(*(asyncio.to_thread(thin.run, *command, cwd=cwd) for command in words))
                results += [(process.returncode, process.stdout, process.stderr) for process in done]
        return results

    return asyncio.run(run())


def connecting(*words: object) -> list[object]:
    return ["streamcodec", "connect", "127.0.0.1:PORT", "--rate", RATE, *words]


def test_there_is_no_torch_in_the_clients_environment(thin: Environment, tmp_path: Path) -> None:
    script = """
        import importlib.util, sys
        for name in ("torch", "safetensors", "huggingface_hub", "transformers"):
            assert importlib.util.find_spec(name) is None, name
        import streamcodec, streamcodec.client, streamcodec.audio, streamcodec.protocol, streamcodec.codesfile
        from streamcodec.live import Ring
        assert streamcodec.__file__.startswith(sys.prefix), streamcodec.__file__
    """
    done = thin.run("python", "-c", "if True:" + script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (
        ["--help"],
        ["--version"],
        ["connect", "--help"],
        ["completion", "bash"],
        ["-q", "completion", "zsh"],
    ):
        done = thin.run("streamcodec", *words, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert "connect" in done.stdout or "torch (not installed)" in done.stdout


def test_every_mode_of_connect_works_without_torch(thin: Environment, tmp_path: Path, recording: np.ndarray) -> None:
    room = ("--mode", "room", "--room", "tea")
    results = against_a_server(
        thin,
        tmp_path,
        [
            connecting("--mode", "encode", "--input", "in.wav", "--output", "c.safetensors", "--fast", "--json"),
            connecting("--input", "in.wav", "--output", "r.wav", "--fast"),
            connecting(*room, "--role", "listener", "--output", "heard.wav", "--seconds", "4"),
            connecting(*room, "--role", "speaker", "--input", "in.wav", "--wait", "5"),
        ],
        [connecting("--mode", "decode", "--input", "c.safetensors", "--output", "d.wav", "--fast")],
    )
    for code, _, error in results:
        assert code == 0, error
    assert json.loads(results[0][1])["audio_seconds"] == 1.0
    codec = small_codec()
    codes, length = encoded(codec, recording)
    np.testing.assert_array_equal(load_file(tmp_path / "c.safetensors")["codes"][0], codes)
    audio = np.clip(np.rint(decoded(codec, codes, length)[0] * 32768), -32768, 32767)
    for name in ("d.wav", "r.wav"):
        np.testing.assert_allclose(soundfile.read(tmp_path / name, dtype="int16")[0], audio, atol=1)
    # What a listener hears, tests/client compares: here both come and go when the machine lets them.
    assert soundfile.info(tmp_path / "heard.wav").frames > 0


def test_python_programs_of_the_client_run_without_torch(
    thin: Environment, tmp_path: Path, recording: np.ndarray
) -> None:
    """The demos, away from the checkout: a round trip, and a call between two."""
    shutil.copy(ROOT / "demos" / "websocket_client.py", tmp_path)
    shutil.copy(ROOT / "demos" / "two_way_call.py", tmp_path)
    hertz = np.arange(24_000) * (2 * np.pi * 300 / 24_000)
    soundfile.write(tmp_path / "voice.wav", (0.4 * np.sin(hertz)).astype(np.float32), 24_000)
    url = "ws://127.0.0.1:PORT"
    call = ["python", "two_way_call.py", "tea", url]
    results = against_a_server(
        thin,
        tmp_path,
        [
            ["python", "websocket_client.py", "in.wav", "out.wav", url],
            [*call, "--name", "a", "--input", "voice.wav", "--output", "heard.wav"],
            [*call, "--name", "b", "--input", "voice.wav", "--output", "heard_too.wav"],
        ],
    )
    for code, _, error in results:
        assert code == 0, error
    codec = small_codec()
    audio = np.clip(np.rint(decoded(codec, *encoded(codec, recording))[0] * 32768), -32768, 32767)
    np.testing.assert_allclose(soundfile.read(tmp_path / "out.wav", dtype="int16")[0], audio, atol=1)


def test_codes_files_are_read_and_written_without_torch(thin: Environment, tmp_path: Path) -> None:
    script = """
        import numpy as np
        from streamcodec.codesfile import CodesBlock, CodesHeader, CodesReader, CodesWriter
        header = CodesHeader("c", "", "", 1.0, 8000, 1, 40, 1024, "exact")
        data = np.arange(60, dtype=np.uint16).reshape(1, 3, 20)
        scale = np.linspace(0, 1, 20, dtype=np.float32)[None]
        with CodesWriter("a.safetensors", header) as writer:
            writer.write(CodesBlock(data[:, :, :7], scale[:, :7], 280))
            writer.write(CodesBlock(data[:, :, 7:], scale[:, 7:], 500))
        with CodesReader("a.safetensors") as reader:
            blocks = list(reader.arrays(6))
            assert (np.concatenate([block.data for block in blocks], 2) == data).all()
            assert (np.concatenate([block.scale for block in blocks], 1) == scale).all()
            assert sum(block.length for block in blocks) == reader.header.length == 780
            try:
                next(reader.blocks(6))
            except ImportError as error:
                assert "pip install '.[torch]'" in str(error), error
            else:
                raise AssertionError("torch is there")
    """
    done = thin.run("python", "-c", "if True:" + script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["codes"][0], np.arange(60).reshape(3, 20))


@pytest.mark.parametrize("command", COMPUTING, ids=lambda command: command[0])
def test_a_command_that_computes_says_how_to_get_torch(thin: Environment, tmp_path: Path, command: list[str]) -> None:
    done = thin.run("streamcodec", *command, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("streamcodec: error: torch is missing")
    assert "pip install '.[torch]'" in done.stderr


def test_names_that_compute_say_how_to_get_torch_in_python(thin: Environment, tmp_path: Path) -> None:
    script = """
        import streamcodec
        from streamcodec import StreamcodecError
        needing = [name for name in streamcodec.__all__ if name != "StreamcodecError"]
        assert "load" in needing
        for name in needing:
            try:
                getattr(streamcodec, name)
            except ImportError as error:
                assert isinstance(error, StreamcodecError), (name, error)
                assert error.name == "torch", (name, error)
                assert "pip install '.[torch]'" in str(error), (name, error)
            else:
                raise AssertionError(name)
    """
    done = thin.run("python", "-c", "if True:" + script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("how", "code"),
    [("import streamcodec.client", 1), ("from streamcodec.cli import main; sys.exit(main(CONNECT))", 2)],
    ids=["python", "command"],
)
def test_the_client_says_that_websockets_is_missing(how: str, code: int, tmp_path: Path) -> None:
    """None is how Python knows that a module is not there."""
    script = f"import sys; CONNECT = ['connect', '127.0.0.1', '--input', 'x']; sys.modules['websockets'] = None; {how}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    last = done.stderr.splitlines()[-1]
    assert "needs the package websockets, 13 or later" in last
    assert "pip install '.[client]'" in last
    assert ("Traceback" in done.stderr) == (code == 1)


def test_the_codecs_run_from_a_wheel_in_a_clean_environment(
    distributions: dict[str, Path],
    new_environment: Callable[[], Environment],
    tmp_path: Path,
) -> None:
    """WHEEL[torch]. torch, which is large, and what it depends on are lent from the running interpreter: pip finds them
    installed, and fetches and installs all else.
    """
    environment = new_environment()
    environment.lend("torch", tmp_path / "lent")
    environment.install(f"{distributions['wheel']}[torch]")
    work = tmp_path / "work"
    work.mkdir()
    done = environment.run("streamcodec", "roundtrip", "--json", cwd=work)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["samples"] == 264_000
    assert result["mel_distance"] < 2
    script = """
        import sys, soundfile, torch, streamcodec
        assert streamcodec.__file__.startswith(sys.prefix), streamcodec.__file__
        samples, rate = soundfile.read(streamcodec.__path__[0] + "/bundled/jfk.flac", dtype="float32")
        codec, wav = streamcodec.load(), torch.from_numpy(samples[:24_000])[None, None]
        encoder, decoder = codec.open_encoder(bandwidth=6.0), codec.open_decoder()
        parts = [decoder.push(encoder.push(block)) for block in wav.split(1000, 2)]
        parts += [decoder.push(encoder.flush()), decoder.flush()]
        whole = codec.decode(codec.encode(wav, 6.0))
        torch.testing.assert_close(torch.cat(parts, 2), whole, rtol=0, atol=1e-4)
        print(whole.shape[2])
    """
    done = environment.run("python", "-c", "if True:" + script, cwd=work)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "24000"
