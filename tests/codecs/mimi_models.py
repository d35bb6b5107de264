"""Small random Mimi codecs, and models of transformers to compare them with."""

import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from oracles import signal
from torch import Tensor

from streamcodec.checkpoint import load, save
from streamcodec.codecs import Codec
from streamcodec.codecs.mimi import MimiCodec
from streamcodec.codecs.qwen_tts import QwenTtsCodec
from streamcodec.nn.conv import Conv1d

# 50 frames of 12 samples a second; a row of the transformers sees six, three frames, so streams soon pass it.
SMALL: dict[str, Any] = {
    "model_type": "mimi",
    "sampling_rate": 600,
    "upsampling_ratios": (3, 2),
    "num_filters": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "sliding_window": 6,
    "codebook_size": 16,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_quantizers": 4,
    "upsample_groups": 16,
}


@torch.no_grad()
def settle_layers(codec: Codec) -> None:
    """Weights under which attention and branches count."""
    for name, parameter in codec.named_parameters():
        if name.endswith("scale"):
            parameter.copy_(0.5 + 0.2 * torch.randn_like(parameter))
        elif name.endswith("inputs.weight"):
            parameter.mul_(1.5)
        elif parameter.dim() == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))


@torch.no_grad()
def settle_level(codec: Codec, decoded: Callable[[], Tensor]) -> None:
    """Output at -12 dBFS. decoded: some of it."""
    last = [layer for layer in codec.decoder.modules() if isinstance(layer, Conv1d)][-1]
    for level in (1e-3, 0.25):  # far below full scale first, where some are limited
        last.weight.mul_(level / decoded().std())


@torch.no_grad()
def settle(codec: MimiCodec | QwenTtsCodec) -> None:
    """As both, with entries that are all in use."""
    settle_layers(codec)
    quantizer = codec.quantizer
    books = []
    for part, used in quantizer.parts(len(quantizer.codebooks)):
        latents = codec.encode_latents(signal(4, 1, 300 * codec.spec.hop_length)).transpose(1, 2)
        residual = (latents @ quantizer.down[part]).flatten(0, 1)
        for _ in range(used.stop - (used.start or 0)):
            chosen = residual[torch.randint(len(residual), (quantizer.codebooks.shape[1],))]
            chosen = chosen + 0.3 * residual.std() * torch.randn_like(chosen)
            residual = residual - chosen[torch.cdist(residual, chosen).argmin(1)]
            books.append(chosen)
    quantizer.set_codebooks(torch.stack(books))
    codes = codec.encode(signal(1, 1, 300 * codec.spec.hop_length))
    settle_level(codec, lambda: codec.decode(codes))


@cache
def small_codec(dtype: torch.dtype = torch.float64, **config: Any) -> MimiCodec:
    """`config` overrides fields."""
    torch.manual_seed(7)
    codec = MimiCodec(SMALL | config, name="small mimi").eval()
    settle(codec)
    return codec.to(dtype)


def transformers_model(codec: MimiCodec, dtype: torch.dtype = torch.float32) -> Any:
    """transformers' MimiModel with the weights of `codec`, read from a folder that we wrote."""
    from transformers import MimiModel

    with tempfile.TemporaryDirectory() as folder:
        save(codec, folder)
        return MimiModel.from_pretrained(folder).to(dtype).eval()


def codec_of(model: Any) -> MimiCodec:
    """Our codec from the folder that transformers writes of a model."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        codec = load(folder)
    assert isinstance(codec, MimiCodec)
    return codec
