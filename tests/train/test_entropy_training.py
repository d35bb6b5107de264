"""Training of an entropy model: it learns what can be foreseen, and the file has what was trained."""

import json

import numpy as np
import pytest
import soundfile
import torch

from streamcodec.checkpoint import save
from streamcodec.cli import main
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.corpus import tokenize
from streamcodec.entropy import EntropyModel, FrameEncoder, Predictor
from streamcodec.errors import InputError
from streamcodec.train.entropy import EntropySettings, export, grouped, train_entropy

SIZES = {"num_filters": 2, "hidden_size": 4, "upsampling_ratios": [2, 2], "codebook_size": 16}
SMALL = EntropySettings(minutes=0.04, state=16, stage=16, vector=4, sequence=16, batch=32, rate=2e-2)


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return EncodecCodec({**SIZES, "sampling_rate": 400, "target_bandwidths": [0.4, 1.2]})


def foreseeable(count, seed=0):
    """Codes [3, T]: each first one follows from the one before it, most of the time, and each third from the second."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 16, (3, count))
    for t in range(1, count):
        if random.random() < 0.9:
            codes[0, t] = (codes[0, t - 1] * 5 + 3) % 16
    codes[2] = (codes[1] + 1) % 16
    return codes


@pytest.fixture(scope="module")
def trained(codec):
    *_, last = train_entropy(codec, [foreseeable(4000)], SMALL)
    return last.network


def test_it_learns_what_can_be_foreseen_and_the_bytes_show_it(codec, trained):
    predictor, codes = Predictor(export(trained, codec)), foreseeable(500, seed=1)
    plain = 4 * codes.shape[1]
    for count, most in ((1, 0.65), (3, 0.7)):
        bits = 8 * len(FrameEncoder(predictor).encode(codes[:count]).data)
        assert bits < most * count * plain


def test_what_is_coded_takes_the_bits_that_the_training_saw(codec, trained):
    predictor, codes = Predictor(export(trained, codec)), foreseeable(300, seed=2)
    with torch.no_grad():
        seen = float(trained(torch.from_numpy(codes)[None]).sum())
    found, _ = predictor.intervals(predictor.start(), codes)
    assert float(np.log2(found.totals / found.frequencies).sum()) == pytest.approx(seen, rel=0.02)


@pytest.mark.parametrize(("size", "groups"), [(16, 4), (1024, 32), (2048, 45), (5, 2), (2, 1), (3, 3)])
def test_groups_are_of_one_size_and_near_entries_share_them(size, groups):
    entries = torch.randn(size, 3, generator=torch.Generator().manual_seed(0))
    places = grouped(entries, groups)
    assert len(set(places.tolist())) == size
    members = -(-size // groups)
    of = places // members
    assert int(of.max()) < groups
    if size >= 1024:
        within = torch.stack([entries[of == group].var(0).sum() for group in range(groups)])
        assert float(within.mean()) < 0.3 * float(entries.var(0).sum())


def test_too_few_codes_are_refused(codec):
    with pytest.raises(InputError, match="at least 64 frames"):
        next(train_entropy(codec, [foreseeable(20)], SMALL))
    with pytest.raises(InputError, match="all 3 codebooks"):
        next(train_entropy(codec, [foreseeable(200)[:2]], SMALL))


def test_the_command_trains_on_recordings_and_on_tokens_and_says_what_it_saves(codec, tmp_path, capsys):
    folder = save(codec, tmp_path / "codec")
    (tmp_path / "audio").mkdir()
    for number in range(20):
        noise = np.random.default_rng(number).normal(0, 0.1, 400)
        soundfile.write(tmp_path / "audio" / f"{number}.wav", noise, 400)
    tokenize(tmp_path / "audio", tmp_path / "tokens", str(folder), num_codebooks=3, processes=0)
    for data in ("audio", "tokens"):
        out = folder / "entropy.safetensors"
        command = ["train", "entropy", "--data", tmp_path / data, "--out", out, "--codec", folder, "--minutes", "0.002"]
        assert main([*map(str, command), "--force"]) == 0
        printed = capsys.readouterr().out
        assert "on 1 recordings that were held back it saves" in printed
        assert "at 1.2 kbps" in printed
        assert EntropyModel.read(out).fingerprint == codec.fingerprint
    assert main(["bench", "entropy", str(tmp_path / "audio"), "--codec", str(folder), "--frames", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["bandwidth_kbps"] for row in rows] == [0.4, 1.2]
    assert all(row["coded_kbps"] == pytest.approx(row["codes_kbps"] * (1 - row["saved"])) for row in rows)
    assert main([*map(str, command)]) == 2  # the file is there
