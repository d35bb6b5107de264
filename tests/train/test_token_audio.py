"""Tokens as training audio: what their own codec makes of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from train_small import run_of, small

from streamcodec import TokenDataset
from streamcodec.checkpoint import load, save
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.corpus import tokenize
from streamcodec.errors import AudioError, InputError
from streamcodec.int16 import rounded
from streamcodec.train.data import AudioCache
from streamcodec.train.token_audio import is_tokens


@pytest.fixture(scope="module")
def tokens(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the recordings, by a codec of random weights."""
    folder = tmp_path_factory.mktemp("tokens")
    torch.manual_seed(0)
    save(EncodecCodec(small().codec_config()), folder / "codec")
    tokenize(recordings, folder / "tokens", str(folder / "codec"), num_codebooks=4, processes=0)
    return folder / "tokens"


def test_a_training_hears_what_the_codec_decodes(tokens: Path, tmp_path: Path) -> None:
    assert is_tokens(tokens)
    items = list(TokenDataset(tokens, load(tokens.parent / "codec")))
    cache = AudioCache.build(tokens, tmp_path / "cache", 24_000)
    assert cache.groups == tuple(Path(item.key).parent.name for item in items)
    decoded = torch.cat([item.audio for item in items], 1).numpy()
    np.testing.assert_array_equal(cache.samples, rounded(decoded.T))
    assert decoded.std() > 1e-3
    run = run_of(tokens, tmp_path / "run", run={"steps": 1})
    assert len(list(run.updates())) == 1


def test_another_rate_and_number_of_channels_are_made(tokens: Path, tmp_path: Path) -> None:
    (first, _) = TokenDataset(tokens, load(tokens.parent / "codec"))
    cache = AudioCache.build(tokens, tmp_path / "cache", 16_000, 2)
    wanted = rounded(soxr.resample(first.audio[0].double().numpy(), 24_000, 16_000))
    np.testing.assert_array_equal(cache.samples[: cache.lengths[0], 0], wanted)
    np.testing.assert_array_equal(cache.samples[:, 0], cache.samples[:, 1])


def test_the_hold_out_and_a_folder_without_tokens_are_refused(recordings: Path, tokens: Path, tmp_path: Path) -> None:
    shutil.copytree(recordings / "speech", tmp_path / "recordings" / "holdout")
    codec = str(tokens.parent / "codec")
    tokenize(tmp_path / "recordings", tmp_path / "kept", codec, num_codebooks=4, processes=0)
    with pytest.raises(InputError, match="is hold-out audio"):
        AudioCache.build(tmp_path / "kept", tmp_path / "cache", 24_000)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "tokens.json").write_bytes((tokens / "tokens.json").read_bytes())
    with pytest.raises(AudioError, match="holds no tokens yet"):
        AudioCache.build(tmp_path / "empty", tmp_path / "cache", 24_000)
