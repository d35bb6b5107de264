"""Where recordings come from: every kind of source gives the same recordings, with what is known of them."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import recordings
import soundfile

from streamcodec import Codec, TokenDataset
from streamcodec.corpus import tokenize
from streamcodec.corpus.items import Failure, Item
from streamcodec.corpus.sources import Corpus, corpus_of
from streamcodec.errors import AudioError, InputError, MissingPackageError

TEXTS = ["one", "zwei, drei", "", "четыре"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four recordings."""
    for i in range(len(TEXTS)):
        recordings.write(tmp_path / "audio" / f"{i}.wav", 200 + i, i)
    return tmp_path


def heard(corpus: Corpus, codec: Codec) -> list[tuple[str, int, Any]]:
    """Key, samples and text of every item."""
    found = []
    for item in corpus.items():
        assert isinstance(item, Item)
        item = item.loaded()
        blocks = list(item.blocks(codec.spec))
        found.append((item.key, sum(block.shape[1] for block in blocks), item.fields.get("text")))
    return found


def expected(keys: list[str], texts: list[Any] = TEXTS) -> list[tuple[str, int, Any]]:
    return [(key, 200 + i, texts[i]) for i, key in enumerate(keys)]


def write_manifest(root: Path, suffix: str) -> Path:
    path = root / f"manifest{suffix}"
    rows = [{"id": f"k{i}", "audio_filepath": f"audio/{i}.wav", "text": text} for i, text in enumerate(TEXTS)]
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="," if suffix == ".csv" else "\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_tar(root: Path, name: str, places: list[int]) -> Path:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i in places:
            members = {
                f"k{i}.wav": (root / "audio" / f"{i}.wav").read_bytes(),
                f"k{i}.json": json.dumps({"text": TEXTS[i], "tags": ["a", 1]}).encode(),
                f"k{i}.cls": str(i).encode(),
            }
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def test_a_folder_and_a_file_and_a_list(root, codec):
    keys = [f"audio/{i}.wav" for i in range(4)]
    corpus = corpus_of(root)
    assert corpus.total == 4
    assert heard(corpus, codec) == expected(keys, [None] * 4)
    assert heard(corpus_of(root / "audio" / "2.wav"), codec) == [("2.wav", 202, None)]
    (root / "list.txt").write_text("\n".join([*keys[:3], "", str(root / keys[3])]) + "\n")
    assert heard(corpus_of(root / "list.txt"), codec) == expected([*keys[:3], str(root / keys[3])], [None] * 4)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_manifest_carries_its_columns_through(root, codec, suffix):
    assert heard(corpus_of(write_manifest(root, suffix)), codec) == expected([f"k{i}" for i in range(4)])


def test_columns_of_other_names_can_be_said(root, codec):
    (root / "m.csv").write_text("sound,name,path\naudio/1.wav,x,elsewhere\n")
    (item,) = corpus_of(root / "m.csv", "sound", "name").items()
    assert (item.key, item.fields) == ("x", {"path": "elsewhere"})
    assert heard(corpus_of(root / "m.csv", "sound", "name"), codec) == [("x", 201, None)]


