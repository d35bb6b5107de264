"""Small random tokenizers of Pocket TTS, and models of transformers and of ``pocket-tts`` to compare them with."""

import importlib
import importlib.util
import sys
import tempfile
import types
from functools import cache
from pathlib import Path
from typing import Any

import mimi_models
import pytest
import torch
from oracles import signal

from streamcodec.checkpoint import load, save
from streamcodec.codecs.pocket_tts import PocketTtsCodec

# 50 frames of 12 samples a second, of two rows each; a row of the transformers sees six.
SMALL: dict[str, Any] = {
    "model_type": "pocket_tts_audio_tokenizer",
    "sampling_rate": 600,
    "upsampling_ratios": (3, 2),
    "latent_stride": 2,
    "latent_dim": 5,
    "num_filters": 4,
    "hidden_size": 16,
    "upsample_groups": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "sliding_window": 6,
}


@cache
def small_codec(dtype: torch.dtype = torch.float64, **config: Any) -> PocketTtsCodec:
    """`config` overrides fields."""
    torch.manual_seed(7)
    codec = PocketTtsCodec(SMALL | config, name="small pocket").eval()
    mimi_models.settle_layers(codec)
    latents = codec.encode_latents(signal(1, 1, 100 * codec.spec.hop_length)).detach()
    mimi_models.settle_level(codec, lambda: codec.decode_latents(latents))
    return codec.to(dtype)


def transformers_model(codec: PocketTtsCodec) -> Any:
    """transformers' model with the weights of `codec`, read from a folder that we wrote."""
    from transformers import PocketTTSAudioTokenizerModel

    with tempfile.TemporaryDirectory() as folder:
        save(codec, folder)
        return PocketTTSAudioTokenizerModel.from_pretrained(folder).eval()


def codec_of(model: Any) -> PocketTtsCodec:
    """Our codec from the folder that transformers writes of a model."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        codec = load(folder)
    assert isinstance(codec, PocketTtsCodec)
    return codec


def package_model() -> Any:
    """The package's model of the sizes of `SMALL`, with random weights. The test is skipped where it is not there.

    Its modules are taken without the package's own imports, which are of all that speaks.
    """
    found = importlib.util.find_spec("pocket_tts")
    if found is None or not found.submodule_search_locations:
        pytest.skip("pip install --no-deps pocket-tts")
    package = types.ModuleType("pocket_tts")
    package.__path__ = list(map(str, map(Path, found.submodule_search_locations)))
    config = types.ModuleType("pocket_tts.utils.config")
    config.MimiConfig = config.FlowLMTransformerConfig = Any
    stubs = {"pocket_tts": package, "pocket_tts.utils.config": config}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stubs.items():
            patch.setitem(sys.modules, name, module)  # these alone: torch's own modules load only once
        parts = {name: importlib.import_module(f"pocket_tts.modules.{name}") for name in ("seanet", "transformer")}
        quantizer = importlib.import_module("pocket_tts.modules.dummy_quantizer")
        mimi = importlib.import_module("pocket_tts.models.mimi")
    torch.manual_seed(3)
    width, rows = SMALL["hidden_size"], SMALL["latent_stride"]
    seanet = {"dimension": width, "n_filters": 4, "n_residual_layers": 1, "ratios": [3, 2], "last_kernel_size": 3}
    seanet |= {"pad_mode": "constant"}
    transformer = {
        "input_dimension": width, "output_dimensions": (width,), "d_model": width, "num_heads": 2, "num_layers": 2,
        "layer_scale": 0.5, "context": SMALL["sliding_window"], "max_period": 10_000.0, "dim_feedforward": 24,
    }  # fmt: skip
    encoder = parts["seanet"].SEANetEncoder(**seanet)
    return mimi.MimiModel(
        encoder, parts["seanet"].SEANetDecoder(**seanet), quantizer.DummyQuantizer(SMALL["latent_dim"], width),
        frame_rate=600 / 6 / rows, encoder_frame_rate=100, sample_rate=600, channels=1,
        inner_dim=SMALL["latent_dim"], outer_dim=width,
        encoder_transformer=parts["transformer"].ProjectedTransformer(**transformer),
        decoder_transformer=parts["transformer"].ProjectedTransformer(**transformer),
    ).eval()  # fmt: skip
