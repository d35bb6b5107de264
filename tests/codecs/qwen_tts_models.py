"""Small random tokenizers of Qwen3-TTS, and the decoder of the package ``qwen-tts`` to compare them with."""

from functools import cache
from typing import Any, NamedTuple

import mimi_models
import pytest
import torch
from torch import Tensor

from streamcodec.bench.upstream import qwen_decoder
from streamcodec.codecs.mimi import MimiCodec
from streamcodec.codecs.qwen_tts import QwenTtsCodec
from streamcodec.errors import InputError

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


def config(**decoder: Any) -> dict[str, Any]:
    """`decoder` overrides fields of decoder_config."""
    return SMALL | {"decoder_config": SMALL["decoder_config"] | decoder}


@cache
def small_codec(dtype: torch.dtype = torch.float64, **decoder: Any) -> QwenTtsCodec:
    torch.manual_seed(7)
    codec = QwenTtsCodec(config(**decoder), name="small qwen").eval()
    mimi_models.settle(codec)
    return codec.to(dtype)


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
    """The package's decoder of that decoder_config with random weights; the test is skipped where that is not there."""
    try:
        return qwen_decoder(fields)
    except InputError as error:
        pytest.skip(str(error))
