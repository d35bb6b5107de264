"""TensorBoard files of a training: losses and audio samples, where the package tensorboard is installed."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["Board"]

# Rows of log.csv that are no losses of the codec have groups of their own.
_GROUPS = {"perplexity": "codebooks", "discriminator": "discriminators", "gradient": "run", "learning_rate": "run"}
_GROUPS |= {"seconds": "run"}


class Board:
    """Writes to ``folder``; without the package, or not asked to, its calls do nothing and `missing` says why.

    step: the first update of this process; rows that an interrupted one wrote after it are taken back.
    """

    def __init__(self, folder: Path, step: int, wanted: bool):
        self.writer: Any = None
        self.missing = wanted and importlib.util.find_spec("tensorboard") is None
        if wanted and not self.missing:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder), purge_step=step + 1)  # type: ignore[no-untyped-call]

    def row(self, values: Mapping[str, float], step: int) -> None:
        """Figures by name."""
        if self.writer is None:
            return
        for name, value in values.items():
            group = next((group for prefix, group in _GROUPS.items() if name.startswith(prefix)), "losses")
            self.writer.add_scalar(f"{group}/{name}", value, step)

    def audio(self, name: str, wav: Tensor, sample_rate: int, step: int) -> None:
        """Audio [N] in [-1, 1]; what lies beyond is clipped."""
        if self.writer is not None:
            self.writer.add_audio(name, wav.detach().cpu().clamp(-1, 1)[None], step, sample_rate=sample_rate)

    def close(self) -> None:
        """Write what is waiting."""
        if self.writer is not None:
            self.writer.close()
