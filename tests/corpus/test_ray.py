"""The same job on Ray Data."""

import os
from pathlib import Path

import pytest
import recordings
from test_job import ALL, keys_in

from streamcodec import TokenDataset
from streamcodec.cli import main
from streamcodec.corpus import Failure, Progress, job, on_ray, tokenize
from streamcodec.corpus.encoding import Settings
from streamcodec.corpus.items import Item, Tokens
from streamcodec.corpus.sources import Corpus
from streamcodec.errors import MissingPackageError


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_loses_nothing_and_doubles_nothing(tmp_path, source, codec, monkeypatch):
    """Two workers of a local cluster, of which one is killed while it encodes."""
    pytest.importorskip("ray.data", reason="ray is not installed: the extra `ray` has it")
    paths = [recordings.write(tmp_path / "in" / f"{i}.wav", 300 + 10 * i, i) for i in range(24)]
    items = [Item(path.name, str(path)) for path in paths]
    items[9] = recordings.DeadlyOnce(paths[9].name, str(paths[9]), flag=str(tmp_path / "killed"))
    items.append(Item("broken", str(tmp_path / "nowhere.wav")))
    monkeypatch.setattr(job, "corpus_of", lambda *_: Corpus(lambda: iter(items), len(items)))
    # Where workers find this file and its neighbours.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])]))
    seen: list[int] = []

    def run() -> Progress:
        return tokenize(
            "monkeys", tmp_path / "out", source, num_codebooks=ALL, processes=2, ray="local",
            progress=lambda progress: seen.append(progress.done),
        )  # fmt: skip

    done = run()
    assert (tmp_path / "killed").exists()
    assert (done.done, done.failed) == (24, 1)
    assert done.failures[0].key == "broken"
    assert keys_in(tmp_path / "out") == {path.name: 1 for path in paths}
    for item in TokenDataset(tmp_path / "out"):
        assert item.codes == recordings.codes_alone(codec, tmp_path / "in" / item.key)
    assert seen[0] <= 2 < len(seen)  # it tells as they come


def test_what_comes_twice_is_taken_once_and_what_is_lost_with_others_is_tried_alone(source, monkeypatch):
    items = [Item(str(i), "nowhere") for i in range(20)]
    asked: list[tuple[list[str], int]] = []

    def mapped(ray, given, block, workers, settings):
        asked.append(([item.key for item in given], block))
        for first in range(0, len(given), block):
            if any(item.key == "11" for item in given[first : first + block]):
                continue  # Ray gave this block up
            for item in [*given[first : first + block], given[first]]:  # and sent a part of the others twice
                yield Failure(item.key, "unreadable")

    monkeypatch.setattr(on_ray, "_mapped", mapped)
    results = list(on_ray._encoded(None, items, 2, Settings(source, ALL)))
    assert sorted(each.key for each in results) == sorted(item.key for item in items)
    assert [each for each in results if each.reason != "unreadable"] == [
        Failure("11", "the worker that encoded it died, each time")
    ]
    together, alone = asked
    assert (len(together[0]), together[1]) == (20, on_ray.BLOCK_ITEMS)
    assert (len(alone[0]), alone[1]) == (on_ray.BLOCK_ITEMS, 1)


def test_what_ray_is_given_at_a_time_is_bounded_in_number_and_size(monkeypatch):
    monkeypatch.setattr(on_ray, "WAVE_ITEMS", 4)
    monkeypatch.setattr(on_ray, "WAVE_BYTES", 100)
    items = [Item(str(i), "path") for i in range(6)] + [Item(str(i), bytes(60)) for i in range(6, 12)]
    waves = list(on_ray._waves(items))
    assert [item for wave in waves for item in wave] == items
    assert [len(wave) for wave in waves] == [4, 4, 2, 2]


def test_a_worker_gives_the_tokens_of_its_block(folder, source, codec):
    import pickle

    paths = sorted(folder.rglob("*.wav"))
    batch = {"item": [pickle.dumps(Item(path.name, str(path))) for path in paths]}
    results = [pickle.loads(each) for each in on_ray._Worker(Settings(source, ALL))(batch)["result"]]
    assert [each.key for each in results] == [path.name for path in paths]
    for each, path in zip(results, paths, strict=True):
        assert isinstance(each, Tokens)
        assert (each.codes == recordings.codes_alone(codec, path).data[0].numpy()).all()


def test_without_ray_it_says_what_to_install(folder, tmp_path, source, without, capsys):
    without("ray.data")
    without("ray")
    with pytest.raises(
        MissingPackageError, match=r"ray.* is missing, which Ray Data needs; install it with: .*\[ray\]"
    ):
        tokenize(folder, tmp_path / "out", source, num_codebooks=ALL, ray="auto")
    assert main(["tokenize", str(folder), str(tmp_path / "out"), "--codec", source, "--ray"]) == 2
    assert "Ray Data needs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
