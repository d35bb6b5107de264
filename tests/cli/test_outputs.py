"""What a command writes: never its input, nothing that exists without --force, nothing half done."""

import ctypes
import json
import os
import resource
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import RATE, assert_fails

from streamcodec.cli.roundtrip import RECORDING


@pytest.fixture
def codes(cli, tiny, voice):
    assert cli("encode", voice, "codes.safetensors", "--codec", tiny)[0] == 0
    return Path("codes.safetensors").resolve()


def bytes_of(folder="."):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_roundtrip_without_files_takes_the_packaged_recording_and_can_be_repeated(cli, tiny):
    names = ["out.wav", "out-2.wav", "out-3.wav"]
    for name in names:
        code, _, err = cli("roundtrip", "--codec", tiny)
        assert (code, err) == (0, f"streamcodec: wrote {name}\n")
    assert soundfile.info("out-3.wav").frames == soundfile.info(RECORDING).frames == 11 * RATE
    assert sorted(bytes_of()) == sorted(names)
    assert json.loads(cli("roundtrip", "--codec", tiny, "--json")[1])["output"] == "out-4.wav"
    assert cli("roundtrip", "out.wav", "--codec", tiny)[2] == "streamcodec: wrote out-5.wav\n"


def test_what_exists_is_replaced_with_force_alone(cli, tiny, voice, codes):
    for command in (["roundtrip", voice], ["decode", codes]):
        Path("out.wav").write_bytes(b"precious")
        assert_fails(cli, *command, "out.wav", "--codec", tiny, match=r"out\.wav exists; .* --force")
        assert Path("out.wav").read_bytes() == b"precious"
        assert cli(*command, "out.wav", "--codec", tiny, "-f")[0] == 0
        assert soundfile.info("out.wav").frames == 29517
    assert_fails(cli, "encode", voice, codes, "--codec", tiny, match="--force")
    assert cli("encode", voice, codes, "--codec", tiny, "--force")[0] == 0


def test_what_cannot_be_written_is_known_before_a_codec_is_loaded(cli, voice, codes, monkeypatch):
    def load(*_, **__):
        raise AssertionError("a codec was loaded")

    monkeypatch.setattr("streamcodec.cli.running.load", load)
    Path("exists.wav").touch()
    Path("exists.safetensors").touch()
    for *command, suffix in (("roundtrip", voice, "wav"), ("encode", voice, "safetensors"), ("decode", codes, "wav")):
        for name, match in (
            (f"exists.{suffix}", "--force"), (f"no/a.{suffix}", "does not exist"), ("a.xyz", r"extension '\.xyz'"),
            (".", "is a directory"), ("a" * 256 + f".{suffix}", "name too long"),
        ):  # fmt: skip
            assert_fails(cli, *command, name, match=match)
        for name, match in ((".", "is a directory"), ("no", "does not exist"), ("a" * 256, "name too long")):
            assert_fails(cli, command[0], name, f"a.{suffix}", match=match)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_the_input_is_never_the_output(cli, tiny, voice, codes, force, monkeypatch):
    os.link(voice, "link.wav")
    Path("codes.wav").symlink_to(codes)
    os.link(voice, "voice.safetensors")
    before = bytes_of()
    for arguments in (
        ["roundtrip", voice, voice], ["roundtrip", "voice.wav", "./link.wav"], ["encode", voice, "voice.safetensors"],
        ["decode", codes, "codes.wav"],
    ):  # fmt: skip
        assert_fails(cli, *arguments, "--codec", tiny, *force, match="is the file that is read")
    with voice.open() as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert_fails(cli, "roundtrip", "-", "link.wav", "--codec", tiny, *force, match="is the file that is read")
    assert bytes_of() == before


def test_names_that_are_long_or_no_text_can_be_used_and_shown(cli, result, tiny, voice):
    odd = os.fsdecode(b"\xff\xfe.wav")
    os.link(voice, odd)
    long = "a" * 251 + ".wav"
    assert cli("roundtrip", odd, long, "--codec", tiny)[2] == f"streamcodec: wrote {long}\n"
    codes, back = (os.fsdecode(name) for name in (b"\xfd.safetensors", b"\xfc.wav"))
    got = result("encode", odd, codes, "--codec", tiny)
    assert (got["input"], got["output"]) == (odd, codes)
    assert cli("decode", codes, back, "--codec", tiny)[2] == "streamcodec: wrote \\udcfc.wav\n"
    assert "\\udcff\\udcfe.wav is the file that is read" in cli("roundtrip", odd, odd, "--codec", tiny)[2]


