"""How many multiply-adds a frame takes, against torch's own count of a run over the whole signal."""

from collections.abc import Callable

import dac_models
import mimi_models
import oracles
import pytest
import qwen_tts_models
import spectral_models
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from streamcodec import Codec
from streamcodec.codecs.mimi import MimiCodec, MimiConfig
from streamcodec.codecs.qwen_tts import QwenTtsCodec
from streamcodec.codecs.qwen_tts_config import QwenTtsDecoderConfig

CODECS: dict[str, Callable[[], Codec]] = {
    "encodec": oracles.small_codec,
    "encodec in segments": lambda: oracles.small_codec("48khz"),
    "dac": lambda: dac_models.small_codec((2, 4)),
    "mimi": mimi_models.small_codec,
    "qwen-tts": qwen_tts_models.small_codec,
    "spectral": spectral_models.small_codec,
}
FRAMES = 40
UNCOUNTED = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)


def counted(half: torch.nn.Module, rows: Tensor) -> float:
    """Of a frame, but for attentions, which torch counts or not by the way that it takes, and what is in a function of
    single rows.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        half(rows)
    each = counter.get_flop_counts()["Global"]
    return sum(count for op, count in each.items() if op not in UNCOUNTED) / 2 / FRAMES


def attended(sizes: MimiConfig | QwenTtsDecoderConfig) -> int:
    """Of a row of a transformer."""
    return sizes.num_hidden_layers * 2 * sizes.sliding_window * sizes.num_attention_heads * sizes.head_size


@pytest.mark.parametrize("kind", CODECS)
def test_multiply_adds_of_a_frame_are_those_that_torch_counts(kind: str) -> None:
    codec = CODECS[kind]()
    encoder = counted(codec.encoder, torch.zeros(1, FRAMES * codec.spec.hop_length, codec.spec.channels).double())
    decoder = counted(codec.decoder, torch.zeros(1, FRAMES, codec.quantizer.dimension).double())
    # What rows take of each other.
    if isinstance(codec, MimiCodec):
        encoder, decoder = (half + 2 * attended(codec.settings) for half in (encoder, decoder))
    if isinstance(codec, QwenTtsCodec):
        encoder, decoder = encoder + 2 * attended(codec.settings.encoder), decoder + attended(codec.settings.decoder)
    overlap = (codec.spec.segment_length or 1) / (codec.spec.segment_stride or 1)
    assert codec.framing.multiply_adds() == (int(encoder * overlap), int(decoder * overlap))
