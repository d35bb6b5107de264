"""Small random DAC models: transformers' own, ours, and the original's layout."""

import copy
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from streamcodec import codecs
from streamcodec.checkpoint import weights
from streamcodec.codecs.dac import DacCodec

NARROW: dict[str, Any] = {"encoder_hidden_size": 2, "decoder_hidden_size": 32, "codebook_size": 16, "codebook_dim": 4}
# The published models but for their widths.
PUBLISHED: dict[str, dict[str, Any]] = {
    "16khz": {"sampling_rate": 16_000, "downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12},
    "24khz": {"sampling_rate": 24_000, "downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32},
    "44khz": {"sampling_rate": 44_100, "downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 9},
    # The 16 kbps variant has latents narrower than its encoder.
    "44khz 16kbps": {
        "sampling_rate": 44_100,
        "downsampling_ratios": [2, 4, 8, 8],
        "n_codebooks": 18,
        "hidden_size": 12,
    },
}


def noise(batch: int, samples: int, seed: int = 0) -> Tensor:
    """[B, 1, N] float64."""
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(batch, 1, samples, generator=generator, dtype=torch.float64)


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Weights that keep the level through many layers, and alphas around 1.

    At a level that grows with depth Snake is chaotic, and any two orders of arithmetic go separate ways.
    """
    for name, parameter in model.named_parameters():
        values = torch.randn_like(parameter)
        if name.endswith("alpha"):
            parameter.copy_(0.5 + 0.5 * values.abs())
        elif name.endswith("bias"):
            parameter.copy_(0.1 * values)
        elif name.endswith("original0"):
            parameter.copy_(1 + 0.3 * values.abs())
        elif "norm" in name or name.endswith("masked_spec_embed"):
            continue  # of a speech model
        else:
            parameter.copy_(values / math.sqrt(max(1, parameter[0].numel())))
            if "res_unit" in name and "conv2" in name:
                parameter.mul_(0.3)


@torch.no_grad()
def fit_quantizer(model: Any) -> None:
    """Entries that are projected residuals of latents, moved a little, so that all of them are in use."""
    residual = model.encoder(noise(2, 100 * model.config.hop_length).float())
    for stage in model.quantizer.quantizers:
        stage.out_proj.weight.copy_(0.5 * torch.linalg.pinv(stage.in_proj.weight[:, :, 0])[:, :, None])
        projected = stage.in_proj(residual).transpose(1, 2).flatten(0, 1)
        chosen = projected[torch.randint(len(projected), (len(stage.codebook.weight),))]
        stage.codebook.weight.copy_(chosen + 0.3 * projected.std() * torch.randn_like(chosen))
        stage.out_proj.bias.zero_()
        quantized = stage(residual)[0]
        stage.out_proj.bias.copy_((residual - quantized).mean((0, 2)))
        residual = residual - stage(residual)[0]


def transformers_model(seed: int = 0, **config: Any) -> Any:
    """A `transformers.DacModel` in float32, its output at about -12 dBFS."""
    from transformers import DacConfig, DacModel

    torch.manual_seed(seed)
    model = DacModel(DacConfig(**(NARROW | config))).eval()
    randomise(model)
    fit_quantizer(model)
    with torch.no_grad():
        last = model.decoder.conv2
        last.bias.zero_()
        audio = model(noise(1, 40 * model.config.hop_length).float()).audio_values
        last.weight.mul_(0.25 / audio.double().atanh().clamp(-30, 30).std())
    return model


def codec_of(model: Any, dtype: torch.dtype = torch.float64) -> DacCodec:
    """Our codec with the configuration and weights of a transformers model."""
    tensors = weights.plain(model.state_dict(), "transformers")
    codec = codecs.build(model.config.to_dict(), tensors, name="from transformers")
    assert isinstance(codec, DacCodec)
    return codec.to(dtype).eval()


def bare(codec: DacCodec) -> DacCodec:
    """The same codec, its frames floored as the upstream models' are."""
    other = copy.copy(codec)
    other.pad = False
    return other


@cache
def small_codec(ratios: tuple[int, ...], stages: int = 3, dtype: torch.dtype = torch.float64) -> DacCodec:
    """A random codec at 1 kHz."""
    return codec_of(transformers_model(downsampling_ratios=ratios, n_codebooks=stages, sampling_rate=1000), dtype)


# -- the original's layout -----------------------------------------------------------------------------------------


class Snake1d(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.alpha * x) ** 2 / (self.alpha + 1e-9)


class Block(nn.Module):
    """Modules in sequence under the name `block`; `skip` adds the input."""

    def __init__(self, *modules: nn.Module, skip: bool = False):
        super().__init__()
        self.block = nn.Sequential(*modules)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.skip else self.block(x)


def normed(*sizes: int, **options: int) -> nn.Module:
    return weight_norm(nn.Conv1d(*sizes, **options))


def units(channels: int) -> list[nn.Module]:
    return [
        Block(
            Snake1d(channels),
            normed(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            Snake1d(channels),
            normed(channels, channels, 1),
            skip=True,
        )
        for dilation in (1, 3, 9)
    ]


class Stage(nn.Module):
    def __init__(self, latent: int, size: int, dimension: int):
        super().__init__()
        self.in_proj, self.out_proj = normed(latent, dimension, 1), normed(dimension, latent, 1)
        self.codebook = nn.Embedding(size, dimension)


class Quantizers(nn.Module):
    def __init__(self, stages: list[nn.Module]):
        super().__init__()
        self.quantizers = nn.ModuleList(stages)


class Decoder(nn.Module):
    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.model = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


KWARGS: dict[str, Any] = {
    "encoder_dim": 4,
    "encoder_rates": (2, 3),
    "latent_dim": 10,
    "decoder_dim": 16,
    "decoder_rates": (3, 2),
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
    "quantizer_dropout": True,
    "sample_rate": 1000,
}


class Original(nn.Module):
    """The modules of an original DAC under its names, weight-normed as there; its quantizer only holds weights."""

    def __init__(self) -> None:
        super().__init__()
        width, latent = KWARGS["encoder_dim"], KWARGS["latent_dim"]
        layers = [normed(1, width, 7, padding=3)]
        for rate in KWARGS["encoder_rates"]:
            down = normed(width, 2 * width, 2 * rate, stride=rate, padding=math.ceil(rate / 2))
            layers.append(Block(*units(width), Snake1d(width), down))
            width *= 2
        self.encoder = Block(*layers, Snake1d(width), normed(width, latent, 3, padding=1))
        width = KWARGS["decoder_dim"]
        layers = [normed(latent, width, 7, padding=3)]
        for rate in KWARGS["decoder_rates"]:
            up = nn.ConvTranspose1d(width, width // 2, 2 * rate, stride=rate, padding=math.ceil(rate / 2))
            layers.append(Block(Snake1d(width), weight_norm(up), *units(width // 2)))
            width //= 2
        self.decoder = Decoder(*layers, Snake1d(width), normed(width, 1, 7, padding=3), nn.Tanh())
        sizes = (latent, KWARGS["codebook_size"], KWARGS["codebook_dim"])
        self.quantizer = Quantizers([Stage(*sizes) for _ in range(KWARGS["n_codebooks"])])


def original_model() -> Original:
    torch.manual_seed(5)
    model = Original().eval()
    randomise(model)
    return model