@pytest.mark.parametrize("target", ["null", "full"])
def test_a_device_is_written_to(cli, tiny, voice, codes, tmp_path, target):
    device = Path("/dev") / target
    if not device.exists():
        pytest.skip(f"the system has no {device}")
    for command in (["roundtrip", voice], ["encode", voice], ["decode", codes]):
        code, out, err = cli(*command, device, "--codec", tiny)
        if target == "null":
            assert (code, err) == (0, "streamcodec: wrote /dev/null\n")
            assert "kbps" in out
        else:
            assert (code, out, err) == (2, "", "streamcodec: error: cannot write /dev/full: No space left on device\n")
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(cli, tiny, voice, codes):
    before, (soft, hard) = bytes_of(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        for command in (["roundtrip", voice, "o.mp3"], ["encode", voice, "o.safetensors"], ["decode", codes, "o.flac"]):
            code, out, err = cli(*command, "--codec", tiny)
            assert (code, out) == (2, "")
            assert err == f"streamcodec: error: cannot write {command[2]}: File too large\n"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert bytes_of() == before


@pytest.fixture
def mount(tmp_path):
    """Mount a tmpfs with options; the folder."""
    libc, mounted = ctypes.CDLL(None, use_errno=True), []

    def run(options):
        folder = tmp_path / f"mounted{len(mounted)}"
        folder.mkdir()
        flags = 1 if options == "ro" else 0
        if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", flags, b"" if flags else options.encode()):
            pytest.skip(f"mounting needs root: {os.strerror(ctypes.get_errno())}")
        mounted.append(folder)
        return folder

    yield run
    for folder in mounted:
        libc.umount(bytes(folder))


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_read_only_and_a_full_file_system_are_explained(cli, tiny, voice, codes, mount):
    closed, small = mount("ro"), mount("size=8k")
    for *command, suffix in (("roundtrip", voice, "ogg"), ("encode", voice, "safetensors"), ("decode", codes, "wav")):
        for folder, why in ((closed, "Read-only file system"), (small, "No space left on device")):
            if suffix == "safetensors" and folder == small:
                np.zeros(4096, np.uint8).tofile(small / "other")  # half of it: codes are small
            path = folder / f"o.{suffix}"
            code, out, err = cli(*command, path, "--codec", tiny)
            assert (code, out, err) == (2, "", f"streamcodec: error: cannot write {path}: {why}\n")
            assert [file.name for file in folder.iterdir() if file.name != "other"] == []
    (small / "other").unlink(missing_ok=True)


@pytest.mark.parametrize("command", [["mic", "--record-input"], ["mic", "--record-output"]])
def test_a_live_recording_replaces_nothing_unasked(cli, command):
    Path("a.wav").touch()
    assert_fails(cli, *command, "a.wav", match="--force")
    assert_fails(cli, *command, "a.flac", match=r"it must be \.wav")
    assert_fails(cli, *command, "no/a.wav", match="does not exist")
    assert_fails(cli, "mic", "--record-input", "b.wav", "--record-output", "./b.wav", match="a file each")


def test_a_session_replaces_nothing_unasked_and_says_so_before_it_connects(cli, voice):
    pytest.importorskip("websockets", reason="the client needs websockets")
    nowhere = ["connect", "ws://127.0.0.1:1", "--input", voice, "--output"]
    Path("a.wav").touch()
    assert_fails(cli, *nowhere, "a.wav", match="--force")
    assert_fails(cli, *nowhere, "a.aac", match=r"\.wav, \.flac")
    assert_fails(cli, *nowhere, voice, "--force", match="is the file that is read")
    assert_fails(cli, *nowhere, "a.wav", "--mode", "encode", match=r"it must be \.safetensors")


def test_training_replaces_no_pack_and_no_codec_unasked(cli, tiny, tmp_path):
    Path("pack").mkdir()
    Path("pack/pack-000.safetensors").write_bytes(b"precious")
    assert_fails(cli, "train", "pack", "--data", tmp_path, "--out", "pack", match="holds a pack already; .* --force")
    assert_fails(
        cli, "train", "pack", "--data", "pack", "--out", "./pack", "--force", match="is the folder that is read"
    )
    assert_fails(cli, "train", "export", "no_run", tiny, match="holds a codec already; .* --force")
    Path("picture.png").touch()
    assert_fails(cli, "evaluate", "missing", "--spectrograms", ".", match="holds pictures already; .* --force")
    Path("table.md").touch()
    assert_fails(cli, "evaluate", tmp_path, "--output", "table.md", match="--force")
