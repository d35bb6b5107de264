"""Small random codecs, and the rule by which their codes are compared with another implementation's."""

import math
from functools import cache
from typing import Any

import torch
from streamcodec_kernels.factorised_reference import excess_direction
from streamcodec_kernels.rvq_reference import NEAR_TIE, excess_distance
from torch import Tensor, nn

from streamcodec import Codec, codecs
from streamcodec.bench.random_weights import mixtures
from streamcodec.checkpoint import weights
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codecs.segments import Segments
from streamcodec.nn.factorised import FactorisedQuantizer
from streamcodec.nn.levels import LevelQuantizer
from streamcodec.nn.projected import ProjectedQuantizer
from streamcodec.nn.split import SplitQuantizer

# Those that are more than their codebooks.
KINDS_OF_QUANTIZERS = FactorisedQuantizer, SplitQuantizer, ProjectedQuantizer

# 100 frames of 6 samples a second; each codebook of 16 entries is 0.4 kbps.
SMALL: dict[str, Any] = {
    "model_type": "encodec",
    "sampling_rate": 600,
    "upsampling_ratios": [3, 2],
    "num_filters": 4,
    "hidden_size": 6,
    "codebook_size": 16,
    "target_bandwidths": [0.4, 0.8, 1.6],
}
# The three kinds of published model, in small.
KINDS: dict[str, dict[str, Any]] = {
    "24khz": {},
    "32khz": {"use_causal_conv": False, "use_conv_shortcut": False},
    "48khz": {
        "use_causal_conv": False,
        "norm_type": "time_group_norm",
        "normalize": True,
        "audio_channels": 2,
        "chunk_length_s": 0.1,  # 60 samples
        "overlap": 0.15,  # 51 samples from one segment to the next: no multiple of the hop, as in the published model
    },
}


