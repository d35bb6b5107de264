"""`streamcodec connect` and the demos, as programs against a real server."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file
from talk import RATE, decoded, encoded, served, small_codec, wave

from streamcodec.cli import connect_recording, main
from streamcodec.cli.connect_recording import RoomRecording
from streamcodec.client import CodesPacket, Joined, Left, Missing
from streamcodec.codesfile import load_codes
from streamcodec.codesfile.scx import ScxReader
from streamcodec.protocol import Member, RoomFacts, codec_facts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recording(tmp_path):
    """1 s at the small codec's rate, 16 bits."""
    samples = np.rint(wave(1.0)[0] * 32767).astype(np.int16)
    soundfile.write(tmp_path / "in.wav", samples, RATE, subtype="PCM_16")
    return samples


def with_server(*commands, together=False, cwd, stdin=None, **options):
    """Runs commands against a server whose port stands for PORT; (code, stdout, stderr) of each."""

    async def one(command, port):
        words = [str(word).replace("PORT", str(port)) for word in command]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, cwd=cwd,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, error = await asyncio.wait_for(process.communicate(stdin), 100)
        return process.returncode, out, error.decode()

    async def run():
        async with served(messages_per_second=5000.0, burst=5000, **options) as server:
            if together:
                return await asyncio.gather(*(one(command, server.port) for command in commands))
            return [await one(command, server.port) for command in commands]

    return asyncio.run(run())


ROOM = ("--mode", "room", "--room", "tea")


def connecting(*words):
    return ["-m", "streamcodec", "connect", "127.0.0.1:PORT", "--rate", str(RATE), *words]


def commands(*lists):
    """Runs `streamcodec` in this process, in a thread beside the server's loop; the exit codes."""

    async def run():
        async with served(messages_per_second=5000.0, burst=5000) as server:
            words = [[word.replace("PORT", str(server.port)) for word in command[2:]] for command in lists]
            return [await asyncio.to_thread(main, command) for command in words]

    return asyncio.run(run())


