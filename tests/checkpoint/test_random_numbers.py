"""Loading draws nothing: torch's random numbers go on as if nothing had been loaded, and no weight is left unfilled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from dac_models import NARROW as SMALL_DAC
from encodec_package import small_model
from oracles import SMALL
from spectral_models import SMALL as SMALL_SPECTRAL

from streamcodec import Codec, load, save
from streamcodec.codecs.dac import DacCodec
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codecs.spectral import SpectralCodec
from streamcodec.codecs.tensors import layers_for


def semantic_codec() -> Codec:
    pytest.importorskip("transformers", reason="the speech model comes from transformers")
    from xcodec_models import TINY_SPEECH

    from streamcodec.codecs.semantic_codec import SemanticCodec
    from streamcodec.codecs.semantic_model import SpeechModel

    speech = SpeechModel.from_config(TINY_SPEECH | {"model_type": "wavlm"}, 600)
    return SemanticCodec(EncodecCodec(SMALL), speech, num_codebooks=2, codebook_size=16)


def xcodec() -> Codec:
    pytest.importorskip("transformers", reason="the speech model comes from transformers")
    from xcodec_models import TINY, TINY_SPEECH

    from streamcodec.codecs.xcodec import XcodecCodec

    return XcodecCodec(TINY | {"semantic_model_config": TINY_SPEECH | {"model_type": "hubert"}})


FRESH: dict[str, Callable[[], Codec]] = {
    "encodec": lambda: EncodecCodec(SMALL),
    "encodec 48 kHz": lambda: EncodecCodec(SMALL | {"norm_type": "time_group_norm", "use_causal_conv": False}),
    "dac": lambda: DacCodec(SMALL_DAC),
    "spectral": lambda: SpectralCodec(SMALL_SPECTRAL),
    "xcodec": xcodec,
    "semantic": semantic_codec,
}


@contextmanager
def nothing_drawn() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def new_memory_is_nan() -> Iterator[None]:
    """Memory that torch hands out holds NaN, so that what nobody fills is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", FRESH)
@pytest.mark.usefixtures("new_memory_is_nan")
def test_a_saved_codec_is_loaded_without_a_draw_and_every_weight_is_filled(tmp_path: Path, kind: str) -> None:
    codec = FRESH[kind]()
    folder = save(codec, tmp_path)
    with nothing_drawn():
        again = load(folder)
    # Buffers too that no file holds: tables, and constant weights.
    mine, theirs = ({**dict(one.named_parameters()), **dict(one.named_buffers())} for one in (codec, again))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert theirs[name].isfinite().all(), name
        torch.testing.assert_close(theirs[name], tensor, msg=lambda text, name=name: f"{name}: {text}")
    trained = {name: parameter.requires_grad for name, parameter in codec.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in again.named_parameters()} == trained


@pytest.mark.usefixtures("new_memory_is_nan")
def test_an_original_file_is_loaded_without_a_draw(tmp_path: Path) -> None:
    sizes = {"ratios": [8, 5, 4, 2], "num_codebooks": 32, "codebook_size": 1024}  # the published ones
    torch.save(small_model(False, **sizes).state_dict(), tmp_path / "mine.th")
    with nothing_drawn():
        codec = load(tmp_path / "mine.th")
    assert all(tensor.isfinite().all() for tensor in codec.state_dict().values())


@pytest.mark.parametrize("kind", ["encodec", "encodec 48 kHz", "dac", "spectral"])
def test_layers_that_are_to_be_filled_draw_nothing(kind: str) -> None:
    """Drawing 10 M numbers to overwrite them would take a tenth of loading."""
    with layers_for({}), nothing_drawn():
        FRESH[kind]()


def test_the_bundled_codec_is_loaded_without_a_draw() -> None:
    with nothing_drawn():
        load()


@pytest.mark.parametrize("kind", FRESH)
def test_a_fresh_codec_has_random_weights_that_the_seed_decides(kind: str) -> None:
    torch.manual_seed(3)
    one = FRESH[kind]()
    moved = torch.get_rng_state()
    torch.manual_seed(3)
    other = FRESH[kind]()
    assert torch.equal(torch.get_rng_state(), moved)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != FRESH[kind]().fingerprint


def test_a_fresh_convolution_has_the_level_of_its_fan_in() -> None:
    """He et al. 2015: what training starts from. A weight that is left as memory was has no level at all."""
    torch.manual_seed(0)
    codec = EncodecCodec(SMALL | {"num_filters": 32, "hidden_size": 64})
    for name, layer in codec.encoder.named_modules():
        weight = getattr(layer, "weight", None)
        if weight is None or weight.dim() != 3 or weight.numel() < 4000:
            continue
        fan_in = weight.shape[0] * weight.shape[1]
        assert weight.std().item() * (fan_in / 2) ** 0.5 == pytest.approx(1, abs=0.1), name
