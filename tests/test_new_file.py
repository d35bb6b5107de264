"""Files that take their names when they are complete, and never another file's."""

import errno
import io
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from streamcodec.audio import FORMATS, AudioWriter
from streamcodec.errors import AudioError
from streamcodec.files import NewFile
from streamcodec.live.recorder import Recorder
from streamcodec.sources import SourceFile

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 240_000)).astype(np.float32)


def write(path, content=b"new", **options):
    with NewFile(path, **options) as new:
        new.file.write(content)
        new.commit()
    return new.path


def test_a_file_has_its_name_when_it_is_complete_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a"
    with NewFile(path) as new:
        new.file.write(b"new")
        assert not path.exists()
        new.commit()
    assert path.read_bytes() == b"new"
    with NewFile(path) as new:
        new.file.write(b"broken off")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_link_points_to_is_replaced_and_the_link_stays(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    write(link)  # which makes what it pointed to in vain
    write(link, b"newer")
    assert link.is_symlink()
    assert real.read_bytes() == b"newer"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_private_file_is_never_open_to_others_while_it_is_written(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with NewFile(path):
        assert [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()] == [0o600, 0o600]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_replaced_file_keeps_its_owner(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path, mask):
    earlier = os.umask(mask)
    try:
        write(tmp_path / "a")
    finally:
        os.umask(earlier)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_an_existing_file_is_refused_or_numbered_as_asked(tmp_path):
    path = tmp_path / "out.wav"
    path.write_bytes(b"old")
    with pytest.raises(AudioError, match="--force"):
        NewFile(path, "refuse")
    names = [write(path, existing="number").name for _ in range(3)]
    assert names == ["out-2.wav", "out-3.wav", "out-4.wav"]
    assert path.read_bytes() == b"old"


def test_a_file_that_comes_to_exist_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "out.wav"
    with NewFile(path, "refuse") as new, NewFile(path, "number") as numbered:
        path.write_bytes(b"another's")
        with pytest.raises(AudioError, match="meanwhile"):
            new.commit()
        numbered.commit()
    assert path.read_bytes() == b"another's"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out-2.wav", "out.wav"]


def names_of(source: Path, name: str) -> Path:
    """The same file by another name."""
    other = source.with_name("other")
    if name == "hard link":
        os.link(source, other)
    elif name == "link":
        other.symlink_to(source)
    elif name == "relative":
        return Path(os.path.relpath(source))
    else:
        return source
    return other


@pytest.mark.parametrize("name", ["itself", "hard link", "link", "relative"])
@pytest.mark.parametrize("existing", ["replace", "refuse"])
def test_what_is_read_is_never_written_by_whatever_name(tmp_path, name, existing):
    source = tmp_path / "in"
    source.write_bytes(b"old")
    other = names_of(source, name)
    with SourceFile(source) as opened, source.open("rb") as file:
        for known in (source, opened, file):
            with pytest.raises(AudioError, match="is the file that is read"):
                NewFile(other, existing, ["no such file", "a/b" * 200, known])
    assert source.read_bytes() == b"old"


def test_names_may_be_as_long_as_the_system_has_them_and_need_not_be_text(tmp_path):
    for size in (200, 241, 250, 255):
        assert write(tmp_path / ("a" * (size - 4) + ".wav")).exists()
    assert write(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav")).exists()
    with pytest.raises(AudioError, match="File name too long"):
        NewFile(tmp_path / ("a" * 256))


def test_what_can_be_no_file_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, reason in (
        (".", "is a directory"), ("no/a", "does not exist"), ("file/a", "Not a directory"),
        ("loop", "symbolic links"), ("a\0b", "null"),
    ):  # fmt: skip
        with pytest.raises(AudioError, match=reason):
            NewFile(tmp_path / name)
    with pytest.raises(AudioError, match="neither a path nor"):
        NewFile(io.StringIO())
    assert len(list(tmp_path.iterdir())) == 2


# -- what is not replaced but written to -----------------------------------------------------------------------------


def test_a_file_object_gets_the_content_at_the_end_and_stays_open():
    target = io.BytesIO()
    with NewFile(target) as new:
        new.file.write(b"12345")
        new.file.seek(0)
        new.file.write(b"0")
        assert not target.getvalue()
        new.commit()
    assert target.getvalue() == b"02345"


def test_a_pipe_is_written_to(tmp_path):
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    write(fifo, b"a" * 200_000)
    reader.join()
    assert got == [b"a" * 200_000]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the system has no /dev/fd")
def test_a_descriptor_is_written_to_where_it_stands(tmp_path):
    with (tmp_path / "log").open("ab") as file:
        file.write(b"before ")
        file.flush()
        write(f"/dev/fd/{file.fileno()}")
        file.write(b" after")
    assert (tmp_path / "log").read_bytes() == b"before new after"
    with (tmp_path / "log").open("rb") as file, pytest.raises(AudioError, match="Bad file descriptor"):
        NewFile(f"/dev/fd/{file.fileno()}")
    script = "from streamcodec.files import NewFile\nnew = NewFile('/dev/stdout'); new.file.write(b'x'); new.commit()"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == b"x"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_device_stays_a_device(tmp_path):
    write("/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError, match="No space left"):
        write("/dev/full")
    writer = AudioWriter("/dev/full", 24000, 1, "wav")
    writer.write(NOISE[:, :100])
    with pytest.raises(AudioError, match="cannot write /dev/full: No space left on device"):
        writer.close()


# -- full disks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk():
    """Files of this process may have so many bytes: as a full disk, but at a place that can be chosen."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def save_noise(path):
    with AudioWriter(path, 24000, 1) as writer:
        writer.write(NOISE)


@pytest.mark.parametrize("missing", [1, 100, 5000, 40_000])
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_does_not_fit_is_never_taken_for_one_that_does(tmp_path, small_disk, form, missing):
    """libsndfile itself says nothing where the end of a FLAC, Ogg or MP3 file is lost."""
    path = tmp_path / f"out.{form}"
    save_noise(path)
    size = path.stat().st_size
    path.unlink()
    small_disk(size - missing)
    with pytest.raises(AudioError, match=rf"^cannot write .*out.{form}: File too large$"):
        save_noise(path)
    assert list(tmp_path.iterdir()) == []


def test_a_live_recording_that_does_not_fit_says_so(tmp_path, small_disk):
    recorder = Recorder(tmp_path / "a.wav", 24000, 1)
    small_disk(100_000)
    with pytest.raises(AudioError, match="File too large"):
        recorder.write(NOISE.T)
    with pytest.raises(AudioError, match="File too large"):
        recorder.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_while_libsndfile_writes_is_not_lost(tmp_path, monkeypatch, interrupt):
    writer = AudioWriter(tmp_path / "a.wav", 24000, 1)
    monkeypatch.setattr(writer._kept, "_file", Interrupted(interrupt))
    with pytest.raises(interrupt), writer:
        writer.write(NOISE)
    assert list(tmp_path.iterdir()) == []


class Interrupted(io.BytesIO):
    def __init__(self, interrupt):
        super().__init__()
        self.interrupt = interrupt

    def write(self, data):
        raise self.interrupt


def test_an_error_in_the_systems_own_words_is_all_that_is_said(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/hidden/name")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AudioError, match=r"^cannot write .*/a: Read-only file system$"):
        NewFile(tmp_path / "a")