def test_files_there_and_back(recording, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes_there = connecting(
        "--mode", "encode", "--input", "in.wav", "--output", "c.safetensors", "--record", "c.scx", "--fast", "--json",
        "--redundancy", "auto",
    )  # fmt: skip
    codes_back = connecting("--mode", "decode", "--input", "c.safetensors", "--output", "d.wav", "--fast", "--stats")
    recorded_back = connecting("--mode", "decode", "--input", "c.scx", "--output", "s.wav", "--fast")
    there_and_back = connecting("--input", "in.wav", "--output", "r.wav", "--json", "--stats")
    assert commands(codes_there, codes_back, recorded_back, there_and_back) == [0, 0, 0, 0]
    first, _, counts, _, third = capsys.readouterr().out.splitlines()
    codec, samples = small_codec(), (recording / np.float32(32768))[None]
    codes, length = encoded(codec, samples)
    np.testing.assert_array_equal(load_file(tmp_path / "c.safetensors")["codes"][0], codes)
    recorded = load_codes(tmp_path / "c.scx")
    np.testing.assert_array_equal(recorded.data[0], codes)
    assert recorded.length == length
    with ScxReader(tmp_path / "c.scx") as reader:
        assert reader.closed
        assert (reader.header.pre_roll, reader.header.codes.fingerprint) == (codec.pre_roll.frames, codec.fingerprint)
    first = json.loads(first)
    assert first["audio_seconds"] == 1.0
    assert (first["redundancy_level"], first["loss"], first["again_frames"]) == (0, 0, 0)
    audio = np.clip(np.rint(decoded(codec, codes, length)[0] * 32768), -32768, 32767)
    for name in ("d.wav", "s.wav", "r.wav"):
        got, rate = soundfile.read(tmp_path / name, dtype="int16")
        assert rate == RATE
        np.testing.assert_allclose(got, audio, atol=1)
    assert json.loads(counts)["refused_messages"] == 0
    result = json.loads(third)
    assert result["seconds"] >= 1.0  # at the pace of the audio
    assert result["reconnects"] == 0
    assert 0 < result["delay_p50_ms"] <= result["delay_p99_ms"]
    assert result["server"]["received_messages"] > 100


def test_raw_samples_on_stdin_and_stdout(recording, tmp_path):
    ((code, out, error),) = with_server(
        connecting("--input", "-", "--output", "-", "--fast"), cwd=tmp_path, stdin=recording.tobytes()
    )
    assert code == 0, error
    codec, samples = small_codec(), (recording / np.float32(32768))[None]
    audio = np.clip(np.rint(decoded(codec, *encoded(codec, samples))[0] * 32768), -32768, 32767)
    np.testing.assert_allclose(np.frombuffer(out, "<i2"), audio, atol=1)
    assert "1.00 s of audio" in error


def test_what_cannot_be_done_is_said_with_exit_code_2(recording, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    header = {
        "format": "streamcodec-codes", "version": "1", "codec": "other", "source": "", "fingerprint": "ab" * 32,
        "bandwidth": "0.8", "sample_rate": str(RATE), "channels": "1", "hop_length": "40", "codebook_size": "16",
        "start": "exact", "length": "400",
    }  # fmt: skip
    save_file({"codes": np.zeros((1, 1, 10), np.int16)}, tmp_path / "o.safetensors", header)
    cases = [
        (connecting("--mode", "decode", "--input", "o.safetensors"), "other weights"),
        (connecting("--input", "in.wav", "--codec", "none"), "choose one of small"),
        (["-m", "streamcodec", "connect", "127.0.0.1:1", "--input", "in.wav"], "cannot be reached"),
    ]
    for command, text in cases:
        assert commands(command) == [2]
        heard = capsys.readouterr()
        assert text in heard.err
        assert "Traceback" not in heard.err
        assert not heard.out


def test_options_that_do_not_go_together_are_refused_at_once(recording, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "001.scx").touch()
    before = sorted(tmp_path.rglob("*"))
    cases = [
        (connecting("--mode", "encode", "--input", "in.wav", "--output", "-"), "codes come from and go to files"),
        (connecting("--input", "in.wav", "--record", "r.scx"), "--record keeps the codes of mode encode"),
        (connecting("--mode", "encode", "--input", "in.wav", "--record", "r.wav"), "extension"),
        (connecting(*ROOM, "--role", "speaker", "--input", "in.wav", "--record", "r"), "who hears nothing"),
        (connecting(*ROOM, "--role", "listener", "--play", "--record", "r"), "run two commands"),
        (connecting(*ROOM, "--role", "listener", "--record", "in.wav"), "cannot be made a folder"),
        (connecting(*ROOM, "--role", "listener", "--record", "full"), "full holds recordings already"),
        (connecting("--input", "in.wav", "--redundancy", "2"), "must be FRAMESxCODEBOOKS"),
        (connecting("--input", "in.wav", "--redundancy", "65x2"), "at most 64 and 255"),
        (connecting("--input", "in.wav", "--key-file", "none"), "--key-file none cannot be read"),
        (connecting("--mode", "room", "--role", "listener"), "needs --room"),
        (connecting(), "needs --input"),
    ]
    for command, text in cases:
        assert main([word.replace("PORT", "1") for word in command[2:]]) == 2
        heard = capsys.readouterr()
        assert text in heard.err
        assert not heard.out
    assert sorted(tmp_path.rglob("*")) == before


NAMES = ["me", "../Zoë / " + "x" * 50]


def check_recordings(recording, folder):
    """What each speaker said is in a file of its own, from the first sample to the last, whatever its name is."""
    codes, length = encoded(small_codec(), (recording / np.float32(32768))[None])
    paths = sorted(folder.iterdir())
    assert [path.name[:4] for path in paths] == ["003-", "004-"]
    first, second = sorted(paths, key=lambda path: len(path.name))
    assert [first.name[4:], len(second.name)] == ["me.scx", 4 + 40 + len(".scx")]
    assert second.name[4:].startswith("Zo_x")
    for path, name in zip((first, second), NAMES, strict=True):
        np.testing.assert_array_equal(load_codes(path).data[0], codes)
        with ScxReader(path) as reader:
            assert reader.closed
            assert reader.header.metadata == {"room": "tea", "member": name}
            assert sum(piece.samples for piece in reader.pieces()) == length


def test_who_comes_late_records_from_there_and_what_is_left_out_later_is_missing(tmp_path):
    """A stream that begins before its file does, a stretch that ends, and a number that is given to somebody else."""
    codec = served_facts()
    session = SimpleNamespace(
        codec=codec, welcome=SimpleNamespace(
            bandwidth=1.6, start="primed", room=RoomFacts(name="r", id=1, members=(member(1, None), member(2, 7))),
        ),
    )  # fmt: skip
    codes = np.random.default_rng(0).integers(0, 16, (2, 60)).astype(np.uint16)
    with RoomRecording(tmp_path, session, False) as room:
        room.take(Missing(0, 100_000, 7))
        room.take(CodesPacket(100_000, codes[:, :20], None, 7))
        room.take(Missing(100_020, 10, 7))
        room.take(CodesPacket(100_030, codes[:, 30:40], None, 7, last=True, length=100_035 * 40))
        room.take(CodesPacket(0, codes[:, 40:], None, 7))
        room.take(Left(sequence=0, id=2, reason="goodbye"))
        room.take(Joined(sequence=1, member=member(3, 7)))
        room.take(CodesPacket(0, codes[:, :5], None, 7))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["002-n2.scx", "003-n3.scx"]
    with ScxReader(tmp_path / "002-n2.scx") as reader:
        pieces = list(reader.pieces())
        assert sum(piece.missing for piece in pieces) == 10
        assert sum(piece.samples for piece in pieces) == (25 + 20) * 40  # and what is missing
        assert len({piece.at for piece in pieces}) == 2
        found = np.concatenate([piece.data for piece in pieces if piece.data.shape[1]], 1)
    np.testing.assert_array_equal(found, np.concatenate([codes[:, :20], codes[:, 30:]], 1))
    np.testing.assert_array_equal(load_codes(tmp_path / "003-n3.scx").data[0], codes[:, :5])


def test_a_crowd_that_comes_and_goes_cannot_fill_the_disk_with_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(connect_recording, "MOST_FILES", 3)
    welcome = SimpleNamespace(bandwidth=1.6, start="primed", room=RoomFacts(name="r", id=1, members=()))
    with RoomRecording(tmp_path, SimpleNamespace(codec=served_facts(), welcome=welcome), False) as room:
        for number in range(6):
            room.take(Joined(sequence=number, member=member(number, 1)))
            for index in range(4):
                room.take(CodesPacket(index, np.zeros((2, 1), np.uint16), None, 1))
            room.take(Left(sequence=number, id=number, reason="goodbye"))
    assert len(list(tmp_path.iterdir())) == 3
    assert capsys.readouterr().err.count("are not") == 1


def member(number, stream):
    return Member(id=number, member=f"n{number}", role="both", stream=stream)


def served_facts():
    return codec_facts(
        name="small", sample_rate=8000, channels=1, hop_length=40, num_codebooks=8, codebook_size=16,
        bandwidths=(1.6,), bandwidth_codebooks=(2,), default_bandwidth=1.6, encoder_delay=0, decoder_delay=0,
    )  # fmt: skip


def test_a_room_heard_into_a_file_ends_with_its_time(recording, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hears = connecting(*ROOM, "--role", "listener", "--output", "heard.wav", "--seconds", "2.5")
    records = connecting(*ROOM, "--role", "listener", "--record", "tea", "--seconds", "3.5", "--json")
    speaks = [connecting(*ROOM, "--role", "speaker", "--input", "in.wav", "--member", name) for name in NAMES]

    async def run():
        async with served() as server:
            words = [[word.replace("PORT", str(server.port)) for word in one[2:]] for one in (hears, records, *speaks)]
            listening = [asyncio.ensure_future(asyncio.to_thread(main, one)) for one in words[:2]]
            await asyncio.sleep(0.5)
            return await asyncio.gather(*(asyncio.to_thread(main, one) for one in words[2:]), *listening)

    assert asyncio.run(run()) == [0] * 4
    out, error = capsys.readouterr()
    assert "me is here" in error
    (result,) = (json.loads(line) for line in out.splitlines() if line.startswith("{"))
    assert result["underruns"] is None
    assert result["audio_seconds"] == 1.0
    check_recordings(recording, tmp_path / "tea")
    heard, _ = soundfile.read(tmp_path / "heard.wav")
    assert 1.5 * RATE < len(heard) <= 2.6 * RATE
    assert np.count_nonzero(heard) > 0.8 * RATE  # a second was spoken


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent these signals here")
@pytest.mark.parametrize(
    ("name", "words"),
    [("SIGHUP", ["--mode", "room", "--room", "a"]), ("SIGTERM", []), ("SIGINT", ["--format", "f32le"])],
)
def test_what_is_live_ends_well_at_a_signal_though_standard_input_stays_open(tmp_path, name, words):
    async def run():
        async with served(messages_per_second=5000.0, burst=5000) as server:
            words_of_all = connecting(*words, "--input", "-", "--output", "out.wav", "--json")
            process = await asyncio.create_subprocess_exec(
                sys.executable, *(word.replace("PORT", str(server.port)) for word in words_of_all), cwd=tmp_path,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
            process.stdin.write(np.full(RATE, 8000, "<i2").tobytes())
            while not any(path.stat().st_size > 1000 for path in tmp_path.glob(".*.part")):
                await asyncio.sleep(0.02)
            process.send_signal(getattr(signal, name))
            code = await asyncio.wait_for(process.wait(), 30)
            return code, await process.stdout.read(), await process.stderr.read()

    code, out, error = asyncio.run(run())
    assert code == 0, error
    assert json.loads(out)["seconds"] > 0
    assert soundfile.info(tmp_path / "out.wav").frames > 400
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


def test_the_demo_of_a_client(recording, tmp_path):
    demo = ROOT / "demos" / "websocket_client.py"
    ((code, out, error),) = with_server([demo, "in.wav", "out.wav", "ws://127.0.0.1:PORT"], cwd=tmp_path)
    assert code == 0, error
    assert b"reconnected 0 times" in out
    got, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    codec, samples = small_codec(), (recording / np.float32(32768))[None]
    audio = np.clip(np.rint(decoded(codec, *encoded(codec, samples))[0] * 32768), -32768, 32767)
    np.testing.assert_allclose(got, audio, atol=1)


def test_the_demo_of_a_call_carries_both_voices(tmp_path):
    """Two callers whose microphones are files: each hears the other, and not itself."""
    rate, time = 24_000, np.arange(2 * 24_000) / 24_000
    for name, hertz in (("a", 300), ("b", 900)):
        soundfile.write(tmp_path / f"{name}.wav", (0.4 * np.sin(2 * np.pi * hertz * time)).astype(np.float32), rate)
    demo = ROOT / "demos" / "two_way_call.py"

    def caller(me):
        return [
            demo, "tea", "ws://127.0.0.1:PORT", "--name", me, "--input", f"{me}.wav", "--output", f"heard_by_{me}.wav"
        ]  # fmt: skip

    results = with_server(caller("a"), caller("b"), together=True, cwd=tmp_path)
    for code, out, error in results:
        assert code == 0, error
        assert b"underruns" in out
    assert any(b"is here" in out for _, out, _ in results)
    for me in "ab":
        heard, _ = soundfile.read(tmp_path / f"heard_by_{me}.wav")
        assert len(heard) > rate
        assert np.abs(heard).max() > 0.01  # random weights: what is heard is sound, and no more can be said
