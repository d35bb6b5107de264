"""Small random tokenizers of Higgs Audio v2: transformers' own, and ours."""

import importlib
import math
import sys
import types
from functools import cache
from typing import Any

import pytest
import torch
from dac_models import randomise
from torch import Tensor
from xcodec_models import SPEECH, noise

from streamcodec import codecs
from streamcodec.checkpoint import weights
from streamcodec.codecs.higgs import HiggsCodec
from streamcodec.codecs.semantic_model import merge_weight_norm

RATIOS = [8, 5, 4, 2, 3]  # of the published model: 960 samples a frame, 25 frames a second
SMALL: dict[str, Any] = {
    "codebook_size": 16,
    "codebook_dim": 6,
    "target_bandwidths": [0.1, 0.2, 0.4],
    "acoustic_model_config": {
        "model_type": "dac",
        "encoder_hidden_size": 2,
        "decoder_hidden_size": 64,
        "hidden_size": 8,
        "downsampling_ratios": RATIOS,
        "upsampling_ratios": RATIOS,
        "sampling_rate": 24_000,
    },
    "semantic_model_config": SPEECH | {"model_type": "hubert"},
}


def resampled(wav: Tensor, old: int, new: int) -> Tensor:
    """What torchaudio.functional.resample does: the sum of its definition, sample by sample.

    Of the input that lies within 6 zero crossings, each sample times a sinc under a Hann window.
    """
    cutoff, samples = min(old, new) * 0.99, wav.shape[-1]
    time = torch.arange(math.ceil(samples * new / old), dtype=torch.float64)[:, None] / new
    reach = math.ceil(6 * old / cutoff) + 1
    near = (time * old).long() + torch.arange(-reach, reach + 1)  # input samples around each output sample
    phase = ((time - near.double() / old) * cutoff).clamp(-6, 6)
    kernel = torch.sinc(phase) * torch.cos(phase * math.pi / 12) ** 2 * cutoff / old
    kernel[(near < 0) | (near >= samples)] = 0
    return (wav[..., near.clamp(0, samples - 1)] * kernel.to(wav.dtype)).sum(-1)


@cache
def module() -> Any:
    """transformers' module of the model, which wants torchaudio for its resampler alone."""
    torchaudio = types.ModuleType("torchaudio")
    torchaudio.functional = types.SimpleNamespace(resample=resampled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchaudio", torchaudio)  # this one alone: torch's own modules load only once
        name = "transformers.models.higgs_audio_v2_tokenizer.modeling_higgs_audio_v2_tokenizer"
        return importlib.import_module(name)


@torch.no_grad()
def transformers_model(seed: int = 0, **config: Any) -> Any:
    """A HiggsAudioV2TokenizerModel in float32, its codebooks in use, audio at about -12 dBFS."""
    from transformers import HiggsAudioV2TokenizerConfig

    torch.manual_seed(seed)
    model = module().HiggsAudioV2TokenizerModel(HiggsAudioV2TokenizerConfig(**(SMALL | config))).eval()
    randomise(model)
    given = {}
    handle = model.fc.register_forward_hook(lambda *call: given.update(latents=call[2]))
    wav = noise(1, 60 * model.config.hop_length).float()
    model.encode(wav)
    handle.remove()
    left = given["latents"].flatten(0, 1)
    for stage in model.quantizer.quantizers:
        seen = stage.project_in(left)
        chosen = seen[torch.randint(len(seen), (len(stage.codebook.embed),))]
        stage.codebook.embed.copy_(chosen + 0.3 * seen.std() * torch.randn_like(chosen))
        # Half the way back up: the inverse of a random projection overshoots.
        stage.project_out.weight.copy_(0.5 * torch.linalg.pinv(stage.project_in.weight))
        left = left - stage.project_out(stage.codebook.embed[torch.cdist(seen, stage.codebook.embed).argmin(1)])
    last = model.acoustic_decoder.conv2
    last.bias.zero_()
    last.weight.mul_(0.25 / model(wav).audio_values.std())
    return model


def double(model: Any) -> Any:
    """The model in float64, its weight norm merged in float32 as a checkpoint's is."""
    merge_weight_norm(model)
    return model.double()


def codec_of(model: Any, dtype: torch.dtype = torch.float64) -> HiggsCodec:
    """Our codec with the configuration and weights of a transformers model."""
    tensors = weights.plain(model.state_dict(), "transformers")
    codec = codecs.build(model.config.to_dict(), tensors, name="from transformers")
    assert isinstance(codec, HiggsCodec)
    return codec.to(dtype).eval()


@cache
def small_codec(dtype: torch.dtype = torch.float64) -> HiggsCodec:
    return codec_of(transformers_model(), dtype)
