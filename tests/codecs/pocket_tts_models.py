"""Small random tokenizers of Pocket TTS, and models of transformers to compare them with."""

import tempfile
from functools import cache
from typing import Any

import mimi_models
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