def test_a_part_of_a_recording_is_a_recording(root, codec):
    rate = recordings.RATE
    wav, _ = soundfile.read(recordings.write(root / "long.wav", 20 * rate), dtype="float32")
    rows = [{"audio": "long.wav", "offset": 1.5, "duration": 2.0}, {"audio": "long.wav", "offset": 17.25}]
    (root / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = corpus_of(root / "m.jsonl").items()
    assert (first.key, second.key) == ("long.wav#1.5", "long.wav#17.25")
    for item, part in ((first, wav[int(1.5 * rate) : int(3.5 * rate)]), (second, wav[int(17.25 * rate) :])):
        blocks = [block[0] for block in item.blocks(codec.spec)]
        assert [value for block in blocks for value in block] == pytest.approx(list(part))
    (root / "m.jsonl").write_text(json.dumps({"audio": "long.wav", "offset": 30}))
    (late,) = corpus_of(root / "m.jsonl").items()
    with pytest.raises(AudioError, match="ends after 20"):
        list(late.blocks(codec.spec))


def test_tar_shards_alone_in_a_folder_and_by_a_pattern(root, codec):
    shards = [write_tar(root, "shards/s-000.tar", [0, 1]), write_tar(root, "shards/s-001.tar", [2, 3])]
    wanted = expected([f"k{i}" for i in range(4)])
    assert heard(corpus_of(shards[0].parent), codec) == wanted
    assert heard(corpus_of(root / "shards" / "s-{000..001}.tar"), codec) == wanted
    assert heard(corpus_of(root / "shards" / "*.tar"), codec) == wanted
    assert heard(corpus_of(shards[1]), codec) == wanted[2:]
    (item, *_) = corpus_of(shards[1]).items()
    assert item.fields == {"text": "", "tags": '["a", 1]', "cls": "2"}


def test_a_damaged_tar_gives_what_stands_before_the_damage(root, source):
    path = write_tar(root, "s.tar", [0, 1, 2])
    whole = path.read_bytes()
    path.write_bytes(whole[:4500])
    *items, failure = corpus_of(path).items()
    assert [item.key for item in items][:1] == ["k0"]
    assert isinstance(failure, Failure)
    assert "cannot be read as a tar file" in failure.reason
    for size in range(0, 3 * 3072, 300):
        path.write_bytes(whole[:size])
        *items, failure = corpus_of(path).items()
        assert len(items) == max(0, size - 512) // 3072, size  # whole samples, of 3 kB each
        assert isinstance(failure, Failure)
    done = tokenize(root, root / "out", source, processes=0)
    assert (done.done, done.failed) == (2, 1)
    assert all(item.fields["text"] == TEXTS[int(item.key[1])] for item in TokenDataset(root / "out"))


@pytest.mark.parametrize("kind", ["stream", "file", "parquet"])
def test_data_sets_of_hugging_face(root, codec, kind):
    """In the layouts that `save_to_disk` and `to_parquet` write."""
    arrow = pytest.importorskip("pyarrow", reason="Arrow and Parquet are read by pyarrow")

    pytest.importorskip("pyarrow.parquet", reason="Parquet is read by pyarrow")
    data = [(root / "audio" / f"{i}.wav").read_bytes() for i in range(4)]
    audio = [{"bytes": bytes_, "path": f"{i}.wav"} for i, bytes_ in enumerate(data)]
    table = arrow.table({"id": [f"k{i}" for i in range(4)], "audio": audio, "text": TEXTS})
    folder = root / "set"
    folder.mkdir()
    if kind == "parquet":
        arrow.parquet.write_table(table, folder / "train-00000-of-00001.parquet")
    else:
        open_new = arrow.ipc.new_stream if kind == "stream" else arrow.ipc.new_file
        with open_new(folder / "data-00000-of-00001.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        (folder / "dataset_info.json").write_text("{}")
        (folder / "cache-abc.arrow").write_bytes(b"another's")
    corpus = corpus_of(folder)
    assert heard(corpus, codec) == expected([f"k{i}" for i in range(4)])
    assert corpus.total == (4 if kind == "parquet" else None)
    (first, *_) = corpus.items()
    assert first.fields == {"id": "k0", "text": "one", "path": "0.wav"}
    with pytest.raises(InputError, match="has no column 'sound'"):
        list(corpus_of(folder, "sound").items())


def test_urls(root, codec):
    fsspec = pytest.importorskip("fsspec", reason="URLs are opened by fsspec")
    files = fsspec.filesystem("memory")
    write_tar(root, "s.tar", [0, 1, 2, 3])
    write_manifest(root, ".csv")
    for path in ["s.tar", "manifest.csv", *(f"audio/{i}.wav" for i in range(4))]:
        files.pipe(f"/corpus/{path}", (root / path).read_bytes())
    wanted = expected([f"k{i}" for i in range(4)])
    assert heard(corpus_of("memory://corpus/manifest.csv"), codec) == wanted
    assert heard(corpus_of("memory://corpus/s.tar"), codec) == wanted
    assert heard(corpus_of("memory://corpus/audio"), codec) == expected([f"{i}.wav" for i in range(4)], [None] * 4)
    with pytest.raises(AudioError, match="does not exist"):
        corpus_of("memory://corpus/nothing")
    files.pipe("/corpus/bad/bad.wav", b"RIFF")
    (bad,) = corpus_of("memory://corpus/bad").items()
    with pytest.raises(AudioError, match=r"memory://.*corpus/bad/bad\.wav cannot be read as audio"):
        list(bad.blocks(codec.spec))


def test_a_table_behind_a_url_may_name_its_recordings_from_there(root, codec):
    fsspec = pytest.importorskip("fsspec", reason="URLs are opened by fsspec")
    arrow = pytest.importorskip("pyarrow", reason="Parquet is read by pyarrow")
    pytest.importorskip("pyarrow.parquet", reason="Parquet is read by pyarrow")
    audio = [{"bytes": None, "path": f"audio/{i}.wav"} for i in range(4)]
    arrow.parquet.write_table(arrow.table({"audio": audio, "text": TEXTS}), root / "set.parquet")
    wanted = expected([f"{i:09d}" for i in range(4)])
    assert heard(corpus_of(root / "set.parquet"), codec) == wanted
    for path in ["set.parquet", *(f"audio/{i}.wav" for i in range(4))]:
        fsspec.filesystem("memory").pipe(f"/table/{path}", (root / path).read_bytes())
    assert heard(corpus_of("memory://table/set.parquet"), codec) == wanted


def test_a_bad_row_costs_no_other(root, codec):
    rows = ['{"audio": "audio/0.wav"}', "{", "[1]", '{"text": "x"}', '{"audio": "audio/1.wav", "offset": "late"}']
    (root / "m.jsonl").write_text("\n".join(rows))
    good, *bad = corpus_of(root / "m.jsonl").items()
    assert good.key == "audio/0.wav"
    assert all(isinstance(each, Failure) for each in bad)
    assert [each.key.rsplit(" ")[-1] for each in bad] == ["2:", "3:", "4:", "5:"]


def test_what_holds_no_recordings_is_refused(root, without):
    (root / "empty").mkdir()
    (root / "texts").mkdir()
    (root / "texts" / "a.md").write_text("text")
    (root / "m.csv").write_text("a,b\n1,2\n")
    (root / "latin.csv").write_bytes("audio\n\xfc.wav\n".encode("latin-1"))
    for name, kind, message in (
        ("nothing", AudioError, "does not exist"),
        ("empty", AudioError, "not one file"),
        ("texts", AudioError, r"suffixes of its 1 files are \.md"),
        ("*.flac", AudioError, "matches no file"),
        ("m.csv", InputError, "line 2: no audio is named: the columns are a, b"),
        ("latin.csv", AudioError, "no UTF-8"),
    ):
        with pytest.raises(kind, match=message):
            corpus_of(root / name)
    without("fsspec")
    with pytest.raises(MissingPackageError, match=r"fsspec is missing.*corpus"):
        corpus_of("s3://bucket/folder")
    without("pyarrow")
    (root / "x.parquet").write_bytes(b"")
    with pytest.raises(MissingPackageError, match=r"pyarrow is missing.*corpus"):
        corpus_of(root / "x.parquet")
