"""Several processes that train one codec: what `torchrun` starts, on one machine or many.

Every process draws its own rows of the global batch, and everything that is an average over the batch (gradients,
codebook statistics, norms) is made the same in all of them. In one process every call here is the identity.
"""

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from ..devices import usable_device
from ..errors import ConfigError, InputError

__all__ = ["World", "joined"]


@dataclass(frozen=True)
class World:
    """rank: this process's number; size: of processes; device: where this one computes; local_rank: its number on
    its machine.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of `value` over the processes."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def mean_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace each of `tensors` by its mean over the processes, in one exchange."""
        if self.size == 1:
            return
        flat = self.mean(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, value: Tensor, dim: int) -> Tensor:
        """The processes' values, in the order of their ranks, joined along `dim`; all must have one shape."""
        if self.size == 1:
            return value
        parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts, dim)

    def of_the_first(self, values: Sequence[float]) -> list[float]:
        """The leading process's numbers, for all: clocks differ, decisions must not."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(numbers, 0)
        return numbers.tolist()

    def wait(self) -> None:
        """Return once every process is here."""
        if self.size > 1:
            self.of_the_first([0.0])


def _device(name: str, local_rank: int) -> torch.device:
    """The device called `name`, "auto" being this process's own GPU where there is one. Raises ConfigError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return usable_device(f"cuda:{local_rank}" if name == "cuda" else name)
    except InputError as error:
        raise ConfigError(f"run.device: {error}") from error


_PLACE = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))  # and what a process alone has


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """This process's place, from the environment that `torchrun` sets; alone without it.

    Processes on GPUs speak through NCCL, on CPUs through gloo.
    """
    size, rank, local_rank = (int(os.environ.get(name, one)) for name, one in _PLACE)
    place = _device(device, local_rank)
    if size == 1:
        yield World(0, 1, place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    # Its functions have the process group as a default argument. Imported later, as optimizers do, they would keep the
    # group and its threads beyond `destroy_process_group`, and a process that ends while those run may be aborted.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", rank=rank, world_size=size)
    world = World(rank, size, place, local_rank)
    try:
        yield world
        world.wait()  # nobody takes its connections down, or ends, while another still writes what was trained
    finally:
        dist.destroy_process_group()
