"""What makes the presets of published sizes small."""

from typing import Any

from streamcodec.bench import random_weights
from streamcodec.bench.presets import PRESETS
from streamcodec.codecs import Codec

__all__ = ["SMALL", "small"]

TRANSFORMER = {"num_attention_heads": 2, "num_hidden_layers": 2}
MIMI = {"num_filters": 4, "hidden_size": 16, "codebook_size": 64, "codebook_dim": 8} | TRANSFORMER
SMALL: dict[str, dict[str, Any]] = {
    "encodec_24khz": {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 64},
    "dac_44khz": {"encoder_hidden_size": 4, "decoder_hidden_size": 64, "codebook_size": 64},
    "mimi": MIMI,
    "qwen3_tts_12hz": {
        "encoder_config": MIMI,
        "decoder_config": {
            "codebook_dim": 16, "codebook_size": 64, "latent_dim": 16, "hidden_size": 16, "intermediate_size": 16,
            "decoder_dim": 16, **TRANSFORMER,
        },
    },
    "snac_24khz": {"encoder_dim": 4, "decoder_dim": 32, "codebook_size": 64},
}  # fmt: skip


def small(name: str) -> Codec:
    """The preset of that name, small."""
    preset = PRESETS[name]
    return random_weights.make(preset._replace(config=preset.config | SMALL[name]))
