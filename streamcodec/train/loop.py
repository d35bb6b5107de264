"""The training loop: two stages, a schedule that always ends annealed, checkpoints that resume to the bit.

Stage 1 trains encoder and decoder without quantiser; stage 2 starts the codebooks from the encoder's outputs
(`quantizer.CodebookLearner.start`) and trains everything with codes in between. Progress runs from 0 to 1, by steps
or by wall-clock time, and both the stages and the learning rate follow it.
"""

import csv
import json
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..codecs import Codec
from ..errors import CheckpointError, ConfigError
from .data import Crops
from .initialise import scale_input, scale_output, scale_to_data
from .losses import ReconstructionLoss
from .quantizer import CodebookLearner, Quantized, perplexity

# Audio is about 1 / GAIN RMS. While training, the networks see it at unit level; otherwise the last layer's weights
# would be as small as Adam's steps. The factor is folded into the outer convolutions before and after.
GAIN = 16.0

__all__ = ["TrainConfig", "Trainer", "install", "read_checkpoint"]


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Times in seconds unless the name says otherwise.

    steps or minutes: the planned end; exactly one of them is set. warm_share: the share of it without quantiser.
    books: the numbers of codebooks drawn per row, with their chances. workers: threads among which the rows of a batch
    are divided. precision: bfloat16 runs the networks (not
    losses, quantiser or weights) in bfloat16, about twice as fast where the processor has it.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    batch: int = 4
    crop_samples: int = 9600
    learning_rate: float = 8e-4
    rise_steps: int = 150
    warm_share: float = 0.06
    start_batches: int = 200
    books: tuple[int, ...] = (2, 4, 8)
    chances: tuple[float, ...] = (0.2, 0.2, 0.6)
    mel_weight: float = 1.0
    linear_weight: float = 1.0
    wave_weight: float = 3.0
    commitment_weight: float = 0.25
    clip: float = 2.0
    workers: int = 2
    average: float = 0.999
    precision: str = "bfloat16"
    log_every: int = 100
    save_every: float = 120.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("give exactly one of steps and minutes: the planned end of the training")
        if len(self.books) != len(self.chances):
            raise ConfigError(f"books {self.books} and chances {self.chances} must have one chance for each number")
        if not 1 <= self.workers <= self.batch:
            raise ConfigError(f"workers is {self.workers}; it must lie in 1..{self.batch}, the batch")
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision {self.precision!r} is not known; float32 and bfloat16 are")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """From JSON, where tuples are lists; an unknown name is a ConfigError."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"training settings {unknown} are not known; these are: {sorted(known)}")
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)


def networks_of(codec: Codec) -> nn.ModuleDict:
    """Encoder and decoder under the names that checkpoints use."""
    return nn.ModuleDict({"encoder": codec.encoder, "decoder": codec.decoder})


@torch.no_grad()
def install(codec: Codec, weights: Mapping[str, Tensor], codebooks: Tensor) -> None:
    """Put weights, as a trainer holds them, and codebooks into `codec`, ready for use."""
    for name, parameter in networks_of(codec).named_parameters():
        parameter.copy_(weights[name])
    scale_input(codec.encoder, GAIN)
    scale_output(codec.decoder, 1 / GAIN)
    codec.quantizer.set_codebooks(codebooks)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `Trainer.save` wrote. Raises CheckpointError if it cannot be read."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise CheckpointError(f"{path} cannot be read as a training checkpoint: {error}") from error
    return state


