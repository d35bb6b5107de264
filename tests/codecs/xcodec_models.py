"""Small random X-Codec models: transformers' own, and ours."""

from functools import cache
from typing import Any

import torch
from dac_models import randomise
from torch import Tensor, nn

from streamcodec import codecs
from streamcodec.checkpoint import weights
from streamcodec.codecs.semantic_model import merge_weight_norm
from streamcodec.codecs.xcodec import XcodecCodec

SPEECH: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
KINDS = ("hubert", "wavlm")
# The published rates: 320 samples a frame, a speech model that makes a row of 400 samples every 320.
NARROW: dict[str, Any] = {
    "codebook_size": 16,
    "target_bandwidths": [0.2, 0.4, 0.8],
    "acoustic_model_config": {"encoder_hidden_size": 2, "decoder_hidden_size": 32, "hidden_size": 8},
}
# 12 samples a frame, for streams of many frames: rows of 17 samples every 12, 6 + 6 samples of padding.
TINY: dict[str, Any] = {
    "sample_rate": 600,
    "codebook_size": 16,
    "target_bandwidths": [0.2, 0.4, 0.8],
    "acoustic_model_config": {
        "encoder_hidden_size": 2,
        "decoder_hidden_size": 16,
        "hidden_size": 8,
        "downsampling_ratios": [4, 3],
        "upsampling_ratios": [4, 3],
        "sampling_rate": 600,
    },
}
TINY_SPEECH = SPEECH | {
    "conv_dim": [8, 8],
    "conv_kernel": [5, 5],
    "conv_stride": [3, 4],
    "num_feat_extract_layers": 2,
}


def noise(batch: int, samples: int, seed: int = 0) -> Tensor:
    """[B, 1, N] float64 of float32 values, which is all that a codec takes."""
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(batch, 1, samples, generator=generator).double()


@torch.no_grad()
def fit(model: Any, last: nn.Module, frames: int = 150) -> None:
    """Codebooks of residuals of latents of 2 x `frames` frames, moved a little; audio at about -12 dBFS by `last`."""
    given = {}
    handle = model.fc.register_forward_hook(lambda *call: given.update(latents=call[2]))
    wav = noise(2, frames * model.config.hop_length).float()
    model.encode(wav)
    handle.remove()
    residual = given["latents"].flatten(0, 1)
    for stage in model.quantizer.quantizers:
        chosen = residual[torch.randint(len(residual), (len(stage.codebook.embed),))]
        chosen = chosen + 0.3 * residual.std() * torch.randn_like(chosen)
        stage.codebook.embed.copy_(chosen)
        residual = residual - chosen[torch.cdist(residual, chosen).argmin(1)]
    last.bias.zero_()
    last.weight.mul_(0.25 / model(wav).audio_values.std())


def transformers_model(kind: str, seed: int = 0, base: dict[str, Any] | None = None, **config: Any) -> Any:
    """A `transformers.XcodecModel` in float32."""
    from transformers import XcodecConfig, XcodecModel

    base = NARROW if base is None else base
    speech = (SPEECH if base is NARROW else TINY_SPEECH) | {"model_type": kind}
    torch.manual_seed(seed)
    model = XcodecModel(XcodecConfig(**({"semantic_model_config": speech} | base | config))).eval()
    randomise(model)
    fit(model, model.acoustic_decoder.conv2)
    return model


def double(model: Any) -> Any:
    """The model in float64, its weight norm merged in float32 as a checkpoint's is."""
    merge_weight_norm(model)
    return model.double()


def codec_of(model: Any, dtype: torch.dtype = torch.float64, **options: Any) -> XcodecCodec:
    """Our codec with the configuration and weights of a transformers model."""
    tensors = weights.plain(model.state_dict(), "transformers")
    codec = codecs.build(model.config.to_dict(), tensors, name="from transformers")
    assert isinstance(codec, XcodecCodec)
    return codec.to(dtype).eval()


@cache
def small_codec(kind: str, dtype: torch.dtype = torch.float64) -> XcodecCodec:
    """A random codec at 600 Hz, 12 samples a frame."""
    return codec_of(transformers_model(kind, base=TINY), dtype)
