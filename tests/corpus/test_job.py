"""A corpus to tokens: every recording once, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import oracles
import pytest
import recordings
import torch
from streamcodec_kernels.native.compiler import compiler, ready

import streamcodec
from streamcodec import TokenDataset, native_support
from streamcodec.corpus import Failure, Progress, encoding, tokenize
from streamcodec.corpus.encoding import Settings
from streamcodec.corpus.folder import find_shards
from streamcodec.corpus.items import Item, Tokens
from streamcodec.corpus.journal import Journal, read_journal
from streamcodec.corpus.pool import run_processes
from streamcodec.errors import AudioError, BackendError, ConfigError, InputError, StreamcodecError

FORMATS = ("safetensors", "tar", "parquet", "arrow")
ALL = 4  # codebooks of the small codec


def run(folder: Path | str, out: Path, source: str, **options) -> Progress:
    return tokenize(folder, out, source, num_codebooks=ALL, processes=0, **options)


def needs(format: str) -> None:
    if format in ("parquet", "arrow"):
        pytest.importorskip("pyarrow", reason="Arrow and Parquet are read and written by pyarrow")


def keys_in(out: Path) -> Counter[str]:
    return Counter(TokenDataset(out).keys)


@pytest.mark.parametrize("format", FORMATS)
def test_every_recording_has_the_codes_that_it_has_alone_and_a_bad_one_is_reported(
    folder, tmp_path, source, codec, format
):
    needs(format)
    out = tmp_path / "out"
    done = run(folder, out, source, format=format, shard_items=3)
    assert (done.done, done.before, done.failed) == (8, 0, 1)
    dataset = TokenDataset(out)
    assert sorted(dataset.keys) == sorted(f"{'ab'[i % 2]}/{i}.take.wav" for i in range(8))
    assert len(find_shards(out)) == 3
    for item in dataset:
        assert item.codes == recordings.codes_alone(codec, folder / item.key)
        assert item.codes.data.unique().numel() > 5
        assert item.sample_rate == codec.spec.sample_rate
    (failure,) = map(json.loads, (out / "failures.jsonl").read_text().splitlines())
    assert failure["key"] == "b/broken.flac"
    assert failure["reason"]
    assert not list(out.glob("journal*"))


def test_recordings_that_are_encoded_together_have_the_same_codes_and_a_bad_one_costs_no_other(
    folder, tmp_path, source, codec
):
    done = run(folder, tmp_path / "out", source, batch=4)
    assert (done.done, done.failed) == (8, 1)
    for item in TokenDataset(tmp_path / "out"):
        alone = recordings.codes_alone(codec, folder / item.key)
        assert item.codes.length == alone.length
        assert (item.codes.data == alone.data).float().mean() > 0.99  # near ties, in float32


def test_a_precision_in_which_no_encoder_runs_is_refused_before_anything_is_written(folder, tmp_path, source):
    with pytest.raises(ConfigError, match="so it is for decoding alone"):
        run(folder, tmp_path / "out", source, backend="native", precision="int8")
    assert not (tmp_path / "out").exists()


def test_recordings_in_a_named_precision_have_the_codes_that_it_gives_each_alone(folder, tmp_path, source):
    try:
        codec = streamcodec.load(source, backend="native", precision="bfloat16x3")
    except BackendError as error:
        pytest.skip(str(error))
    done = run(folder, tmp_path / "out", source, backend="native", precision="bfloat16x3")
    assert (done.done, done.failed) == (8, 1)
    for item in TokenDataset(tmp_path / "out"):
        alone = recordings.codes_alone(codec, folder / item.key, chunk_seconds=0.5)
        assert torch.equal(item.codes.data, alone.data)


@pytest.mark.parametrize(("gathered", "seconds"), [(1, 1200.0), (4, 0.5), (4, 1200.0)])
def test_what_is_gathered_is_bounded_in_number_and_length(folder, source, codec, monkeypatch, gathered, seconds):
    monkeypatch.setattr(encoding, "BATCHES", gathered)
    monkeypatch.setattr(encoding, "GATHERED_SECONDS", seconds)
    groups, encode = [], encoding.Encoder._encode
    monkeypatch.setattr(encoding.Encoder, "_encode", lambda self, heard: groups.append(heard) or encode(self, heard))
    items = [Item(path.name, str(path)) for path in sorted(folder.rglob("*.wav"))]
    assert len(list(encoding.Encoder(Settings(source, ALL, batch=2), codec)(items))) == 8
    for group in groups:
        assert len(group) <= 2 * gathered
        assert sum(heard.shape[1] for heard in group[:-1]) < seconds * recordings.RATE


def test_a_second_run_does_what_is_left(folder, tmp_path, source):
    out = tmp_path / "out"
    run(folder, out, source, shard_items=3)
    before = {path: path.stat().st_mtime_ns for path in find_shards(out)}
    recordings.write(folder / "c" / "new.wav", 900)
    recordings.write(folder / "b" / "broken.flac", 800)
    done = run(folder, out, source, shard_items=3)
    assert (done.done, done.before, done.failed) == (2, 8, 0)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(keys_in(out).values()) == {1}
    assert len(keys_in(out)) == 10
    assert not (out / "failures.jsonl").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 3, 7])
def test_what_was_done_before_a_run_broke_off_is_not_done_again(folder, tmp_path, source, after):
    out = tmp_path / "out"

    def stop(progress: Progress) -> None:
        if progress.done == after:
            raise Killed

    with pytest.raises(Killed):
        run(folder, out, source, shard_items=3, progress=stop)
    done = run(folder, out, source, shard_items=3)
    assert (done.before, done.done) == (after, 8 - after)
    assert len(keys_in(out)) == 8
    assert set(keys_in(out).values()) == {1}


@pytest.mark.slow
def test_a_kill_loses_nothing_and_doubles_nothing(tmp_path, source):
    root, out = tmp_path / "recordings", tmp_path / "out"
    for i in range(60):
        recordings.write(root / f"{i}.wav", 300 + i, i)
    script = "import sys; from streamcodec.cli import main\nif __name__ == '__main__': sys.exit(main())"
    arguments = ["tokenize", root, out, "--codec", source, "--codebooks", ALL, "--processes", 1]
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while len(read_journal(out / "journal-0000.partial")) < 3:
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    kept = read_journal(out / "journal-0000.partial")
    assert 3 <= len(kept) < 60
    with (out / "journal-0000.partial").open("ab") as file:
        file.write(b"half of a record")
    done = run(root, out, source)
    assert (done.before, done.done, done.failed) == (len(kept), 60 - len(kept), 0)
    assert keys_in(out) == {f"{i}.wav": 1 for i in range(60)}


@pytest.mark.slow
def test_a_process_that_dies_takes_only_its_recording_with_it(folder, source, codec):
    good = [Item(path.name, str(path)) for path in sorted(folder.rglob("*.wav"))]
    items = [*good[:3], recordings.Deadly("deadly", "nothing"), *good[3:]]
    results = list(run_processes(items, 1, Settings(source, ALL)))
    assert sorted(each.key for each in results if isinstance(each, Tokens)) == sorted(item.key for item in good)
    paths = {item.key: item.audio for item in good}
    for each in results:
        if isinstance(each, Tokens):
            assert np.array_equal(each.codes, recordings.codes_alone(codec, paths[each.key]).data[0])
    (failure,) = [each for each in results if isinstance(each, Failure)]
    assert failure == Failure("deadly", "the process that encoded it died (signal 9)")


def test_ranks_share_a_corpus_and_another_number_of_them_goes_on(folder, tmp_path, source):
    out = tmp_path / "out"
    (folder / "b" / "broken.flac").unlink()

    def stop(progress: Progress) -> None:
        raise Killed

    with pytest.raises(Killed):
        run(folder, out, source, rank=2, ranks=3, progress=stop)
    first = run(folder, out, source, rank=1, ranks=3)
    assert first.done == 3
    counts = [run(folder, out, source, rank=rank, ranks=2).done for rank in range(2)]
    assert sum(counts) == 8 - 1 - 3
    assert len(keys_in(out)) == 8
    assert set(keys_in(out).values()) == {1}
    assert not list(out.glob("journal*"))
    assert json.loads((out / "statistics.json").read_text())["items"] == 8


def test_on_a_cpu_the_native_executor_encodes_where_it_runs_and_torch_where_not(source, codec, monkeypatch):
    def encoder(backend: str) -> str:
        return Settings(source, ALL, backend=backend).load().served_by()["encoder"]

    assert encoder("auto") == ("native" if ready() or compiler() else "torch")
    assert encoder("torch") == "torch"

    def refuse() -> None:
        raise BackendError("no compiler")

    monkeypatch.setattr(native_support, "instruction_set", refuse)
    assert encoder("auto") == "torch"
    with pytest.raises(BackendError, match="no compiler"):
        encoder("native")


def test_two_runs_do_not_write_the_same_folder(folder, tmp_path, source):
    out = tmp_path / "out"
    run(folder, out, source)
    journal = Journal(out / "journal-0000.partial")
    with pytest.raises(AudioError, match="written by another run"):
        run(folder, out, source)
    journal.close()


def test_tokens_of_another_kind_are_not_added_to(folder, tmp_path, source):
    out = tmp_path / "out"
    run(folder, out, source)
    with pytest.raises(InputError, match="format is safetensors, not tar"):
        run(folder, out, source, format="tar")
    with pytest.raises(InputError, match="codebooks is 4, not 1"):
        tokenize(folder, out, source, num_codebooks=1, processes=0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tokens-0000-000000.tar").write_bytes(b"")
    with pytest.raises(AudioError, match=r"holds shards of tokens but no tokens.json"):
        run(folder, tmp_path / "other", source)
    for options, message in (({"format": "zip"}, "must be one of"), ({"rank": 2, "ranks": 2}, "0 to 1")):
        with pytest.raises(StreamcodecError, match=message):
            run(folder, tmp_path / "third", source, **options)


def test_two_recordings_of_one_key_are_reported(folder, tmp_path, source):
    (folder / "list.jsonl").write_text('{"audio": "a/0.take.wav", "key": "x"}\n{"audio": "b/1.take.wav", "key": "x"}\n')
    done = run(folder / "list.jsonl", tmp_path / "out", source)
    assert done.done == 1
    assert done.failures == [Failure("x", "another recording has this key; each needs one of its own")]
    for rank, (items, failed) in enumerate([(1, 0), (0, 1)]):
        done = run(folder / "list.jsonl", tmp_path / "ranks", source, rank=rank, ranks=2)
        assert (done.done, done.failed) == (items, failed)
    assert keys_in(tmp_path / "ranks") == {"x": 1}


def test_a_long_recording_needs_no_more_memory_than_its_codes(tmp_path, source, monkeypatch):
    """What is in memory of it at a time: a few blocks of some seconds."""
    path = recordings.write(tmp_path / "long.wav", recordings.RATE * 60)
    sizes = []
    ahead = encoding._ahead
    monkeypatch.setattr(encoding, "_ahead", lambda values, most: ahead((sizes.append(v) or v for v in values), most))
    run(path, tmp_path / "out", source)
    blocks = [value.shape[1] for value in sizes if isinstance(value, np.ndarray)]
    assert sum(blocks) == recordings.RATE * 60
    assert max(blocks) * encoding.AHEAD <= recordings.RATE * 32


def test_a_codec_with_segments_and_gains_keeps_them(tmp_path):
    stereo = oracles.small_codec("48khz", torch.float32)
    streamcodec.save(stereo, tmp_path / "codec")
    path = recordings.write(tmp_path / "in" / "a.wav", 400)
    tokenize(tmp_path / "in", tmp_path / "out", str(tmp_path / "codec"), num_codebooks=ALL, processes=0)
    (item,) = TokenDataset(tmp_path / "out", stereo)
    alone = recordings.codes_alone(stereo, path)
    assert torch.equal(item.codes.data, alone.data)
    assert torch.equal(item.codes.scale, alone.scale)
    assert item.audio.shape == (2, 400)


def test_silence_is_told(tmp_path, source, codec):
    import soundfile

    loud = 0.1 * np.ones(recordings.RATE)
    soundfile.write(tmp_path / "half.wav", np.concatenate([loud, 0 * loud]), recordings.RATE)
    run(tmp_path / "half.wav", tmp_path / "out", source)
    (item,) = TokenDataset(tmp_path / "out")
    assert item.silence == pytest.approx(0.5)


def test_the_card_and_the_statistics_tell_what_is_there(folder, tmp_path, source, codec):
    out = tmp_path / "out"
    run(folder, out, source)
    card, found = (out / "README.md").read_text(), json.loads((out / "statistics.json").read_text())
    dataset = TokenDataset(out)
    assert codec.fingerprint in card
    assert found["items"] == len(dataset) == 8
    assert found["frames"] == sum(dataset.frames)
    assert found["seconds"] == pytest.approx(
        sum(item.codes.length for item in dataset) / codec.spec.sample_rate, abs=0.01
    )
    first = torch.cat([item.codes.data[0, 0] for item in dataset])
    assert found["used"][0] == pytest.approx(first.unique().numel() / codec.spec.codebook_size, abs=1e-4)
    counts = torch.bincount(first).double()
    entropy = torch.special.entr(counts / counts.sum()).sum()
    assert found["perplexity"][0] == pytest.approx(float(entropy.exp()), abs=0.06)
    pytest.importorskip("matplotlib", reason="matplotlib draws")
    assert (out / "statistics.png").read_bytes()[:4] == b"\x89PNG"


def test_a_damaged_journal_keeps_what_is_whole(tmp_path):
    path = tmp_path / "journal-0000.partial"
    journal = Journal(path)
    items = [Tokens(f"{i}", np.full((2, 3), i, np.int16), None, 7, 0.5, {"text": "ä"}) for i in range(3)]
    for item in items:
        journal.append(item)
    journal._file.close()
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        again = Journal(path)
        assert [item.key for item in again.items] == [item.key for item in items[: len(again.items)]]
        assert [item.fields for item in again.items] == [{"text": "ä"}] * len(again.items)
        again.append(items[2])
        again._file.close()
        assert read_journal(path)[-1].key == "2"
