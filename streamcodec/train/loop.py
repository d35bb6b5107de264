"""Running a training: to its end or until it is told to stop, with a log, TensorBoard and checkpoints on the way."""

import csv
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .board import Board
from .data import PREVIEW
from .quantizer import perplexity
from .shards import newest, read_folder, write_folder
from .trainer import Trainer

__all__ = ["Run"]

# Columns of log.csv, besides the perplexity of each codebook; a figure that an interval does not have is left empty.
_COLUMNS: tuple[str, ...] = (
    "step",
    "seconds",
    "mel",
    "loudness",
    "linear",
    "wave",
    "envelope",
    "adversarial",
    "feature",
    "commitment",
    "semantic",
    "latents",
)
_COLUMNS += ("discriminator", "gradient", "learning_rate")
_KEPT = 2  # checkpoints: the newest one and the one before it
_PREVIEWS = 2  # crops to listen to, a few seconds each
_PREVIEW_SECONDS = 3


class Run:
    """A trainer with a folder: ``log.csv``, ``tensorboard/``, ``checkpoints/step-*``.

    Goes on with the folder's newest checkpoint, if there is one: with the same settings every later update is the one
    that an uninterrupted run would have made, and the log is as if nothing had happened.
    """

    def __init__(self, trainer: Trainer, folder: Path, begin: Callable[[], None]):
        """begin: what a trainer needs that has no checkpoint to go on with. Raises CheckpointError."""
        self.trainer, self.folder, self.world = trainer, folder, trainer.world
        self.settings = trainer.settings.run
        self.sums: dict[str, list[float]] = {}
        self.stopped = False
        found = newest(folder)
        if found is None:
            begin()
        else:
            tensors, state = read_folder(found)
            trainer.load(tensors, state["trainer"])
            self.sums = state["sums"]
        books = len(trainer.learner.codebooks)
        self.columns = [*_COLUMNS, *(f"perplexity_{k}" for k in range(books))]
        if self.world.leads:
            folder.mkdir(parents=True, exist_ok=True)
            self._open_log()
        wanted = self.settings.tensorboard and self.world.leads
        self.board = Board(folder / "tensorboard", trainer.step_count, wanted)

    def stop(self) -> None:
        """Ask for an end after the present update, with a checkpoint; safe in a signal handler."""
        self.stopped = True

    def updates(self, minutes: float = 0.0) -> Iterator[Mapping[str, float]]:
        """Train to the planned end, yielding each update's figures; stops early after `minutes` if that is above 0.

        A checkpoint is always the last thing that it does, also after `stop`.
        """
        began = saved = time.monotonic()
        while self.trainer.progress < 1:
            figures = self.trainer.step()
            self._count(figures)
            yield figures
            now = time.monotonic()
            over = self.stopped or (minutes > 0 and now - began > 60 * minutes)
            due = now - saved > 60 * self.settings.save_minutes
            # One process decides for all: clocks and signals differ between them.
            over, due = (value > 0 for value in self.world.of_the_first([float(over), float(due)]))
            if over:
                break
            if due:
                self.save()
                saved = now
        self.save()
        self.board.close()
        self.trainer.close()

    def _count(self, figures: Mapping[str, float]) -> None:
        """Add an update's figures; at the end of an interval, log the means."""
        for name, value in figures.items():
            total = self.sums.setdefault(name, [0.0, 0.0])
            total[0], total[1] = total[0] + value, total[1] + 1
        step = self.trainer.step_count
        if step % self.settings.log_every == 0:
            self._log(step)
        if self.settings.audio_every and step % self.settings.audio_every == 0:
            self._listen(step)

    def _log(self, step: int) -> None:
        row = {"step": float(step), "seconds": self.trainer.elapsed}
        row |= {name: total / count for name, (total, count) in self.sums.items()}
        for k, value in enumerate(perplexity(self.trainer.usage).tolist()):
            row[f"perplexity_{k}"] = value
        self.trainer.usage.zero_()
        self.sums = {}
        if not self.world.leads:
            return
        with self._log_path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow({name: f"{value:.6g}" for name, value in row.items()})
        self.board.row({name: value for name, value in row.items() if name != "step"}, step)

    def _listen(self, step: int) -> None:
        """Samples for TensorBoard: the same crops each time, at every number of codebooks in use."""
        if self.board.writer is None:
            return
        trainer = self.trainer
        crops = trainer.crops
        rate = trainer.spec.sample_rate
        length = _PREVIEW_SECONDS * rate if trainer.networks.codec.segments is None else crops.length
        original = crops.batch(PREVIEW, 0, range(_PREVIEWS), length)
        heard = {"original": original}
        for books in sorted(set(trainer.settings.quantizer.books)):
            heard[f"{books}_codebooks"] = trainer.preview(original, books)
        for name, batch in heard.items():
            for number, wav in enumerate(batch):
                self.board.audio(f"crop_{number}/{name}", wav, rate, step)

    @property
    def _log_path(self) -> Path:
        return self.folder / "log.csv"

    def _open_log(self) -> None:
        """A log that ends where this run begins: rows of updates that will be made again are dropped."""
        kept = []
        if self._log_path.exists():
            with self._log_path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if row.get("learning_rate") is not None]
            kept = [row for row in rows if float(row["step"]) <= self.trainer.step_count]
        part = self._log_path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        part.replace(self._log_path)

    def save(self) -> None:
        """Write a checkpoint; a crash in between leaves the earlier ones. Older ones than the last two are removed."""
        if self.world.leads:
            state = {"trainer": self.trainer.numbers(), "sums": self.sums}
            folder = self.folder / "checkpoints" / f"step-{self.trainer.step_count:08d}"
            write_folder(folder, self.trainer.tensors(), state)
            kept = sorted(path for path in folder.parent.glob("step-*") if not path.name.endswith(".part"))
            for old in kept[:-_KEPT]:
                shutil.rmtree(old)
        self.world.wait()