def _precision(name: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16")


class _Part(NamedTuple):
    """What a worker makes of its rows; values and gradients are weighted by its share of the batch."""

    values: dict[str, float]
    gradients: tuple[Tensor, ...]
    quantised: Quantized | None


class Trainer:
    """Owns everything that changes during training; `state` and `load_state` carry all of it."""

    def __init__(self, codec: Codec, crops: Crops, config: TrainConfig):
        self.codec, self.crops, self.config = codec, crops, config
        scale_input(codec.encoder, 1 / GAIN)
        scale_output(codec.decoder, GAIN)
        books, entries, dimension = codec.quantizer.codebooks.shape
        self.learner = CodebookLearner(books, entries, dimension)
        self.loss = ReconstructionLoss(codec.spec.sample_rate)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.networks = networks_of(codec)
        self.parameters = dict(self.networks.named_parameters())
        self.averages = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, betas=(0.8, 0.99), weight_decay=1e-4
        )
        self.step_count = 0
        self.elapsed = 0.0
        self.quantised = False
        self.usage = torch.zeros(books, entries)
        # One-threaded workers with a part of the batch each: unlike threads inside every operation, which meet hundreds
        # of times a step, they meet once, and so a busy machine slows them down only by its share.
        self.pool = ThreadPoolExecutor(config.workers, initializer=torch.set_num_threads, initargs=(1,))

    def initialise(self) -> None:
        """Scale fresh random weights on a batch of audio; not for weights that were trained before."""
        audio = GAIN * self.crops.batch(self.config.batch)[..., None]
        scale_to_data(self.codec.decoder, scale_to_data(self.codec.encoder, audio))
        for name, parameter in self.parameters.items():
            self.averages[name].copy_(parameter.detach())

    def keep_codebooks(self) -> None:
        """Begin with the codec's own codebooks, and so without the stage that has no quantiser."""
        self.learner.begin(self.codec.quantizer.codebooks, self._latents())
        self.quantised = True

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the planned end."""
        if self.config.steps is not None:
            return min(1.0, self.step_count / self.config.steps)
        assert self.config.minutes is not None
        return min(1.0, self.elapsed / (60 * self.config.minutes))

    def _annealed(self) -> float:
        """Half a cosine, from 1 at the start down to 0.01 at the planned end."""
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress))

    def learning_rate(self) -> float:
        """A short linear rise to the peak, then annealed."""
        rise = min(1.0, (self.step_count + 1) / self.config.rise_steps)
        return self.config.learning_rate * rise * self._annealed()

    def codebook_decay(self) -> float:
        """Averages over some 100 batches; over up to 1,000 at the end, when the encoder hardly moves."""
        return 1 - 0.01 * max(0.1, self._annealed())

    def _encode(self, audio: Tensor) -> Tensor:
        with _precision(self.config.precision):
            z: Tensor = self.codec.encoder(GAIN * audio[..., None])
        return z.float()

    def _decode(self, latents: Tensor) -> Tensor:
        with _precision(self.config.precision):
            output: Tensor = self.codec.decoder(latents)
        return output[..., 0].float() / GAIN

    @torch.no_grad()
    def _latents(self) -> Tensor:
        """Encoder outputs of some batches, [M, D]."""
        batches = [self._encode(self.crops.batch(self.config.batch)) for _ in range(self.config.start_batches)]
        return torch.cat(batches).flatten(0, 1)

    def _part(self, target: Tensor, used: Tensor) -> _Part:
        """Losses and gradients of some rows of a batch; runs in a worker thread."""
        config, z = self.config, self._encode(target)
        quantised = self.learner(z, used) if self.quantised else None
        losses = self.loss(self._decode(z if quantised is None else quantised.latents), target)
        commitment = z.new_zeros(()) if quantised is None else quantised.commitment
        total = (
            config.mel_weight * losses.mel
            + config.linear_weight * losses.linear
            + config.wave_weight * losses.wave
            + config.commitment_weight * commitment
        )
        share = len(target) / config.batch
        gradients = torch.autograd.grad(share * total, list(self.parameters.values()))
        values = {**losses._asdict(), "commitment": commitment, "total": total}
        return _Part({name: share * float(value.detach()) for name, value in values.items()}, gradients, quantised)

    def _draw(self) -> tuple[Tensor, Tensor]:
        """A batch of audio, and the number of codebooks for each of its rows."""
        chances = torch.tensor(self.config.chances)
        drawn = torch.multinomial(chances, self.config.batch, True, generator=self.generator)
        return self.crops.batch(self.config.batch), torch.tensor(self.config.books)[drawn]

    def step(self) -> dict[str, float]:
        """One update; returns its losses by name."""
        began, config = time.perf_counter(), self.config
        if not self.quantised and self.progress >= config.warm_share:
            self.learner.start(self._latents(), self.generator)
            self.quantised = True
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.learner.decay = self.codebook_decay()
        target, used = self._draw()
        parts = list(self.pool.map(self._part, target.tensor_split(config.workers), used.tensor_split(config.workers)))
        for parameter, *gradients in zip(self.parameters.values(), *(part.gradients for part in parts), strict=True):
            parameter.grad = torch.stack(gradients).sum(0)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), config.clip, error_if_nonfinite=True)
        self.optimizer.step()
        self._average()
        self._learn([part.quantised for part in parts if part.quantised is not None])
        self.step_count += 1
        self.elapsed += time.perf_counter() - began
        sums = {name: sum(part.values[name] for part in parts) for name in parts[0].values}
        return sums | {"gradient": float(norm), "learning_rate": rate}

    def _learn(self, quantised: list[Quantized]) -> None:
        if quantised:
            codes = torch.cat([part.codes for part in quantised], 1)
            self.learner.learn(codes, torch.cat([part.residuals for part in quantised], 1), self.generator)
            for usage, code in zip(self.usage, codes, strict=True):
                usage += torch.bincount(code, minlength=self.usage.shape[1])

    @torch.no_grad()
    def _average(self) -> None:
        """Moving average of the weights, which is what is shipped; young averages forget faster."""
        decay = min(self.config.average, (1 + self.step_count) / (10 + self.step_count))
        for name, parameter in self.parameters.items():
            self.averages[name].lerp_(parameter, 1 - decay)

    def run(self, folder: Path) -> Iterator[dict[str, float]]:
        """Train to the planned end; yields the logged rows, which also go to ``folder/log.csv``.

        Checkpoints go to ``folder/checkpoint.pt``, the last one at the end.
        """
        folder.mkdir(parents=True, exist_ok=True)
        saved = time.monotonic()
        sums: dict[str, float] = {}
        while self.progress < 1:
            for name, value in self.step().items():
                sums[name] = sums.get(name, 0.0) + value / self.config.log_every
            if self.step_count % self.config.log_every == 0:
                yield self._log(folder / "log.csv", sums)
                sums = {}
            if time.monotonic() - saved > self.config.save_every:
                self.save(folder / "checkpoint.pt")
                saved = time.monotonic()
        self.save(folder / "checkpoint.pt")

    def _log(self, path: Path, means: dict[str, float]) -> dict[str, float]:
        row = {"step": float(self.step_count), "seconds": self.elapsed, **means}
        for k, value in enumerate(perplexity(self.usage).tolist()):
            row[f"perplexity_{k}"] = value
        self.usage.zero_()
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
        return row

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "networks": self.networks.state_dict(),
            "averages": self.averages,
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "usage": self.usage,
            # 128-bit integers do not fit a tensor; JSON takes them.
            "rest": json.dumps(
                {
                    "config": asdict(self.config),
                    "crops": self.crops.rng.bit_generator.state,
                    "step_count": self.step_count,
                    "elapsed": self.elapsed,
                    "quantised": self.quantised,
                }
            ),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`: the next step is the one that would have followed it."""
        rest = json.loads(state["rest"])
        self.networks.load_state_dict(state["networks"])
        self.averages = {name: value.clone() for name, value in state["averages"].items()}
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.usage.copy_(state["usage"])
        self.crops.rng.bit_generator.state = rest["crops"]
        self.step_count, self.elapsed, self.quantised = rest["step_count"], rest["elapsed"], rest["quantised"]

    def save(self, path: Path) -> None:
        """Write a checkpoint; a crash in between leaves the earlier one."""
        part = path.with_suffix(".part")
        torch.save(self.state(), part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint file. Raises CheckpointError if it cannot be read."""
        self.load_state(read_checkpoint(path))

    def finish(self) -> None:
        """Put the averaged weights and the learnt codebooks into the codec; training is over after that."""
        install(self.codec, self.averages, self.learner.codebooks)
