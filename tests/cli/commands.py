"""What the tests of the command line share."""

import os
import re
from pathlib import Path

import torch

RATE = 24000
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def save_random_codec(path: Path, seed: int, **config) -> Path:
    """A small EnCodec with random weights, as transformers writes it."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(seed)
    small = {
        "num_filters": 4,
        "hidden_size": 16,
        "codebook_size": 64,
        "num_lstm_layers": 1,
        "target_bandwidths": [0.9, 1.8],
    }
    model = EncodecModel(EncodecConfig(**{**small, **config}))
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_()
    model.save_pretrained(path)
    return path


def assert_fails(cli, *arguments: object, match: str) -> None:
    """Exit code 2, one line on stderr, nothing on stdout, no file made."""
    before = sorted(Path().rglob("*"))
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"streamcodec: error: .+\n", err)
    assert re.search(match, err)
    assert sorted(Path().rglob("*")) == before