def signal(batch: int, channels: int, samples: int, seed: int = 0) -> Tensor:
    """Noise whose level moves, [B, C, N] float32 within full scale."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, channels, samples, generator=generator)
    level = torch.rand(batch, 1, samples // 50 + 2, generator=generator)
    envelope = torch.nn.functional.interpolate(level, size=max(1, samples), mode="linear")[:, :, :samples]
    return (noise * envelope * 0.3).clamp(-1, 1)


def small_codec(kind: str = "24khz", dtype: torch.dtype = torch.float64, **config: Any) -> EncodecCodec:
    """A random codec of one of the `KINDS`; `config` overrides fields (tuples for lists, so that it can be cached)."""
    return _small_codec(kind, dtype, frozenset(config.items()))


@cache  # on the arguments as they end up: a second making of the same codec may differ from the first in a last bit
def _small_codec(kind: str, dtype: torch.dtype, config: frozenset[tuple[str, Any]]) -> EncodecCodec:
    torch.manual_seed(7)
    codec = EncodecCodec(SMALL | KINDS[kind] | dict(config), name=f"small {kind}")
    settle(codec)
    return codec.to(dtype).eval()


@torch.no_grad()
def settle(codec: EncodecCodec, frames: int = 300) -> None:
    """Fit the codebooks to latents, so that codes vary, and bring the output to about -12 dBFS."""
    codec.quantizer.set_codebooks(fitted_codebooks(codec, *codec.quantizer.codebooks.shape[:2], frames))
    codes = codec.encode(signal(1, codec.spec.channels, frames * codec.spec.hop_length), codec.spec.bandwidths[-1])
    last = codec.decoder.layers[-1]
    level = codec.decode(codes).std()
    last.weight.mul_(0.25 / level)
    if last.norm is not None:
        for parameter in last.norm.parameters():
            parameter.mul_(0.25)


@torch.no_grad()
def fitted_codebooks(codec: EncodecCodec, stages: int, size: int, frames: int = 300) -> Tensor:
    """Codebooks [K, N, D] whose entries are mixtures of residuals of the latents of four signals of `frames`."""
    generator = torch.Generator().manual_seed(3)
    residual = latents_of(codec, signal(4, codec.spec.channels, frames * codec.spec.hop_length)).flatten(0, 1)
    books = []
    for _ in range(stages):
        chosen = mixtures(residual, size, generator)
        books.append(chosen)
        residual = residual - chosen[torch.cdist(residual, chosen).argmin(1)]
    return torch.stack(books)


@torch.no_grad()
def latents_of(codec: Codec, wav: Tensor) -> Tensor:
    """What the quantizer is given for `wav`, [B, T, D]."""
    return codec.analyse(codec.as_rows(wav)).rows


def random_transformers_model(seed: int = 0, frames: int = 300, **config: Any) -> Any:
    """A `transformers.EncodecModel` with random weights of sensible size, codebooks fitted to so many frames."""
    from transformers import EncodecConfig, EncodecModel

    settings = {name: value for name, value in (SMALL | config).items() if name != "model_type"}
    torch.manual_seed(seed)
    model = EncodecModel(EncodecConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _randomise(name, parameter)
        codec = codec_of(model)
        settle(codec, frames)
        model.load_state_dict({name: tensor.clone() for name, tensor in codec.to_huggingface()[1].items()})
        for name, parameter in model.named_parameters():
            if name.endswith("original0"):  # the weight's length apart from its direction: no longer equal to |v|
                parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
    return model


def _randomise(name: str, parameter: Tensor) -> None:
    noise = torch.randn_like(parameter)
    if name.endswith("bias") or ".norm." in name:
        parameter.add_(0.1 * noise)
    elif "lstm" in name:
        parameter.copy_(noise / math.sqrt(parameter.shape[-1]))
    elif name.endswith("original0"):
        parameter.copy_(1 + 0.3 * noise.abs())
    else:
        parameter.copy_(noise / math.sqrt(parameter[0].numel()))


def codec_of(model: Any, dtype: torch.dtype = torch.float32) -> EncodecCodec:
    """Our codec with the configuration and weights of a transformers model."""
    config = model.config.to_dict()
    codec = codecs.build(config, weights.plain(model.state_dict(), "transformers"), name="from transformers")
    assert isinstance(codec, EncodecCodec)
    return codec.to(dtype).eval()


def excess_of_directions(quantizer: FactorisedQuantizer, latents: Tensor, codes: Tensor) -> Tensor:
    """`excess_direction` of codes [M, K'] of latents [M, D], all by its definition in float64."""
    stages, _, small = quantizer.codebooks.shape
    down = quantizer.in_weight.double().transpose(0, 1).flatten(1)
    later = torch.ones(stages, stages).triu(1).bool().repeat_interleave(small, 1)

    def tables(down: Tensor, up: Tensor, constant: Tensor, z: Tensor, bias: Tensor, sign: int) -> tuple[Tensor, Tensor]:
        cross = (up @ down) * later[:, None]
        return z @ down + bias.flatten() - sign * ((constant @ down) * later).sum(0), cross

    weights = (quantizer.out_weight, quantizer.out_bias, latents, quantizer.in_bias)
    weights = tuple(tensor.double() for tensor in weights)
    projected, cross = tables(down, *weights, 1)
    sizes = tables(down.abs(), *(tensor.abs() for tensor in weights), -1)
    return excess_direction(projected, quantizer.codebooks.double(), cross, codes, *sizes)


def excess_of_levels(quantizer: LevelQuantizer, latents: Tensor, codes: Tensor) -> Tensor:
    """`excess_of_directions` of the codes [M, K] of SNAC's frames: each after those of the levels above it."""
    rows, columns = latents.unflatten(1, (quantizer.rows, -1)), []
    for level, count in enumerate(quantizer.levels):
        for place in range(count):
            above = [sum(quantizer.levels[:i]) + place * quantizer.levels[i] // count for i in range(level + 1)]
            if above[-1] < codes.shape[1]:
                mean = rows.unflatten(1, (count, -1))[:, place].mean(1)
                columns.append(excess_of_directions(quantizer, mean, codes[:, above])[:, -1])
    return torch.stack(columns, 1)


def excess_of_projections(quantizer: ProjectedQuantizer, latents: Tensor, codes: Tensor) -> Tensor:
    """`excess_distance` of codes [M, K'] of latents [M, D], where each stage sees a projection of what is left."""
    left, columns = latents.double(), []
    for stage in range(codes.shape[1]):
        seen = left @ quantizer.in_weight[stage].double() + quantizer.in_bias[stage].double()
        entries, chosen = quantizer.codebooks[stage].double(), codes[:, stage]
        columns.append(excess_distance(seen, entries[None], chosen[:, None]))
        left = left - entries[chosen] @ quantizer.out_weight[stage].double() - quantizer.out_bias[stage].double()
    return torch.cat(columns, 1)


def compare_codes(latents: Tensor, quantizer: Tensor | nn.Module, codes: Tensor, oracle: Tensor) -> dict[str, int]:
    """How two encoders' codes [B, K, T] of the same `latents` [B, T, D] (float64) relate.

    quantizer: the codebooks [K, N, D] of a euclidean one, or one of the `KINDS_OF_QUANTIZERS`. compared: codes;
    differ: those that are not equal; wrong: frames that differ although their first difference is no near tie of the
    two nearest entries.
    After a near tie the two go separate ways in that frame, and may.
    """
    assert codes.shape == oracle.shape, f"codes are {list(codes.shape)}, the oracle's {list(oracle.shape)}"
    if isinstance(quantizer, SplitQuantizer):
        total = {"compared": 0, "differ": 0, "wrong": 0}
        for part, used in quantizer.parts(codes.shape[1]):
            seen, books = latents.double() @ quantizer.down[part].double(), quantizer.codebooks[used]
            for name, count in compare_codes(seen, books, codes[:, used], oracle[:, used]).items():
                total[name] += count
        return total
    ours, theirs = (data.transpose(1, 2).flatten(0, 1) for data in (codes, oracle))
    differ = ours != theirs
    rows = differ.any(1).nonzero()[:, 0]
    wrong = 0
    if len(rows):
        first = differ[rows].int().argmax(1, keepdim=True)
        z = latents.double().flatten(0, 1)[rows]

        def excess(side: Tensor) -> Tensor:
            if isinstance(quantizer, LevelQuantizer):
                return excess_of_levels(quantizer, z, side)
            if isinstance(quantizer, FactorisedQuantizer):
                return excess_of_directions(quantizer, z, side)
            if isinstance(quantizer, ProjectedQuantizer):
                return excess_of_projections(quantizer, z, side)
            assert isinstance(quantizer, Tensor)
            return excess_distance(z, quantizer.double()[: codes.shape[1]], side)

        worst = torch.maximum(*(excess(side[rows]).gather(1, first) for side in (ours, theirs)))
        wrong = int((~(worst < NEAR_TIE)).sum())  # a NaN is wrong too
    return {"compared": differ.numel(), "differ": int(differ.sum()), "wrong": wrong}


def assert_codes_agree(latents: Tensor, codebooks: Tensor | FactorisedQuantizer, codes: Tensor, oracle: Tensor) -> None:
    """Codes equal the oracle's but for near ties, of which there must be few."""
    assert latents.isfinite().all()
    counts = compare_codes(latents, codebooks, codes, oracle)
    assert counts["wrong"] == 0, counts
    assert counts["differ"] <= max(codes.shape[1], counts["compared"] // 100), counts


def free_frames(segments: Segments, samples: int) -> int:
    """Frames of a signal that may be split anywhere; the rest an encoder gives in one piece, with its length.

    Where segments overlap by more than a frame, several short ones may end a signal: the length tells them apart.
    """
    counts = segments.cut(samples)
    if segments.length - segments.stride <= segments.hop_length:
        return sum(counts)
    whole = 0 if samples < segments.length else 1 + (samples - segments.length) // segments.stride
    return sum(counts[:whole])


def cuts(total: int, sizes: list[int]) -> list[tuple[int, int]]:
    """A partition of `total` items: pieces of `sizes` in turn, the last one as long as it takes."""
    pieces, start = [], 0
    for size in sizes:
        stop = min(total, start + size)
        pieces.append((start, stop))
        start = stop
    return [*pieces, (start, total)]
