"""Small random tokenizers of Qwen3-TTS, and the decoder of the package ``qwen-tts`` to compare them with.

The package is of another transformers and imports much that its model does not need. So its two files are taken alone,
and what they want of the older transformers is given to them.
"""

import importlib
import importlib.util
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import mimi_models
import pytest
import torch
from torch import Tensor

from streamcodec.codecs.mimi import MimiCodec
from streamcodec.codecs.qwen_tts import QwenTtsCodec

# 50 frames of 12 samples a second; a row of the decoder's transformer sees five.
SMALL: dict[str, Any] = {
    "model_type": "qwen3_tts_tokenizer_12hz",
    "input_sample_rate": 600,
    "output_sample_rate": 600,
    "encode_downsample_rate": 12,
    "decode_upsample_rate": 12,
    "encoder_valid_num_quantizers": 4,
    "encoder_config": mimi_models.SMALL | {"num_quantizers": 6, "upsampling_ratios": [3, 2]},
    "decoder_config": {
        "codebook_size": 16,
        "codebook_dim": 16,
        "num_quantizers": 4,
        "latent_dim": 12,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "intermediate_size": 10,
        "sliding_window": 5,
        "upsampling_ratios": [2],
        "upsample_rates": [3, 2],
        "decoder_dim": 16,
    },
}
_PACKAGE = "qwen_tts_tokenizer"


def config(**decoder: Any) -> dict[str, Any]:
    """`decoder` overrides fields of decoder_config."""
    return SMALL | {"decoder_config": SMALL["decoder_config"] | decoder}


@cache
def small_codec(dtype: torch.dtype = torch.float64, **decoder: Any) -> QwenTtsCodec:
    torch.manual_seed(7)
    codec = QwenTtsCodec(config(**decoder), name="small qwen").eval()
    mimi_models.settle(codec)
    return codec.to(dtype)


@cache
def package() -> Any:
    """The module of the package's model; the test is skipped where the package is not there."""
    found = importlib.util.find_spec("qwen_tts")
    if found is None or not found.submodule_search_locations:
        pytest.skip("pip install --no-deps qwen-tts")
    module = types.ModuleType(_PACKAGE)
    module.__path__ = [str(Path(found.submodule_search_locations[0], "core", "tokenizer_12hz"))]
    sys.modules[_PACKAGE] = module
    from transformers import masking_utils
    from transformers.utils import generic

    with mock.patch.object(generic, "check_model_inputs", create=True, return_value=lambda forward: forward):
        model = importlib.import_module(f"{_PACKAGE}.modeling_qwen3_tts_tokenizer_v2")

    model.ROPE_INIT_FUNCTIONS = {"default": _frequencies}
    for name in ("create_causal_mask", "create_sliding_window_causal_mask"):
        setattr(model, name, _masks(getattr(masking_utils, name)))
    return model


def _frequencies(config: Any, device: Any = None, **_: Any) -> tuple[Tensor, float]:
    size = config.head_dim
    return 1.0 / config.rope_theta ** (torch.arange(0, size, 2, dtype=torch.float, device=device) / size), 1.0


def _masks(made: Any) -> Any:
    def call(**given: Any) -> Any:
        parts = (given["config"], given["input_embeds"], given["attention_mask"], None)
        return made(*parts, position_ids=given["position_ids"])

    return call


class Package(NamedTuple):
    """The package's model in two parts: its encoder is transformers' Mimi, of which it takes the first codebooks.

    (The class that joins them is of an older transformers.)
    """

    mimi: Any
    decoder: Any
    codebooks: int

    def encode(self, wav: Tensor) -> Tensor:
        """[B, 1, N] to codes [B, K, T]."""
        codes: Tensor = self.mimi.encode(wav).audio_codes[:, : self.codebooks]
        return codes


def package_of(codec: QwenTtsCodec) -> Package:
    """With the weights of `codec`."""
    tensors = codec.to_huggingface()[1]
    mimi = MimiCodec(codec.settings.encoder)
    own = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items() if name.startswith("encoder.")}
    mimi = MimiCodec(codec.settings.encoder, mimi.to_huggingface()[1] | own).eval()
    decoder = blank_decoder(codec.config["decoder_config"])
    decoder.load_state_dict(
        {name.removeprefix("decoder."): tensor for name, tensor in tensors.items() if name.startswith("decoder.")}
    )
    return Package(mimi_models.transformers_model(mimi), decoder, codec.spec.num_codebooks)


def blank_decoder(fields: dict[str, Any]) -> Any:
    """The package's decoder of that decoder_config with random weights."""
    module = package()
    torch.manual_seed(0)
    config = module.Qwen3TTSTokenizerV2DecoderConfig(**fields)
    config._attn_implementation = "eager"
    return module.Qwen3TTSTokenizerV2Decoder._from_config(config).eval()
