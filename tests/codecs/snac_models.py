"""Small random SNAC codecs, and models of the snac package to compare them with."""

from functools import cache
from typing import Any

import pytest
import torch

from streamcodec.bench.presets import Preset
from streamcodec.bench.random_weights import make
from streamcodec.codecs.snac import SnacCodec
from streamcodec.noise import normal_at

# 25 frames of 24 samples a second.
SMALL: dict[str, Any] = {
    "model_type": "snac",
    "sampling_rate": 600,
    "encoder_dim": 4,
    "encoder_rates": [2, 3],
    "decoder_dim": 16,
    "decoder_rates": [3, 2],
    "attn_window_size": None,
    "codebook_size": 16,
    "codebook_dim": 4,
    "vq_strides": [4, 2, 1],
    "noise": True,
    "depthwise": True,
}
# Of the published models at 32 and 44.1 kHz: windows of attention hold several groups of the coarsest level.
ATTENTION: dict[str, Any] = {"encoder_dim": 16, "decoder_dim": 64, "attn_window_size": 8}


def small_codec(dtype: torch.dtype = torch.float64, **config: Any) -> SnacCodec:
    """`config` overrides fields."""
    return _small_codec(dtype, tuple((name, _hashable(value)) for name, value in config.items()))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@cache
def _small_codec(dtype: torch.dtype, config: tuple[tuple[str, Any], ...]) -> SnacCodec:
    codec = make(Preset(SnacCodec, SMALL | dict(config)), seed=7)
    assert isinstance(codec, SnacCodec)
    return codec.to(dtype)


def package_model(codec: SnacCodec) -> Any:
    """The snac package's model with the weights of `codec`, its noise that of the same seed."""
    snac = pytest.importorskip("snac", reason="pip install --no-deps snac")
    config, tensors = codec.to_huggingface()
    arguments = {name: value for name, value in config.items() if name not in ("model_type", "streamcodec_noise")}
    model = snac.SNAC(**arguments)
    for module in model.modules():
        if hasattr(module, "parametrizations"):
            torch.nn.utils.parametrize.remove_parametrizations(module, "weight")
    rest = {name: value for name, value in model.state_dict().items() if name.endswith("inv_freq")}
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()} | rest)
    give_noise(model, codec)
    return model.eval()


def give_noise(model: Any, codec: SnacCodec) -> None:
    """Put our numbers in the place of its random ones."""
    blocks = [module for module in model.modules() if type(module).__name__ == "NoiseBlock"]
    for place, block in enumerate(blocks):
        seed = codec.settings.seed_of(place)

        def forward(x: torch.Tensor, block: Any = block, seed: int | None = seed) -> torch.Tensor:
            if seed is None:
                return x
            noise = normal_at(seed, torch.arange(x.shape[2])).to(x.dtype)
            return x + noise * block.linear(x)

        block.forward = forward
