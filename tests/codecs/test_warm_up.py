"""After `warm_up` no stream has anything to make that is made once."""

from collections import Counter
from typing import Any

import dac_models
import oracles
import pytest
import spectral_models
import torch
import xcodec_models

from streamcodec import Codec, codecs, torch_executor
from streamcodec.nn import factorised

FAMILIES = {
    "24khz": lambda: oracles.small_codec("24khz", torch.float32),
    "32khz": lambda: oracles.small_codec("32khz", torch.float32),
    "48khz": lambda: oracles.small_codec("48khz", torch.float32),
    "offline alone": lambda: oracles.small_codec("48khz", torch.float32, chunk_length_s=None, overlap=None),
    "dac": lambda: dac_models.small_codec((2, 3), dtype=torch.float32),
    "spectral": lambda: spectral_models.small_codec(torch.float32),
    "xcodec": lambda: xcodec_models.small_codec("hubert", torch.float32),
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each thing that is kept was made."""
    counts: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def counted(*args: Any, **named: Any) -> Any:
            counts[name] += 1
            return plain(*args, **named)

        monkeypatch.setattr(owner, name, counted)

    count(torch_executor.Matrix, "__init__")
    count(factorised._Tables, "__init__")
    count(codecs.base, "primed")
    count(codecs.base, "silent_rows")
    return counts


def forget(codec: Codec) -> None:
    """What was made before: moving the weights away and back does that."""
    codec.double().float()


def talk(codec: Codec, start: str, frames: int, batch: int, pushes: int = 40) -> None:
    spec = codec.spec
    encoder, decoder = codec.open_encoder(batch=batch, start=start), codec.open_decoder(batch, start=start)
    for _ in range(pushes):
        decoder.push(encoder.push(torch.zeros(batch, spec.channels, frames * spec.hop_length)))
    decoder.push(encoder.flush())
    decoder.flush()


@pytest.mark.slow
@pytest.mark.usefixtures("native_by_itself")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("start", ["exact", "primed"])
def test_nothing_is_left_to_be_made(name, start, made):
    if name == "xcodec":
        pytest.importorskip("transformers", reason="X-Codec's speech model is one of transformers")
    codec = FAMILIES[name]()
    forget(codec)
    codec.warm_up()
    if name == "offline alone":
        return  # there are no streams to warm up for
    if name != "48khz":  # its segments run as a whole signal does, with torch's own convolutions
        assert made["__init__"] > 5
    made.clear()
    talk(codec, start, 1, 1)
    assert not made
    if name == "24khz":  # and the counting sees what is made
        forget(codec)
        talk(codec, start, 1, 1)
        assert made["__init__"] > 5
        assert made["primed"] == (2 if start == "primed" else 0)


@pytest.mark.usefixtures("native_by_itself")
def test_it_takes_the_size_of_the_pushes_to_come(made):
    codec = oracles.small_codec("24khz", torch.float32)
    forget(codec)
    codec.warm_up(frames=3, batch=2)
    made.clear()
    talk(codec, "exact", 3, 2)
    assert not made
