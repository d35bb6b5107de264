"""One training: its updates, its schedule, and a state that resumes to the bit.

Stage 1 trains encoder and decoder without quantiser; stage 2 starts the codebooks from the encoder's outputs
(`quantizer.CodebookLearner.start`) and trains everything with codes in between. Progress runs from 0 to 1, by updates
or by wall-clock time; stages and learning rates follow it. Everything random depends on (seed, update) alone.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..codecs import Codec
from ..errors import CheckpointError
from .adversary import Adversary
from .balancer import Balancer
from .config import BALANCED, OptimizerSettings, Settings
from .data import START, Batches, Crops
from .distributed import World
from .factorised import learner_of
from .losses import ReconstructionLoss, levels
from .model import Latents, Networks
from .muon import Muon, is_matrix
from .optimizer_state import load_optimizer, optimizer_tensors
from .precision import wrong_layer
from .quantizer import Quantized
from .teacher import Teacher

__all__ = ["Trainer"]

# Numbers that keep the random draws of different purposes apart (see `Trainer.draw`).
_BOOKS, _CHANCE, _REVIVAL, _START = range(4)
_START_CROPS = 128  # that fresh networks are scaled on


def _optimizers(parameters: list[nn.Parameter], settings: OptimizerSettings) -> dict[str, torch.optim.Optimizer]:
    """By the name under which a checkpoint has their state."""
    matrices = [p for p in parameters if is_matrix(p)] if settings.kind == "muon" else []
    chosen = set(matrices)
    adamw = torch.optim.AdamW(
        [p for p in parameters if p not in chosen],
        lr=settings.learning_rate,
        betas=(0.8, 0.99),
        weight_decay=1e-4,
        fused=True,  # one pass over the weights: on a CPU a fifth of the time
    )
    return {"optimizer": adamw} | ({"muon": Muon(matrices, settings.learning_rate)} if matrices else {})


class Trainer:
    """Owns everything that changes during training; `tensors` and `numbers` carry all of it.

    crops: what this training hears; its row numbers are those of the global batch. world: the processes that share it.
    """

    def __init__(
        self,
        codec: Codec,
        crops: Crops,
        settings: Settings,
        world: World | None = None,
        teacher: Codec | None = None,
    ):
        self.settings, self.world, self.crops = settings, world or World(), crops
        self.spec = codec.spec
        device, batch = self.world.device, settings.data.batch
        self.networks = Networks(codec, device, settings.run.precision == "bfloat16")
        self.rows = range(self.world.rank * batch, (self.world.rank + 1) * batch)
        self.batches = Batches(crops, self.rows, device, settings.data.threads)
        self.learner = learner_of(codec, settings.quantizer.dead).to(device)
        loss = settings.loss
        self.loss = ReconstructionLoss(codec.spec.sample_rate, loss.windows, loss.bands, loss.envelope > 0).to(device)
        weights = {name: getattr(loss, name) for name in BALANCED}
        self.balancer = Balancer(weights, loss.total, loss.balance_decay, self.world)
        self.adversary = (
            Adversary(settings.discriminator, self.world, settings.run.seed) if settings.adversarial else None
        )
        self.teacher = None if teacher is None else Teacher(teacher, codec).to(device)
        self.parameters = self.networks.parameters
        self.averages = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizers = _optimizers(list(self.parameters.values()), settings.optimizer)
        self.step_count, self.elapsed = 0, 0.0
        self.quantised = False
        self.judged = 0  # updates of the discriminators so far
        self.usage = torch.zeros(codec.quantizer.codebooks.shape[:2], device=device)
        self.warning = self._check_bfloat16() if self.networks.bfloat16 else None

    def _check_bfloat16(self) -> str | None:
        """Compute in float32 where a layer is wrong in bfloat16 on any process's device; what to tell the user then."""
        parts = nn.ModuleDict({"codec": self.networks.codec})
        if self.adversary is not None:
            parts["discriminators"] = self.adversary.scales
        wrong = wrong_layer(parts, self._listen, self.networks.autocast())
        if not self.world.mean(torch.tensor(float(wrong is not None), device=self.world.device)):
            return None
        self.networks.bfloat16 = False
        where = wrong or "another process found one"
        return f"training runs in float32, since this processor computes a layer wrongly in bfloat16: {where}"

    def _listen(self) -> None:
        """Pass a batch through everything that updates run in the networks' precision."""
        audio = self.crops.batch(START, 0, self.rows).to(self.world.device)
        heard = self.networks.encode(audio)
        self.networks.semantic(heard.values, heard)
        output = self.networks.decode(heard.values, heard.scale)
        if self.adversary is not None:
            with self.networks.autocast():
                self.adversary.scales(output)

    # -- how it begins -----------------------------------------------------------------------------------------------

    def initialise(self) -> None:
        """Scale fresh random weights on some crops, the same ones whatever the batch and the processes."""
        audio = self.crops.batch(START, 0, range(_START_CROPS)).to(self.world.device)
        self.networks.initialise(audio, self.settings.codec.start)
        self._restart_averages()
        self._meet_teacher()

    def _meet_teacher(self) -> None:
        """Measure the teacher's latents on some crops, the same ones whatever the batch and the processes."""
        if self.teacher is not None:
            self.teacher.measure(self.crops.batch(START, 0, range(_START_CROPS)).to(self.world.device))

    def keep_codebooks(self) -> None:
        """Begin with the codec's own codebooks, and so without the stage that has no quantiser."""
        self._meet_teacher()
        latents, refit = self._latents(), self.settings.quantizer.refit
        self.learner.begin(self.networks.codec.quantizer.codebooks, latents)
        if refit:
            self.learner.refit(latents, self._torch_draw(_START), refit)
        self.quantised = True

    def _restart_averages(self, part: str = "") -> None:
        for name, parameter in self.parameters.items():
            if name.startswith(part):
                self.averages[name].copy_(parameter.detach())

    @torch.no_grad()
    def _latents(self) -> Tensor:
        """Encoder outputs of some batches of all processes, [M, D]."""
        heard = []
        for index in range(1, self.settings.quantizer.start_batches + 1):
            audio = self.crops.batch(START, index, self.rows).to(self.world.device)
            heard.append(self.world.gather(self.networks.encode(audio).values, 0))
        return torch.cat(heard).flatten(0, 1)

    # -- the schedule ------------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the planned end."""
        run = self.settings.run
        return min(1.0, self.step_count / run.steps if run.steps else self.elapsed / (60 * run.minutes))

    def annealed(self) -> float:
        """Half a cosine, from 1 at the start down to 0.01 at the planned end."""
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress))

    def learning_rate(self) -> float:
        """A short linear rise to the peak, then annealed."""
        settings = self.settings.optimizer
        return settings.learning_rate * min(1.0, (self.step_count + 1) / settings.rise_steps) * self.annealed()

    def codebook_decay(self) -> float:
        """As set while learning is fast; ten times as long a memory at the end, when the encoder hardly moves."""
        return 1 - (1 - self.settings.quantizer.decay) * max(0.1, self.annealed())

    def draw(self, purpose: int, *place: int) -> np.random.Generator:
        """Random numbers for one purpose at this update."""
        return np.random.default_rng([self.settings.run.seed, 3, purpose, self.step_count, *place])

    def _torch_draw(self, purpose: int, *place: int) -> torch.Generator:
        return torch.Generator().manual_seed(int(self.draw(purpose, *place).integers(2**63 - 1)))

    def _books(self) -> Tensor:
        """The number of codebooks for each row of this process."""
        settings = self.settings.quantizer
        chances = np.array(settings.chances) / sum(settings.chances)
        drawn = [self.draw(_BOOKS, row).choice(settings.books, p=chances) for row in self.rows]
        return torch.tensor(drawn, device=self.world.device)

    # -- an update ---------------------------------------------------------------------------------------------------

    def step(self) -> dict[str, float]:
        """One update; returns its figures by name, means over the processes."""
        began = time.perf_counter()
        if not self.quantised and self.progress >= self.settings.quantizer.warm_share:
            self.learner.start(self._latents(), self._torch_draw(_START))
            self._restart_averages("quantizer.")
            self.quantised = True
        self.learner.decay = self.codebook_decay()
        figures, quantised, discriminator_gradients = self._backward()
        rate = self.learning_rate()
        self._update(rate, figures)
        if self.adversary is not None and discriminator_gradients is not None:
            self.adversary.step(discriminator_gradients, self.annealed())
            self.judged += 1
        if quantised is not None:
            self._learn(quantised)
        self.step_count += 1
        self.elapsed = self.world.of_the_first([self.elapsed + time.perf_counter() - began])[0]
        return figures | {"learning_rate": rate}

    def _backward(self) -> tuple[dict[str, float], Quantized | None, tuple[Tensor, ...] | None]:
        """Losses of a batch; leaves the gradients of the networks in their parameters."""
        target = self.batches.take(self.step_count)
        heard, quantised = self._codes(target)
        latents = heard.values if quantised is None else quantised.latents
        direct = self._direct(target, heard, quantised, latents)
        if self.teacher is not None and self.settings.teacher.answers:
            latents = latents.detach()
            target = self.teacher.answer(latents, target)
        output = self.networks.decode(latents, heard.scale)
        target = target[:, : output.shape[1]]
        losses: dict[str, Tensor] = self.loss(output, target)._asdict()
        own, gradients, level = None, None, levels(target)
        if self.adversary is not None and self.progress >= self.settings.discriminator.start:
            judges = self.judged >= self.settings.discriminator.alone
            learns = self.draw(_CHANCE).random() < self.settings.discriminator.chance
            if learns or judges:
                judged = self.adversary.judge(target / level, output / level, learns, judges, self.networks.autocast())
                losses |= judged.losses
                own = judged.own
        back = self.balancer(losses, output, level)
        if own is not None and self.adversary is not None:
            gradients = self.adversary.gradients(own)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([output, *direct.values()], [back, *(torch.ones_like(x) for x in direct.values())])
        figures = losses | direct | ({} if own is None else {"discriminator": own})
        return self._figures(figures), quantised, gradients

    def _codes(self, target: Tensor) -> tuple[Latents, Quantized | None]:
        """What the decoder is given: gradients reach the encoder unless it is to stay as it is."""
        with torch.set_grad_enabled(not self.settings.optimizer.decoder_only):
            heard = self.networks.encode(target)
            return heard, self.learner(heard.values, self._books()) if self.quantised else None

    def _direct(self, audio: Tensor, heard: Latents, quantised: Quantized | None, latents: Tensor) -> dict[str, Tensor]:
        """Weighted losses that do not pass through the output, and so not through the balancer."""
        found = {}
        learns = not self.settings.optimizer.decoder_only
        if quantised is not None and learns:
            found["commitment"] = self.settings.loss.commitment * quantised.commitment
        if self.teacher is not None and self.settings.teacher.latents and learns:
            wrong = nn.functional.mse_loss(heard.values, self.teacher.latents(audio))
            found["latents"] = self.settings.teacher.latents * wrong
        semantic = self.networks.semantic(latents, heard)
        if semantic is not None:
            found["semantic"] = self.settings.loss.semantic * semantic
        return found

    def _figures(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        means = self.world.mean(torch.stack([value.detach().float() for value in values.values()]))
        return dict(zip(values, means.tolist(), strict=True))

    def _update(self, rate: float, figures: dict[str, float]) -> None:
        settings = self.settings.optimizer
        used = [p for p in self.parameters.values() if p.grad is not None]
        self.world.mean_in_place([p.grad for p in used if p.grad is not None])
        limit = settings.clip if settings.clip > 0 else math.inf
        figures["gradient"] = float(nn.utils.clip_grad_norm_(used, limit, error_if_nonfinite=True))
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        """Moving average of the weights, which is what is exported; young averages forget faster."""
        decay = min(self.settings.optimizer.average, (1 + self.step_count) / (10 + self.step_count))
        for name, parameter in self.parameters.items():
            self.averages[name].lerp_(parameter, 1 - decay)

    def _learn(self, quantised: Quantized) -> None:
        codes = self.world.gather(quantised.codes, 1)
        if not self.settings.optimizer.decoder_only:
            self.learner.learn(codes, self.world.gather(quantised.residuals, 1), self._torch_draw(_REVIVAL))
        for usage, code in zip(self.usage, codes, strict=True):
            usage += torch.bincount(code, minlength=self.usage.shape[1])

    @torch.no_grad()
    def preview(self, audio: Tensor, books: int) -> Tensor:
        """What the networks make of audio [B * C, N] now with some codebooks, the same shape."""
        heard = self.networks.encode(audio.to(self.world.device))
        latents = heard.values
        if self.quantised:
            latents = self.learner(latents, torch.full((len(latents),), books, device=latents.device)).latents
        return self.networks.decode(latents, heard.scale)

    # -- its state ---------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """With `numbers`, everything that the next update depends on."""
        kept: dict[str, Tensor] = {f"networks.{name}": value for name, value in self.parameters.items()}
        kept |= {f"averages.{name}": value for name, value in self.averages.items()}
        kept |= {f"learner.{name}": value for name, value in self.learner.state_dict().items()}
        kept |= {"usage": self.usage}
        if self.teacher is not None:
            kept |= {"teacher.mean": self.teacher.mean, "teacher.scale": self.teacher.scale}
        for name, optimizer in self.optimizers.items():
            kept |= optimizer_tensors(name, optimizer, self.parameters)
        if self.adversary is not None:
            kept |= {f"discriminators.{name}": value for name, value in self.adversary.parameters.items()}
            kept |= optimizer_tensors("adversary", self.adversary.optimizer, self.adversary.parameters)
        return kept

    def numbers(self) -> dict[str, Any]:
        """What JSON can hold of the state."""
        return {
            "step_count": self.step_count,
            "elapsed": self.elapsed,
            "quantised": self.quantised,
            "judged": self.judged,
            "balancer": self.balancer.state(),
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Continue from a state: the next update is the one that would have followed it.

        A training that had no discriminators may go on with some, and the reverse. Raises CheckpointError if the state
        is of other networks.
        """
        try:
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"networks.{name}"])
                self.averages[name].copy_(tensors[f"averages.{name}"])
            self.learner.load_state_dict({name: tensors[f"learner.{name}"] for name in self.learner.state_dict()})
            self.usage.copy_(tensors["usage"])
            if self.teacher is not None:
                self._load_teacher(self.teacher, tensors)
            for name, optimizer in self.optimizers.items():
                load_optimizer(name, optimizer, self.parameters, tensors)
            self.step_count, self.elapsed = int(numbers["step_count"]), float(numbers["elapsed"])
            self.quantised, self.judged = bool(numbers["quantised"]), int(numbers["judged"])
            self.balancer.load_state(numbers["balancer"])
            if self.adversary is not None:
                self._load_adversary(self.adversary, tensors)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint is of another codec or other settings: {error}") from error

    def _load_teacher(self, teacher: Teacher, tensors: Mapping[str, Tensor]) -> None:
        if "teacher.mean" not in tensors:
            self._meet_teacher()  # it joins a training that had none
            return
        teacher.mean.copy_(tensors["teacher.mean"])
        teacher.scale.copy_(tensors["teacher.scale"])

    def _load_adversary(self, adversary: Adversary, tensors: Mapping[str, Tensor]) -> None:
        if not any(name.startswith("discriminators.") for name in tensors):
            self.judged = 0
            return
        for name, parameter in adversary.parameters.items():
            parameter.copy_(tensors[f"discriminators.{name}"])
        load_optimizer("adversary", adversary.optimizer, adversary.parameters, tensors)

    def close(self) -> None:
        """End the threads that prepare batches."""
        self.batches.close()
