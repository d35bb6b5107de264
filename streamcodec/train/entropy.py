"""Training of a predictor for entropy coding (`streamcodec.entropy`): in floats, rounded as its whole numbers are.

The network computes what `entropy.predictor` computes, with weights and features rounded to the same steps in the
forward pass and the gradient passed straight through. So what is written to the file is what was trained.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codecs import Codec
from ..entropy import EntropyModel
from ..entropy.model import TABLE, UNIT
from ..errors import InputError

__all__ = ["EntropySettings", "Network", "Update", "export", "train_entropy"]

MOST = 127
WEIGHT = 127.0
LEAST_EXPONENT, MOST_EXPONENT = 0, 20
LEAST_FRAMES = 64
WARM_UP = 50  # updates
MEAN = 0.995  # of the running mean of the weights


@dataclass(frozen=True)
class EntropySettings:
    """minutes: of CPU time; sequence: frames of an example; batch: examples of an update; skip: frames of each that are
    heard and not predicted; state, stage, vector: sizes of the network, see `entropy.model`; rate: of learning."""

    minutes: float = 15.0
    state: int = 192
    stage: int = 64
    vector: int = 64
    sequence: int = 128
    batch: int = 24
    skip: int = 4
    rate: float = 3e-3
    seed: int = 0


# -- rounding, with gradients that pass straight through ---------------------------------------------------------------


def _floored(values: Tensor, low: float, high: float) -> Tensor:
    """Whole 64ths from low to high of them, rounded down."""
    clipped = values.clamp(low / UNIT, (high + 0.999) / UNIT)
    return clipped + (torch.floor(clipped.detach() * UNIT) / UNIT - clipped.detach())


def _exponents(weights: Tensor) -> Tensor:
    """Of each row: the greatest with which its weights fit in int8."""
    greatest = weights.detach().abs().amax(-1).clamp_min(1e-9)
    return torch.floor(torch.log2(WEIGHT / greatest)).clamp(LEAST_EXPONENT, MOST_EXPONENT)


def _rounded(weights: Tensor) -> Tensor:
    """Weights in the steps that int8 and a row's exponent leave."""
    unit = torch.exp2(-_exponents(weights))[..., None]
    whole = torch.clamp(torch.round(weights.detach() / unit), -MOST, MOST)
    return weights + (whole * unit - weights.detach())


def _step(values: Tensor, steps: int) -> Tensor:
    return values + (torch.round(values.detach() * steps) / steps - values.detach())


class Rows(nn.Module):
    """A layer: weights [..., rows, columns], biases [..., rows]."""

    def __init__(self, *shape: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(shape) * scale / math.sqrt(shape[-1]))
        self.biases = nn.Parameter(torch.zeros(shape[:-1]))

    def rounded(self) -> tuple[Tensor, Tensor]:
        return _rounded(self.weights), self.biases

    def exported(self, name: str) -> dict[str, np.ndarray]:
        exponents = _exponents(self.weights)
        unit = torch.exp2(exponents)
        weights = torch.clamp(torch.round(self.weights.detach() * unit[..., None]), -MOST, MOST)
        biases = torch.round(self.biases.detach() * UNIT * unit).clamp(-(2**30), 2**30)
        return {
            f"{name}.weights": weights.numpy().astype(np.int8),
            f"{name}.exponents": exponents.numpy().astype(np.int8),
            f"{name}.biases": biases.numpy().astype(np.int32),
        }


# -- the network -------------------------------------------------------------------------------------------------------


def entries_of(codec: Codec) -> Tensor:
    """What each entry adds to the codec's latents, [K, N, D]."""
    count, size = codec.spec.num_codebooks, codec.spec.codebook_size
    codes = torch.arange(size).repeat(1, count, 1)
    with torch.no_grad():
        return codec.dequantize(codes, per_stage=True)[0].transpose(1, 2).float().cpu()


