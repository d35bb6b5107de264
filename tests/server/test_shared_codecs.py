"""Weights for the engines' processes: one copy, wherever the system has room for it."""

import asyncio
import os
import pickle
import sys
import tempfile
from pathlib import Path

import pytest
import torch

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import served, small_codec

from streamcodec.errors import InputError
from streamcodec.server.shared_codecs import SharedCodecs

MIB = 2**20
DESCRIPTORS = 20  # of an engine's process, at most; a codec has more tensors


@pytest.fixture
def no_files_in_memory(monkeypatch, tmp_path):
    """As on other systems than Linux; the folder for temporary files."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def bytes_of(codec):
    return sum(tensor.nbytes for tensor in (*codec.parameters(), *codec.buffers()))


def mapped(pid, what):
    """How much of the maps of `what` a process has, in bytes: {"Pss": its share of the memory, ...} (Linux)."""
    sums, inside = {}, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):
            inside = what in line
        elif inside and rest[-1] == "kB":
            sums[key[:-1]] = sums.get(key[:-1], 0) + 1024 * int(rest[0])
    return sums


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has files in memory, and /proc/PID/smaps")
def test_two_engines_share_the_weights_and_use_neither_dev_shm_nor_a_descriptor_for_each_tensor():
    codec = small_codec(num_filters=32)
    size = bytes_of(codec)
    assert size > 16 * MIB
    assert len([*codec.parameters(), *codec.buffers()]) > DESCRIPTORS

    async def main():
        async with served({"large": codec}, engines=2) as server:
            pids = [engine.process.pid for engine in server.engine._engines]
            maps = [mapped(pid, "streamcodec-weights") for pid in pids]
            assert all(0.9 * size < one["Rss"] for one in maps), "else this test looks at the wrong maps"
            assert sum(one["Pss"] for one in maps) < 1.2 * size
            assert not any(mapped(pid, "/dev/shm") for pid in pids)
            assert all(len(list(Path(f"/proc/{pid}/fd").iterdir())) < DESCRIPTORS for pid in pids)

    asyncio.run(asyncio.wait_for(main(), 120))


def test_where_there_are_no_files_in_memory_the_weights_take_a_temporary_file_until_all_engines_have_it(
    no_files_in_memory,
):
    async def main():
        async with served({"small": small_codec()}, engines=1) as server:
            if sys.platform != "win32":  # which removes no file that is in use
                assert not list(no_files_in_memory.iterdir())
            assert server.is_ready
        assert not list(no_files_in_memory.iterdir())

    asyncio.run(asyncio.wait_for(main(), 120))


def test_what_is_taken_out_is_what_was_put_in_and_what_is_written_to_it_stays_in_its_process(no_files_in_memory):
    codec, wave = small_codec(), torch.randn(1, 1, 400)
    codec.open_encoder(start="primed")  # it keeps what it makes for that
    shared = SharedCodecs({"small": codec})
    first, second = (pickle.loads(pickle.dumps(shared)).take()["small"] for _ in range(2))
    shared.close()
    expected = codec.encode(wave).data
    torch.nn.init.zeros_(next(first.parameters()))
    assert torch.equal(second.encode(wave).data, expected)
    assert second.spec == codec.spec


def test_skeletons_have_all_but_the_values(no_files_in_memory):
    codec = small_codec()
    skeleton = SharedCodecs({"small": codec}).skeletons()["small"]
    assert skeleton.spec == codec.spec
    shapes = {name: tensor.shape for name, tensor in codec.state_dict().items()}
    assert {name: tensor.shape for name, tensor in skeleton.state_dict().items()} == shapes
    assert {tensor.device.type for tensor in skeleton.state_dict().values()} == {"meta"}


def test_a_folder_that_is_not_there_is_named_with_what_to_do(no_files_in_memory, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(no_files_in_memory / "away"))
    with pytest.raises(InputError, match=r"No such file or directory; set TMPDIR to a folder with room"):
        SharedCodecs({"small": small_codec()})


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no limits for files")
def test_a_full_disk_is_told_with_what_to_do_and_nothing_is_left(no_files_in_memory):
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(InputError, match="File too large; set TMPDIR"):
            SharedCodecs({"small": small_codec(num_filters=8)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(no_files_in_memory.iterdir())
