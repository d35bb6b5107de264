"""The configurations of the published checkpoints. Imports nothing that takes time: options name them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..lazy import late

if TYPE_CHECKING:
    from ..codecs import Codec

__all__ = ["BUNDLED", "PRESETS", "Preset"]

BUNDLED = "streamcodec_24khz"  # not among them: it has weights of its own


class Preset(NamedTuple):
    """build: the family; config: what differs from its defaults; bandwidth: kbps to run at, None for the default."""

    build: Callable[..., "Codec"]
    config: dict[str, Any]
    bandwidth: float | None = None


ENCODEC = late("streamcodec.codecs.encodec", "EncodecCodec")
DAC = late("streamcodec.codecs.dac", "DacCodec")
MIMI = late("streamcodec.codecs.mimi", "MimiCodec")
QWEN_TTS = late("streamcodec.codecs.qwen_tts", "QwenTtsCodec")
SNAC = late("streamcodec.codecs.snac", "SnacCodec")
XCODEC = late("streamcodec.codecs.xcodec", "XcodecCodec")
_SNAC_WIDE = {
    "encoder_dim": 64,
    "encoder_rates": [2, 3, 8, 8],
    "decoder_dim": 1536,
    "decoder_rates": [8, 8, 3, 2],
    "attn_window_size": 32,
    "vq_strides": [8, 4, 2, 1],
}
# By the names of the published checkpoints.
PRESETS = {
    "encodec_24khz": Preset(ENCODEC, {}, 6.0),
    "encodec_32khz": Preset(
        ENCODEC,
        {
            "sampling_rate": 32_000,
            "target_bandwidths": [2.2],
            "num_filters": 64,
            "upsampling_ratios": [8, 5, 4, 4],
            "codebook_size": 2048,
            "use_causal_conv": False,
            "use_conv_shortcut": False,
        },
    ),
    "dac_16khz": Preset(DAC, {"sampling_rate": 16_000, "downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12}),
    "dac_24khz": Preset(DAC, {"sampling_rate": 24_000, "downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32}),
    "dac_44khz": Preset(DAC, {"sampling_rate": 44_100, "downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 9}),
    "mimi": Preset(MIMI, {}, 1.1),
    "qwen3_tts_12hz": Preset(
        QWEN_TTS,
        {"decoder_config": {"codebook_dim": 512, "hidden_size": 512, "head_dim": 64, "intermediate_size": 1024}},
    ),
    "snac_24khz": Preset(SNAC, {}),
    "snac_32khz": Preset(SNAC, _SNAC_WIDE | {"sampling_rate": 32_000}),
    "snac_44khz": Preset(SNAC, _SNAC_WIDE | {"sampling_rate": 44_100}),
    "xcodec": Preset(XCODEC, {}),
}