def grouped(entries: Tensor, groups: int) -> Tensor:
    """Entries [N, D] to places [N]: near ones share a group of ceil(N / groups); halved along the widest direction."""
    order, size = _halved(entries.double(), torch.arange(len(entries)), groups), -(-len(entries) // groups)
    places = torch.empty(len(entries), dtype=torch.int64)
    for group, members in enumerate(order):
        places[members] = group * size + torch.arange(len(members))
    return places


def _halved(entries: Tensor, members: Tensor, groups: int) -> list[Tensor]:
    if groups == 1:
        return [members]
    own = entries[members] - entries[members].mean(0)
    direction = torch.linalg.eigh(own.T @ own).eigenvectors[:, -1]
    members = members[torch.argsort(own @ direction, stable=True)]
    first = groups // 2
    cut = len(members) * first // groups
    return _halved(entries, members[:cut], first) + _halved(entries, members[cut:], groups - first)


def _projected(entries: Tensor, width: int) -> Tensor:
    """Entries in `width` dimensions, those in which they differ most, so scaled that they fit in whole 64ths."""
    flat = entries.flatten(0, 1).double()
    flat = flat - flat.mean(0)
    vectors = torch.linalg.eigh(flat.T @ flat).eigenvectors.flip(1)[:, :width]
    moved = F.pad(entries.double() @ vectors, (0, width - vectors.shape[1]))
    return (moved * (0.4 / moved[0].std())).float()


class Network(nn.Module):
    """The predictor of one codec's codes. entries: [K, N, D], what each adds to the latents."""

    places: Tensor

    def __init__(self, entries: Tensor, settings: EntropySettings) -> None:
        super().__init__()
        (count, size, _), width = entries.shape, settings.vector
        self.groups = max(1, round(math.sqrt(size)))
        self.members = -(-size // self.groups)
        self.state = settings.state
        self.vectors = nn.Parameter(_projected(entries, width))
        self.register_buffer("places", torch.stack([grouped(each, self.groups) for each in entries]))
        self.past = Rows(2 * settings.state, width + settings.state, scale=1.5)
        self.stage = Rows(count, settings.stage, settings.state + 2 * width, scale=1.5)
        self.group = Rows(count, self.groups, settings.stage)
        self.item = Rows(count, self.groups * self.members, settings.stage)
        with torch.no_grad():
            self.stage.biases.fill_(0.3)

    def forward(self, codes: Tensor, skip: int = 0) -> Tensor:
        """Bits of each code of [B, K', T], given what was before it: [B, K', T - skip]."""
        count = codes.shape[1]
        vectors = _step(self.vectors.clamp(-MOST / UNIT, MOST / UNIT), UNIT)
        own = torch.stack([F.embedding(codes[:, k], vectors[k]) for k in range(count)])  # [K', B, T, D]
        last = F.pad(own.sum(0)[:, :-1], (0, 0, 1, 0))
        known = torch.cat([self._states(last), last], -1)[:, skip:].flatten(0, 1)
        so_far = (own.cumsum(0) - own)[:, :, skip:].flatten(1, 2)
        weights, biases = (each[:count] for each in self.stage.rounded())
        from_known, from_own = weights.split([known.shape[1], so_far.shape[2]], 2)
        values = (known @ from_known.flatten(0, 1).T).view(len(known), count, -1).transpose(0, 1)
        values = values + torch.baddbmm(biases[:, None], so_far, from_own.transpose(1, 2))
        features = _floored(values, 0, MOST)
        places = torch.stack([self.places[k][codes[:, k, skip:]].flatten() for k in range(count)])
        bits = self._bits(features, places)
        return bits.reshape(count, len(codes), -1).transpose(0, 1)

    def _states(self, last: Tensor) -> Tensor:
        """What the stages know of the past, [B, T, H], of the vectors of the frames before, [B, T, D]."""
        weights, biases = self.past.rounded()
        from_last, within = weights.split([last.shape[-1], self.state], 1)
        state = last.new_zeros(len(last), self.state)
        seen = [state]
        for heard in (last @ from_last.T + biases).unbind(1)[1:]:
            gates = heard + seen[-1] @ within.T
            opened, candidate = torch.sigmoid(gates[:, : self.state]), torch.tanh(gates[:, self.state :])
            state = state + opened * (candidate - state)
            seen.append(_floored(state * (MOST / UNIT), -MOST, MOST))
        return torch.stack(seen, 1)

    def _bits(self, features: Tensor, places: Tensor) -> Tensor:
        """[K', M] of features [K', M, S] and places [K', M]."""
        count = len(features)
        group, place = places // self.members, places % self.members
        weights, biases = self.group.rounded()
        logs = torch.baddbmm(biases[:count, None], features, weights[:count].transpose(1, 2))
        return (_bits(logs.flatten(0, 1), group.flatten()) + self._place_bits(features, group, place)).view(
            places.shape
        )

    def _place_bits(self, features: Tensor, group: Tensor, place: Tensor) -> Tensor:
        """[K' * M]: those of one group are multiplied together, since each needs its own group's weights alone."""
        key = (group + self.groups * torch.arange(len(group))[:, None]).flatten()
        order, sizes = torch.argsort(key), torch.bincount(key, minlength=len(group) * self.groups).tolist()
        weights, biases = (each.unflatten(1, (self.groups, self.members)).flatten(0, 1) for each in self.item.rounded())
        parts = zip(features.flatten(0, 1)[order].split(sizes), weights.unbind(), biases.unbind(), strict=False)
        logs = torch.cat([F.linear(rows, own, bias) for rows, own, bias in parts if len(rows)])
        return torch.empty_like(logs[:, 0]).index_copy(0, order, _bits(logs, place.flatten()[order]))


def _bits(logs: Tensor, chosen: Tensor) -> Tensor:
    """Of each row's choice among logarithms to base 2."""
    return F.cross_entropy(logs * math.log(2), chosen, reduction="none") / math.log(2)


# -- the file ----------------------------------------------------------------------------------------------------------


def tables() -> dict[str, np.ndarray]:
    """The predictor's tables, from the middle of each step."""
    middle = (np.arange(TABLE) - TABLE // 2 + 0.5) / UNIT
    below = np.arange(TABLE) / UNIT
    return {
        "sigmoid": np.round(256 / (1 + np.exp(-middle))).astype(np.int16),
        "tanh": np.round(MOST * 128 * np.tanh(middle)).astype(np.int16),
        "frequencies": np.maximum(1, np.round(2**15 * np.exp2(-below))).astype(np.int32),
    }


def export(network: Network, codec: Codec) -> EntropyModel:
    """The whole numbers of a trained network."""
    vectors = torch.clamp(torch.round(network.vectors.detach() * UNIT), -MOST, MOST)
    tensors = tables()
    tensors |= {"vectors": vectors.numpy().astype(np.int8), "places": network.places.numpy().astype(np.uint16)}
    for name in ("past", "stage", "group", "item"):
        tensors |= getattr(network, name).exported(name)
    return EntropyModel(codec.spec.name, codec.fingerprint, tensors)


# -- training ----------------------------------------------------------------------------------------------------------


class Update(NamedTuple):
    """network: with the last update, the trained one; done: the share of the training, 0..1; bits: a code, of its
    batch."""

    network: Network
    done: float
    bits: float


class _Average:
    """The running mean of a network's parameters."""

    def __init__(self, network: Network) -> None:
        self._network, self._updates = network, 0
        self._means = [each.detach().clone() for each in network.parameters()]

    def add(self) -> None:
        self._updates += 1
        share = 1 - min(MEAN, self._updates / (self._updates + 10))
        with torch.no_grad():
            for mean, parameter in zip(self._means, self._network.parameters(), strict=True):
                mean.lerp_(parameter, share)

    def take(self) -> None:
        """The network has the means from here on."""
        with torch.no_grad():
            for mean, parameter in zip(self._means, self._network.parameters(), strict=True):
                parameter.copy_(mean)


def train_entropy(codec: Codec, codes: Sequence[np.ndarray], settings: EntropySettings) -> Iterator[Update]:
    """Train, an update at a time. codes: [K, T] of each recording, K all of the codec's codebooks.

    Raises InputError where there are too few codes.
    """
    data = _joined(codec, codes)
    length = min(settings.sequence, data.shape[1] // 2)
    torch.manual_seed(settings.seed)
    network = Network(entries_of(codec), settings)
    _set_counts(network, data)
    optimizer = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=0.01, betas=(0.9, 0.98))
    average, depths, random = _Average(network), _depths(codec), np.random.default_rng(settings.seed)
    begun, step, done = time.process_time(), 0, 0.0
    while done < 1:
        decay = 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * min(1, (step + 1) / WARM_UP) * decay
        starts = random.integers(0, data.shape[1] - length + 1, settings.batch)
        batch = torch.stack([data[: depths[step % len(depths)], start : start + length] for start in starts])
        bits = network(batch, settings.skip).mean()
        optimizer.zero_grad(set_to_none=True)
        bits.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.add()
        step += 1
        done = min(1.0, (time.process_time() - begun) / 60 / settings.minutes)
        if done == 1:
            average.take()
        yield Update(network, done, bits.item())


def _joined(codec: Codec, codes: Sequence[np.ndarray]) -> Tensor:
    """All recordings one after the other, [K, T]: a predictor must take a new voice as it comes."""
    count = codec.spec.num_codebooks
    data = np.concatenate([each for each in codes if each.shape[1]] or [np.zeros((count, 0))], 1)
    if data.shape[0] != count or data.shape[1] < LEAST_FRAMES:
        raise InputError(
            f"{data.shape[1]} frames of {data.shape[0]} codebooks; training needs all {count} codebooks and at least "
            f"{LEAST_FRAMES} frames, and minutes of recordings to be of use"
        )
    return torch.from_numpy(data.astype(np.int64))


def _depths(codec: Codec) -> list[int]:
    """Codebooks of the updates, in turn: all of them two times of three, else those of each other bandwidth."""
    spec = codec.spec
    most = spec.num_codebooks
    fewer = sorted({spec.codebooks(each) for each in spec.bandwidths} - {most})
    return [depth for each in fewer for depth in (most, most, each)] or [most]


def _set_counts(network: Network, data: Tensor) -> None:
    """Begin from how often each entry was chosen."""
    with torch.no_grad():
        for k, row in enumerate(data):
            counts = torch.full((network.groups * network.members,), 1e-3)
            counts += torch.bincount(
                network.places[k][row], minlength=len(counts)
            )  # fmt: skip
            table = counts.view(network.groups, network.members) + 0.3
            network.item.biases[k] = torch.log2(table / table.sum(1, keepdim=True)).flatten()
            network.group.biases[k] = torch.log2(table.sum(1) / table.sum())
