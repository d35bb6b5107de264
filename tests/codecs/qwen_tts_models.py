"""Small random tokenizers of Qwen3-TTS, and the model of the package ``qwen-tts`` to compare them with.

The package is of another transformers and imports much that its model does not need. So its two files are taken alone,
and what they want of the older transformers is given to them.
"""

import importlib
import importlib.util
import json
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import mimi_models
import pytest
import torch
from torch import Tensor

from streamcodec.checkpoint import save
from streamcodec.codecs.qwen_tts import QwenTtsCodec

# 50 frames of 12 samples a second; a row of the decoder's transformer sees five.
SMALL: dict[str, Any] = {
    "model_type": "qwen3_tts_tokenizer_12hz",
    "input_sample_rate": 600,
    "output_sample_rate": 600,
    "encode_downsample_rate": 12,
    "decode_upsample_rate": 12,
    "encoder_valid_num_quantizers": 4,
    "encoder_config": mimi_models.SMALL | {"num_quantizers": 6},
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
    from transformers import masking_utils, modeling_rope_utils
    from transformers.utils import generic

    modeling_rope_utils.ROPE_INIT_FUNCTIONS.setdefault("default", _frequencies)
    with mock.patch.object(generic, "check_model_inputs", create=True, return_value=lambda forward: forward):
        model = importlib.import_module(f"{_PACKAGE}.modeling_qwen3_tts_tokenizer_v2")

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


def package_model(codec: QwenTtsCodec, folder: Path) -> Any:
    """The package's model with the weights of `codec`, read from a folder that we wrote."""
    from safetensors.torch import load_file

    save(codec, folder)
    model = blank_model(json.loads((folder / "config.json").read_text()))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


def blank_model(fields: dict[str, Any]) -> Any:
    """The package's model of that config.json with random weights."""
    module = package()
    torch.manual_seed(0)
    theirs = module.Qwen3TTSTokenizerV2Config(**{k: v for k, v in fields.items() if k not in ("model_type", "dtype")})
    for part in (theirs, theirs.encoder_config, theirs.decoder_config):
        part._attn_implementation = "eager"
    return module.Qwen3TTSTokenizerV2Model(theirs).eval()
