"""Tokens read back: in any order, in parts, by workers, and as audio."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import oracles
import pytest
import recordings
import torch
from torch.utils.data import DataLoader

from streamcodec import Codec, TokenDataset
from streamcodec.codesfile import CodesHeader
from streamcodec.corpus import tokenize
from streamcodec.corpus.folder import Folder, ShardWriter
from streamcodec.corpus.formats import FORMATS, open_shard
from streamcodec.corpus.items import Tokens
from streamcodec.errors import AudioError, InputError

HEADER = CodesHeader("a codec", "", "0" * 64, 6.0, 24_000, 1, 320, 1024, "exact")


def made(count: int, scale: bool = False, entries: int = 1024) -> list[Tokens]:
    """Items of many lengths, names and fields."""
    rng = np.random.default_rng(count)
    names = ["a", "a.b", "a_b", "d/ä b.wav", "100%", "d/a.flac"]
    items = []
    for i in range(count):
        frames = int(rng.integers(0, 40)) if i else 7
        codes = rng.integers(0, entries, (3, frames)).astype(np.int16 if entries <= 2**15 else np.int32)
        gains = rng.random(frames, dtype=np.float32) if scale else None
        fields = {"text": f"ü{i}", "number": i, "real": i / 3, "none": None, "key": f"its own {i}", "yes": i % 2 == 0}
        items.append(Tokens(f"{names[i % 6]}{i // 6 or ''}", codes, gains, frames * 320, i / count, fields))
    return items


@pytest.fixture(params=FORMATS)
def format(request: pytest.FixtureRequest) -> str:
    if request.param in ("parquet", "arrow"):
        pytest.importorskip("pyarrow", reason="Arrow and Parquet are read and written by pyarrow")
    return request.param


def written(tmp_path: Path, format: str, items: list[Tokens], each: int = 1000) -> TokenDataset:
    folder = Folder(tmp_path / "tokens", HEADER, format, 3)
    folder.begin()
    writer = ShardWriter(folder, 0, 1 << 30, each)
    for item in items:
        writer.append(item)
    writer.close()
    return TokenDataset(folder.path)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("entries", [1024, 2**17])
def test_every_format_gives_every_item_back_in_any_order(tmp_path, format, scale, entries):
    items = made(150, scale, entries)
    dataset = written(tmp_path, format, items, each=70)
    assert len(dataset) == 150
    assert dataset.keys == [item.key for item in items]
    assert dataset.frames == [item.codes.shape[1] for item in items]
    for i in [0, 149, 3, *np.random.default_rng(0).permutation(150)[:40]]:
        found, wanted = dataset[i], items[i]
        assert found.key == wanted.key
        assert np.array_equal(found.codes.data[0].numpy(), wanted.codes)
        assert found.codes.length == wanted.length
        assert (found.codes.scale is None) == (wanted.scale is None)
        if wanted.scale is not None:
            assert np.array_equal(found.codes.scale[0].numpy(), wanted.scale)
        assert found.fields == wanted.fields
        assert found.silence == pytest.approx(wanted.silence)
    assert dataset[-1].key == items[-1].key
    with pytest.raises(IndexError):
        dataset[150]


def test_parts_make_up_the_whole(tmp_path):
    dataset = written(tmp_path, "safetensors", made(23), each=5)
    for count in (1, 2, 7, 23, 30):
        parts = [dataset.shard(i, count) for i in range(count)]
        assert [item.key for part in parts for item in part] == dataset.keys
        assert [key for part in parts for key in part.keys] == dataset.keys
        assert [frames for part in parts for frames in part.frames] == dataset.frames
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [item.key for item in dataset.shard(1, 2).shard(0, 3)] == dataset.keys[11:15]
    with pytest.raises(InputError, match="must be 0 to 1"):
        dataset.shard(2, 2)


def test_a_loader_reads_it_with_workers_and_fills_batches_up(tmp_path):
    items = made(20)
    dataset = written(tmp_path, "tar", items, each=6)
    assert dataset[3].key == items[3].key  # a file is open; workers open their own
    loader = DataLoader(dataset, batch_size=8, collate_fn=TokenDataset.collate, num_workers=2)
    seen = []
    for batch in loader:
        assert batch.codes.shape == (len(batch.keys), 3, int(batch.frames.max()))
        for key, codes, frames, fields in zip(*batch, strict=True):
            wanted = next(item for item in items if item.key == key)
            assert np.array_equal(codes[:, :frames].numpy(), wanted.codes)
            assert not codes[:, frames:].any()
            assert fields == wanted.fields
            seen.append(key)
    assert seen == dataset.keys
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[5].codes == dataset[5].codes


def test_items_come_with_their_audio_where_a_codec_is_given(tmp_path, source, codec: Codec):
    recordings.write(tmp_path / "in" / "a.wav", 333)
    tokenize(tmp_path / "in", tmp_path / "out", source, processes=0)
    (item,) = TokenDataset(tmp_path / "out", codec)
    assert item.audio.shape == (1, 333)
    assert torch.equal(item.audio, codec.decode(item.codes)[0])
    (silent,) = TokenDataset(tmp_path / "out")
    assert silent.audio is None
    with pytest.raises(InputError, match="made by another codec than small 32khz"):
        TokenDataset(tmp_path / "out", oracles.small_codec("32khz"))


def test_a_tar_is_what_webdataset_reads(tmp_path):
    items = made(4)
    dataset = written(tmp_path, "tar", items)
    (path,) = (tmp_path / "tokens").glob("*.tar")
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    assert len(members) == 2 * len(items)
    for name, data in members.items():
        key, suffix = name.rsplit("/", 1)[-1].split(".", 1)
        assert "." not in key
        if suffix == "codes.npy":
            about = json.loads(members[name.replace(".codes.npy", ".json")])
            wanted = next(item for item in items if item.key == about["key"])
            assert np.array_equal(np.load(io.BytesIO(data)), wanted.codes)
            assert about["length"] == wanted.length
            assert about["sample_rate"] == dataset.sample_rate == 24_000


def test_a_table_is_what_pandas_and_datasets_read(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet is read and written by pyarrow")
    items = made(5)
    written(tmp_path, "parquet", items)
    (path,) = (tmp_path / "tokens").glob("*.parquet")
    rows = parquet.read_table(path).to_pylist()
    for row, item in zip(rows, items, strict=True):
        assert np.array_equal(np.array(row["codes"]).reshape(3, -1), item.codes)
        assert (row["key"], row["length"], row["sample_rate"]) == (item.key, item.length, 24_000)
        assert (row["text"], row["number"], row["source_key"]) == (
            item.fields["text"],
            item.fields["number"],
            item.fields["key"],
        )


def test_what_is_damaged_is_told(tmp_path, format):
    dataset = written(tmp_path, format, made(9))
    (path,) = (tmp_path / "tokens").glob("tokens-*")
    if path.suffix == ".json":
        (path,) = (each for each in (tmp_path / "tokens").glob("tokens-0*"))
    data = path.read_bytes()
    for size in (0, 5, len(data) // 3):
        path.write_bytes(data[:size])
        with pytest.raises(AudioError, match="cannot be read as tokens"):
            open_shard(path)
        with pytest.raises(AudioError, match="cannot be read as tokens"):
            TokenDataset(dataset.about.path)
    with pytest.raises(AudioError, match=r"holds no tokens: there is no tokens.json"):
        TokenDataset(tmp_path)
    (tmp_path / "tokens" / "tokens.json").write_text("{}")
    with pytest.raises(AudioError, match=r"tokens.json cannot be read"):
        TokenDataset(tmp_path / "tokens")
